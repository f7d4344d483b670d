//! Every metric of Telltale: name, type, meaning, and the bound of each label.
//!
//! In: effects of the core, and what the owner of the line measures about itself. Out: the
//! Prometheus text format 0.0.4, and `docs/metrics.md`. It counts and never decides.
//!
//! A label never holds a pid, an address, a port, an argument or a name that came off the wire:
//! its values come from the catalog or from this program, anything else becomes `other`.

mod define;
mod labels;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::{Mutex, PoisonError};

use monitor_common::counter;
use monitor_common::flow::ProcessKey;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Registry, TextEncoder};

use crate::clock::WallClock;
use crate::core::alert;
use crate::core::attribute::Role;
use crate::core::coverage::Gap;
use crate::core::event::{BootNs, DecodeError, KernelCounters, Outcome, Protocol};
use crate::core::report::{
    AlertNotice, AlertState, CoverageReport, Effect, FlowAction, FlowEnd, FlowReport, FlowsCounted,
    Limit, Origin, OverBudgetReport, ProcessEnded, ProcessStarted, ProcessView, SocketReport,
};
use define::{Counter, Definer, Gauge, Histogram, Label, Mirror};
use labels::*;

/// Versions shown per tool. They come from paths, which any user can make up.
const VERSIONS_PER_TOOL_MAX: usize = 16;

/// Tool processes counted as running at one time: the bound of the kernel's watched processes
/// four times over. Beyond it the gauge is too low, and the bound is counted.
const RUNNING_MAX: usize = 65_536;

/// From a refused retry to a session that a person keeps open all day.
const DURATION_BUCKETS: [f64; 9] = [0.01, 0.1, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0, 28_800.0];

const INTRODUCTION: &str = "\
# Metrics

Telltale serves these at `/metrics` in the Prometheus text format.
This file is written from the definitions in `monitor-user/src/metrics.rs`.

No label holds a pid, an address, a port, an argument or a name that came off the wire.
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

/// What the event log did since it was opened.
/// Every line that was offered is written, dropped, or still pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventLogStats {
    /// Whole lines that reached the file.
    pub lines_written: u64,
    /// Lines that found no room in the buffer, because the file took none.
    pub lines_dropped: u64,
    /// Bytes that reached the file.
    pub bytes_written: u64,
    /// Bytes in the buffer.
    pub bytes_pending: u64,
    /// Writes that failed.
    pub write_errors: u64,
}

/// What a sink did since it was started.
/// Every item that was offered is delivered, dropped, or still queued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkStats {
    /// Items that wait, the ones being delivered included.
    pub queue_length: u64,
    /// Items that the receiver took.
    pub delivered: u64,
    /// Deliveries that were tried again.
    pub retries: u64,
    /// Items dropped because the queue was full.
    pub dropped_queue_full: u64,
    /// Items that the receiver refused for good.
    pub dropped_rejected: u64,
    /// Items dropped after the last attempt.
    pub dropped_gave_up: u64,
    /// Items left when Telltale stopped.
    pub dropped_shutdown: u64,
}

/// All metrics, with a registry of their own.
pub struct Metrics {
    registry: Registry,
    reference: String,
    tools: BTreeSet<String>,
    traffic: Traffic,
    processes: Processes,
    alerts: Alerts,
    names: Names,
    coverage: Coverage,
    kernel: Kernel,
    line: Line,
    outputs: Outputs,
}

/// Content type of [`Metrics::encode`].
pub const TEXT_FORMAT: &str = prometheus::TEXT_FORMAT;

impl Metrics {
    /// Defines all metrics. `tools` are the ids of the catalog: the bound of the `tool` label.
    ///
    /// # Errors
    ///
    /// If two metrics have one name; a test proves that they have not.
    pub fn new<'a>(
        tools: impl Iterator<Item = &'a str>,
        build: &BuildInfo,
    ) -> prometheus::Result<Self> {
        let mut define = Definer::new(INTRODUCTION);
        let traffic = Traffic::define(&mut define)?;
        let processes = Processes::define(&mut define)?;
        let alerts = Alerts::define(&mut define)?;
        let names = Names::define(&mut define)?;
        let coverage = Coverage::define(&mut define)?;
        let kernel = Kernel::define(&mut define)?;
        let line = Line::define(&mut define)?;
        let outputs = Outputs::define(&mut define)?;
        define_own(&mut define, build)?;
        let (registry, reference) = define.finish();
        let tools = tools.map(str::to_owned).collect();
        Ok(Metrics {
            registry,
            reference,
            tools,
            traffic,
            processes,
            alerts,
            names,
            coverage,
            kernel,
            line,
            outputs,
        })
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
            Effect::Alert(notice) => self.alerts.record(notice),
            Effect::Books(books) => self.kernel.record(books),
            Effect::Limited(limit) => self.line.limited.increment([limit.name()]),
            Effect::Dns(outcome) => self.names.dns_messages.increment([outcome.name()]),
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

    /// Says how full a table of the collector is.
    pub fn set_table(&self, table: &'static str, entries: u64, capacity: u64) {
        self.line.table_entries.set([table], signed(entries));
        self.line.table_capacity.set([table], signed(capacity));
    }

    /// Says what the event log did so far.
    pub fn set_event_log(&self, stats: &EventLogStats) {
        self.outputs.log_lines.follow([], stats.lines_written);
        self.outputs.log_dropped.follow([], stats.lines_dropped);
        self.outputs.log_bytes.follow([], stats.bytes_written);
        self.outputs.log_errors.follow([], stats.write_errors);
        self.outputs
            .log_pending
            .set([], signed(stats.bytes_pending));
    }

    /// Says what a sink did so far. `sink` is one of a few names fixed by the configuration.
    pub fn set_sink(&self, sink: &str, stats: &SinkStats) {
        self.outputs
            .queue_length
            .set([sink], signed(stats.queue_length));
        self.outputs.delivered.follow([sink], stats.delivered);
        self.outputs.retries.follow([sink], stats.retries);
        let dropped = [
            ("queue_full", stats.dropped_queue_full),
            ("rejected", stats.dropped_rejected),
            ("gave_up", stats.dropped_gave_up),
            ("shutdown", stats.dropped_shutdown),
        ];
        for (reason, count) in dropped {
            self.outputs.dropped.follow([sink, reason], count);
        }
    }

    /// All metrics in the Prometheus text format 0.0.4. Takes about a millisecond per 1 000
    /// series: call it off the async workers.
    ///
    /// # Errors
    ///
    /// If the encoder meets a metric family without a name or samples, which the registry does
    /// not hand out.
    pub fn encode(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// The text of `docs/metrics.md`.
    #[must_use]
    pub fn reference(&self) -> &str {
        &self.reference
    }

    fn process_started(&self, event: &ProcessStarted, clock: &WallClock) {
        let process = &event.process;
        let (tool, role) = self.who(process);
        if process.origin != Origin::Found {
            self.processes.started.increment([tool, role]);
        }
        self.processes.info(tool, process);
        self.seen(tool, event.time, clock);
        if !self.processes.enter(process.key, tool) {
            self.line.limited.increment([RUNNING_TABLE]);
        }
    }

    fn process_ended(&self, event: &ProcessEnded) {
        self.processes.leave(event.process.key);
    }

    fn flow(&self, report: &FlowReport, clock: &WallClock) {
        let (tool, role) = self.who(&report.process);
        self.seen(tool, report.time, clock);
        match &report.action {
            FlowAction::Opened { .. } => {
                let purpose = purpose_label(report.judgement.purpose.as_deref());
                let verdict = report.judgement.verdict.name();
                let transport = report.remote.protocol.name();
                self.traffic
                    .connections
                    .increment([tool, role, purpose, verdict, transport]);
                let source = report.names.first().map_or(NONE, |name| name.source.name());
                self.names.flow_names.increment([source]);
            }
            FlowAction::Redirected { .. } => self.traffic.redirected.increment([tool]),
            FlowAction::Ended(end) => self.traffic.ended(tool, report, end),
        }
    }

    fn socket_opened(&self, report: &SocketReport) {
        let (tool, _) = self.who(&report.process);
        self.traffic.sockets.increment([tool, report.kind.name()]);
    }

    fn over_budget(&self, report: &OverBudgetReport) {
        let (tool, _) = self.who(&report.process);
        self.traffic.over_budget.add([tool], report.refused);
    }

    /// Bytes are counted here and not at the end of each flow: the flow map counts every
    /// connection, also those whose end found no room in a ring.
    fn flows_counted(&self, counted: &FlowsCounted) {
        let (tool, role) = self.who(&counted.process);
        let delta = &counted.delta;
        if delta.connects_unreported > 0 {
            let purpose = purpose_label(counted.judgement.purpose.as_deref());
            let verdict = counted.judgement.verdict.name();
            let transport = counted.remote.protocol.name();
            let labels = [tool, role, purpose, verdict, transport];
            self.traffic
                .connections
                .add(labels, delta.connects_unreported);
        }
        self.traffic.transmit_bytes.add([tool], delta.bytes_sent);
        self.traffic.receive_bytes.add([tool], delta.bytes_received);
        // Of TCP, the kernel side counts here what no connect() announced: peers that connected.
        if counted.remote.protocol != Protocol::Tcp {
            self.traffic.datagrams.add([tool], delta.datagrams);
        }
    }

    fn seen(&self, tool: &str, time: BootNs, clock: &WallClock) {
        if tool != NONE {
            self.processes
                .last_seen
                .set([tool], clock.unix_seconds(time));
        }
    }

    /// The `tool` and `role` labels of a process.
    fn who(&self, process: &ProcessView) -> (&str, &'static str) {
        let Some(attribution) = &process.tool else {
            return (NONE, NONE);
        };
        let role = attribution.role;
        let tool = match self.tools.get(&*attribution.tool.id) {
            _ if role == Role::Unidentified => UNIDENTIFIED,
            Some(id) => id,
            None => OTHER,
        };
        (tool, role.name())
    }
}

/// The `purpose` label.
fn purpose_label(purpose: Option<&str>) -> &'static str {
    match purpose {
        None => NONE,
        Some(purpose) => PURPOSES
            .into_iter()
            .find(|known| *known == purpose)
            .unwrap_or(OTHER),
    }
}

/// Why a flow failed, in one word; `None` if it did not.
#[must_use]
pub fn failure_reason(outcome: Outcome) -> Option<&'static str> {
    let errno = match outcome {
        Outcome::Closed => return None,
        Outcome::NeverSent => return Some("never_sent"),
        Outcome::Failed(None) => return Some("abandoned"),
        Outcome::Failed(Some(errno)) => errno,
    };
    Some(match io::Error::from_raw_os_error(errno).kind() {
        io::ErrorKind::ConnectionRefused => "refused",
        io::ErrorKind::TimedOut => "timed_out",
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkDown => "unreachable",
        io::ErrorKind::ConnectionReset => "reset",
        _ => OTHER,
    })
}

/// Gauges are signed; no count here comes near the bound.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Who talks to whom, and how much.
struct Traffic {
    connections: Counter<5>,
    failures: Counter<2>,
    transmit_bytes: Counter<1>,
    receive_bytes: Counter<1>,
    duration: Histogram<1>,
    datagrams: Counter<1>,
    redirected: Counter<1>,
    sockets: Counter<2>,
    over_budget: Counter<1>,
}

impl Traffic {
    fn define(define: &mut Definer) -> prometheus::Result<Self> {
        define.section("Connections", "");
        Ok(Traffic {
            connections: define.counter(
                "telltale_connections_total",
                "Flows: connect() calls, first datagrams to an address given with the send, first \
                 packets that no call announced, and first answers to each address that connected \
                 to the process (of tools, verdict `served`).",
                [TOOL, ROLE, PURPOSE, VERDICT, TRANSPORT],
            )?,
            failures: define.counter(
                "telltale_connection_failures_total",
                "Flows that did not reach their remote, of those whose end was reported.",
                [TOOL, FAILURE],
            )?,
            transmit_bytes: define.counter(
                "telltale_transmit_bytes_total",
                "Payload bytes of flows that processes opened: of TCP, what remotes acknowledged; \
                 else what was sent. Those of a connected socket count when it is closed.",
                [TOOL],
            )?,
            receive_bytes: define.counter(
                "telltale_receive_bytes_total",
                "Payload bytes received in flows that processes opened. Those of a connected \
                 socket count when it is closed.",
                [TOOL],
            )?,
            duration: define.histogram(
                "telltale_connection_duration_seconds",
                "Time from opening to closing, of flows that reached their remote.",
                [TOOL],
                &DURATION_BUCKETS,
            )?,
            datagrams: define.counter(
                "telltale_datagrams_total",
                "Datagrams sent to an address given with the send.",
                [TOOL],
            )?,
            redirected: define.counter(
                "telltale_flows_redirected_total",
                "Flows whose packets go elsewhere than their process asked, once for each \
                 destination of a program image.",
                [TOOL],
            )?,
            sockets: define.counter(
                "telltale_sockets_opened_total",
                "Sockets and devices that can send without asking for a destination. Those that \
                 are found open count once for each program image and kind.",
                [TOOL, SOCKET_KIND],
            )?,
            over_budget: define.counter(
                "telltale_flows_over_budget_total",
                "New flows without a record of their own, of processes that opened too many.",
                [TOOL],
            )?,
        })
    }

    fn ended(&self, tool: &str, report: &FlowReport, end: &FlowEnd) {
        match failure_reason(end.outcome) {
            Some(reason) => self.failures.increment([tool, reason]),
            None => self
                .duration
                .observe([tool], report.time.since(end.opened).as_secs_f64()),
        }
    }
}

/// Which tools run.
struct Processes {
    started: Counter<2>,
    running: Gauge<1>,
    info: Gauge<4>,
    last_seen: Gauge<1>,
    /// Tool of each running process that belongs to one, by (start, pid): an exec replaces
    /// its entry. At most [`RUNNING_MAX`].
    table: Mutex<HashMap<(u64, u32), String>>,
    /// Versions that have a series, by tool.
    versions: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl Processes {
    fn define(define: &mut Definer) -> prometheus::Result<Self> {
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
            last_seen: define.gauge(
                "telltale_tool_last_seen_timestamp_seconds",
                "When the tool last started a process, or opened or ended a flow, in unix time.",
                [TOOL],
            )?,
            table: Mutex::default(),
            versions: Mutex::default(),
        })
    }

    /// Notes that a process now runs a program of `tool`; false if there is no room to.
    fn enter(&self, key: ProcessKey, tool: &str) -> bool {
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
    fn leave(&self, key: ProcessKey) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tool) = table.remove(&(key.start_ns, key.tgid)) {
            self.running.add([&tool], -1);
        }
    }

    fn info(&self, tool: &str, process: &ProcessView) {
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

/// What a person should look at.
struct Alerts {
    total: Counter<2>,
    firing: Gauge<1>,
}

impl Alerts {
    fn define(define: &mut Definer) -> prometheus::Result<Self> {
        define.section("Alerts", "");
        let alerts = Alerts {
            total: define.counter(
                "telltale_alerts_total",
                "Alerts that began to fire.",
                [RULE, SEVERITY],
            )?,
            firing: define.gauge("telltale_alerts_firing", "Alerts that fire now.", [RULE])?,
        };
        // At 0 from the start, so that the first alert is an increase.
        for rule in alert::RULES {
            alerts.firing.set([rule], 0);
            for severity in SEVERITIES {
                alerts.total.add([rule, severity.name()], 0);
            }
        }
        Ok(alerts)
    }

    fn record(&self, notice: &AlertNotice) {
        let rule = notice.alert.rule;
        match notice.state {
            AlertState::Fired => {
                self.total.increment([rule, notice.alert.severity.name()]);
                self.firing.add([rule], 1);
            }
            AlertState::StillFiring => {}
            AlertState::Resolved => self.firing.add([rule], -1),
        }
    }
}

/// How remotes get their names.
struct Names {
    dns_messages: Counter<1>,
    flow_names: Counter<1>,
}

impl Names {
    fn define(define: &mut Definer) -> prometheus::Result<Self> {
        define.section("Names", "");
        let names = Names {
            dns_messages: define.counter(
                "telltale_dns_messages_total",
                "DNS messages seen, by what became of them.",
                [DNS_OUTCOME],
            )?,
            flow_names: define.counter(
                "telltale_flow_names_total",
                "Flows opened, by where the best name of the remote came from.",
                [NAME_SOURCE],
            )?,
        };
        for outcome in DNS_OUTCOMES {
            names.dns_messages.add([outcome.name()], 0);
        }
        Ok(names)
    }
}

/// Whether everything was seen.
struct Coverage {
    complete: Gauge<0>,
    gaps: Gauge<1>,
    /// Gaps that have a series.
    shown: Mutex<BTreeSet<Gap>>,
}

impl Coverage {
    fn define(define: &mut Definer) -> prometheus::Result<Self> {
        let text = "No unexpected contact is claimed only for times at which coverage is complete.";
        define.section("Coverage", text);
        let coverage = Coverage {
            complete: define.gauge(
                "telltale_coverage_complete",
                "1 if everything was seen in the last minute: all hooks are attached and proved \
                 to see, the books balance, and nothing was dropped; else 0.",
                [],
            )?,
            gaps: define.gauge(
                "telltale_coverage_gap_info",
                "1 for each reason why something may have been missed; no series for others.",
                [GAP_REASON],
            )?,
            shown: Mutex::default(),
        };
        coverage.show(&BTreeSet::from([Gap::NotYetVerified]));
        Ok(coverage)
    }

    fn record(&self, report: &CoverageReport) {
        // A scrape in between must not find it complete with a gap.
        self.complete.set([], 0);
        self.show(&report.gaps);
        self.complete.set([], i64::from(report.complete()));
    }

    fn show(&self, gaps: &BTreeSet<Gap>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for gap in shown.difference(gaps) {
            self.gaps.remove([&gap.to_string()]);
        }
        for gap in gaps {
            self.gaps.set([&gap.to_string()], 1);
        }
        shown.clone_from(gaps);
    }
}

/// What the kernel side counts about itself.
struct Kernel {
    operations: Mirror<2>,
    gaps: Mirror<1>,
    remainder: Gauge<1>,
    hook_attached: Gauge<1>,
    map_entries: Gauge<1>,
    map_capacity: Gauge<1>,
}

impl Kernel {
    fn define(define: &mut Definer) -> prometheus::Result<Self> {
        let text = "`attempted` is what a hook saw; the other outcomes say what became of it and \
                    add up to it.\nLeave `attempted` out of sums over outcomes.";
        define.section("Kernel", text);
        Ok(Kernel {
            operations: define.mirror(
                "telltale_kernel_operations_total",
                "Operations that a kernel hook saw, by what became of their records.",
                [HOOK, HOOK_OUTCOME],
            )?,
            gaps: define.mirror(
                "telltale_kernel_gap_total",
                "Times that the kernel side could not keep what it needed.",
                [GAP],
            )?,
            remainder: define.gauge(
                "telltale_books_remainder",
                "Operations attempted less all outcomes: anything but 0 at rest is a loss that \
                 nobody counted.",
                [HOOK],
            )?,
            hook_attached: define.gauge(
                "telltale_hook_attached",
                "1 if the kernel program is attached to its hook, else 0.",
                [PROGRAM],
            )?,
            map_entries: define.gauge("telltale_map_entries", "Entries in a kernel map.", [MAP])?,
            map_capacity: define.gauge(
                "telltale_map_capacity",
                "Entries that a kernel map can hold.",
                [MAP],
            )?,
        })
    }

    fn record(&self, books: &KernelCounters) {
        let (rows, gaps) = books
            .values
            .split_at((counter::HOOKS * counter::OUTCOMES) as usize);
        let rows = rows.chunks_exact(counter::OUTCOMES as usize);
        for (hook, row) in counter::HOOK_NAMES.into_iter().zip(rows) {
            for (outcome, value) in counter::OUTCOME_NAMES.into_iter().zip(row) {
                self.operations.follow([hook, outcome], *value);
            }
            if let [attempted, outcomes @ ..] = row {
                let accounted = outcomes
                    .iter()
                    .fold(0u64, |sum, value| sum.saturating_add(*value));
                self.remainder
                    .set([hook], signed(*attempted) - signed(accounted));
            }
        }
        for (reason, value) in counter::GAP_NAMES.into_iter().zip(gaps) {
            self.gaps.follow([reason], *value);
        }
    }
}

/// What the line in user space counts about itself.
struct Line {
    events: Counter<1>,
    decode_errors: Counter<1>,
    limited: Counter<1>,
    table_entries: Gauge<1>,
    table_capacity: Gauge<1>,
}

impl Line {
    fn define(define: &mut Definer) -> prometheus::Result<Self> {
        define.section("Collector", "");
        let line = Line {
            events: define.counter(
                "telltale_events_total",
                "Records decoded, by kind.",
                [EVENT_KIND],
            )?,
            decode_errors: define.counter(
                "telltale_decode_errors_total",
                "Records that could not be decoded.",
                [DECODE_REASON],
            )?,
            limited: define.counter(
                "telltale_table_limited_total",
                "Times that a table was full: an entry was evicted or refused.",
                [LIMITED_TABLE],
            )?,
            table_entries: define.gauge(
                "telltale_table_entries",
                "Entries in a table of the collector.",
                [TABLE],
            )?,
            table_capacity: define.gauge(
                "telltale_table_capacity",
                "Entries that a table of the collector can hold.",
                [TABLE],
            )?,
        };
        for reason in DECODE_ERRORS {
            line.decode_errors.add([reason], 0);
        }
        for table in LIMITS.map(Limit::name).into_iter().chain([RUNNING_TABLE]) {
            line.limited.add([table], 0);
        }
        Ok(line)
    }
}

/// What the outputs did.
struct Outputs {
    log_lines: Mirror<0>,
    log_dropped: Mirror<0>,
    log_bytes: Mirror<0>,
    log_errors: Mirror<0>,
    log_pending: Gauge<0>,
    queue_length: Gauge<1>,
    delivered: Mirror<1>,
    retries: Mirror<1>,
    dropped: Mirror<2>,
}

impl Outputs {
    fn define(define: &mut Definer) -> prometheus::Result<Self> {
        define.section("Outputs", "Sinks that are not configured have no series.");
        Ok(Outputs {
            log_lines: define.mirror(
                "telltale_event_log_lines_total",
                "Lines written to the event log.",
                [],
            )?,
            log_dropped: define.mirror(
                "telltale_event_log_dropped_lines_total",
                "Lines that found no room in the buffer because the event log took none.",
                [],
            )?,
            log_bytes: define.mirror(
                "telltale_event_log_written_bytes_total",
                "Bytes written to the event log.",
                [],
            )?,
            log_errors: define.mirror(
                "telltale_event_log_write_errors_total",
                "Writes to the event log that failed.",
                [],
            )?,
            log_pending: define.gauge(
                "telltale_event_log_pending_bytes",
                "Bytes that wait to be written to the event log.",
                [],
            )?,
            queue_length: define.gauge(
                "telltale_sink_queue_length",
                "Items that wait for a sink, the ones being delivered included.",
                [SINK],
            )?,
            delivered: define.mirror(
                "telltale_sink_delivered_total",
                "Items that a sink delivered.",
                [SINK],
            )?,
            retries: define.mirror(
                "telltale_sink_retries_total",
                "Deliveries that a sink tried again.",
                [SINK],
            )?,
            dropped: define.mirror(
                "telltale_sink_dropped_total",
                "Items that a sink dropped.",
                [SINK, DROP_REASON],
            )?,
        })
    }
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
    use std::sync::Arc;

    use monitor_common::flow::FlowCounters;

    use super::*;
    use crate::core::event::{Endpoint, SocketKind};
    use crate::core::policy::Verdict;
    use crate::sink::fixture::{self, CLOCK, SECOND};

    fn metrics() -> Metrics {
        let build = BuildInfo {
            version: "0.1.0".into(),
            revision: None,
            object_digest: "00ff".into(),
        };
        Metrics::new(["claude-code", "codex"].into_iter(), &build).unwrap()
    }

    /// The series named must have these values; 0 may also mean that it is not there.
    #[track_caller]
    fn check(metrics: &Metrics, expect: &[(&str, f64)]) {
        let text = metrics.encode().unwrap();
        for (series, value) in expect {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            let found: f64 = line
                .unwrap_or_else(|| panic!("no {series} in\n{text}"))
                .parse()
                .unwrap();
            assert!(
                (found - value).abs() < 1e-9,
                "{series}: {found}, wanted {value}"
            );
        }
    }

    #[test]
    fn the_reference_is_the_committed_one() {
        fixture::check_golden("../docs/metrics.md", metrics().reference());
    }

    #[test]
    fn flows_count_once_whether_reported_or_only_counted() {
        let metrics = metrics();
        metrics.record(
            &fixture::flow(fixture::opened(fixture::process(42))),
            &CLOCK,
        );
        let delta = FlowCounters {
            connects: 11,
            connects_unreported: 10,
            bytes_sent: 5,
            bytes_received: 6,
            ..FlowCounters::default()
        };
        metrics.record(&fixture::counted(fixture::process(42), delta), &CLOCK);
        let closed = fixture::closed(fixture::process(42), Outcome::Closed);
        metrics.record(&fixture::flow(closed), &CLOCK);
        check(
            &metrics,
            &[
                (
                    "telltale_connections_total{purpose=\"api\",role=\"main\",tool=\"claude-code\",\
                 transport=\"tcp\",verdict=\"expected\"}",
                    11.0,
                ),
                ("telltale_transmit_bytes_total{tool=\"claude-code\"}", 5.0),
                ("telltale_receive_bytes_total{tool=\"claude-code\"}", 6.0),
                (
                    "telltale_connection_duration_seconds_sum{tool=\"claude-code\"}",
                    2.0,
                ),
                ("telltale_flow_names_total{source=\"dns-own\"}", 1.0),
                (
                    "telltale_tool_last_seen_timestamp_seconds{tool=\"claude-code\"}",
                    1_795_167_125.0,
                ),
            ],
        );
    }

    #[track_caller]
    fn check_failure(outcome: Outcome, reason: &str) {
        let metrics = metrics();
        metrics.record(
            &fixture::flow(fixture::closed(fixture::stranger(1), outcome)),
            &CLOCK,
        );
        let series =
            format!("telltale_connection_failures_total{{reason=\"{reason}\",tool=\"none\"}}");
        check(&metrics, &[(&series, 1.0)]);
    }

    #[test]
    fn failures_have_a_bounded_reason() {
        check_failure(Outcome::Failed(Some(111)), "refused");
        check_failure(Outcome::Failed(Some(110)), "timed_out");
        check_failure(Outcome::Failed(Some(113)), "unreachable");
        check_failure(Outcome::Failed(Some(101)), "unreachable");
        check_failure(Outcome::Failed(Some(104)), "reset");
        check_failure(Outcome::Failed(None), "abandoned");
        check_failure(Outcome::NeverSent, "never_sent");
        check_failure(Outcome::Failed(Some(i32::MIN)), "other");
    }

    fn of_tool(pid: u32, id: &str, role: Role) -> ProcessView {
        ProcessView {
            tool: Some(Arc::new(fixture::attribution(id, role))),
            ..fixture::process(pid)
        }
    }

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
            judgement: crate::core::policy::Judgement {
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
        metrics.record(
            &fixture::started(of_tool(1, "x", Role::Unidentified)),
            &CLOCK,
        );
        for version in 0..2 * VERSIONS_PER_TOOL_MAX {
            let mut process = fixture::process(2);
            let version = Some(format!("1.{version}").into());
            let attribution = fixture::attribution("codex", Role::Main);
            process.tool = Some(Arc::new(crate::core::attribute::Attribution {
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
                    "telltale_processes_started_total{role=\"unidentified\",tool=\"unidentified\"}",
                    1.0,
                ),
                (
                    "telltale_tool_info{jurisdiction=\"US\",tool=\"codex\",vendor=\"Anthropic\",\
                 version=\"other\"}",
                    1.0,
                ),
            ],
        );
        let text = metrics.encode().unwrap();
        let versions = text.matches("tool=\"codex\",vendor=\"Anthropic\"").count();
        assert_eq!(versions, VERSIONS_PER_TOOL_MAX + 1);
    }

    fn socket(report: SocketReport) -> Effect {
        Effect::SocketOpened(Box::new(report))
    }

    #[test]
    fn what_no_call_announced_is_counted() {
        let metrics = metrics();
        let effects = [
            fixture::flow(fixture::redirected(fixture::process(1))),
            fixture::flow(fixture::redirected(fixture::stranger(2))),
            fixture::flow(fixture::accepted(fixture::process(1))),
            socket(fixture::socket(fixture::process(1), SocketKind::Raw, false)),
            socket(fixture::socket(fixture::process(1), SocketKind::Tun, true)),
            fixture::over_budget(fixture::stranger(2), 5, 5),
            fixture::over_budget(fixture::stranger(2), 2, 7),
        ];
        for effect in &effects {
            metrics.record(effect, &CLOCK);
        }
        let served = "telltale_connections_total{purpose=\"none\",role=\"main\",\
                      tool=\"claude-code\",transport=\"tcp\",verdict=\"served\"}";
        check(
            &metrics,
            &[
                ("telltale_flows_redirected_total{tool=\"claude-code\"}", 1.0),
                ("telltale_flows_redirected_total{tool=\"none\"}", 1.0),
                (
                    "telltale_sockets_opened_total{kind=\"raw\",tool=\"claude-code\"}",
                    1.0,
                ),
                (
                    "telltale_sockets_opened_total{kind=\"tun\",tool=\"claude-code\"}",
                    1.0,
                ),
                ("telltale_flows_over_budget_total{tool=\"none\"}", 7.0),
                (served, 1.0),
            ],
        );
        // A redirection is no flow of its own.
        let text = metrics.encode().unwrap();
        assert_eq!(text.matches("telltale_connections_total{").count(), 1);
    }

    fn datagrams(protocol: Protocol, datagrams: u64) -> Effect {
        let delta = FlowCounters {
            datagrams,
            ..FlowCounters::default()
        };
        let Effect::FlowsCounted(counted) = fixture::counted(fixture::process(1), delta) else {
            unreachable!()
        };
        let remote = fixture::remote("192.0.2.99:0", protocol);
        Effect::FlowsCounted(Box::new(FlowsCounted { remote, ..*counted }))
    }

    #[test]
    fn peers_that_connect_are_no_datagrams() {
        let metrics = metrics();
        metrics.record(&datagrams(Protocol::Tcp, 5), &CLOCK);
        metrics.record(&datagrams(Protocol::Udp, 7), &CLOCK);
        let series = "telltale_datagrams_total{tool=\"claude-code\"}";
        check(&metrics, &[(series, 7.0)]);
    }

    fn coverage(gaps: &[Gap]) -> Effect {
        let (time, gaps) = (BootNs(SECOND), gaps.iter().copied().collect());
        Effect::Coverage(Box::new(CoverageReport { time, gaps }))
    }

    #[track_caller]
    fn check_coverage(metrics: &Metrics, complete: f64, reasons: &[&str]) {
        check(metrics, &[("telltale_coverage_complete", complete)]);
        let text = metrics.encode().unwrap();
        let series = text
            .lines()
            .filter_map(|line| line.strip_prefix("telltale_coverage_gap_info{reason=\""));
        let series: Vec<_> = series.collect();
        let expect: Vec<_> = reasons
            .iter()
            .map(|reason| format!("{reason}\"}} 1"))
            .collect();
        assert_eq!(series, expect);
    }

    #[test]
    fn coverage_is_incomplete_until_it_is_told_otherwise_and_its_gaps_come_and_go() {
        let metrics = metrics();
        check_coverage(&metrics, 0.0, &["not_yet_verified"]);
        metrics.record(&coverage(&[]), &CLOCK);
        check_coverage(&metrics, 1.0, &[]);
        let (lost, dropped) = (Gap::HookLost("connect4"), Gap::Dropped("exec", "ring_full"));
        metrics.record(&coverage(&[lost, dropped]), &CLOCK);
        check_coverage(
            &metrics,
            0.0,
            &["dropped:exec:ring_full", "hook_lost:connect4"],
        );
        metrics.record(&coverage(&[dropped]), &CLOCK);
        check_coverage(&metrics, 0.0, &["dropped:exec:ring_full"]);
        metrics.record(&coverage(&[]), &CLOCK);
        check_coverage(&metrics, 1.0, &[]);
    }

    #[test]
    fn alerts_exist_at_zero_and_fire_and_resolve() {
        let metrics = metrics();
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

    fn books(set: &[(u32, u64)]) -> Effect {
        let mut values = [0; counter::COUNTERS as usize];
        for (index, value) in set {
            values[*index as usize] = *value;
        }
        let time = BootNs(SECOND);
        Effect::Books(Box::new(KernelCounters { time, values }))
    }

    #[test]
    fn the_books_are_followed_across_a_restart_of_the_kernel_side() {
        let metrics = metrics();
        let at = |outcome| counter::index(counter::HOOK_CONNECT6, outcome);
        let series = |outcome: &str| {
            format!("telltale_kernel_operations_total{{hook=\"connect6\",outcome=\"{outcome}\"}}")
        };
        let (attempted, delivered) = (series("attempted"), series("delivered"));
        let remainder = "telltale_books_remainder{hook=\"connect6\"}";
        let gap = "telltale_kernel_gap_total{reason=\"watched_full\"}";
        let (a, d) = (at(counter::ATTEMPTED), at(counter::DELIVERED));
        metrics.record(
            &books(&[(a, 10), (d, 7), (counter::GAP_WATCHED_FULL, 1)]),
            &CLOCK,
        );
        check(
            &metrics,
            &[
                (&attempted, 10.0),
                (&delivered, 7.0),
                (remainder, 3.0),
                (gap, 1.0),
            ],
        );
        metrics.record(&books(&[(a, 12), (d, 12)]), &CLOCK);
        check(
            &metrics,
            &[(&attempted, 12.0), (&delivered, 12.0), (remainder, 0.0)],
        );
        metrics.record(&books(&[(a, 4), (d, 5)]), &CLOCK);
        check(
            &metrics,
            &[
                (&attempted, 16.0),
                (&delivered, 17.0),
                (remainder, -1.0),
                (gap, 1.0),
            ],
        );
        metrics.record(&books(&[(a, u64::MAX), (d, u64::MAX), (d + 1, 9)]), &CLOCK);
        check(&metrics, &[(remainder, 0.0)]);
    }

    /// Everything that can be recorded, once.
    fn everything() -> Metrics {
        let metrics = metrics();
        let effects = [
            fixture::started(fixture::process(1)),
            fixture::ended(fixture::process(2), 0),
            fixture::flow(fixture::opened(fixture::process(1))),
            fixture::flow(fixture::closed(fixture::process(1), Outcome::Closed)),
            fixture::flow(fixture::closed(fixture::process(1), Outcome::NeverSent)),
            datagrams(Protocol::Udp, 0),
            fixture::flow(fixture::redirected(fixture::process(1))),
            socket(fixture::socket(fixture::process(1), SocketKind::Raw, false)),
            fixture::over_budget(fixture::process(1), 1, 1),
            fixture::alert(AlertState::Fired),
            coverage(&[Gap::BooksUnbalanced("wire")]),
            books(&[]),
            Effect::Limited(Limit::Flows),
            Effect::Dns(crate::core::report::DnsOutcome::Answer),
        ];
        effects
            .iter()
            .for_each(|effect| metrics.record(effect, &CLOCK));
        metrics.record_event("flow_opened");
        metrics.record_decode_error(&DecodeError::UnknownKind(9));
        metrics.set_hook_attached("connect4", true);
        metrics.set_map("FLOWS", 1, 65_536);
        metrics.set_table("names", 2, 65_536);
        metrics.set_event_log(&EventLogStats {
            lines_written: 1,
            ..EventLogStats::default()
        });
        metrics.set_sink(
            "webhook",
            &SinkStats {
                dropped_gave_up: 1,
                ..SinkStats::default()
            },
        );
        metrics
    }

    #[test]
    fn every_metric_of_the_reference_is_served_and_the_other_way_round() {
        let metrics = everything();
        let text = metrics.encode().unwrap();
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
        let text = everything().encode().unwrap();
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
