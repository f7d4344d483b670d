//! What the core tells the world: the closed set of effects, and the views they carry.
//!
//! In: built by the collector. Out: read by metrics and sinks, which translate and never decide.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use monitor_common::flow::{FlowCounters, ProcessKey};

use super::addresses::AddressOrigin;
use super::alert::Alert;
use super::attribute::{Attribution, Role};
use super::catalog::Tool;
use super::claim::Claim;
use super::coverage::Gap;
use super::event::{
    BootNs, CgroupId, Endpoint, ExeFile, Hook, KernelCounters, Outcome, SocketCookie, SocketKind,
};
use super::job::JobOf;
use super::names::NameEvidence;
use super::place::Place;
use super::policy::judgement::Judgement;
use super::wire::tls::Alpn;

/// One thing that happened, for metrics, alerts and the event log.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A program image started, or was found running.
    ProcessStarted(Box<ProcessStarted>),
    /// A process ended.
    ProcessEnded(Box<ProcessEnded>),
    /// A flow opened, was redirected, failed or closed.
    Flow(Box<FlowReport>),
    /// Flows that the kernel counted without a record each.
    FlowsCounted(Box<FlowsCounted>),
    /// A socket was opened, or found open, that can send without asking for a destination.
    SocketOpened(Box<SocketReport>),
    /// A process opened new flows faster than they are recorded one by one.
    OverBudget(Box<OverBudgetReport>),
    /// An alert fired, fires still, or is resolved.
    Alert(Box<AlertNotice>),
    /// An alert of this rule fires, and is told later: the rule has told so many others lately.
    AlertWithheld(Arc<str>),
    /// The kernel's books, read again.
    Books(Box<KernelCounters>),
    /// The monitor took over from one that ran before it.
    Resumed(Box<ResumedReport>),
    /// What the monitor may have missed is something else than before.
    Coverage(Box<CoverageReport>),
    /// A bound of the collector was reached: something was evicted or refused.
    Limited(Limit),
    /// A DNS message was used, or not: the `outcome` label of `telltale_dns_messages_total`.
    Dns(DnsOutcome),
    /// A client said whom it speaks to, or did not.
    Claimed(Box<Claim>),
    /// What a version of a tool was seen to contact is something else than before.
    Contacts(Box<ContactsReport>),
}

/// What the programs of one version of a tool were seen to contact since the monitor started.
#[derive(Clone, Debug, PartialEq)]
pub struct ContactsReport {
    /// The tool.
    pub tool: Arc<Tool>,
    /// Its version; `None` is "unknown".
    pub version: Option<Arc<str>>,
    /// Endpoints of the version's manifest that were seen.
    pub seen: usize,
    /// Those that were not.
    pub unseen: usize,
    /// Hosts that the manifest does not list, by name.
    pub undeclared: usize,
}

/// What the core would like to know of the host before it looks at an event. The answer is an
/// event of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// Which path this cgroup has.
    Cgroup(CgroupId),
    /// What is known of the container that this cgroup is.
    Container {
        /// Its cgroup.
        cgroup: CgroupId,
        /// Its id, as the cgroup's path tells it.
        id: Arc<str>,
    },
    /// Which build job this image is part of.
    Job {
        /// The image.
        process: ProcessKey,
        /// It and its ancestors, nearest first.
        ancestry: Vec<ProcessKey>,
    },
}

/// What became of questions since the last look. See `telltale_host_facts_total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FactCounts {
    /// Answered, with something to say.
    pub found: u64,
    /// Answered: nothing is known.
    pub none: u64,
    /// Answered, but a file was not as it should be.
    pub malformed: u64,
    /// Not asked, because the host did not answer earlier questions in time.
    pub skipped: u64,
}

/// What became of listening to systemd-resolved. See `telltale_resolved_messages_total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResolvedStatus {
    /// Whether it can be heard.
    pub state: ResolvedState,
    /// Messages with a name and an address.
    pub answers: u64,
    /// Messages without.
    pub nameless: u64,
    /// Messages that could not be read.
    pub malformed: u64,
    /// Messages that were too long.
    pub oversized: u64,
    /// Names for which the line had no room.
    pub dropped: u64,
}

/// Whether systemd-resolved can be heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResolvedState {
    /// Nobody listens.
    #[default]
    Off,
    /// Not asked yet.
    Connecting,
    /// It tells its answers.
    Connected,
    /// Not there, or not any more.
    Absent,
    /// It does not tell them to this user.
    Refused,
    /// It does not know how to.
    Unsupported,
}

impl ResolvedState {
    /// All of them, for metrics.
    pub const ALL: [ResolvedState; 6] = [
        ResolvedState::Off,
        ResolvedState::Connecting,
        ResolvedState::Connected,
        ResolvedState::Absent,
        ResolvedState::Refused,
        ResolvedState::Unsupported,
    ];

    /// Name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ResolvedState::Off => "off",
            ResolvedState::Connecting => "connecting",
            ResolvedState::Connected => "connected",
            ResolvedState::Absent => "absent",
            ResolvedState::Refused => "refused",
            ResolvedState::Unsupported => "unsupported",
        }
    }
}

/// What a process is, as far as the world is told. Shared, never changed after it is made.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessView {
    /// Which image of which process.
    pub key: ProcessKey,
    /// Stable id of the image across hosts and reboots: 16 hex digits.
    pub entity_id: Arc<str>,
    /// The process that forked this one; `None` if it is unknown.
    pub parent: Option<Arc<ParentView>>,
    /// Absolute path of the executable; empty if unknown.
    pub exe: Arc<str>,
    /// The executable file itself.
    pub exe_file: ExeFile,
    /// argv at exec.
    pub args: Arc<[String]>,
    /// argv is incomplete.
    pub args_truncated: bool,
    /// When this image started (for one found running: when it was found).
    pub started: BootNs,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Cgroup.
    pub cgroup: CgroupId,
    /// What is known of that cgroup.
    pub place: Option<Arc<Place>>,
    /// The build job that it is part of.
    pub job: JobOf,
    /// Switches of the catalog that its environment sets, by the names of their variables.
    pub opted_out: Arc<[Arc<str>]>,
    /// How the monitor knows of it.
    pub origin: Origin,
    /// The AI tool it belongs to, with the evidence; `None` if to none.
    pub tool: Option<Arc<Attribution>>,
}

/// Ancestors that are told of a process: a tool below a shell, a build step and a runner's agent.
const ANCESTORS_TOLD_MAX: usize = 8;

impl ProcessView {
    /// Its parent, that one's parent, and so on, as far as they are known, and told.
    pub fn ancestors(&self) -> impl Iterator<Item = &ParentView> {
        std::iter::successors(self.parent.as_deref(), |view| view.parent.as_deref())
            .take(ANCESTORS_TOLD_MAX)
    }

    /// The role in which it opened a flow of this judgement: the one in its tool;
    /// [`Role::Unidentified`] if it belongs to none and was judged all the same, because it
    /// reaches an AI provider; `None` for everything else on the host.
    #[must_use]
    pub fn role_in_flow(&self, judgement: &Judgement) -> Option<Role> {
        match &self.tool {
            Some(member) => Some(member.role),
            None if !judgement.matters() => None,
            None if self.origin == Origin::Kernel => None,
            None => Some(Role::Unidentified),
        }
    }
}

/// The parent as an event shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ParentView {
    /// Which image of which process.
    pub key: ProcessKey,
    /// Its entity id.
    pub entity_id: Arc<str>,
    /// Its executable.
    pub exe: Arc<str>,
    /// Its own parent, as far as that is known.
    pub parent: Option<Arc<ParentView>>,
    /// How many ancestors hang on it.
    pub generation: u32,
}

/// Generations after which the remote ones are let go: a chain of forks may be endless, and each
/// link lives as long as the last one.
const GENERATIONS_MAX: u32 = 64;

impl ParentView {
    /// What its children show of this process.
    #[must_use]
    pub fn of(view: &ProcessView) -> Arc<ParentView> {
        let generation = view
            .parent
            .as_ref()
            .map_or(0, |parent| parent.generation + 1);
        let parent = if generation < GENERATIONS_MAX {
            view.parent.clone()
        } else {
            let nearest: Vec<_> = view.ancestors().collect();
            nearest.into_iter().rev().fold(None, |parent, nearest| {
                let generation = parent
                    .as_ref()
                    .map_or(0, |it: &Arc<ParentView>| it.generation + 1);
                Some(Arc::new(ParentView {
                    parent,
                    generation,
                    ..nearest.clone()
                }))
            })
        };
        Arc::new(ParentView {
            key: view.key,
            entity_id: Arc::clone(&view.entity_id),
            exe: Arc::clone(&view.exe),
            generation: parent.as_ref().map_or(0, |parent| parent.generation + 1),
            parent,
        })
    }
}

/// How the monitor knows of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Its exec was seen.
    Executed,
    /// It was forked by a known process and has not executed since.
    Forked,
    /// It was running before the monitor.
    Found,
    /// Only a flow was seen: its process records were lost.
    Unknown,
    /// No process: the kernel itself, or a socket whose owner nobody knows.
    Kernel,
}

/// A program image started.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessStarted {
    /// Number of this event in this run, from 1.
    pub sequence: u64,
    /// When.
    pub time: BootNs,
    /// Who.
    pub process: Arc<ProcessView>,
    /// What the policy says of its presence alone.
    pub judgement: Judgement,
    /// The event log's scope covers it.
    pub logged: bool,
}

/// A process ended.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessEnded {
    /// Number of this event in this run, from 1.
    pub sequence: u64,
    /// When.
    pub time: BootNs,
    /// Its last image.
    pub process: Arc<ProcessView>,
    /// As `wait(2)` returns it.
    pub exit_code: i32,
    /// The event log's scope covers it.
    pub logged: bool,
}

/// A flow opened, was redirected, failed or closed.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowReport {
    /// Number of this event in this run, from 1.
    pub sequence: u64,
    /// When.
    pub time: BootNs,
    /// What happened.
    pub action: FlowAction,
    /// Who opened it, or serves it.
    pub process: Arc<ProcessView>,
    /// The other end, where the packets go. Port 0 stands for any port.
    pub remote: Endpoint,
    /// What the operator's databases say of the remote's address.
    pub address: AddressOrigin,
    /// On which socket.
    pub cookie: SocketCookie,
    /// Names of the remote, best first.
    pub names: Vec<NameEvidence>,
    /// Processes of this host that are connected to this one, so that it may act for them.
    pub via: Vec<Arc<ProcessView>>,
    /// Whom the client asks a proxy for, which the remote then is.
    pub target: Option<ProxyTarget>,
    /// What the client says in its TLS or QUIC hello, as far as it is known by now.
    pub hello: Option<Arc<Hello>>,
    /// What the policy says.
    pub judgement: Judgement,
    /// First time this image goes to this remote.
    pub first: bool,
    /// The event log's scope covers it.
    pub logged: bool,
}

/// What a client says in its TLS or QUIC hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Canonical name.
    pub server_name: Arc<str>,
    /// The application protocols that it offers.
    pub alpn: Vec<Alpn>,
    /// There is an Encrypted Client Hello, which may hide another name.
    pub ech: bool,
}

/// Whom a client asks a proxy for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyTarget {
    /// Canonical name, or address.
    pub host: Arc<str>,
    /// The port, if one is given.
    pub port: Option<u16>,
}

impl fmt::Display for ProxyTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl FlowReport {
    /// The best name of the remote.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.names.first().map(|evidence| &*evidence.name)
    }

    /// Address of the remote.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.remote.addr.ip()
    }
}

/// What happened to a flow.
#[derive(Clone, Debug, PartialEq)]
pub enum FlowAction {
    /// It is new.
    Opened {
        /// How it was seen first.
        hook: Hook,
    },
    /// Its packets go to the report's remote, and not where its process asked.
    Redirected {
        /// Whereto the process asked.
        asked: Endpoint,
        /// The best name of `asked`.
        asked_name: Option<NameEvidence>,
    },
    /// It failed or closed.
    Ended(FlowEnd),
}

/// How a flow went.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowEnd {
    /// How it ended.
    pub outcome: Outcome,
    /// When it was opened.
    pub opened: BootNs,
    /// TCP: when it was established.
    pub established: Option<BootNs>,
    /// Payload bytes: of TCP, what the remote acknowledged; else what was sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// TCP smoothed round-trip time, microseconds.
    pub srtt_us: Option<u32>,
    /// TCP segments sent again.
    pub retransmits: u32,
}

/// Flows that the kernel counted without a record each.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowsCounted {
    /// Who.
    pub process: Arc<ProcessView>,
    /// To whom.
    pub remote: Endpoint,
    /// Names of the remote, best first.
    pub names: Vec<NameEvidence>,
    /// What the policy says.
    pub judgement: Judgement,
    /// Increase since the last drain.
    pub delta: FlowCounters,
}

/// A socket was opened, or found open, that can send without asking for a destination.
#[derive(Clone, Debug, PartialEq)]
pub struct SocketReport {
    /// Number of this event in this run, from 1.
    pub sequence: u64,
    /// When it was opened, or found.
    pub time: BootNs,
    /// Who has it.
    pub process: Arc<ProcessView>,
    /// What it can do.
    pub kind: SocketKind,
    /// `IPPROTO_` number of a raw socket, Ethernet protocol of a packet socket; 0 if unknown.
    pub protocol: u32,
    /// It was found open, not seen being opened. Told once for each image, kind and protocol.
    pub found: bool,
    /// The event log's scope covers it.
    pub logged: bool,
}

/// A process opened new flows faster than they are recorded one by one. Always logged.
#[derive(Clone, Debug, PartialEq)]
pub struct OverBudgetReport {
    /// Number of this event in this run, from 1.
    pub sequence: u64,
    /// When.
    pub time: BootNs,
    /// Who.
    pub process: Arc<ProcessView>,
    /// New flows without a record of their own since this was last told of the process.
    pub refused: u64,
    /// The same since the process started.
    pub refused_total: u64,
}

/// An alert and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertNotice {
    /// Number of this event in this run, from 1.
    pub sequence: u64,
    /// When.
    pub time: BootNs,
    /// What became of it.
    pub state: AlertState,
    /// The alert.
    pub alert: Arc<Alert>,
}

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertState {
    /// It fires for the first time, or again after it was resolved.
    Fired,
    /// It fires still: receivers are told again, the log is not.
    StillFiring,
    /// Its cause has not been seen for a while.
    Resolved,
}

/// What the monitor may have missed, as of a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct CoverageReport {
    /// When.
    pub time: BootNs,
    /// What was missed, or may have been.
    pub gaps: BTreeSet<Gap>,
}

impl CoverageReport {
    /// Whether everything was seen.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.gaps.is_empty()
    }
}

/// What became of an interval in which no monitor ran, and the kernel side went on. Always logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumedReport {
    /// Number of this event in this run, from 1.
    pub sequence: u64,
    /// The end of the interval.
    pub time: BootNs,
    /// Its start: when the monitor before was last known to have told everything.
    pub from: BootNs,
    /// Operations that the hooks saw.
    pub attempted: u64,
    /// Operations that were handed over as records.
    pub delivered: u64,
    /// Operations that were counted without a record.
    pub aggregated: u64,
    /// Operations that were dropped.
    pub dropped: u64,
    /// Records that were waiting in the rings, and are told now.
    pub recovered: u64,
    /// Records, and operations without one, that the monitor before took and may not have told,
    /// and records of another layout.
    pub lost: u64,
}

impl ResumedReport {
    /// Whether something of the interval may be missing.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        self.dropped > 0 || self.lost > 0
    }
}

/// A bound that was reached. The `table` label of `telltale_table_limited_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// The process table is full.
    Processes,
    /// The flow table is full.
    Flows,
    /// The name table is full, for one process or in all.
    Names,
    /// The table of outstanding DNS queries is full.
    Queries,
    /// The alert table is full.
    Alerts,
    /// The kernel's table of processes watched in detail is full: their repeated connections are
    /// counted, not listed.
    Watched,
    /// The file system did not tell in time where a script lies: recognised by its argument alone.
    Scripts,
    /// The table of what was told of processes is full: some of it is told, or counted, twice.
    Told,
    /// The table of what clients claim is full, for one process or in all.
    Claims,
    /// So many flows wait for their names that this one is told at once.
    Waiting,
    /// The table of who is whose client on this host is full: some flows lack their `via`.
    Clients,
    /// The table of cgroups is full: some are looked for again.
    Places,
    /// A tool ran in too many versions, or went to too many undeclared hosts, to count them all.
    Contacts,
}

impl Limit {
    /// Name for metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Limit::Processes => "processes",
            Limit::Flows => "flows",
            Limit::Names => "names",
            Limit::Queries => "queries",
            Limit::Alerts => "alerts",
            Limit::Watched => "watched",
            Limit::Scripts => "scripts",
            Limit::Told => "told",
            Limit::Claims => "claims",
            Limit::Waiting => "waiting",
            Limit::Clients => "clients",
            Limit::Places => "places",
            Limit::Contacts => "contacts",
        }
    }
}

/// What became of a DNS message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DnsOutcome {
    /// A query, remembered until its answer.
    Query,
    /// An answer that matched a query: names were learned, or it held none.
    Answer,
    /// The same, of a resolver that nobody vouches for: what it says is its client's claim.
    Untrusted,
    /// An answer to an outstanding question that who was asked did not send: ignored.
    Forged,
    /// An answer that matched no outstanding query: ignored.
    Unsolicited,
    /// Not a DNS message.
    Malformed,
    /// A name in it is not a host name: ignored.
    NameInvalid,
}

impl DnsOutcome {
    /// Name for metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DnsOutcome::Query => "query",
            DnsOutcome::Answer => "answer",
            DnsOutcome::Untrusted => "untrusted",
            DnsOutcome::Forged => "forged",
            DnsOutcome::Unsolicited => "unsolicited",
            DnsOutcome::Malformed => "malformed",
            DnsOutcome::NameInvalid => "name_invalid",
        }
    }
}
