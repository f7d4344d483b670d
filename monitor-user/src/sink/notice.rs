//! An alert on its way out, as receivers and the spool see it.
//!
//! In: an [`AlertNotice`] of the core, and which host tells it. Out: a [`Notice`] that stands for
//! itself: it may be delivered by a later run of Telltale than the one that made it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::HostInfo;
use crate::clock::WallClock;
use crate::core::report::{AlertNotice, AlertState};

/// An alert, what became of it, and who tells it. All times are unix time in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Unique; the `event.id` of the alert in the event log.
    pub id: String,
    /// What became of the alert.
    pub state: State,
    /// When.
    pub time_ns: u64,
    /// When the alert began to fire.
    pub started_ns: u64,
    /// When its cause was last seen.
    pub last_seen_ns: u64,
    /// How often its cause was seen.
    pub occurrences: u64,
    /// The rule.
    pub rule: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// With the rule: identity of the alert.
    pub labels: BTreeMap<String, String>,
    /// Details for a person.
    pub annotations: BTreeMap<String, String>,
    /// Which host, boot and run.
    pub host: HostInfo,
}

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It fires for the first time, or again.
    Fired,
    /// It fires still.
    StillFiring,
    /// It is over.
    Resolved,
}

impl Notice {
    /// What the core tells, as of `host`.
    #[must_use]
    pub fn new(notice: &AlertNotice, clock: WallClock, host: &HostInfo) -> Self {
        let alert = &notice.alert;
        let mut annotations = owned(&alert.annotations);
        annotations.insert(
            "runbook".to_owned(),
            format!("{}#{}", host.runbooks, alert.rule),
        );
        Notice {
            id: format!("{}-{}", host.session, notice.sequence),
            state: notice.state.into(),
            time_ns: clock.unix_ns(notice.time),
            started_ns: clock.unix_ns(alert.started),
            last_seen_ns: clock.unix_ns(alert.last_seen),
            occurrences: alert.occurrences,
            rule: alert.rule.to_string(),
            severity: alert.severity.name().to_owned(),
            labels: owned(&alert.labels),
            annotations,
            host: host.clone(),
        }
    }

    /// Whether both are of one alert.
    #[must_use]
    pub fn is_of(&self, other: &Notice) -> bool {
        self.rule == other.rule && self.labels == other.labels
    }

    /// Whether the alert fires.
    #[must_use]
    pub fn fires(&self) -> bool {
        self.state != State::Resolved
    }

    /// One sentence for a person.
    #[must_use]
    pub fn summary(&self) -> &str {
        let summary = self.annotations.get("summary");
        summary.map_or(&self.rule, String::as_str)
    }
}

impl State {
    /// Its name, as in the event log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Fired => "fired",
            State::StillFiring => "still-firing",
            State::Resolved => "resolved",
        }
    }
}

impl From<AlertState> for State {
    fn from(state: AlertState) -> Self {
        match state {
            AlertState::Fired => State::Fired,
            AlertState::StillFiring => State::StillFiring,
            AlertState::Resolved => State::Resolved,
        }
    }
}

fn owned(map: &BTreeMap<&'static str, Arc<str>>) -> BTreeMap<String, String> {
    let pair = |(name, value): (&&str, &Arc<str>)| ((*name).to_owned(), value.to_string());
    map.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use crate::core::alert::RULES;

    #[test]
    fn every_rule_has_its_runbook() {
        let runbooks = include_str!("../../../docs/runbooks/README.md");
        for rule in RULES {
            assert!(runbooks.contains(&format!("\n## {rule}\n")), "{rule}");
        }
    }
}
