//! Alerts to a chat that takes Slack's incoming webhooks: Slack itself, Mattermost, Rocket.Chat.
//!
//! In: alerts. Out: a message of one attachment each. Repetitions are not told: a chat keeps what
//! it was told.

use serde_json::{Value, json};

use super::http_post::Format;
use super::notice::{Notice, State};

/// Annotations that are shown below the summary, in this order.
const SHOWN: [&str; 8] = [
    "why",
    "executable",
    "pid",
    "user_id",
    "parent",
    "remote",
    "evidence",
    "runbook",
];

/// Writes messages.
#[derive(Clone, Copy, Debug)]
pub struct Slack;

impl Format for Slack {
    // A message for each alert, so that people can answer to it.
    const BATCH_MAX: usize = 1;
    const REPEATS: bool = false;

    fn body(&self, notices: &[Notice], _now_ns: u64) -> String {
        let attachments: Vec<Value> = notices.iter().map(attachment).collect();
        json!({"attachments": attachments}).to_string()
    }
}

fn attachment(notice: &Notice) -> Value {
    let (word, color) = match (notice.state, &*notice.severity) {
        (State::Resolved, _) => ("RESOLVED", "good"),
        (_, "critical") => ("CRITICAL", "danger"),
        (_, "warning") => ("WARNING", "warning"),
        _ => ("INFO", "#439fe0"),
    };
    let title = format!("[{word}] {} on {}", notice.rule, notice.host.name);
    let fields: Vec<Value> = SHOWN
        .iter()
        .filter_map(|name| Some((name, notice.annotations.get(*name)?)))
        .map(|(name, value)| json!({"title": name, "value": escape(value), "short": false}))
        .collect();
    json!({
        "fallback": format!("{title}: {}", notice.summary()),
        "color": color,
        "title": escape(&title),
        "text": escape(notice.summary()),
        "fields": fields,
        "footer": notice.id,
        "ts": notice.time_ns / 1_000_000_000,
    })
}

/// Takes the meaning from what would be a link or a mention (`<!channel>`).
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::report::AlertState;
    use crate::sink::fixture::{self, CLOCK};

    #[test]
    fn a_message_tells_what_fires_and_mentions_nobody() {
        let mut notice = Notice::new(&fixture::notice(AlertState::Fired), CLOCK, &fixture::host());
        let why = "<!channel> & more".to_owned();
        notice.annotations.insert("why".to_owned(), why);
        let message: Value = serde_json::from_str(&Slack.body(&[notice.clone()], 0)).unwrap();
        let attachment = &message["attachments"][0];
        assert_eq!(attachment["title"], "[CRITICAL] banned-tool on build-7");
        assert_eq!(attachment["text"], "Claude Code is banned and runs");
        assert_eq!(attachment["color"], "danger");
        assert_eq!(
            attachment["fields"][0]["value"],
            "&lt;!channel&gt; &amp; more"
        );
        notice.state = State::Resolved;
        let message: Value = serde_json::from_str(&Slack.body(&[notice], 0)).unwrap();
        assert_eq!(message["attachments"][0]["color"], "good");
    }
}
