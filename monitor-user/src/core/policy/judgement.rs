//! What the policy says of something, and in which words.
//!
//! In: made by the rest of the policy. Out: [`Judgement`]s, which events and metrics show.

use std::sync::Arc;

use super::rule::Action;
use crate::core::catalog::{Operator, Tool};

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
    /// Allowed by a rule or an exception, though the manifest does not list it.
    Allowed,
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
    pub const ALL: [Verdict; 10] = [
        Verdict::Expected,
        Verdict::ExpectedUnverified,
        Verdict::Optional,
        Verdict::Undeclared,
        Verdict::Allowed,
        Verdict::Denied,
        Verdict::Unknown,
        Verdict::Local,
        Verdict::Served,
        Verdict::NotJudged,
    ];

    /// Whether a flow with it is not as expected.
    #[must_use]
    pub fn is_unexpected(self) -> bool {
        matches!(
            self,
            Verdict::Undeclared | Verdict::Denied | Verdict::Unknown
        )
    }

    /// Of two verdicts on one flow, the worse counts: what is forbidden, then what nobody declared,
    /// then what nobody knows.
    #[must_use]
    pub fn is_worse_than(self, other: Verdict) -> bool {
        self.badness() > other.badness()
    }

    fn badness(self) -> u8 {
        match self {
            Verdict::NotJudged => 0,
            Verdict::Local | Verdict::Served => 1,
            Verdict::Expected => 2,
            Verdict::Optional | Verdict::Allowed => 3,
            Verdict::ExpectedUnverified => 4,
            Verdict::Unknown => 5,
            Verdict::Undeclared => 6,
            Verdict::Denied => 7,
        }
    }

    /// Name in events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Expected => "expected",
            Verdict::ExpectedUnverified => "expected-unverified",
            Verdict::Optional => "optional",
            Verdict::Undeclared => "undeclared",
            Verdict::Allowed => "allowed",
            Verdict::Denied => "denied",
            Verdict::Unknown => "unknown",
            Verdict::Local => "local",
            Verdict::Served => "served",
            Verdict::NotJudged => "not-judged",
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Look at it in working hours.
    Warning,
    /// Look at it now.
    Critical,
}

impl Severity {
    /// Name in alerts and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// What the policy says, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// The rule that decided: one of the operator's, or of [`rule`].
    pub rule: Arc<str>,
    /// What the operator's rule asks for; `None` if none fits, and the catalog alone speaks.
    pub action: Option<Action>,
    /// The exception that lifted the rule.
    pub exception: Option<Arc<str>>,
    /// What the endpoint is for, where the catalog says so: `api`, `telemetry`, …
    pub purpose: Option<Arc<str>>,
    /// Who runs the remote, where the catalog says so; of flows that are judged.
    pub operator: Option<Operator>,
    /// One sentence for a person.
    pub why: Arc<str>,
    /// The tool that the process belongs to or bears the name of, if the rule is about that and
    /// not about the endpoint.
    pub about: Option<Arc<Tool>>,
}

impl Judgement {
    pub(super) fn new(verdict: Verdict, rule: &'static str, why: String) -> Judgement {
        Judgement {
            verdict,
            rule: rule.into(),
            action: None,
            exception: None,
            purpose: None,
            operator: None,
            why: why.into(),
            about: None,
        }
    }

    /// Somebody may want to know: it is of an AI tool or endpoint, or a rule is about it.
    #[must_use]
    pub fn matters(&self) -> bool {
        let forbidden = self.action.is_some_and(|action| action != Action::Allow);
        self.verdict != Verdict::NotJudged || forbidden
    }

    pub(super) fn for_purpose(self, purpose: &Arc<str>) -> Judgement {
        let purpose = Some(Arc::clone(purpose));
        Judgement { purpose, ..self }
    }
}

/// The rules that a [`Judgement`] can name besides the operator's.
pub mod rule {
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
