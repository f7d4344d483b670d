//! Which tools run, in which version, and since when.
//!
//! In: processes that start and end. Out: the metrics of the section Tools.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use monitor_common::flow::ProcessKey;

use super::define::{Counter, Definer, Gauge};
use super::labels::*;
use crate::core::contacts::VERSIONS_PER_TOOL_MAX;
use crate::core::report::{ContactsReport, ProcessView};

/// Tool processes counted as running at one time: the bound of the kernel's watched processes
/// four times over. Beyond it the gauge is too low, and the bound is counted.
const RUNNING_MAX: usize = 65_536;

/// Which tools run.
pub(super) struct Processes {
    pub(super) started: Counter<2>,
    pub(super) running: Gauge<1>,
    pub(super) info: Gauge<4>,
    pub(super) methods: Counter<2>,
    manifest: Gauge<3>,
    first_seen: Gauge<1>,
    last_seen: Gauge<1>,
    /// Tools that were seen.
    seen: Mutex<BTreeSet<String>>,
    /// Tool of each running process that belongs to one, by (start, pid): an exec replaces
    /// its entry. At most [`RUNNING_MAX`].
    pub(super) table: Mutex<HashMap<(u64, u32), String>>,
    /// Versions that have a series, by tool.
    pub(super) versions: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl Processes {
    pub(super) fn define(define: &mut Definer) -> prometheus::Result<Self> {
        define.section("Tools", "");
        Ok(Processes {
            started: define.counter(
                "telltale_processes_started_total",
                "Program images that started.",
                [TOOL, ROLE],
            )?,
            running: define.gauge(
                "telltale_running_processes",
                "Processes that run a program of the tool, or one that it started.",
                [TOOL],
            )?,
            info: define.gauge(
                "telltale_tool_info",
                "1 for each tool and version that ran here since Telltale started.",
                [TOOL, VERSION, VENDOR, JURISDICTION],
            )?,
            methods: define.counter(
                "telltale_attributions_total",
                "Program images of tools that started or were found, by the strongest evidence \
                 that they are.",
                [TOOL, METHOD],
            )?,
            manifest: define.gauge(
                "telltale_manifest_endpoints",
                "Endpoints of the tool's manifest, and hosts beside it, by whether the tool itself \
                 or a helper of it was seen to contact them since Telltale started. \
                 `telltale catalog diff` says which.",
                [TOOL, VERSION, CONTACTS],
            )?,
            first_seen: define.gauge(
                "telltale_tool_first_seen_timestamp_seconds",
                "When the tool was first seen since Telltale started, in unix time.",
                [TOOL],
            )?,
            seen: Mutex::default(),
            last_seen: define.gauge(
                "telltale_tool_last_seen_timestamp_seconds",
                "When the tool last started a process, or opened or ended a flow, in unix time.",
                [TOOL],
            )?,
            table: Mutex::default(),
            versions: Mutex::default(),
        })
    }

    /// Notes that a tool was seen; whether that is the first time.
    pub(super) fn see(&self, tool: &str, unix_seconds: i64) -> bool {
        self.last_seen.set([tool], unix_seconds);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let first = !seen.contains(tool) && seen.insert(tool.to_owned());
        if first {
            self.first_seen.set([tool], unix_seconds);
        }
        first
    }

    /// Shows what a version of `tool` was seen to contact. The core bounds their number.
    pub(super) fn contacts(&self, tool: &str, report: &ContactsReport) {
        let version = report.version.as_deref().unwrap_or("unknown");
        let classes = [
            ("seen", report.seen),
            ("not-seen", report.unseen),
            ("undeclared", report.undeclared),
        ];
        for (class, count) in classes {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.manifest.set([tool, version, class], count);
        }
    }

    /// Notes that a process now runs a program of `tool`; false if there is no room to.
    pub(super) fn enter(&self, key: ProcessKey, tool: &str) -> bool {
        self.leave(key);
        if tool == NONE {
            return true;
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= RUNNING_MAX {
            return false;
        }
        table.insert((key.start_ns, key.tgid), tool.to_owned());
        self.running.add([tool], 1);
        true
    }

    /// Notes that a process ended, if it is known.
    pub(super) fn leave(&self, key: ProcessKey) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tool) = table.remove(&(key.start_ns, key.tgid)) {
            self.running.add([&tool], -1);
        }
    }

    pub(super) fn info(&self, tool: &str, process: &ProcessView) {
        let Some(attribution) = &process.tool else {
            return;
        };
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = versions.entry(tool.to_owned()).or_default();
        let version = attribution.version.as_deref().unwrap_or("unknown");
        let known = seen.contains(version) || version == "unknown";
        let version = if known || seen.len() < VERSIONS_PER_TOOL_MAX {
            version
        } else {
            OTHER
        };
        seen.insert(version.to_owned());
        let (vendor, jurisdiction) = match tool {
            OTHER => (OTHER, OTHER),
            _ => (&*attribution.tool.vendor, &*attribution.tool.jurisdiction),
        };
        self.info.set([tool, version, vendor, jurisdiction], 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::attribute::{Attribution, Role};
    use crate::core::event::{Endpoint, Protocol};
    use crate::core::policy::judgement::{Judgement, Verdict};
    use crate::core::report::FlowReport;
    use crate::metrics::encode::Format;
    use crate::metrics::fixture::{check, metrics, of_tool};
    use crate::sink::fixture::{self, CLOCK};

    #[test]
    fn running_processes_follow_exec_and_exit() {
        let metrics = metrics();
        let running = "telltale_running_processes{tool=\"claude-code\"}";
        let start = |process| metrics.record(&fixture::started(process), &CLOCK);
        start(fixture::process(1));
        start(fixture::process(2));
        start(ProcessView {
            key: ProcessKey {
                exec_id: 3,
                ..fixture::process(2).key
            },
            ..fixture::process(2)
        });
        check(&metrics, &[(running, 2.0)]);
        start(of_tool(2, "codex", Role::Main));
        check(
            &metrics,
            &[
                (running, 1.0),
                ("telltale_running_processes{tool=\"codex\"}", 1.0),
            ],
        );
        start(fixture::stranger(2));
        metrics.record(&fixture::ended(fixture::process(1), 0), &CLOCK);
        metrics.record(&fixture::ended(fixture::process(3), 0), &CLOCK);
        check(
            &metrics,
            &[
                (running, 0.0),
                ("telltale_running_processes{tool=\"codex\"}", 0.0),
            ],
        );
        let started = "telltale_processes_started_total{role=\"main\",tool=\"claude-code\"}";
        check(&metrics, &[(started, 3.0)]);
    }

    #[test]
    fn what_is_unknown_folds_to_other() {
        let metrics = metrics();
        let strange = fixture::opened(of_tool(1, "no-such-tool", Role::Git));
        let strange = FlowReport {
            judgement: Judgement {
                purpose: Some("no-such-purpose".into()),
                ..fixture::judgement(Verdict::Unknown)
            },
            remote: Endpoint {
                protocol: Protocol::Other(132),
                ..strange.remote
            },
            names: Vec::new(),
            ..strange
        };
        metrics.record(&fixture::flow(strange), &CLOCK);
        let by_stranger = fixture::flow(fixture::opened(fixture::stranger(3)));
        metrics.record(&by_stranger, &CLOCK);
        for version in 0..2 * VERSIONS_PER_TOOL_MAX {
            let mut process = fixture::process(2);
            let version = Some(format!("1.{version}").into());
            let attribution = fixture::attribution("codex", Role::Main);
            process.tool = Some(Arc::new(Attribution {
                version,
                ..attribution
            }));
            metrics.record(&fixture::started(process), &CLOCK);
        }
        check(
            &metrics,
            &[
                (
                    "telltale_connections_total{purpose=\"other\",role=\"git\",tool=\"other\",\
                 transport=\"other\",verdict=\"unknown\"}",
                    1.0,
                ),
                ("telltale_flow_names_total{source=\"none\"}", 1.0),
                (
                    "telltale_connections_total{purpose=\"api\",role=\"unidentified\",\
                 tool=\"unidentified\",transport=\"tcp\",verdict=\"expected\"}",
                    1.0,
                ),
                (
                    "telltale_tool_info{jurisdiction=\"US\",tool=\"codex\",vendor=\"Anthropic\",\
                 version=\"other\"}",
                    1.0,
                ),
            ],
        );
        let text = metrics.encode(Format::Text);
        let versions = text.matches("tool=\"codex\",vendor=\"Anthropic\"").count();
        assert_eq!(versions, VERSIONS_PER_TOOL_MAX + 1);
    }
}
