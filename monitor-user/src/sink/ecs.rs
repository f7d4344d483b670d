//! The shape of an event-log line: Elastic Common Schema 9, what it has no field for under
//! `telltale`.
//!
//! In: an effect. Out: a [`Line`], which serialises to one nested JSON object. Ids of 64 bits
//! are strings, because JSON readers round large numbers.

mod fill;
pub mod known;
mod place;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use self::known::{Frame, KnownProcesses};
use super::HostInfo;
use crate::clock::WallClock;
use crate::core::report::Effect;

/// The schema that the fields follow.
const ECS_VERSION: &str = "9.4.0";

/// Effects as lines of the log, for those who look at them right here.
pub struct Lines {
    frame: Frame,
    processes: KnownProcesses,
}

impl Lines {
    /// Lines of this host and run.
    #[must_use]
    pub fn new(host: &HostInfo) -> Self {
        Lines {
            frame: Frame::new(host),
            processes: KnownProcesses::default(),
        }
    }

    /// The line of an effect; `None` if the log does not show it.
    ///
    /// # Errors
    ///
    /// If it is no JSON; a test proves that it is.
    pub fn value(
        &mut self,
        effect: &Effect,
        clock: &WallClock,
    ) -> serde_json::Result<Option<Value>> {
        let line = Line::of(effect, clock, &self.frame, &mut self.processes);
        line.map(serde_json::to_value).transpose()
    }
}

/// One line of the event log.
#[derive(Serialize)]
pub struct Line<'a> {
    #[serde(rename = "@timestamp")]
    timestamp: String,
    ecs: &'a RawValue,
    event: EventFields<'a>,
    host: &'a RawValue,
    observer: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Part<'a, Process<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<Destination<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<Network>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Tls<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<Dns<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Rule<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gen_ai: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    orchestrator: Option<&'a RawValue>,
    telltale: Telltale<'a>,
}

/// What every line tells of itself.
pub struct Head<'a> {
    /// Unique.
    pub id: &'a str,
    /// Number in this run.
    pub sequence: u64,
    /// What happened.
    pub action: &'static str,
    /// The group of events that it is of.
    pub dataset: &'static str,
}

impl Line<'_> {
    /// What it tells of itself.
    #[must_use]
    pub fn head(&self) -> Head<'_> {
        let EventFields {
            id,
            sequence,
            action,
            dataset,
            ..
        } = &self.event;
        Head {
            id,
            sequence: *sequence,
            action,
            dataset,
        }
    }

    /// What no schema has a field for.
    #[must_use]
    pub fn own(&self) -> impl Serialize {
        &self.telltale
    }
}

/// A part of a line.
#[derive(Serialize)]
#[serde(untagged)]
enum Part<'a, T> {
    /// As JSON already.
    Rendered(&'a RawValue),
    /// Still to be written.
    Fields(T),
}

#[derive(Serialize)]
struct Ecs {
    version: &'static str,
}

#[derive(Serialize)]
struct EventFields<'a> {
    kind: &'static str,
    category: &'static [&'static str],
    #[serde(rename = "type")]
    types: &'static [&'static str],
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    id: String,
    sequence: u64,
    module: &'static str,
    dataset: &'static str,
    provider: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<u64>,
}

#[derive(Serialize)]
struct Host<'a> {
    name: &'a str,
    boot: BootId<'a>,
}

#[derive(Serialize)]
struct BootId<'a> {
    id: &'a str,
}

#[derive(Serialize)]
struct Observer {
    product: &'static str,
    version: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Id {
    id: String,
}

#[derive(Serialize)]
struct Process<'a> {
    pid: u32,
    entity_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    executable: &'a str,
    args: &'a [String],
    args_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    user: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Parent<'a>>,
}

#[derive(Serialize)]
struct Parent<'a> {
    pid: u32,
    entity_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    executable: &'a str,
}

#[derive(Serialize)]
struct Source {
    bytes: u64,
}

#[derive(Serialize)]
struct Destination<'a> {
    address: String,
    ip: IpAddr,
    /// Not there if the transport has none, or peers have many.
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// The autonomous system of the address, if the operator's database has it.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    system: Option<AutonomousSystem>,
    /// Where the address is, if the operator's database has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    geo: Option<Geo>,
}

#[derive(Serialize)]
struct AutonomousSystem {
    number: u32,
}

#[derive(Serialize)]
struct Geo {
    country_iso_code: String,
}

#[derive(Serialize)]
struct Network {
    transport: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    iana_number: String,
    direction: &'static str,
}

/// What the client says, not what was agreed.
#[derive(Serialize)]
struct Tls<'a> {
    client: TlsClient<'a>,
}

#[derive(Serialize)]
struct TlsClient<'a> {
    server_name: &'a str,
}

/// The question whose answer led to the destination.
#[derive(Serialize)]
struct Dns<'a> {
    question: Question<'a>,
}

#[derive(Serialize)]
struct Question<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Rule<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct GenAi<'a> {
    agent: Agent<'a>,
}

#[derive(Serialize)]
struct Agent<'a> {
    name: &'a str,
}

#[derive(Default, Serialize)]
struct Telltale<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<Part<'a, ToolFields<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attribution: Option<Part<'a, AttributionFields<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Part<'a, ProcessExtras>>,
    /// Whose child the parent is, and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    ancestry: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<EndpointFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<NameFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hello: Option<HelloFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow: Option<FlowFields<'a>>,
    /// Whom the process asks a proxy for, which the destination is: host and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxied: Option<String>,
    /// For whom the process may act: who is connected to it on this host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    via: Vec<ClientFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<SocketFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<BudgetFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart: Option<RestartFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cookie: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    /// What the operator's rule asks for; not there if none fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exception: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<AlertFields<'a>>,
}

#[derive(Serialize)]
struct ToolFields<'a> {
    id: &'a str,
    name: &'a str,
    /// `unknown` if the path does not say.
    version: &'a str,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vendor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jurisdiction: Option<&'a str>,
    trusted: bool,
}

#[derive(Serialize)]
struct AttributionFields<'a> {
    /// Kind of the strongest evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'static str>,
    evidence: Vec<EvidenceFields<'a>>,
}

#[derive(Default, Serialize)]
struct EvidenceFields<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    glob: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
}

#[derive(Serialize)]
struct ContainerFields<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<ImageFields<'a>>,
}

#[derive(Serialize)]
struct ImageFields<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Orchestrator<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    resource: Resource<'a>,
}

/// The pod.
#[derive(Serialize)]
struct Resource<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct CgroupFields<'a> {
    /// From the root of the hierarchy on.
    path: &'a str,
}

/// The systemd unit.
#[derive(Serialize)]
struct UnitFields<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    slice: Option<&'a str>,
    /// Whose systemd runs it, if not the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Id>,
}

/// The build job.
#[derive(Serialize)]
struct JobFields<'a> {
    provider: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<IdOf<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    /// Variables that the operator added.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    variables: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct IdOf<'a> {
    id: &'a str,
}

#[derive(Serialize)]
struct ProcessExtras {
    origin: &'static str,
    cgroup_id: String,
    args_truncated: bool,
    file: FileFields,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
}

#[derive(Serialize)]
struct FileFields {
    device: u32,
    inode: String,
    /// 0: deleted, or never linked.
    links: u32,
}

#[derive(Serialize)]
struct EndpointFields<'a> {
    purpose: &'a str,
}

#[derive(Serialize)]
struct NameFields<'a> {
    /// Of the best name, which is `destination.domain`.
    source: &'static str,
    age_seconds: f64,
    /// All names, best first.
    candidates: Vec<CandidateFields<'a>>,
}

#[derive(Serialize)]
struct CandidateFields<'a> {
    name: &'a str,
    source: &'static str,
    age_seconds: f64,
    /// Not there if nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_by_pid: Option<u32>,
}

/// What a TLS or QUIC hello says, besides the name.
#[derive(Serialize)]
struct HelloFields {
    /// The application protocols that the client offers.
    alpn: Vec<&'static str>,
    /// There is an Encrypted Client Hello.
    ech: bool,
}

#[derive(Default, Serialize)]
struct FlowFields<'a> {
    first: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook: Option<&'static str>,
    /// Whereto the process asked, if the packets go to `destination` instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<Destination<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    established: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    srtt_us: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retransmits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
}

#[derive(Serialize)]
struct ClientFields<'a> {
    pid: u32,
    entity_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    executable: &'a str,
    /// The AI tool it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
}

#[derive(Serialize)]
struct SocketFields {
    /// `raw`, `packet`, `xdp`, `vsock`, `tun`, `other`.
    kind: &'static str,
    protocol: u32,
    /// It was found open, not seen being opened.
    found: bool,
}

#[derive(Serialize)]
struct BudgetFields {
    /// New flows without a record of their own since the last such event of the process.
    refused: u64,
    /// The same since the process started.
    refused_total: u64,
}

#[derive(Serialize)]
struct RestartFields {
    /// Operations that the kernel side saw while no monitor read it.
    attempted: u64,
    /// Those of them that became records, that were counted without one, that were dropped.
    delivered: u64,
    aggregated: u64,
    dropped: u64,
    /// Records that were waiting, and are told now.
    recovered: u64,
    /// Records and operations that the monitor before took and may not have told, at most.
    lost: u64,
}

#[derive(Serialize)]
struct AlertFields<'a> {
    state: &'static str,
    severity: &'static str,
    started: String,
    last_seen: String,
    occurrences: u64,
    labels: BTreeMap<&'a str, &'a str>,
    annotations: BTreeMap<&'a str, &'a str>,
}
