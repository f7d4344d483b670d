//! What a person should look at.
//!
//! In: what became of alerts. Out: the metrics of the section Alerts.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::define::{Counter, Definer, Gauge};
use super::exemplars::Exemplar;
use super::labels::*;
use super::signed;
use crate::clock::WallClock;
use crate::core::alert;
use crate::core::report::{AlertNotice, AlertState};

/// What a person should look at.
pub(super) struct Alerts {
    pub(super) total: Counter<2>,
    pub(super) firing: Gauge<1>,
    pub(super) waiting: Gauge<1>,
    pub(super) withheld: Counter<1>,
    /// Rules that have series of their own.
    rules: Mutex<BTreeSet<String>>,
}

impl Alerts {
    pub(super) fn define(define: &mut Definer) -> prometheus::Result<Self> {
        define.section("Alerts", "");
        let alerts = Alerts {
            total: define.counter(
                "telltale_alerts_total",
                "Alerts that began to fire.",
                [RULE, SEVERITY],
            )?,
            firing: define.gauge("telltale_alerts_firing", "Alerts that fire now.", [RULE])?,
            waiting: define.gauge(
                "telltale_alerts_waiting",
                "Alerts that are not told yet: their cause has not held for its rule's time \
                 (pending), or their rule has told so many others within a minute (withheld).",
                [ALERT_STAGE],
            )?,
            withheld: define.counter(
                "telltale_alerts_withheld_total",
                "Alerts that were told later than they fired, because their rule had told so many \
                 others within a minute.",
                [RULE],
            )?,
            rules: Mutex::default(),
        };
        alerts.set_waiting(0, 0);
        alerts.show(alert::RULES);
        Ok(alerts)
    }

    /// Rules that alerts may come from, which are at 0 from now on, so that the first alert is an
    /// increase.
    pub(super) fn show(&self, rules: impl IntoIterator<Item = impl Into<String>>) {
        let mut shown = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        for rule in rules.into_iter().map(Into::into) {
            if shown.contains(&rule) {
                continue;
            }
            self.firing.set([&*rule], 0);
            self.withheld.add([&*rule], 0);
            for severity in SEVERITIES {
                self.total.add([&*rule, severity.name()], 0);
            }
            shown.insert(rule);
        }
    }

    pub(super) fn set_waiting(&self, pending: usize, withheld: usize) {
        self.waiting.set(["pending"], signed(pending as u64));
        self.waiting.set(["withheld"], signed(withheld as u64));
    }

    pub(super) fn withheld(&self, rule: &str) {
        let shown = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = shown.get(rule).map_or(OTHER, String::as_str);
        self.withheld.add([rule], 1);
    }

    pub(super) fn record(&self, notice: &AlertNotice, clock: &WallClock) {
        let shown = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = shown.get(&*notice.alert.rule).map_or(OTHER, String::as_str);
        match notice.state {
            AlertState::Fired => {
                let labels = [rule, notice.alert.severity.name()];
                let exemplar = Exemplar {
                    event: notice.sequence,
                    unix_ns: clock.unix_ns(notice.time),
                };
                self.total.increment_with(labels, Some(exemplar));
                self.firing.add([rule], 1);
            }
            AlertState::StillFiring => {}
            AlertState::Resolved => self.firing.add([rule], -1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::report::Effect;
    use crate::metrics::fixture::{check, metrics};
    use crate::sink::fixture::{self, CLOCK};

    #[test]
    fn what_is_withheld_is_counted_by_its_rule() {
        let metrics = metrics();
        let series = |rule| format!("telltale_alerts_withheld_total{{rule=\"{rule}\"}}");
        let (known, other) = (series("flow-flood"), series("other"));
        check(&metrics, &[(&known, 0.0)]);
        for rule in ["flow-flood", "flow-flood", "nobodys"] {
            metrics.record(&Effect::AlertWithheld(rule.into()), &CLOCK);
        }
        check(&metrics, &[(&known, 2.0), (&other, 1.0)]);
    }

    #[test]
    fn alerts_exist_at_zero_and_fire_and_resolve() {
        let metrics = metrics();
        metrics.alerts.show(["banned-tool"]);
        let total = "telltale_alerts_total{rule=\"banned-tool\",severity=\"critical\"}";
        let firing = "telltale_alerts_firing{rule=\"banned-tool\"}";
        check(&metrics, &[(total, 0.0), (firing, 0.0)]);
        for (state, expect) in [
            (AlertState::Fired, 1.0),
            (AlertState::StillFiring, 1.0),
            (AlertState::Resolved, 0.0),
        ] {
            metrics.record(&fixture::alert(state), &CLOCK);
            check(&metrics, &[(total, 1.0), (firing, expect)]);
        }
    }
}
