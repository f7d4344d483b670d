//! Alerts as pure state: what fires, what fires still, what is resolved.
//!
//! In: judgements that deserve a person's attention, and the time. Out: state changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::BootNs;

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

/// One alert: what Alertmanager and webhooks are told.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The rule: `banned-tool`, `unexpected-endpoint`.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Identity: two alerts with the same rule and labels are one. Bounded values only.
    pub labels: BTreeMap<&'static str, Arc<str>>,
    /// Details of the first occurrence, for a person; may hold pids, paths, addresses.
    pub annotations: BTreeMap<&'static str, Arc<str>>,
    /// When it started to fire.
    pub started: BootNs,
    /// When its cause was last seen.
    pub last_seen: BootNs,
    /// How often its cause was seen since it started.
    pub occurrences: u64,
}
