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
//! With a key configured, the headers `X-Telltale-Timestamp` (unix time in seconds) and
//! `X-Telltale-Signature` (`sha256=` and the hex HMAC-SHA256 of timestamp, dot and body) come too.
//!
//! Fields may be added; `version` changes when one changes its meaning or goes.

use serde_json::{Value, json};

use super::http_post::Format;
use super::notice::{Notice, State};
use crate::clock::rfc3339;

/// Version of the body.
const VERSION: &str = "1";

/// Writes the body above.
#[derive(Clone, Copy, Debug)]
pub struct Webhook;

impl Format for Webhook {
    const BATCH_MAX: usize = 1;

    fn body(&self, notices: &[Notice], _now_ns: u64) -> String {
        notices
            .iter()
            .map(|notice| body(notice).to_string())
            .collect()
    }
}

/// One alert as JSON.
pub(super) fn body(notice: &Notice) -> Value {
    let resolved = notice.state == State::Resolved;
    let host = &notice.host;
    json!({
        "version": VERSION,
        "id": notice.id,
        "status": if resolved { "resolved" } else { "firing" },
        "alert": {
            "rule": notice.rule,
            "severity": notice.severity,
            "state": notice.state.name(),
            "labels": notice.labels,
            "annotations": notice.annotations,
            "started": rfc3339(notice.started_ns),
            "last_seen": rfc3339(notice.last_seen_ns),
            "ended": resolved.then(|| rfc3339(notice.time_ns)),
            "occurrences": notice.occurrences,
        },
        "host": {"name": host.name, "boot_id": host.boot_id, "session": host.session},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::report::AlertState;
    use crate::sink::fixture::{self, CLOCK};

    fn written(state: AlertState) -> Value {
        let notice = Notice::new(&fixture::notice(state), CLOCK, &fixture::host());
        serde_json::from_str(&Webhook.body(&[notice], 0)).unwrap()
    }

    #[test]
    fn a_body_is_of_the_documented_shape() {
        let expect = json!({
            "version": "1",
            "id": "5f3c-5",
            "status": "firing",
            "alert": {
                "rule": "banned-tool",
                "severity": "critical",
                "state": "fired",
                "labels": {"tool": "claude-code"},
                "annotations": {
                    "summary": "Claude Code is banned and runs",
                    "policy_digest": "00ff", "runbook": "docs/runbooks/README.md#banned-tool",
                },
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
        assert_eq!(written(AlertState::Fired), expect);
        let resolved = written(AlertState::Resolved);
        assert_eq!(resolved["status"], "resolved");
        assert_eq!(resolved["alert"]["state"], "resolved");
        assert_eq!(resolved["alert"]["ended"], "2026-11-20T09:32:06.000000000Z");
    }
}
