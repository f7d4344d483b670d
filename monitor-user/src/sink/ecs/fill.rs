//! Fills the lines of the event log.
//!
//! In: effects. Out: [`Line`]s. Translation only: what a field says was decided in the core.

use std::time::Duration;

use super::known::{Frame, KnownProcesses, Rendered};
use super::{
    Agent, AlertFields, AttributionFields, AutonomousSystem, BootId, BudgetFields, CandidateFields,
    ClientFields, Destination, Dns, ECS_VERSION, Ecs, EndpointFields, EventFields, EvidenceFields,
    FileFields, FlowFields, GenAi, Geo, HelloFields, Host, Id, Line, NameFields, Network, Observer,
    Parent, Part, Process, ProcessExtras, Question, RestartFields, Rule, SocketFields, Source,
    Telltale, Tls, TlsClient, ToolFields,
};
use crate::clock::WallClock;
use crate::core::attribute::{Attribution, Evidence, Role};
use crate::core::event::{BootNs, Endpoint, Hook, Outcome, Protocol};
use crate::core::names::{NameEvidence, NameSource};
use crate::core::policy::judgement::Judgement;
use crate::core::policy::rule::Action;
use crate::core::report::{
    AlertNotice, AlertState, Effect, FlowAction, FlowEnd, FlowReport, Origin, OverBudgetReport,
    ParentView, ProcessEnded, ProcessStarted, ProcessView, ResumedReport, SocketReport,
};
use crate::metrics::traffic::failure_reason;
use crate::sink::{HostInfo, file_name, plain, state_name};

impl<'a> Line<'a> {
    /// The line of an effect; `None` if the log does not show it.
    #[must_use]
    pub fn of(
        effect: &'a Effect,
        clock: &WallClock,
        frame: &'a Frame,
        processes: &'a mut KnownProcesses,
    ) -> Option<Self> {
        let (mut line, process) = match effect {
            Effect::ProcessStarted(event) if event.logged => {
                (process_started(event, clock, frame), &event.process)
            }
            Effect::ProcessEnded(event) if event.logged => {
                (process_ended(event, clock, frame), &event.process)
            }
            Effect::Flow(report) if report.logged => (flow(report, clock, frame), &report.process),
            Effect::SocketOpened(report) if report.logged => {
                (socket(report, clock, frame), &report.process)
            }
            Effect::OverBudget(report) => (over_budget(report, clock, frame), &report.process),
            Effect::Alert(notice) if notice.state != AlertState::StillFiring => {
                return Some(alert(notice, clock, frame));
            }
            Effect::Resumed(report) => return Some(resumed(report, clock, frame)),
            _ => return None,
        };
        set_process(&mut line, processes.of(process, clock));
        Some(line)
    }
}

/// What differs between the actions, in the words of ECS.
struct Kind {
    kind: &'static str,
    category: &'static [&'static str],
    types: &'static [&'static str],
    action: &'static str,
    dataset: &'static str,
    outcome: Option<&'static str>,
}

const PROCESS_STARTED: Kind = Kind {
    kind: "event",
    category: &["process"],
    types: &["start"],
    action: "process-started",
    dataset: "telltale.process",
    outcome: None,
};

const PROCESS_ENDED: Kind = Kind {
    types: &["end"],
    action: "process-ended",
    ..PROCESS_STARTED
};

const CONNECTION_OPENED: Kind = Kind {
    kind: "event",
    category: &["network"],
    types: &["connection", "start"],
    action: "connection-opened",
    dataset: "telltale.flow",
    outcome: Some("unknown"),
};

const CONNECTION_CLOSED: Kind = Kind {
    types: &["connection", "end"],
    action: "connection-closed",
    outcome: Some("success"),
    ..CONNECTION_OPENED
};

const CONNECTION_FAILED: Kind = Kind {
    types: &["connection", "end"],
    action: "connection-failed",
    outcome: Some("failure"),
    ..CONNECTION_OPENED
};

const CONNECTION_REDIRECTED: Kind = Kind {
    types: &["connection", "info"],
    action: "connection-redirected",
    outcome: None,
    ..CONNECTION_OPENED
};

const SOCKET_OPENED: Kind = Kind {
    kind: "event",
    category: &["network"],
    types: &["info"],
    action: "socket-opened",
    dataset: "telltale.socket",
    outcome: None,
};

const FLOWS_OVER_BUDGET: Kind = Kind {
    action: "flows-over-budget",
    dataset: "telltale.flow",
    ..SOCKET_OPENED
};

const MONITOR_RESUMED: Kind = Kind {
    kind: "event",
    category: &["host"],
    types: &["info"],
    action: "monitor-resumed",
    dataset: "telltale.coverage",
    outcome: None,
};

const ALERT: Kind = Kind {
    kind: "alert",
    category: &["intrusion_detection"],
    types: &["info"],
    action: "alert",
    dataset: "telltale.alert",
    outcome: None,
};

/// A line with the fields that all lines have.
fn line<'a>(
    kind: &Kind,
    sequence: u64,
    time: BootNs,
    clock: &WallClock,
    frame: &'a Frame,
) -> Line<'a> {
    Line {
        timestamp: clock.rfc3339(time),
        ecs: &frame.ecs,
        event: EventFields {
            kind: kind.kind,
            category: kind.category,
            types: kind.types,
            action: kind.action,
            outcome: kind.outcome,
            reason: None,
            id: format!("{}-{sequence}", frame.session),
            sequence,
            module: "telltale",
            dataset: kind.dataset,
            provider: "ebpf",
            start: None,
            end: None,
            duration: None,
        },
        host: &frame.host,
        observer: &frame.observer,
        process: None,
        user: None,
        source: None,
        destination: None,
        network: None,
        tls: None,
        dns: None,
        rule: None,
        gen_ai: None,
        container: None,
        orchestrator: None,
        telltale: Telltale::default(),
    }
}

fn process_started<'a>(event: &'a ProcessStarted, clock: &WallClock, frame: &'a Frame) -> Line<'a> {
    let mut line = line(&PROCESS_STARTED, event.sequence, event.time, clock, frame);
    set_judgement(&mut line, &event.judgement);
    line
}

fn process_ended<'a>(event: &'a ProcessEnded, clock: &WallClock, frame: &'a Frame) -> Line<'a> {
    let mut line = line(&PROCESS_ENDED, event.sequence, event.time, clock, frame);
    // As wait(2) packs it: the status in the second byte, the signal in the low seven bits.
    let signal = event.exit_code & 0x7f;
    line.process = Some(Part::Fields(Process {
        end: Some(clock.rfc3339(event.time)),
        exit_code: (signal == 0).then_some(event.exit_code >> 8 & 0xff),
        ..process(&event.process, clock)
    }));
    line.telltale.process = Some(Part::Fields(ProcessExtras {
        signal: (signal != 0).then_some(signal),
        ..extras(&event.process)
    }));
    line
}

fn flow<'a>(report: &'a FlowReport, clock: &WallClock, frame: &'a Frame) -> Line<'a> {
    let kind = match &report.action {
        FlowAction::Opened { .. } => CONNECTION_OPENED,
        FlowAction::Redirected { .. } => CONNECTION_REDIRECTED,
        FlowAction::Ended(FlowEnd {
            outcome: Outcome::Closed,
            ..
        }) => CONNECTION_CLOSED,
        FlowAction::Ended(_) => CONNECTION_FAILED,
    };
    let mut line = line(&kind, report.sequence, report.time, clock, frame);
    set_judgement(&mut line, &report.judgement);
    if report.process.role_in_flow(&report.judgement) == Some(Role::Unidentified) {
        set_unidentified(&mut line, report.name());
    }
    line.network = Some(network(report));
    let target = report.target.as_ref();
    let name = target.map(|target| &*target.host).or_else(|| report.name());
    let country = report.address.country.as_ref();
    line.destination = Some(Destination {
        system: report.address.asn.map(|number| AutonomousSystem { number }),
        geo: country.map(|country| Geo {
            country_iso_code: country.as_str().to_owned(),
        }),
        ..destination(report.remote, name)
    });
    line.telltale.proxied = target.map(ToString::to_string);
    line.telltale.cookie = Some(report.cookie.0.to_string());
    line.telltale.name = names(&report.names, report.time);
    line.dns = question(&report.names);
    if let Some(hello) = &report.hello {
        let server_name = &hello.server_name;
        line.tls = Some(Tls {
            client: TlsClient { server_name },
        });
        line.telltale.hello = Some(HelloFields {
            alpn: hello.alpn.iter().map(|alpn| alpn.name()).collect(),
            ech: hello.ech,
        });
    }
    line.telltale.via = report.via.iter().map(|client| via(client)).collect();
    let mut fields = FlowFields {
        first: report.first,
        ..FlowFields::default()
    };
    match &report.action {
        FlowAction::Opened { hook } => fields.hook = Some(hook.name()),
        FlowAction::Redirected { asked, asked_name } => {
            let name = asked_name.as_ref().map(|name| &*name.name);
            fields.asked = Some(destination(*asked, name));
        }
        FlowAction::Ended(end) => set_end(&mut line, &mut fields, report, end, clock),
    }
    line.telltale.flow = Some(fields);
    line
}

fn via(client: &ProcessView) -> ClientFields<'_> {
    ClientFields {
        pid: client.key.tgid,
        entity_id: &client.entity_id,
        executable: &client.exe,
        tool: client.tool.as_ref().map(|member| &*member.tool.id),
    }
}

fn set_end(
    line: &mut Line<'_>,
    fields: &mut FlowFields<'_>,
    report: &FlowReport,
    end: &FlowEnd,
    clock: &WallClock,
) {
    line.event.reason = failure_reason(end.outcome);
    line.event.start = Some(clock.rfc3339(end.opened));
    line.event.end = Some(clock.rfc3339(report.time));
    let duration = report.time.since(end.opened).as_nanos();
    line.event.duration = u64::try_from(duration).ok();
    fields.established = end.established.map(|time| clock.rfc3339(time));
    if let Outcome::Failed(errno) = end.outcome {
        fields.errno = errno;
    }
    line.source = Some(Source {
        bytes: end.bytes_sent,
    });
    if let Some(destination) = &mut line.destination {
        destination.bytes = Some(end.bytes_received);
    }
    // Only TCP is measured: a 0 would be a claim.
    if report.remote.protocol == Protocol::Tcp {
        fields.srtt_us = end.srtt_us;
        fields.retransmits = Some(end.retransmits);
    }
}

fn socket<'a>(report: &'a SocketReport, clock: &WallClock, frame: &'a Frame) -> Line<'a> {
    let mut line = line(&SOCKET_OPENED, report.sequence, report.time, clock, frame);
    line.telltale.socket = Some(SocketFields {
        kind: report.kind.name(),
        protocol: report.protocol,
        found: report.found,
    });
    line
}

fn over_budget<'a>(report: &'a OverBudgetReport, clock: &WallClock, frame: &'a Frame) -> Line<'a> {
    let kind = FLOWS_OVER_BUDGET;
    let mut line = line(&kind, report.sequence, report.time, clock, frame);
    line.telltale.budget = Some(BudgetFields {
        refused: report.refused,
        refused_total: report.refused_total,
    });
    line
}

fn resumed<'a>(report: &ResumedReport, clock: &WallClock, frame: &'a Frame) -> Line<'a> {
    let kind = MONITOR_RESUMED;
    let mut line = line(&kind, report.sequence, report.time, clock, frame);
    // An earlier monitor's last words may be of another layout, and then cannot be read.
    let from = (report.from != BootNs(0)).then_some(report.from);
    line.event.start = from.map(|from| clock.rfc3339(from));
    line.event.end = Some(clock.rfc3339(report.time));
    line.telltale.restart = Some(RestartFields {
        attempted: report.attempted,
        delivered: report.delivered,
        aggregated: report.aggregated,
        dropped: report.dropped,
        recovered: report.recovered,
        lost: report.lost,
    });
    line
}

fn alert<'a>(notice: &'a AlertNotice, clock: &WallClock, frame: &'a Frame) -> Line<'a> {
    let alert = &notice.alert;
    let mut line = line(&ALERT, notice.sequence, notice.time, clock, frame);
    line.rule = Some(Rule { name: &alert.rule });
    line.event.reason = alert.annotations.get("summary").map(|summary| &**summary);
    line.event.start = Some(clock.rfc3339(alert.started));
    line.event.end = (notice.state == AlertState::Resolved).then(|| clock.rfc3339(notice.time));
    line.telltale.rule = Some(&alert.rule);
    line.telltale.alert = Some(AlertFields {
        state: state_name(notice.state),
        severity: alert.severity.name(),
        started: clock.rfc3339(alert.started),
        last_seen: clock.rfc3339(alert.last_seen),
        occurrences: alert.occurrences,
        labels: plain(&alert.labels),
        annotations: plain(&alert.annotations),
    });
    line
}

/// Fills in what the event itself does not say of its process.
fn set_process<'a>(line: &mut Line<'a>, known: &'a Rendered) {
    let own = &mut line.telltale;
    line.process.get_or_insert(Part::Rendered(&known.process));
    line.user = Some(&known.user);
    own.process.get_or_insert(Part::Rendered(&known.extras));
    own.ancestry = known.ancestry.as_deref();
    line.container = known.container.as_deref();
    line.orchestrator = known.orchestrator.as_deref();
    own.cgroup = known.cgroup.as_deref();
    own.unit = known.unit.as_deref();
    own.job = known.job.as_deref();
    if let Some(known) = &known.tool {
        line.gen_ai = Some(&known.gen_ai);
        own.tool.get_or_insert(Part::Rendered(&known.tool));
        own.attribution
            .get_or_insert(Part::Rendered(&known.attribution));
    }
}

/// `ecs`.
pub(super) fn ecs() -> Ecs {
    Ecs {
        version: ECS_VERSION,
    }
}

/// `host`.
pub(super) fn host(host: &HostInfo) -> Host<'_> {
    Host {
        name: &host.name,
        boot: BootId { id: &host.boot_id },
    }
}

/// `observer`.
pub(super) fn observer() -> Observer {
    Observer {
        product: "telltale",
        version: env!("CARGO_PKG_VERSION"),
        kind: "host-monitor",
    }
}

/// `process`, of one that runs.
pub(super) fn process<'a>(view: &'a ProcessView, clock: &WallClock) -> Process<'a> {
    let known_start = view.key.start_ns != 0;
    Process {
        pid: view.key.tgid,
        entity_id: &view.entity_id,
        name: file_name(&view.exe),
        executable: &view.exe,
        args: &view.args,
        args_count: view.args.len(),
        start: known_start.then(|| clock.rfc3339(BootNs(view.key.start_ns))),
        end: None,
        exit_code: None,
        user: user(view),
        parent: view.parent.as_deref().map(parent),
    }
}

/// `user`.
pub(super) fn user(view: &ProcessView) -> Id {
    Id {
        id: view.uid.to_string(),
    }
}

/// `telltale.process`, of one that runs.
pub(super) fn extras(view: &ProcessView) -> ProcessExtras {
    ProcessExtras {
        origin: origin_name(view.origin),
        cgroup_id: view.cgroup.0.to_string(),
        args_truncated: view.args_truncated,
        file: FileFields {
            device: view.exe_file.device,
            inode: view.exe_file.inode.to_string(),
            links: view.exe_file.links,
        },
        signal: None,
    }
}

/// `telltale.ancestry`: above the parent, nearest first.
pub(super) fn ancestry(view: &ProcessView) -> Vec<Parent<'_>> {
    view.ancestors().skip(1).map(parent).collect()
}

fn parent(view: &ParentView) -> Parent<'_> {
    Parent {
        pid: view.key.tgid,
        entity_id: &view.entity_id,
        name: file_name(&view.exe),
        executable: &view.exe,
    }
}

/// `gen_ai`.
pub(super) fn gen_ai(attribution: &Attribution) -> GenAi<'_> {
    GenAi {
        agent: Agent {
            name: &attribution.tool.name,
        },
    }
}

/// `telltale.tool`.
pub(super) fn tool(attribution: &Attribution) -> ToolFields<'_> {
    let tool = &attribution.tool;
    ToolFields {
        id: &tool.id,
        name: &tool.name,
        version: attribution.version.as_deref().unwrap_or("unknown"),
        role: attribution.role.name(),
        vendor: Some(&tool.vendor),
        jurisdiction: Some(&tool.jurisdiction),
        trusted: attribution.trusted,
    }
}

/// `telltale.attribution`.
pub(super) fn attribution(attribution: &Attribution) -> AttributionFields<'_> {
    AttributionFields {
        method: attribution.evidence.first().map(Evidence::kind),
        evidence: attribution.evidence.iter().map(evidence).collect(),
    }
}

/// A program of no known tool: all that speaks for one is the `host` that it reaches.
fn set_unidentified<'a>(line: &mut Line<'a>, host: Option<&'a str>) {
    line.telltale.tool = Some(Part::Fields(ToolFields {
        id: Role::Unidentified.name(),
        name: "Unidentified program",
        version: "unknown",
        role: Role::Unidentified.name(),
        vendor: None,
        jurisdiction: None,
        trusted: false,
    }));
    let endpoint = EvidenceFields {
        kind: "endpoint",
        host,
        ..EvidenceFields::default()
    };
    line.telltale.attribution = Some(Part::Fields(AttributionFields {
        method: Some(endpoint.kind),
        evidence: vec![endpoint],
    }));
}

fn evidence(evidence: &Evidence) -> EvidenceFields<'_> {
    let fields = EvidenceFields {
        kind: evidence.kind(),
        ..EvidenceFields::default()
    };
    match evidence {
        Evidence::ExePath { glob } | Evidence::Helper { glob } => EvidenceFields {
            glob: Some(glob),
            ..fields
        },
        Evidence::Script { glob, path } => EvidenceFields {
            glob: Some(glob),
            path: Some(path),
            ..fields
        },
        Evidence::Lineage {
            ancestor_exe,
            ancestor_pid,
        } => EvidenceFields {
            path: Some(ancestor_exe),
            pid: Some(*ancestor_pid),
            ..fields
        },
        Evidence::Endpoint { host } => EvidenceFields {
            host: Some(host),
            ..fields
        },
        Evidence::Name { name } => EvidenceFields {
            name: Some(name),
            ..fields
        },
    }
}

fn set_judgement<'a>(line: &mut Line<'a>, judgement: &'a Judgement) {
    line.rule = Some(Rule {
        name: &judgement.rule,
    });
    line.telltale.verdict = Some(judgement.verdict.name());
    line.telltale.rule = Some(&judgement.rule);
    line.telltale.action = judgement.action.map(action_name);
    line.telltale.exception = judgement.exception.as_deref();
    line.telltale.why = Some(&judgement.why);
    line.telltale.endpoint = judgement
        .purpose
        .as_deref()
        .map(|purpose| EndpointFields { purpose });
}

/// Nothing is blocked yet, and the log must not say so.
fn action_name(action: Action) -> &'static str {
    match action {
        Action::Deny(_) => "would-deny",
        Action::Allow | Action::Alert(_) => action.name(),
    }
}

fn destination(remote: Endpoint, domain: Option<&str>) -> Destination<'_> {
    let (ip, port) = (remote.addr.ip(), remote.addr.port());
    Destination {
        address: ip.to_string(),
        ip,
        port: (port != 0).then_some(port),
        domain,
        bytes: None,
        system: None,
        geo: None,
    }
}

fn network(report: &FlowReport) -> Network {
    let remote = report.remote;
    let accepted = FlowAction::Opened {
        hook: Hook::Accepted,
    };
    let iana_number = match remote.protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Other(number) => number,
    };
    Network {
        transport: remote.protocol.name(),
        kind: if remote.addr.is_ipv4() {
            "ipv4"
        } else {
            "ipv6"
        },
        iana_number: iana_number.to_string(),
        direction: if report.action == accepted {
            "ingress"
        } else {
            "egress"
        },
    }
}

fn names(names: &[NameEvidence], now: BootNs) -> Option<NameFields<'_>> {
    let age_seconds = |name: &NameEvidence| seconds(now.since(name.learned));
    let candidates = names.iter().map(|name| CandidateFields {
        name: &name.name,
        source: name.source.name(),
        age_seconds: age_seconds(name),
        asked_by_pid: (name.asked_by.tgid != 0).then_some(name.asked_by.tgid),
    });
    let best = names.first()?;
    Some(NameFields {
        source: best.source.name(),
        age_seconds: age_seconds(best),
        candidates: candidates.collect(),
    })
}

/// What was asked of a resolver, best name first, and answered with the address.
fn question(names: &[NameEvidence]) -> Option<Dns<'_>> {
    use NameSource::{DnsOwn, DnsShared, DnsUntrusted, Resolved};
    let is_dns =
        |name: &&NameEvidence| matches!(name.source, DnsOwn | DnsShared | DnsUntrusted | Resolved);
    let name = &names.iter().find(is_dns)?.name;
    Some(Dns {
        question: Question { name },
    })
}

/// Seconds to the millisecond: enough for an age, and short in the log.
fn seconds(duration: Duration) -> f64 {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).as_secs_f64()
}

fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Executed => "executed",
        Origin::Forked => "forked",
        Origin::Found => "found",
        Origin::Unknown => "unknown",
        Origin::Kernel => "kernel",
    }
}
