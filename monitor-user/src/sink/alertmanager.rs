//! Alerts to Prometheus Alertmanager, API version 2.
//!
//! In: alerts. Out: `POST /api/v2/alerts` to every peer of the cluster, which removes the
//! duplicates itself; a load balancer in between would defeat that.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;
use reqwest::Url;
use serde_json::{Value, json};

use super::http_post::Format;
use super::notice::Notice;
use crate::clock::rfc3339;

/// A firing alert ends by itself after this many times the interval at which it is sent again:
/// three may be lost, and a dead Telltale does not page for ever.
const LAPSE_FACTOR: u32 = 4;

/// Writes alerts as `POST /api/v2/alerts` takes them.
#[derive(Clone, Debug)]
pub struct Alertmanager {
    /// The interval at which the core repeats a firing alert.
    pub resend: Duration,
}

impl Format for Alertmanager {
    const BATCH_MAX: usize = 64;

    fn body(&self, notices: &[Notice], now_ns: u64) -> String {
        let alerts = notices.iter().map(|notice| self.alert(notice, now_ns));
        alerts.collect::<Value>().to_string()
    }
}

impl Alertmanager {
    fn alert(&self, notice: &Notice, now_ns: u64) -> Value {
        let mut labels = plain(&notice.labels);
        labels.extend([
            ("alertname", &*notice.rule),
            ("severity", &notice.severity),
            ("job", "telltale"),
            ("instance", &notice.host.name),
        ]);
        let occurrences = notice.occurrences.to_string();
        let mut annotations = plain(&notice.annotations);
        annotations.insert("occurrences", &occurrences);
        annotations.insert("id", &notice.id);
        let ends_ns = if notice.fires() {
            // It may have waited for long: it fires as of now, or something later of it waits.
            let lapse = self.resend.saturating_mul(LAPSE_FACTOR).as_nanos();
            let lapse = u64::try_from(lapse).unwrap_or(u64::MAX);
            now_ns.max(notice.time_ns).saturating_add(lapse)
        } else {
            notice.time_ns
        };
        json!({
            "labels": labels,
            "annotations": annotations,
            "startsAt": rfc3339(notice.started_ns),
            "endsAt": rfc3339(ends_ns),
        })
    }
}

fn plain(map: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    map.iter()
        .map(|(name, value)| (&**name, &**value))
        .collect()
}

/// Where the Alertmanager at this base URL takes alerts; the base may have a path prefix.
///
/// # Errors
///
/// If it is not http or https.
pub fn alerts_url(base: &Url) -> anyhow::Result<Url> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| anyhow!("the URL of an Alertmanager must be http or https"))?
        .pop_if_empty()
        .extend(["api", "v2", "alerts"]);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::report::AlertState;
    use crate::sink::fixture::{self, CLOCK, SECOND};

    const RESEND: Duration = Duration::from_secs(60);

    fn notice(state: AlertState) -> Notice {
        Notice::new(&fixture::notice(state), CLOCK, &fixture::host())
    }

    #[track_caller]
    fn check_url(base: &str, expect: &str) {
        let url = alerts_url(&Url::parse(base).unwrap()).unwrap();
        assert_eq!(url.as_str(), expect);
    }

    #[test]
    fn the_path_is_added_to_the_base() {
        check_url("http://h:9093", "http://h:9093/api/v2/alerts");
        check_url("http://h/prefix/", "http://h/prefix/api/v2/alerts");
    }

    #[test]
    fn an_alert_is_as_the_api_wants_it() {
        let fired = notice(AlertState::Fired);
        let now_ns = fired.time_ns;
        let body = Alertmanager { resend: RESEND }.body(&[fired], now_ns);
        let expect = json!([{
            "labels": {
                "alertname": "banned-tool", "severity": "critical", "tool": "claude-code",
                "job": "telltale", "instance": "build-7",
            },
            "annotations": {
                "summary": "Claude Code is banned and runs", "occurrences": "2", "id": "5f3c-5",
                "policy_digest": "00ff", "runbook": "docs/runbooks/README.md#banned-tool",
            },
            "startsAt": "2026-11-20T09:32:02.000000000Z",
            "endsAt": "2026-11-20T09:36:06.000000000Z",
        }]);
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expect);
    }

    #[track_caller]
    fn check_end(state: AlertState, later_s: u64, resend: Duration, ends: &str) {
        let notice = notice(state);
        let now_ns = notice.time_ns + later_s * SECOND;
        let alert = Alertmanager { resend }.alert(&notice, now_ns);
        assert_eq!(alert["endsAt"], ends);
    }

    #[test]
    fn a_firing_alert_lapses_and_a_resolved_one_has_ended() {
        let at = "2026-11-20T09:36:06.000000000Z";
        check_end(AlertState::Fired, 0, RESEND, at);
        check_end(AlertState::StillFiring, 0, RESEND, at);
        // Delivered an hour late, it fires still.
        let later = "2026-11-20T10:36:06.000000000Z";
        check_end(AlertState::Fired, 3600, RESEND, later);
        let over = "2026-11-20T09:32:06.000000000Z";
        check_end(AlertState::Resolved, 3600, RESEND, over);
        let never = "2554-07-21T23:34:33.709551615Z";
        check_end(AlertState::Fired, 0, Duration::MAX, never);
    }

    #[test]
    fn labels_of_an_alert_cannot_pass_for_ours() {
        let mut notice = notice(AlertState::Fired);
        notice.labels.insert("severity".into(), "none".into());
        let alert = Alertmanager { resend: RESEND }.alert(&notice, 0);
        assert_eq!(alert["labels"]["severity"], "critical");
    }
}
