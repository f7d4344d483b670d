//! Alerts to a webhook: one JSON object per request.
//!
//! In: alerts. Out: a POST with this body; a receiver answers with any 2xx status.
//!
//! ```json
//! {
//!   "version": "1",
//!   "id": "5f3c…-17",                 // unique per notice; the same if it is sent again
//!   "status": "firing",               // or "resolved"
//!   "alert": {
//!     "rule": "banned-tool",
//!     "severity": "critical",         // or "warning", "info"
//!     "state": "fired",               // or "still-firing", "resolved"
//!     "labels": {"tool": "…"},        // with the rule: identity of the alert
//!     "annotations": {"summary": "…"},
//!     "started": "2026-11-20T09:32:00.000000000Z",
//!     "last_seen": "2026-11-20T09:33:00.000000000Z",
//!     "ended": null,                  // a time once it is resolved
//!     "occurrences": 3
//!   },
//!   "host": {"name": "build-7", "boot_id": "…", "session": "…"}
//! }
//! ```
//!
//! Fields may be added; `version` changes when one changes its meaning or goes.

use reqwest::Url;
use serde_json::{Value, json};

use super::post::{Format, Notice, Post, Receiver, Retry};
use super::{HostInfo, plain, state_name};
use crate::core::report::AlertState;

/// Version of the body.
const VERSION: &str = "1";

/// Writes the body above.
struct Webhook {
    host: HostInfo,
}

/// Starts the sender.
///
/// # Errors
///
/// As [`Post::start`].
pub fn start(url: &Url, host: &HostInfo, retry: Retry) -> anyhow::Result<Post> {
    Post::start(Receiver {
        name: "webhook".to_owned(),
        url: url.clone(),
        format: Webhook { host: host.clone() },
        retry,
    })
}

impl Format for Webhook {
    const BATCH_MAX: usize = 1;

    fn body(&self, notices: &[Notice]) -> String {
        notices
            .iter()
            .map(|notice| body(notice, &self.host).to_string())
            .collect()
    }
}

fn body(Notice { notice, clock }: &Notice, host: &HostInfo) -> Value {
    let alert = &notice.alert;
    let resolved = notice.state == AlertState::Resolved;
    json!({
        "version": VERSION,
        "id": format!("{}-{}", host.session, notice.sequence),
        "status": if resolved { "resolved" } else { "firing" },
        "alert": {
            "rule": alert.rule,
            "severity": alert.severity.name(),
            "state": state_name(notice.state),
            "labels": plain(&alert.labels),
            "annotations": plain(&alert.annotations),
            "started": clock.rfc3339(alert.started),
            "last_seen": clock.rfc3339(alert.last_seen),
            "ended": resolved.then(|| clock.rfc3339(notice.time)),
            "occurrences": alert.occurrences,
        },
        "host": {"name": host.name, "boot_id": host.boot_id, "session": host.session},
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::sink::fixture::{self, CLOCK, TestReceiver};

    #[tokio::test]
    async fn each_notice_is_one_request_of_the_documented_shape() {
        let receiver = TestReceiver::start(vec![]).await;
        let url = Url::parse(&receiver.url).unwrap().join("hook?x=1").unwrap();
        let post = start(&url, &fixture::host(), Retry::default()).unwrap();
        post.offer(&fixture::notice(AlertState::Fired), CLOCK);
        post.offer(&fixture::notice(AlertState::Resolved), CLOCK);
        post.drain(Instant::now() + Duration::from_secs(5)).await;
        let requests = receiver.requests();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0].0, "POST /hook?x=1 application/json");
        let expect = json!({
            "version": "1",
            "id": "5f3c-5",
            "status": "firing",
            "alert": {
                "rule": "banned-tool",
                "severity": "critical",
                "state": "fired",
                "labels": {"tool": "claude-code"},
                "annotations": {"summary": "Claude Code is banned and runs"},
                "started": "2026-11-20T09:32:02.000000000Z",
                "last_seen": "2026-11-20T09:32:03.000000000Z",
                "ended": null,
                "occurrences": 2,
            },
            "host": {
                "name": "build-7",
                "boot_id": "7d0a1f6e-0000-4000-8000-000000000001",
                "session": "5f3c",
            },
        });
        let bodies: Vec<Value> = requests
            .iter()
            .map(|(_, body)| serde_json::from_str(body).unwrap())
            .collect();
        assert_eq!(bodies[0], expect);
        assert_eq!(bodies[1]["status"], "resolved");
        assert_eq!(bodies[1]["alert"]["state"], "resolved");
        assert_eq!(
            bodies[1]["alert"]["ended"],
            "2026-11-20T09:32:06.000000000Z"
        );
    }
}
