//! What the policy says of something, and in which words.
//!
//! In: made by the rest of the policy. Out: [`Judgement`]s, which events and metrics show.

use std::sync::Arc;

use crate::core::catalog::Tool;

/// The verdict on a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// In the tool's manifest, under a name that a resolver's answer backs.
    Expected,
    /// In the manifest, but only the client's own claim says so.
    ExpectedUnverified,
    /// In the manifest as something that can be switched off.
    Optional,
    /// Named, and not in the manifest.
    Undeclared,
    /// Forbidden by a rule.
    Denied,
    /// An AI tool's flow to an address without a name.
    Unknown,
    /// It stays on this host, or goes to its configured resolver.
    Local,
    /// An AI tool answers a peer that connected to it.
    Served,
    /// Not a flow of an AI tool, nor to an AI endpoint.
    NotJudged,
}

impl Verdict {
    /// All verdicts, for metrics that must exist at zero.
    pub const ALL: [Verdict; 9] = [
        Verdict::Expected,
        Verdict::ExpectedUnverified,
        Verdict::Optional,
        Verdict::Undeclared,
        Verdict::Denied,
        Verdict::Unknown,
        Verdict::Local,
        Verdict::Served,
        Verdict::NotJudged,
    ];

    /// Name in events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Expected => "expected",
            Verdict::ExpectedUnverified => "expected-unverified",
            Verdict::Optional => "optional",
            Verdict::Undeclared => "undeclared",
            Verdict::Denied => "denied",
            Verdict::Unknown => "unknown",
            Verdict::Local => "local",
            Verdict::Served => "served",
            Verdict::NotJudged => "not-judged",
        }
    }
}

/// What the policy says, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// The rule that decided, one of [`rule`].
    pub rule: &'static str,
    /// What the endpoint is for, where the catalog says so: `api`, `telemetry`, …
    pub purpose: Option<Arc<str>>,
    /// One sentence for a person.
    pub why: Arc<str>,
    /// The banned tool that the process belongs to or bears the name of, if the verdict is about
    /// that and not about the endpoint.
    pub banned: Option<Arc<Tool>>,
}

impl Judgement {
    pub(super) fn new(verdict: Verdict, rule: &'static str, why: String) -> Judgement {
        let why = why.into();
        Judgement {
            verdict,
            rule,
            purpose: None,
            why,
            banned: None,
        }
    }

    pub(super) fn for_purpose(self, purpose: &Arc<str>) -> Judgement {
        let purpose = Some(Arc::clone(purpose));
        Judgement { purpose, ..self }
    }
}

/// The rules that a [`Judgement`] can name.
pub mod rule {
    /// The process belongs to a banned tool, or reaches a banned tool's provider.
    pub const BANNED_TOOL: &str = "banned-tool";
    /// The tool's manifest lists the endpoint.
    pub const MANIFEST: &str = "manifest";
    /// The endpoint has a name, and the tool's manifest does not list it.
    pub const UNEXPECTED_ENDPOINT: &str = "unexpected-endpoint";
    /// The endpoint has no known name, and the tool's manifest does not list its address.
    pub const UNNAMED_ENDPOINT: &str = "unnamed-endpoint";
    /// A program that is no known AI tool reaches an AI provider.
    pub const AI_ENDPOINT_BY_UNKNOWN_PROGRAM: &str = "ai-endpoint-by-unknown-program";
    /// It stays on this host, or goes to its resolver.
    pub const LOCAL: &str = "local";
    /// A peer connected to the process: no contact of its own choosing.
    pub const SERVED: &str = "served";
    /// No rule concerns it.
    pub const NONE: &str = "none";
}
