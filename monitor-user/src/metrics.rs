//! Every metric of Telltale: name, type, meaning, and the bound of each label.
//!
//! In: effects of the core, and what the owner of the line measures about itself. Out: the
//! formats of Prometheus, and `docs/metrics.md`. It counts and never decides.
//!
//! A label never holds a pid, an address, a port or an argument: its values come from the catalog
//! or from this program, anything else becomes `other`. One label, `endpoint`, holds names that
//! came off the wire, on a budget.

//!
//! One file is one group of metrics, with what it keeps to fill them:
//!
//! - [`traffic`]: who talks to whom, and under which names.
//! - [`endpoints`]: what tools contact, by name, on a budget.
//! - [`tools`]: which tools run.
//! - [`policy`]: by which policy is judged.
//! - [`alerts`]: what a person should look at.
//! - [`health`]: whether everything was seen.
//! - [`outputs`]: what the outputs did.
//!
//! [`define`] registers and documents a metric in one call, [`labels`] bounds label values,
//! [`encode`] writes the formats that they are served in, with [`exemplars`].

mod alerts;
mod define;
pub mod encode;
mod endpoints;
mod exemplars;
#[cfg(test)]
mod fixture;
mod health;
mod labels;
#[cfg(feature = "otlp")]
mod otlp;
pub mod outputs;
mod policy;
mod tools;
pub mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{LabelPair, Metric, MetricType};

use crate::clock::WallClock;
use crate::core::attribute::{Evidence, Role};
use crate::core::event::decode::DecodeError;
use crate::core::event::{BootNs, Protocol};
use crate::core::policy::Policy;
use crate::core::policy::judgement::Judgement;
use crate::core::report::{
    ContactsReport, Effect, FactCounts, FlowAction, FlowReport, FlowsCounted, Origin,
    OverBudgetReport, ProcessEnded, ProcessStarted, ProcessView, ResolvedStatus, SocketReport,
};
use alerts::Alerts;
use define::{Defined, Definer, Label};
use encode::Format;
use endpoints::Endpoints;
use exemplars::Exemplar;
use health::{Coverage, Kernel, Line};
use labels::*;
use outputs::{EventLogStats, Outputs, SinkStats, WebRefusal, WebServer};
use tools::Processes;
use traffic::{Names, Traffic, purpose_label};

const INTRODUCTION: &str = "\
# Metrics

Telltale serves these at `/metrics`: in the Prometheus text format 0.0.4, or in OpenMetrics 1.0 for a scraper whose `Accept` header prefers it, and gzipped for one that takes it.
In OpenMetrics, connections, failures, durations and alerts have exemplars: `event_id` is the `event.id` of the last event counted, in the event log.
This file is written from the definitions in `monitor-user/src/metrics/`.

No label holds a pid, an address, a port or an argument.
One label, `endpoint`, holds names that came off the wire, on a budget for each tool.
A value that is not in the list below a metric becomes `other`.
";

/// What was built, for `telltale_build_info`.
#[derive(Clone, Debug, Default)]
pub struct BuildInfo {
    /// Version of the program.
    pub version: String,
    /// Revision of the source; `None` if the build did not know it.
    pub revision: Option<String>,
    /// SHA-256 of the kernel object, in hex.
    pub object_digest: String,
}

/// A series and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// All metrics, with a registry of their own.
pub struct Metrics {
    defined: Defined,
    session: String,
    tools: RwLock<BTreeSet<String>>,
    traffic: Traffic,
    endpoints: Endpoints,
    processes: Processes,
    policy: policy::Policy,
    alerts: Alerts,
    names: Names,
    coverage: Coverage,
    kernel: Kernel,
    line: Line,
    outputs: Outputs,
    web: WebServer,
}

impl Metrics {
    /// Defines all metrics. `tools` are the ids of the catalog: the bound of the `tool` label.
    /// `session` is this run of Telltale: with an event's number, the id of the event.
    ///
    /// # Errors
    ///
    /// If two metrics have one name; a test proves that they have not.
    pub fn new<'a>(
        tools: impl Iterator<Item = &'a str>,
        build: &BuildInfo,
        session: &str,
    ) -> prometheus::Result<Self> {
        let mut define = Definer::new(INTRODUCTION);
        let traffic = Traffic::define(&mut define)?;
        let endpoints = Endpoints::define(&mut define)?;
        let processes = Processes::define(&mut define)?;
        let policy = policy::Policy::define(&mut define)?;
        let alerts = Alerts::define(&mut define)?;
        let names = Names::define(&mut define)?;
        let coverage = Coverage::define(&mut define)?;
        let kernel = Kernel::define(&mut define)?;
        let line = Line::define(&mut define)?;
        let outputs = Outputs::define(&mut define)?;
        let web = WebServer::define(&mut define)?;
        define_own(&mut define, build)?;
        let tools = RwLock::new(tools.map(str::to_owned).collect());
        Ok(Metrics {
            defined: define.finish(),
            session: session.to_owned(),
            tools,
            traffic,
            endpoints,
            processes,
            policy,
            alerts,
            names,
            coverage,
            kernel,
            line,
            outputs,
            web,
        })
    }

    /// Says by which policy and catalog is judged from now on.
    pub fn set_policy(&self, policy: &Policy, catalog_digest: &str) {
        self.alerts.show(self.policy.set(policy, catalog_digest));
    }

    /// Says which tools the catalog has from now on: the bound of the `tool` label. Those that it
    /// had before keep their series.
    pub fn set_tools<'a>(&self, tools: impl Iterator<Item = &'a str>) {
        let mut known = self.tools.write().unwrap_or_else(PoisonError::into_inner);
        known.extend(tools.map(str::to_owned));
    }

    /// Policy and catalog were read again.
    pub fn reloaded(&self, successful: bool, unix_seconds: i64) {
        self.policy.reloaded(successful, unix_seconds);
    }

    /// Counts one effect. `clock` turns its boot time into the time of `_timestamp_seconds`.
    pub fn record(&self, effect: &Effect, clock: &WallClock) {
        match effect {
            Effect::ProcessStarted(event) => self.process_started(event, clock),
            Effect::ProcessEnded(event) => self.process_ended(event),
            Effect::Flow(report) => self.flow(report, clock),
            Effect::FlowsCounted(counted) => self.flows_counted(counted),
            Effect::SocketOpened(report) => self.socket_opened(report),
            Effect::OverBudget(report) => self.over_budget(report),
            Effect::Coverage(report) => self.coverage.record(report),
            Effect::Resumed(report) => self.coverage.resumed(report),
            Effect::Alert(notice) => self.alerts.record(notice, clock),
            Effect::AlertWithheld(rule) => self.alerts.withheld(rule),
            Effect::Books(books) => self.kernel.record(&books.values, books.astray),
            Effect::Limited(limit) => self.line.limited.increment([limit.name()]),
            Effect::Dns(outcome) => self.names.dns_messages.increment([outcome.name()]),
            Effect::Claimed(claim) => self.names.claimed(claim),
            Effect::Contacts(report) => self.contacts(report),
        }
    }

    /// Counts a decoded record. `kind` is [`crate::core::event::Event::kind`].
    pub fn record_event(&self, kind: &'static str) {
        self.line.events.increment([kind]);
    }

    /// Counts a record that could not be decoded.
    pub fn record_decode_error(&self, error: &DecodeError) {
        self.line.decode_errors.increment([error.reason()]);
    }

    /// Says how many alerts wait to be told.
    pub fn set_alerts_waiting(&self, pending: usize, withheld: usize) {
        self.alerts.set_waiting(pending, withheld);
    }

    /// Counts what became of questions about the host.
    pub fn add_facts(&self, counts: &FactCounts) {
        let FactCounts {
            found,
            none,
            malformed,
            skipped,
        } = *counts;
        for (outcome, count) in FACT_OUTCOMES
            .into_iter()
            .zip([found, none, malformed, skipped])
        {
            self.line.host_facts.add([outcome], count);
        }
    }

    /// Says what became of listening to systemd-resolved so far.
    pub fn set_resolved(&self, status: &ResolvedStatus) {
        self.names.set_resolved(status);
    }

    /// Says whether a kernel program is attached to its hook.
    pub fn set_hook_attached(&self, program: &str, attached: bool) {
        self.kernel
            .hook_attached
            .set([program], i64::from(attached));
    }

    /// Says how full a kernel map is.
    pub fn set_map(&self, map: &str, entries: u64, capacity: u64) {
        self.kernel.map_entries.set([map], signed(entries));
        self.kernel.map_capacity.set([map], signed(capacity));
    }

    /// Says how many idle flows were taken out of the kernel's map so far.
    pub fn set_flows_evicted(&self, evicted: u64) {
        self.kernel.flows_evicted.follow([], evicted);
    }

    /// Says how full a ring was at most, and could be, in bytes.
    pub fn set_ring(&self, ring: &str, most: u64, capacity: u64) {
        self.kernel.ring_peak.set([ring], signed(most));
        self.kernel.ring_capacity.set([ring], signed(capacity));
    }

    /// Says what a kernel program has cost since it was loaded.
    pub fn set_program(&self, program: &str, runs: u64, run_time: Duration) {
        self.kernel.program_runs.follow([program], runs);
        self.kernel.program_seconds.follow([program], run_time);
    }

    /// Says whether the kernel measures what programs cost.
    pub fn set_programs_measured(&self, measured: bool) {
        self.kernel.measured.set([], i64::from(measured));
    }

    /// Says how full a table of the collector is.
    pub fn set_table(&self, table: &'static str, entries: u64, capacity: u64) {
        self.line.table_entries.set([table], signed(entries));
        self.line.table_capacity.set([table], signed(capacity));
    }

    /// Says what the event log did so far.
    pub fn set_event_log(&self, stats: &EventLogStats) {
        self.outputs.log.record(stats);
    }

    /// Says what a sink did so far. `sink` is one of a few names fixed by the configuration.
    pub fn set_sink(&self, sink: &str, stats: &SinkStats) {
        self.outputs
            .queue_length
            .set([sink], signed(stats.queue_length));
        self.outputs.delivered.follow([sink], stats.delivered);
        self.outputs.retries.follow([sink], stats.retries);
        self.outputs.superseded.follow([sink], stats.superseded);
        self.outputs.unwritten.follow([sink], stats.unwritten);
        let dropped = [
            ("queue_full", stats.dropped_queue_full),
            ("rejected", stats.dropped_rejected),
            ("shutdown", stats.dropped_shutdown),
        ];
        for (reason, count) in dropped {
            self.outputs.dropped.follow([sink, reason], count);
        }
    }

    /// All metrics. Takes about two milliseconds per 1 000 series: call it off the async workers.
    #[must_use]
    pub fn encode(&self, format: Format) -> String {
        let Defined {
            registry,
            exemplars,
            ..
        } = &self.defined;
        encode::encode(&registry.gather(), exemplars, &self.session, format)
    }

    /// All metrics in OpenTelemetry's data model, begun at `started_ns` and as of `now_ns`, both
    /// unix time. As [`Self::encode`], for a thread that may take its time.
    #[cfg(feature = "otlp")]
    #[must_use]
    pub fn otlp(
        &self,
        started_ns: u64,
        now_ns: u64,
    ) -> Vec<opentelemetry_proto::tonic::metrics::v1::Metric> {
        otlp::convert(&self.defined.registry.gather(), started_ns, now_ns)
    }

    /// The values of all counters and gauges, for the pages of the web server.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for family in self.defined.registry.gather() {
            let value_of = |metric: &Metric| match family.get_field_type() {
                MetricType::COUNTER => Some(metric.get_counter().get_value()),
                MetricType::GAUGE => Some(metric.get_gauge().get_value()),
                _ => None,
            };
            for metric in family.get_metric() {
                let pair = |it: &LabelPair| (it.name().to_owned(), it.value().to_owned());
                samples.extend(value_of(metric).map(|value| Sample {
                    name: family.name().to_owned(),
                    labels: metric.get_label().iter().map(pair).collect(),
                    value,
                }));
            }
        }
        samples
    }

    /// Counts a client that the web server did not answer.
    pub fn web_refused(&self, refusal: WebRefusal) {
        self.web.refused.increment([refusal.name()]);
    }

    /// Says whether the web configuration can be used.
    pub fn set_web_config(&self, usable: bool) {
        self.web.config.set([], i64::from(usable));
    }

    /// The text of `docs/metrics.md`.
    #[must_use]
    pub fn reference(&self) -> &str {
        &self.defined.reference
    }

    fn process_started(&self, event: &ProcessStarted, clock: &WallClock) {
        let process = &event.process;
        let (tool, role) = self.who(process);
        self.policy.decided(&event.judgement);
        if process.origin != Origin::Found {
            self.processes.started.increment([tool, role]);
        }
        self.processes.info(tool, process);
        self.seen(tool, event.time, clock);
        if let Some(member) = &process.tool {
            let method = member.evidence.first().map_or(NONE, Evidence::kind);
            self.processes.methods.increment([tool, method]);
        }
        if !self.processes.enter(process.key, tool) {
            self.line.limited.increment([RUNNING_TABLE]);
        }
    }

    /// A tool that the catalog lost by a reload keeps the numbers that it had.
    fn contacts(&self, report: &ContactsReport) {
        let tools = self.tools.read().unwrap_or_else(PoisonError::into_inner);
        if tools.contains(&*report.tool.id) {
            self.processes.contacts(&report.tool.id, report);
        }
    }

    fn process_ended(&self, event: &ProcessEnded) {
        self.processes.leave(event.process.key);
    }

    fn flow(&self, report: &FlowReport, clock: &WallClock) {
        let (tool, role) = self.who_opened(&report.process, &report.judgement);
        self.seen(tool, report.time, clock);
        match &report.action {
            FlowAction::Opened { .. } => {
                self.policy.decided(&report.judgement);
                let purpose = purpose_label(report.judgement.purpose.as_deref());
                let verdict = report.judgement.verdict.name();
                let transport = report.remote.protocol.name();
                let labels = [tool, role, purpose, verdict, transport];
                let exemplar = exemplar_of(report, clock);
                self.traffic.connections.increment_with(labels, exemplar);
                if tool != NONE {
                    self.endpoints
                        .connected(tool, report.name(), &report.judgement, 1);
                    self.traffic.surprise(tool, &report.judgement, 1);
                }
                if !self.traffic.enter(tool, report) {
                    self.line.limited.increment([ACTIVE_TABLE]);
                }
                self.names.flows(tool, &report.names, 1);
            }
            FlowAction::Redirected { .. } => self.traffic.unannounced.redirected.increment([tool]),
            FlowAction::Ended(end) => {
                self.traffic
                    .ended(tool, report, end, exemplar_of(report, clock));
            }
        }
    }

    fn socket_opened(&self, report: &SocketReport) {
        let (tool, _) = self.who(&report.process);
        self.traffic
            .unannounced
            .sockets
            .increment([tool, report.kind.name()]);
    }

    fn over_budget(&self, report: &OverBudgetReport) {
        let (tool, _) = self.who(&report.process);
        self.traffic
            .unannounced
            .over_budget
            .add([tool], report.refused);
    }

    /// Bytes are counted here and not at the end of each flow: the flow map counts every
    /// connection, also those whose end found no room in a ring.
    fn flows_counted(&self, counted: &FlowsCounted) {
        let (tool, role) = self.who_opened(&counted.process, &counted.judgement);
        let delta = &counted.delta;
        let name = counted.names.first().map(|evidence| &*evidence.name);
        if delta.connects_unreported > 0 {
            let purpose = purpose_label(counted.judgement.purpose.as_deref());
            let verdict = counted.judgement.verdict.name();
            let transport = counted.remote.protocol.name();
            let labels = [tool, role, purpose, verdict, transport];
            self.traffic
                .connections
                .add(labels, delta.connects_unreported);
            if tool != NONE {
                let count = delta.connects_unreported;
                self.endpoints
                    .connected(tool, name, &counted.judgement, count);
                self.traffic.surprise(tool, &counted.judgement, count);
            }
            self.names
                .flows(tool, &counted.names, delta.connects_unreported);
        }
        self.names
            .bytes(&counted.names, delta.bytes_sent + delta.bytes_received);
        if tool != NONE && delta.bytes_sent + delta.bytes_received > 0 {
            let (sent, received) = (delta.bytes_sent, delta.bytes_received);
            self.endpoints
                .moved(tool, name, &counted.judgement, sent, received);
        }
        self.traffic.transmit_bytes.add([tool], delta.bytes_sent);
        self.traffic.receive_bytes.add([tool], delta.bytes_received);
        // Of TCP, the kernel side counts here what no connect() announced: peers that connected.
        if counted.remote.protocol != Protocol::Tcp {
            self.traffic.datagrams.add([tool], delta.datagrams);
        }
    }

    fn seen(&self, tool: &str, time: BootNs, clock: &WallClock) {
        if tool != NONE && self.processes.see(tool, clock.unix_seconds(time)) {
            self.traffic.prepare(tool);
        }
    }

    /// The `tool` and `role` labels of a process.
    fn who<'a>(&self, process: &'a ProcessView) -> (&'a str, &'static str) {
        let Some(attribution) = &process.tool else {
            return (NONE, NONE);
        };
        let tool = &*attribution.tool.id;
        let tools = self.tools.read().unwrap_or_else(PoisonError::into_inner);
        let tool = if tools.contains(tool) { tool } else { OTHER };
        (tool, attribution.role.name())
    }

    /// The same for a flow: a program of no tool may be worth telling apart.
    fn who_opened<'a>(
        &self,
        process: &'a ProcessView,
        judgement: &Judgement,
    ) -> (&'a str, &'static str) {
        match process.role_in_flow(judgement) {
            Some(role @ Role::Unidentified) => (UNIDENTIFIED, role.name()),
            _ => self.who(process),
        }
    }
}

/// What a flow's series refer to: its event, if that is in the event log.
fn exemplar_of(report: &FlowReport, clock: &WallClock) -> Option<Exemplar> {
    report.logged.then(|| Exemplar {
        event: report.sequence,
        unix_ns: clock.unix_ns(report.time),
    })
}

/// Gauges are signed; no count here comes near the bound.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What Telltale says of itself.
fn define_own(define: &mut Definer, build: &BuildInfo) -> prometheus::Result<()> {
    let text = "The usual `process_*` metrics (CPU seconds, resident and virtual memory, open and \
                allowed file descriptors, threads, start time) are Telltale's own.";
    define.section("Telltale itself", text);
    let one = "one per build";
    let labels = ["version", "revision", "object_digest"].map(|name| Label::new(name, one));
    let info = define.gauge("telltale_build_info", "1, with what was built.", labels)?;
    let revision = build.revision.as_deref().unwrap_or("unknown");
    info.set([&build.version, revision, &build.object_digest], 1);
    define.register(ProcessCollector::for_self())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::metrics::fixture::{everything, metrics};
    use crate::sink::fixture;

    #[test]
    fn the_reference_is_the_committed_one() {
        fixture::check_golden("../docs/metrics.md", metrics().reference());
    }

    #[test]
    fn every_metric_of_the_reference_is_served_and_the_other_way_round() {
        let metrics = everything();
        let text = metrics.encode(Format::Text);
        let served: BTreeSet<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .filter(|name| !name.starts_with("process_"))
            .collect();
        let documented: BTreeSet<_> = metrics
            .reference()
            .lines()
            .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
            .collect();
        assert_eq!(served, documented);
        assert!(text.contains("\nprocess_resident_memory_bytes "));
    }

    #[test]
    fn promtool_finds_nothing_to_say() {
        let promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut promtool) = promtool else {
            eprintln!("skipped: promtool is not installed");
            return;
        };
        let text = everything().encode(Format::Text);
        promtool
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let output = promtool.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(
            output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
}
