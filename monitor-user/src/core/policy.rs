//! What the policy says of a flow or of a process's presence.
//!
//! In: who, to whom, under which names. Out: a [`Judgement`]: verdict, rule, purpose and why.

use std::sync::Arc;

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
    /// Not a flow of an AI tool, nor to an AI endpoint.
    NotJudged,
}

impl Verdict {
    /// All verdicts, for metrics that must exist at zero.
    pub const ALL: [Verdict; 8] = [
        Verdict::Expected,
        Verdict::ExpectedUnverified,
        Verdict::Optional,
        Verdict::Undeclared,
        Verdict::Denied,
        Verdict::Unknown,
        Verdict::Local,
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
            Verdict::NotJudged => "not-judged",
        }
    }
}

/// What the policy says, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// The rule that decided: `banned-tool`, `manifest`, `unexpected-endpoint`, …
    pub rule: &'static str,
    /// What the endpoint is for, where the catalog says so: `api`, `telemetry`, …
    pub purpose: Option<Arc<str>>,
    /// One sentence for a person.
    pub why: Arc<str>,
}
