//! The state of the monitor: for programs as JSON, for a person as a page.
//!
//! In: the metrics, and what does not change. Out: the texts of `/status` and `/`. The page loads
//! nothing and runs no script, and every text in it is escaped.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::pages::{Readiness, Web};
use crate::core::policy::judgement::Verdict;
use crate::metrics::Sample;

/// The page, with a `{{name}}` for each text that changes.
const PAGE: &str = include_str!("landing.html");

/// Counters of what was lost, dropped or limited; all should stay at 0.
const LOSSES: [&str; 6] = [
    "telltale_kernel_gap_total",
    "telltale_decode_errors_total",
    "telltale_table_limited_total",
    "telltale_flows_over_budget_total",
    "telltale_event_log_dropped_lines_total",
    "telltale_sink_dropped_total",
];

/// Outcomes of a kernel operation that mean that its record was lost.
const LOST: [&str; 4] = ["ring_full", "flows_full", "unreadable", "over_budget"];

/// The metrics at one moment.
struct State(Vec<Sample>);

impl State {
    fn of<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }

    fn sum(&self, name: &str, wanted: impl Fn(&Sample) -> bool) -> f64 {
        self.of(name)
            .filter(|sample| wanted(sample))
            .map(|sample| sample.value)
            .sum()
    }

    fn of_tool(&self, name: &str, tool: &str) -> f64 {
        self.sum(name, |sample| label(sample, "tool") == tool)
    }

    /// Values by the values of one label.
    fn by(&self, name: &str, by: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.of(name) {
            *sums.entry(label(sample, by).to_owned()).or_default() += sample.value;
        }
        sums
    }

    fn gaps(&self) -> Vec<&str> {
        let gaps = self.of("telltale_coverage_gap_info");
        gaps.map(|sample| label(sample, "reason")).collect()
    }

    fn complete(&self) -> bool {
        self.sum("telltale_coverage_complete", |_| true) > 0.0
    }

    /// Everything that was lost, dropped or limited so far.
    fn losses(&self) -> Vec<&Sample> {
        let lost = |sample: &&Sample| {
            let kernel = sample.name == "telltale_kernel_operations_total"
                && LOST.contains(&label(sample, "outcome"));
            sample.value > 0.0 && (kernel || LOSSES.contains(&&*sample.name))
        };
        self.0.iter().filter(lost).collect()
    }

    /// Tools that were seen.
    fn tools(&self) -> BTreeSet<&str> {
        let seen = self.of("telltale_tool_last_seen_timestamp_seconds");
        seen.map(|sample| label(sample, "tool")).collect()
    }
}

fn label<'s>(sample: &'s Sample, name: &str) -> &'s str {
    sample.labels.get(name).map_or("", String::as_str)
}

/// The body of `/status`.
pub fn json(web: &Web) -> String {
    let state = State(web.metrics.samples());
    let reason = match &*web.readiness.borrow() {
        Readiness::Ready => None,
        Readiness::NotReady(reason) => Some(reason.clone()),
    };
    let hooks: BTreeMap<_, _> = state
        .by("telltale_hook_attached", "program")
        .into_iter()
        .map(|(program, attached)| (program, attached > 0.0))
        .collect();
    let losses: Vec<_> = state
        .losses()
        .into_iter()
        .map(|it| json!({"metric": it.name, "labels": it.labels, "count": it.value}))
        .collect();
    let tools: Map<String, Value> = state
        .tools()
        .into_iter()
        .map(|tool| (tool.to_owned(), tool_json(&state, tool)))
        .collect();
    let firing = state.by("telltale_alerts_firing", "rule");
    let (about, policy) = (&web.about, web.policy.borrow().clone());
    let status = json!({
        "version": about.version,
        "object_digest": about.object_digest,
        "host": about.host,
        "ready": reason.is_none(),
        "not_ready_reason": reason,
        "coverage": {"complete": state.complete(), "gaps": state.gaps()},
        "hooks": hooks,
        "policy": {
            "banned": policy.banned,
            "digest": policy.digest,
            "catalog_digest": policy.catalog_digest,
            "rules": policy.rules,
            "exceptions": policy.exceptions,
            "rejected": policy.rejected,
        },
        "alerts_firing": firing,
        "books_remainder": state.by("telltale_books_remainder", "hook"),
        "losses": losses,
        "tools": tools,
        "sinks": {
            "queue_length": state.by("telltale_sink_queue_length", "sink"),
            "delivered": state.by("telltale_sink_delivered_total", "sink"),
            "dropped": state.by("telltale_sink_dropped_total", "sink"),
        },
    });
    format!("{status:#}\n")
}

fn tool_json(state: &State, tool: &str) -> Value {
    let verdicts: BTreeMap<String, f64> = state
        .of("telltale_connections_total")
        .filter(|sample| label(sample, "tool") == tool)
        .fold(BTreeMap::new(), |mut sums, sample| {
            *sums.entry(label(sample, "verdict").to_owned()).or_default() += sample.value;
            sums
        });
    json!({
        "versions": versions(state, tool),
        "running": state.of_tool("telltale_running_processes", tool),
        "connections": verdicts,
        "bytes_sent": state.of_tool("telltale_transmit_bytes_total", tool),
        "bytes_received": state.of_tool("telltale_receive_bytes_total", tool),
        "last_seen": state.of_tool("telltale_tool_last_seen_timestamp_seconds", tool),
    })
}

fn versions<'s>(state: &'s State, tool: &str) -> Vec<&'s str> {
    let infos = state.of("telltale_tool_info");
    let of_tool = infos.filter(|sample| label(sample, "tool") == tool);
    of_tool.map(|sample| label(sample, "version")).collect()
}

/// The body of `/`.
pub fn page(web: &Web) -> String {
    let state = State(web.metrics.samples());
    let (class, headline, detail) = headline(web, &state);
    let hooks = state.by("telltale_hook_attached", "program");
    let attached = hooks.values().filter(|attached| **attached > 0.0).count();
    let about = &web.about;
    let losses: f64 = state.losses().iter().map(|sample| sample.value).sum();
    let policy = web.policy.borrow().clone();
    let digest: String = policy.digest.chars().take(12).collect();
    let texts = [
        ("class", class.to_owned()),
        ("headline", headline),
        ("detail", detail),
        ("host", about.host.clone()),
        ("version", about.version.clone()),
        ("metrics", web.telemetry_path.clone()),
        ("hooks", format!("{attached} of {}", hooks.len())),
        (
            "firing",
            count(state.sum("telltale_alerts_firing", |_| true)),
        ),
        ("connections", count(connections(&state, |_| true))),
        ("unexpected", count(connections(&state, is_unexpected))),
        ("losses", count(losses)),
        ("banned", named(&policy.banned)),
        ("policy", digest),
    ];
    // The rows are markup already; put in last, they are not looked at for further names.
    let page = texts.iter().fold(PAGE.to_owned(), |page, (name, text)| {
        page.replace(&format!("{{{{{name}}}}}"), &escape(text))
    });
    page.replace("{{alerts}}", &alert_rows(&state))
        .replace("{{tools}}", &tool_rows(&state))
}

fn named(tools: &[String]) -> String {
    if tools.is_empty() {
        "nothing".to_owned()
    } else {
        tools.join(", ")
    }
}

/// Colour, headline and explanation: the worst comes first.
fn headline(web: &Web, state: &State) -> (&'static str, String, String) {
    if let Readiness::NotReady(reason) = &*web.readiness.borrow() {
        return ("bad", "Not ready".to_owned(), reason.clone());
    }
    if !state.complete() {
        let detail = format!(
            "Something may have been missed: {}. No unexpected contact is claimed for this time.",
            state.gaps().join(", ")
        );
        return ("warn", "Coverage is incomplete".to_owned(), detail);
    }
    let detail = "All hooks are attached and proved to see, the books balance, and nothing was \
                  dropped in the last minute.";
    ("good", "Everything was seen".to_owned(), detail.to_owned())
}

fn is_unexpected(sample: &Sample) -> bool {
    let verdict = label(sample, "verdict");
    Verdict::ALL
        .into_iter()
        .any(|it| it.is_unexpected() && it.name() == verdict)
}

/// Connections of AI tools.
fn connections(state: &State, wanted: impl Fn(&Sample) -> bool) -> f64 {
    state.sum("telltale_connections_total", |sample| {
        label(sample, "tool") != "none" && wanted(sample)
    })
}

fn alert_rows(state: &State) -> String {
    let firing = state.by("telltale_alerts_firing", "rule");
    let rows = firing.iter().filter(|(_, count)| **count > 0.0);
    let rows: String = rows
        .map(|(rule, firing)| {
            format!(
                "<tr><td>{}</td><td class=\"n\">{}</td></tr>\n",
                escape(rule),
                count(*firing)
            )
        })
        .collect();
    if rows.is_empty() {
        "<tr><td colspan=\"2\" class=\"none\">Nothing fires.</td></tr>\n".to_owned()
    } else {
        rows
    }
}

fn tool_rows(state: &State) -> String {
    let row = |tool: &str| {
        let of_tool = |sample: &Sample| label(sample, "tool") == tool;
        let unexpected = |sample: &Sample| of_tool(sample) && is_unexpected(sample);
        let numbers = [
            count(state.of_tool("telltale_running_processes", tool)),
            count(state.of_tool("telltale_connections_total", tool)),
            count(state.sum("telltale_connections_total", unexpected)),
            bytes(state.of_tool("telltale_transmit_bytes_total", tool)),
            bytes(state.of_tool("telltale_receive_bytes_total", tool)),
        ];
        let numbers: String = numbers
            .map(|number| format!("<td class=\"n\">{number}</td>"))
            .concat();
        let versions = versions(state, tool).join(", ");
        format!(
            "<tr><td>{}</td><td>{}</td>{numbers}</tr>\n",
            escape(tool),
            escape(&versions)
        )
    };
    let rows: String = state.tools().into_iter().map(row).collect();
    if rows.is_empty() {
        "<tr><td colspan=\"7\" class=\"none\">No AI tool was seen yet.</td></tr>\n".to_owned()
    } else {
        rows
    }
}

/// A whole number with thin spaces between thousands.
fn count(number: f64) -> String {
    // A sum of nothing is -0.
    let digits = format!("{:.0}", number + 0.0);
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{2009}');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the unit that reads best.
fn bytes(number: f64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fits = |(_, power): &(&str, i32)| number >= 2f64.powi(*power);
    match units.into_iter().find(fits) {
        Some((unit, power)) => format!("{:.1}\u{2009}{unit}", number / 2f64.powi(power)),
        None => format!("{}\u{2009}B", count(number)),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
        // What a text says must not be taken for a name of the page's.
        .replace('{', "&#123;")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::*;
    use crate::core::report::AlertState;
    use crate::metrics::{BuildInfo, Metrics};
    use crate::sink::fixture::{self, CLOCK};
    use crate::sink::http::pages::{About, PolicyStatus};

    /// A monitor that saw a tool and an alert; of a host with an odd name.
    fn web(readiness: Readiness) -> Web {
        let tools = ["claude-code"].into_iter();
        let metrics = Metrics::new(tools, &BuildInfo::default(), "5f3c").unwrap();
        metrics.set_policy(&fixture::policy(), "11ee");
        metrics.set_hook_attached("connect4", true);
        metrics.set_hook_attached("connect6", false);
        for effect in [
            fixture::started(fixture::process(1)),
            fixture::flow(fixture::opened(fixture::process(1))),
            fixture::alert(AlertState::Fired),
            fixture::over_budget(fixture::process(1), 12_345, 1),
        ] {
            metrics.record(&effect, &CLOCK);
        }
        Web {
            metrics: Arc::new(metrics),
            telemetry_path: "/metrics".into(),
            about: Arc::new(About {
                version: "<1>".into(),
                host: "a&b{{tools}}".into(),
                object_digest: "aa".into(),
            }),
            readiness: watch::channel(readiness).1,
            policy: watch::channel(PolicyStatus {
                digest: "00ff".into(),
                catalog_digest: "11ee".into(),
                rules: 2,
                exceptions: 0,
                banned: vec!["qoder-cli".into()],
                rejected: None,
            })
            .1,
            config: None,
        }
    }

    #[test]
    fn the_page_tells_the_state_and_escapes_what_it_shows() {
        let page = page(&web(Readiness::Ready));
        for part in [
            "Coverage is incomplete",
            "not_yet_verified",
            "a&amp;b&#123;&#123;tools}}",
            "&lt;1&gt;",
            "1 of 2",
            "12\u{2009}345",
            "qoder-cli",
            "<td>banned-tool</td><td class=\"n\">1</td>",
            "<td>claude-code</td><td>2.1.328</td>",
            "href=\"/metrics\"",
        ] {
            assert!(page.contains(part), "no {part} in\n{page}");
        }
        assert!(!page.contains("{{"), "{page}");
        let refused = super::page(&web(Readiness::NotReady("<no BTF>".into())));
        assert!(refused.contains("Not ready") && refused.contains("&lt;no BTF&gt;"));
    }

    #[test]
    fn the_status_tells_hooks_coverage_policy_and_losses() {
        let status: Value = serde_json::from_str(&json(&web(Readiness::Ready))).unwrap();
        assert_eq!(
            status["hooks"],
            json!({"connect4": true, "connect6": false})
        );
        assert_eq!(
            status["coverage"],
            json!({"complete": false, "gaps": ["not_yet_verified"]})
        );
        assert_eq!(
            status["policy"],
            json!({
                "banned": ["qoder-cli"],
                "digest": "00ff",
                "catalog_digest": "11ee",
                "rules": 2,
                "exceptions": 0,
                "rejected": null,
            })
        );
        assert_eq!(status["alerts_firing"]["banned-tool"], 1.0);
        assert_eq!(
            status["losses"][0]["metric"],
            "telltale_flows_over_budget_total"
        );
        assert_eq!(status["losses"][0]["count"], 12_345.0);
        assert_eq!(status["tools"]["claude-code"]["running"], 1.0);
        assert_eq!(
            status["tools"]["claude-code"]["connections"]["expected"],
            1.0
        );
        assert_eq!(status["ready"], true);
    }

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(count(-0.0), "0");
        assert_eq!(count(1_234_567.0), "1\u{2009}234\u{2009}567");
        assert_eq!(bytes(512.0), "512\u{2009}B");
        assert_eq!(bytes(1536.0), "1.5\u{2009}KiB");
        assert_eq!(bytes(3.0 * 1024.0 * 1024.0), "3.0\u{2009}MiB");
    }
}
