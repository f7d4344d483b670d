//! Alerts to Prometheus Alertmanager, API version 2.
//!
//! In: alerts. Out: `POST /api/v2/alerts` to every peer of the cluster, which removes the
//! duplicates itself; a load balancer in between would defeat that.

use std::time::Duration;

use anyhow::anyhow;
use reqwest::Url;
use serde_json::{Value, json};

use super::post::{Format, Notice, Post, Receiver, Retry};
use super::{HostInfo, plain};
use crate::core::event::BootNs;
use crate::core::report::AlertState;

/// A firing alert ends by itself after this many times the interval at which it is sent again:
/// three may be lost, and a dead Telltale does not page for ever.
const LAPSE_FACTOR: u32 = 4;

/// Writes alerts as `POST /api/v2/alerts` takes them.
#[derive(Clone)]
struct Alertmanager {
    resend: Duration,
    generator_url: Option<Url>,
    host: HostInfo,
}

/// Starts one sender per peer: `alertmanager-1`, `alertmanager-2`, … in the order given.
///
/// `urls` are base URLs, with a path prefix if there is one; `resend` is the interval at which
/// the core repeats a firing alert; `generator_url` is where a person finds this Telltale.
///
/// # Errors
///
/// If a URL is not http or https, or as [`Post::start`].
pub fn start(
    urls: &[Url],
    resend: Duration,
    generator_url: Option<&Url>,
    host: &HostInfo,
    retry: Retry,
) -> anyhow::Result<Vec<Post>> {
    let format = Alertmanager {
        resend,
        generator_url: generator_url.cloned(),
        host: host.clone(),
    };
    let start_one = |(index, url)| {
        Post::start(Receiver {
            name: format!("alertmanager-{}", index + 1),
            url: alerts_url(url)?,
            format: format.clone(),
            retry,
        })
    };
    urls.iter().enumerate().map(start_one).collect()
}

impl Format for Alertmanager {
    const BATCH_MAX: usize = 64;

    fn body(&self, notices: &[Notice]) -> String {
        notices
            .iter()
            .map(|notice| self.alert(notice))
            .collect::<Value>()
            .to_string()
    }
}

impl Alertmanager {
    fn alert(&self, Notice { notice, clock }: &Notice) -> Value {
        let alert = &notice.alert;
        let mut labels = plain(&alert.labels);
        labels.extend([
            ("alertname", alert.rule),
            ("severity", alert.severity.name()),
            ("job", "telltale"),
            ("instance", &self.host.name),
        ]);
        let occurrences = alert.occurrences.to_string();
        let mut annotations = plain(&alert.annotations);
        annotations.insert("occurrences", &occurrences);
        let ends = match notice.state {
            AlertState::Resolved => notice.time,
            AlertState::Fired | AlertState::StillFiring => {
                later(notice.time, self.resend.saturating_mul(LAPSE_FACTOR))
            }
        };
        json!({
            "labels": labels,
            "annotations": annotations,
            "startsAt": clock.rfc3339(alert.started),
            "endsAt": clock.rfc3339(ends),
            "generatorURL": self.generator_url.as_ref().map_or("", Url::as_str),
        })
    }
}

fn alerts_url(base: &Url) -> anyhow::Result<Url> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| anyhow!("the URL of an Alertmanager must be http or https"))?
        .pop_if_empty()
        .extend(["api", "v2", "alerts"]);
    Ok(url)
}

fn later(time: BootNs, by: Duration) -> BootNs {
    BootNs(
        time.0
            .saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)),
    )
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::core::report::AlertNotice;
    use crate::sink::fixture::{self, CLOCK, TestReceiver};

    const RESEND: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn every_peer_is_told_what_fires_and_what_is_resolved() {
        let peers = [
            TestReceiver::start(vec![]).await,
            TestReceiver::start(vec![]).await,
        ];
        let urls = [&peers[0].url, &format!("{}prefix/", peers[1].url)]
            .map(|url| Url::parse(url).unwrap());
        let page = Url::parse("http://build-7:10142/").unwrap();
        let posts = start(
            &urls,
            RESEND,
            Some(&page),
            &fixture::host(),
            Retry::default(),
        )
        .unwrap();
        for post in posts {
            post.offer(&fixture::notice(AlertState::Fired), CLOCK);
            let name = post.name().to_owned();
            let stats = post.drain(Instant::now() + Duration::from_secs(5)).await;
            assert_eq!(stats.delivered, 1, "{name}: {stats:?}");
        }
        let (line, body) = peers[0].requests().remove(0);
        assert_eq!(line, "POST /api/v2/alerts application/json");
        let expect = json!([{
            "labels": {
                "alertname": "banned-tool", "severity": "critical", "tool": "claude-code",
                "job": "telltale", "instance": "build-7",
            },
            "annotations": {"summary": "Claude Code is banned and runs", "occurrences": "2"},
            "startsAt": "2026-11-20T09:32:02.000000000Z",
            "endsAt": "2026-11-20T09:36:06.000000000Z",
            "generatorURL": "http://build-7:10142/",
        }]);
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expect);
        let (line, same) = peers[1].requests().remove(0);
        assert_eq!(line, "POST /prefix/api/v2/alerts application/json");
        assert_eq!(same, body);
    }

    #[track_caller]
    fn check_end(state: AlertState, resend: Duration, ends: &str) {
        let format = Alertmanager {
            resend,
            generator_url: None,
            host: fixture::host(),
        };
        let notice = Notice {
            notice: fixture::notice(state),
            clock: CLOCK,
        };
        assert_eq!(format.alert(&notice)["endsAt"], ends);
        assert_eq!(format.alert(&notice)["generatorURL"], "");
    }

    #[test]
    fn a_firing_alert_lapses_and_a_resolved_one_has_ended() {
        check_end(AlertState::Fired, RESEND, "2026-11-20T09:36:06.000000000Z");
        check_end(
            AlertState::StillFiring,
            RESEND,
            "2026-11-20T09:36:06.000000000Z",
        );
        check_end(
            AlertState::Resolved,
            RESEND,
            "2026-11-20T09:32:06.000000000Z",
        );
        check_end(
            AlertState::Fired,
            Duration::MAX,
            "2554-07-21T23:34:33.709551615Z",
        );
    }

    #[test]
    fn labels_of_an_alert_cannot_pass_for_ours() {
        let mut notice: AlertNotice = fixture::notice(AlertState::Fired);
        let mut alert = (*notice.alert).clone();
        alert.labels.insert("severity", "none".into());
        notice.alert = std::sync::Arc::new(alert);
        let format = Alertmanager {
            resend: RESEND,
            generator_url: None,
            host: fixture::host(),
        };
        assert_eq!(
            format.alert(&Notice {
                notice,
                clock: CLOCK
            })["labels"]["severity"],
            "critical"
        );
    }
}
