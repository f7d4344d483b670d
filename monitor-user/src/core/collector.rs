//! The heart: one event in, everything that follows from it out.
//!
//! In: [`Event`]s with the time at which they are looked at, what the shell finds out about the
//! kernel side ([`SelfChecked`]), and the passing of time. Out: [`Effect`]s, and the processes whose
//! every flow is wanted ([`Collector::take_watches`]).
//!
//! The collector joins the tables and decides nothing by itself: `process` says who it was,
//! `names` to whom, `attribute` which tool, `policy` what to think of it, `alert` whom to wake.
//!
//! Before an event is applied, the shell may ask what the collector would like to know of the host
//! ([`Collector::question`]) and apply the answers first: they are events as well.
//!
//! Events are to come in the order in which they happened, after those of the processes that
//! were found running, parents before children. Drained counters may come up to
//! [`GRACE`](super::process::GRACE) after the end of their process. What comes otherwise, or not
//! at all, costs knowledge of single processes and flows, and nothing else.

mod naming;
mod questions;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use monitor_common::flow::ProcessKey;

use super::alert::{self, Alert, AlertBook, AlertTiming, Cause, Raised, Swept};
use super::attribute::{Ancestor, Attribution, Role, attribute};
use super::catalog::Catalog;
use super::catalog::program::Image;
use super::clients::{CLIENTS_MAX, ClientTable};
use super::contacts::{Contacts, Noted};
use super::coverage::{Coverage, Gap, outcomes_between};
use super::event::{
    BootNs, CgroupId, Endpoint, Event, FlowCounted, FlowEnded, FlowJoined, FlowRedirected,
    KernelCounters, OverBudget, ProcessExecuted, ProcessExited, ProcessForked, Protocol, Resumed,
    SelfChecked, SocketCookie, SocketOpened,
};
use super::flow::{FlowTable, JudgedFlow, endpoint_name};
use super::names::{NameCounts, NameLimits, NameTable};
use super::place::Places;
use super::policy::judgement::Verdict;
use super::policy::{Policy, PolicyConfig};
use super::process::{Inserted, Lineage, Origination, ProcessTable, UNKNOWN_ID};
use super::redact::{self, Arguments};
use super::report::{
    AlertNotice, AlertState, CoverageReport, Effect, FlowAction, FlowEnd, FlowReport, FlowsCounted,
    Limit, Origin, OverBudgetReport, ProcessEnded, ProcessStarted, ProcessView, ResumedReport,
    SocketReport,
};
use super::told::{News, TOLD_MAX, Told};
use super::waiting::{WAITING_MAX, Waiting};
use super::wire::Target;
use questions::Ahead;

/// Generations of a server that are looked at for whoever listens: a main process and its workers.
const SERVERS_MAX: usize = 4;

/// Purposes of what a switch is there to turn off.
const OPTED_OUT_OF: [&str; 5] = [
    "telemetry",
    "error-reporting",
    "feature-flags",
    "device-fingerprint",
    "encrypted-dns",
];

/// What the operator and the host ask of the collector.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectorConfig {
    /// Names this boot of this host: `/proc/sys/kernel/random/boot_id`. Part of entity ids.
    pub boot_id: String,
    /// What the event log covers.
    pub scope: Scope,
    /// What is forbidden, and what is allowed.
    pub policy: PolicyConfig,
    /// What to add to the time since boot to get the time of the clock, nanoseconds.
    pub wall_offset_ns: i64,
    /// The resolvers that this host is configured to use: their answers back names.
    pub resolvers: Vec<SocketAddr>,
    /// The proxies through which AI tools must go outside; none: they need not.
    pub proxies: Vec<Target>,
    /// The kernel side samples the first bytes of flows, so that what has no name yet may get one.
    pub sampling: bool,
    /// Bounds of the tables.
    pub limits: Limits,
    /// When alerts are told again, and when they are over.
    pub alerts: AlertTiming,
    /// How much of argv is told.
    pub arguments: Arguments,
}

/// What the event log covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// AI tools with all their children, and whatever reaches an AI provider.
    #[default]
    Tools,
    /// Every process.
    All,
}

/// Bounds of the tables. Reaching one is an [`Effect::Limited`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Program images, the ones that ended a moment ago included.
    pub processes: usize,
    /// Open flows.
    pub flows: usize,
    /// Alerts that fire at one time.
    pub alerts: usize,
    /// Names.
    pub names: NameLimits,
}

/// How full the tables are, for gauges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSizes {
    /// Program images, the ones that ended a moment ago included.
    pub processes: usize,
    /// Open flows.
    pub flows: usize,
    /// Alerts that fire.
    pub alerts: usize,
    /// Names and outstanding queries.
    pub names: NameCounts,
}

/// All state of the monitor.
#[derive(Debug)]
pub struct Collector {
    scope: Scope,
    arguments: Arguments,
    proxies: Vec<Target>,
    sampling: bool,
    catalog: Arc<Catalog>,
    policy: Policy,
    /// Why what was written last does not judge.
    rejected: Option<String>,
    wall_offset_ns: i64,
    processes: ProcessTable,
    places: Places,
    /// What was found out about images that have not started yet, as far as they are known.
    ahead: Ahead,
    flows: FlowTable,
    clients: ClientTable,
    names: NameTable,
    waiting: Waiting,
    /// When names of open flows were last kept from expiring.
    names_kept: BootNs,
    alerts: AlertBook,
    told: Told,
    contacts: Contacts,
    coverage: Coverage,
    /// The gaps that were told last.
    gaps: BTreeSet<Gap>,
    watches: BTreeSet<ProcessKey>,
    limits: Limits,
    /// Number of the last event that was reported.
    sequence: u64,
}

impl Collector {
    /// A collector that has seen nothing.
    #[must_use]
    pub fn new(config: CollectorConfig, catalog: Arc<Catalog>) -> Self {
        let limits = config.limits;
        Collector {
            limits,
            scope: config.scope,
            arguments: config.arguments,
            proxies: config.proxies,
            sampling: config.sampling,
            policy: Policy::new(config.policy),
            rejected: None,
            wall_offset_ns: config.wall_offset_ns,
            catalog,
            processes: ProcessTable::new(config.boot_id, limits.processes),
            places: Places::new(),
            ahead: Ahead::default(),
            flows: FlowTable::new(limits.flows),
            clients: ClientTable::new(CLIENTS_MAX),
            names: NameTable::new(limits.names, config.resolvers),
            waiting: Waiting::new(WAITING_MAX),
            names_kept: BootNs(0),
            alerts: AlertBook::new(config.alerts, limits.alerts),
            told: Told::new(TOLD_MAX),
            contacts: Contacts::default(),
            coverage: Coverage::default(),
            gaps: BTreeSet::from([Gap::NotYetVerified]),
            watches: BTreeSet::new(),
            sequence: 0,
        }
    }

    /// Everything that follows from `event`, looked at at `now`.
    pub fn apply(&mut self, event: Event, now: BootNs) -> Vec<Effect> {
        let effects = match event {
            Event::ProcessForked(event) => self.forked(&event, now),
            Event::ProcessExecuted(event) => self.executed(*event, now),
            Event::ProcessExited(event) => self.exited(&event, now),
            Event::FlowOpened(event) => self.flow_opened(&event, now),
            Event::FlowEnded(event) => self.flow_ended(&event, now),
            Event::FlowRedirected(event) => self.flow_redirected(&event, now),
            Event::FlowJoined(event) => self.flow_joined(&event),
            Event::FlowCounted(event) => self.flow_counted(event, now),
            Event::SocketOpened(event) => self.socket_opened(&event, now),
            Event::OverBudget(event) => self.over_budget(&event, now),
            Event::DnsMessage(event) => self.dns_message(&event, now),
            Event::NameClaimed(event) => self.name_claimed(*event, now),
            Event::NameResolved(event) => self.name_resolved(&event),
            Event::KernelCounters(event) => self.books(event, now),
            Event::SelfChecked(event) => self.self_checked(*event, now),
            Event::Resumed(event) => self.resumed(&event, now),
            Event::CgroupMade(event) => self.cgroup_made(&event, now),
            Event::ContainerTold(event) => self.container_told(&event),
            Event::JobTold(event) => self.job_told(&event),
        };
        self.notice_limits(&effects, now);
        effects
    }

    fn self_checked(&mut self, check: SelfChecked, now: BootNs) -> Vec<Effect> {
        let lost = self.coverage.self_check(check, now);
        let mut effects = Vec::new();
        for hook in lost {
            let details = || alert::details_of_lost_hook(hook);
            effects.extend(self.raise(Some(Cause::hook_lost(hook)), details, now));
        }
        effects
    }

    /// A record could not be decoded, so something is missing from what is told.
    pub fn undecodable(&mut self, now: BootNs) {
        self.coverage.undecodable(now);
    }

    /// The shell reached a bound on the collector's behalf.
    pub fn limited(&mut self, limit: Limit, now: BootNs) -> Vec<Effect> {
        let effects = vec![Effect::Limited(limit)];
        self.notice_limits(&effects, now);
        effects
    }

    /// Everything that follows from the passing of time. Once a second is often enough.
    pub fn sweep(&mut self, now: BootNs) -> Vec<Effect> {
        self.processes.sweep(now);
        self.flows.sweep(now);
        let processes = &self.processes;
        self.clients
            .sweep(now, |process| processes.is_gone(process));
        self.keep_names_of_open_flows(now);
        self.names.sweep(now);
        let mut effects = self.tell_overdue(now);
        effects.extend(self.coverage_effects(now));
        effects.extend(self.policy_effects(now));
        self.keep_advisories(now);
        let Swept { told, withheld } = self.alerts.sweep(now);
        let notices = told.into_iter();
        effects.extend(notices.map(|(state, alert)| self.notice(state, alert, now)));
        effects.extend(withheld.into_iter().map(Effect::AlertWithheld));
        effects
    }

    /// The last words: what fires is told once more, so that receivers keep it until the monitor
    /// is back. Nothing is resolved by stopping to look.
    pub fn shutdown(&mut self, now: BootNs) -> Vec<Effect> {
        let mut effects = self.tell_all_waiting(now);
        let last = self.alerts.last_words(now).into_iter();
        effects.extend(last.map(|(state, alert)| self.notice(state, alert, now)));
        effects
    }

    /// The policy by which is judged.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The catalog by which is judged.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Judges by another policy and catalog from the next event on. Processes stay what they were
    /// taken for when they started: by then their files and arguments may be others.
    pub fn judge_by(&mut self, policy: Policy, catalog: Arc<Catalog>, now: BootNs) -> Vec<Effect> {
        self.policy = policy;
        self.catalog = catalog;
        self.rejected = None;
        let mut effects = self.policy_effects(now);
        let contacts = self.contacts.review(&self.catalog).into_iter();
        effects.extend(contacts.map(|report| Effect::Contacts(Box::new(report))));
        effects
    }

    /// What was written last cannot be used, for this reason; what judges stays. Told until
    /// [`Self::judge_by`].
    pub fn reject(&mut self, error: &str, now: BootNs) -> Vec<Effect> {
        self.rejected = Some(error.to_owned());
        self.policy_effects(now)
    }

    /// Why what was written last does not judge; `None` if it does.
    #[must_use]
    pub fn rejected(&self) -> Option<&str> {
        self.rejected.as_deref()
    }

    /// The time of the clock is another: what to add to the time since boot, nanoseconds.
    pub fn set_wall_offset(&mut self, offset_ns: i64) {
        self.wall_offset_ns = offset_ns;
    }

    /// Processes, with `exec_id` 0, that became interesting since the last call: members of a
    /// tool, and strangers that reached an AI provider. The source is to make a record of every
    /// flow of theirs from now on. Some may be over already, and some told before.
    #[must_use]
    pub fn take_watches(&mut self) -> Vec<ProcessKey> {
        std::mem::take(&mut self.watches).into_iter().collect()
    }

    /// How full the tables are.
    #[must_use]
    pub fn sizes(&self) -> TableSizes {
        TableSizes {
            processes: self.processes.len(),
            flows: self.flows.len(),
            alerts: self.alerts.len(),
            names: self.names.counts(),
        }
    }

    /// Openings that were applied and are not told yet, because a name may still come.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.count()
    }

    /// Alerts that wait: those whose rule is to hold for a time first, and those whose rule has
    /// told so many others lately.
    #[must_use]
    pub fn alerts_waiting(&self) -> (usize, usize) {
        self.alerts.waiting()
    }

    /// The bounds of the tables.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    fn forked(&mut self, event: &ProcessForked, now: BootNs) -> Vec<Effect> {
        let Some(child) = self.processes.forked(event, now) else {
            return Vec::new();
        };
        if child.view.tool.is_some() {
            self.watch(event.process);
        }
        child.limited.map(Effect::Limited).into_iter().collect()
    }

    fn executed(&mut self, event: ProcessExecuted, now: BootNs) -> Vec<Effect> {
        if event.found && self.processes.outdates(&event) {
            return Vec::new();
        }
        let time = event.time;
        let key = event.process;
        let lineage = self.processes.lineage(&event);
        let tool = match self.ahead.tool.take() {
            Some((image, tool)) if image == key => tool,
            _ => self.attribute(&event, &lineage),
        };
        let place = self.places.meet(event.cgroup, now);
        // From here on nobody needs more of the arguments than the world is told.
        let script = event.script.as_deref();
        let script = script.or_else(|| tool.as_ref().and_then(Attribution::script));
        let args = redact::told(&event.args, script, self.arguments);
        let event = ProcessExecuted { args, ..event };
        let origin = Origination {
            lineage,
            tool,
            place,
            job: self.ahead.job_of(key),
            opted_out: self.ahead.opted_out_of(key),
        };
        let Inserted {
            view: process,
            limited,
        } = self.processes.executed(event, origin, now);
        if process.tool.is_some() {
            self.watch(process.key);
        }
        let judgement = self.policy.judge_presence(&process, self.wall_seconds(now));
        let mut effects = vec![Effect::ProcessStarted(Box::new(ProcessStarted {
            sequence: self.next_sequence(),
            time,
            process: Arc::clone(&process),
            judgement: judgement.clone(),
            logged: self.logs(&process, judgement.matters()),
        }))];
        let cause = Cause::of_presence(&process, &judgement);
        let details = || alert::details_of_presence(&process, &judgement);
        effects.extend(self.raise(cause, details, now));
        let details = || alert::details_of_exec(&process);
        effects.extend(self.raise(Cause::of_exec(&process), details, now));
        effects.extend(self.advisories(&process, now));
        if let Some(member) = &process.tool {
            effects.extend(in_effect(self.contacts.started(&self.catalog, member)));
        }
        effects.extend(limited.map(Effect::Limited));
        effects
    }

    /// Notes where a flow of a tool goes that it chose itself.
    fn note_contact(&mut self, flow: &JudgedFlow) -> Vec<Effect> {
        let elsewhere = !matches!(flow.judgement.verdict, Verdict::Local | Verdict::Served);
        let Some(member) = flow.process.tool.as_deref().filter(|_| elsewhere) else {
            return Vec::new();
        };
        let name = flow.names.first().map(|evidence| &evidence.name);
        let ip = flow.remote.addr.ip();
        let noted = self.contacts.contacted(&self.catalog, member, name, ip);
        in_effect(noted).collect()
    }

    /// What is known of the version that a tool itself, or a helper of it, runs in.
    fn advisories(&mut self, process: &ProcessView, now: BootNs) -> Vec<Effect> {
        let Some(member) = process.tool.as_deref().filter(|member| is_own(member)) else {
            return Vec::new();
        };
        let catalog = Arc::clone(&self.catalog);
        let known = catalog.advisories(&member.tool.id, member.version.as_deref());
        let mut effects = Vec::new();
        for advisory in known {
            let cause = Cause::of_advisory(member, advisory);
            let details = || alert::details_of_advisory(process, advisory);
            effects.extend(self.raise(Some(cause), details, now));
        }
        effects
    }

    /// A tool that sits still gives no new cause, and must not seem gone.
    fn keep_advisories(&mut self, now: BootNs) {
        let members = self
            .processes
            .live()
            .filter_map(|view| view.tool.as_deref());
        let mut causes = BTreeSet::new();
        for member in members.filter(|member| is_own(member)) {
            let version = member.version.as_deref();
            let known = self.catalog.advisories(&member.tool.id, version);
            causes.extend(known.map(|advisory| Cause::of_advisory(member, advisory)));
        }
        for cause in causes {
            self.alerts.keep(&cause, now);
        }
    }

    fn attribute(&self, event: &ProcessExecuted, lineage: &Lineage) -> Option<Attribution> {
        let ancestor = lineage.ancestor.as_ref().map(|ancestor| Ancestor {
            exe: &ancestor.exe,
            pid: lineage.ancestor_pid,
            attribution: ancestor.tool.as_ref(),
        });
        let image = Image {
            exe: &event.exe,
            args: &event.args,
            script: event.script.as_deref(),
            package_version: event.package_version.as_deref(),
        };
        attribute(&self.catalog, image, ancestor)
    }

    fn exited(&mut self, event: &ProcessExited, now: BootNs) -> Vec<Effect> {
        self.names.process_gone(event.process, now);
        self.told.process_gone(event.process);
        let Some(process) = self.processes.exited(event, now) else {
            return Vec::new();
        };
        // A fork that never executed was not told as started either.
        if process.origin == Origin::Forked {
            return Vec::new();
        }
        vec![Effect::ProcessEnded(Box::new(ProcessEnded {
            sequence: self.next_sequence(),
            time: event.time,
            logged: self.logs(&process, false),
            process,
            exit_code: event.exit_code,
        }))]
    }

    fn flow_ended(&mut self, event: &FlowEnded, now: BootNs) -> Vec<Effect> {
        let mut effects = self.tell_waiting_of(event.cookie, now);
        self.clients.ended(event.cookie, now);
        let flow = self
            .flows
            .ended(event.cookie, &event.remote)
            .unwrap_or_else(|| {
                let process = self.process(event.process, UNKNOWN_ID, CgroupId(0));
                self.judge(event.process, process, event.remote, false, None, now)
            });
        let end = FlowEnd {
            outcome: event.outcome,
            opened: event.opened,
            established: event.established,
            bytes_sent: event.bytes_sent,
            bytes_received: event.bytes_received,
            srtt_us: event.srtt_us,
            retransmits: event.retransmits,
        };
        effects.push(self.report(flow, event.time, event.cookie, FlowAction::Ended(end)));
        effects
    }

    fn flow_redirected(&mut self, event: &FlowRedirected, now: BootNs) -> Vec<Effect> {
        let process = self.process(event.process, UNKNOWN_ID, CgroupId(0));
        let asked_ip = event.asked.addr.ip();
        let asked_name = self
            .names_of(event.process, &process, asked_ip, None, now)
            .into_iter()
            .next();
        let asked = endpoint_name(asked_name.as_ref(), asked_ip);
        let flow = JudgedFlow {
            first: true, // The kernel side tells each way of an image once.
            ..self.judge(event.process, process, event.wire, false, None, now)
        };
        let action = FlowAction::Redirected {
            asked: event.asked,
            asked_name,
        };
        let mut effects = vec![self.report(flow.clone(), event.time, event.cookie, action)];
        let cause = Cause::of_redirection(&flow, &asked);
        let details = || alert::details_of_redirection(&flow, &event.asked, &asked);
        effects.extend(self.raise(cause, details, now));
        effects
    }

    fn flow_joined(&mut self, event: &FlowJoined) -> Vec<Effect> {
        let client = self.process(event.client, UNKNOWN_ID, CgroupId(0));
        if client.tool.is_some() {
            self.watch(event.server);
        }
        let every = client.tool.is_some() || self.scope == Scope::All;
        let limited = self.clients.joined(event, client, every);
        limited.map(Effect::Limited).into_iter().collect()
    }

    fn flow_counted(&mut self, event: FlowCounted, now: BootNs) -> Vec<Effect> {
        let process = self.process(event.process, UNKNOWN_ID, CgroupId(0));
        let served = is_served(&event);
        let flow = self.judge(event.process, process, event.remote, served, None, now);
        let unreported = event.delta.connects_unreported > 0 || event.delta.datagrams > 0;
        let alert = unreported.then(|| self.alert_of_flow(&flow, now)).flatten();
        let contact = if unreported {
            self.note_contact(&flow)
        } else {
            Vec::new()
        };
        let mut effects = vec![Effect::FlowsCounted(Box::new(FlowsCounted {
            process: flow.process,
            remote: flow.remote,
            names: flow.names,
            judgement: flow.judgement,
            delta: event.delta,
        }))];
        effects.extend(alert);
        effects.extend(contact);
        effects
    }

    fn socket_opened(&mut self, event: &SocketOpened, now: BootNs) -> Vec<Effect> {
        let process = self.process(event.process, UNKNOWN_ID, CgroupId(0));
        let cause = Cause::of_socket(&process, event.kind);
        let News { new, limited } = self.told.socket(event);
        if !new {
            // Found again: the alert goes on.
            cause.map(|cause| self.alerts.keep(&cause, now));
            return Vec::new();
        }
        let mut effects = vec![Effect::SocketOpened(Box::new(SocketReport {
            sequence: self.next_sequence(),
            time: event.time,
            process: Arc::clone(&process),
            kind: event.kind,
            protocol: event.protocol,
            found: event.found,
            logged: self.logs(&process, false),
        }))];
        let details = || alert::details_of_socket(&process, event.kind, event.protocol);
        effects.extend(self.raise(cause, details, now));
        effects.extend(limited.map(Effect::Limited));
        effects
    }

    fn over_budget(&mut self, event: &OverBudget, now: BootNs) -> Vec<Effect> {
        let process = self.process(event.process, UNKNOWN_ID, CgroupId(0));
        let News { new, limited } = self.told.refused(event);
        let mut effects = vec![Effect::OverBudget(Box::new(OverBudgetReport {
            sequence: self.next_sequence(),
            time: event.time,
            process: Arc::clone(&process),
            refused: new,
            refused_total: event.refused,
        }))];
        let details = || alert::details_of_flood(&process, event.refused);
        effects.extend(self.raise(Some(Cause::flood(&process)), details, now));
        effects.extend(limited.map(Effect::Limited));
        effects
    }

    fn books(&mut self, books: Box<KernelCounters>, now: BootNs) -> Vec<Effect> {
        self.coverage.books(&books, now);
        vec![Effect::Books(books)]
    }

    fn resumed(&mut self, event: &Resumed, now: BootNs) -> Vec<Effect> {
        let outcomes = outcomes_between(&event.before, &event.after);
        let report = ResumedReport {
            sequence: self.next_sequence(),
            time: event.time,
            from: event.from,
            attempted: outcomes.attempted,
            delivered: outcomes.delivered,
            aggregated: outcomes.aggregated,
            dropped: outcomes.dropped,
            recovered: event.recovered,
            lost: event.unread + event.untold + event.discarded,
        };
        self.coverage.resumed(event, report.is_gap(), now);
        vec![Effect::Resumed(Box::new(report))]
    }

    /// What may have been missed: told when it changes, and an alert for each gap while it lasts.
    fn coverage_effects(&mut self, now: BootNs) -> Vec<Effect> {
        let gaps = self.coverage.gaps(now);
        let mut effects = Vec::new();
        for gap in &gaps {
            let Some(cause) = Cause::of_gap(*gap) else {
                continue;
            };
            if !self.alerts.keep(&cause, now) {
                effects.extend(self.raise(Some(cause), || alert::details_of_gap(*gap), now));
            }
        }
        if gaps != self.gaps {
            self.gaps.clone_from(&gaps);
            let report = CoverageReport { time: now, gaps };
            effects.push(Effect::Coverage(Box::new(report)));
        }
        self.notice_limits(&effects, now);
        effects
    }

    fn notice_limits(&mut self, effects: &[Effect], now: BootNs) {
        for effect in effects {
            if let Effect::Limited(limit) = effect {
                self.coverage.limited(*limit, now);
            }
        }
    }

    /// Who `key` is. `uid` and `cgroup`: what the record says, for a process that is not known.
    fn process(&self, key: ProcessKey, uid: u32, cgroup: CgroupId) -> Arc<ProcessView> {
        let known = self.processes.find(key).cloned();
        known.unwrap_or_else(|| Arc::new(self.processes.unknown(key, uid, cgroup)))
    }

    /// Who `key` is, as far as the table knows.
    fn process_of(&self, key: ProcessKey) -> Arc<ProcessView> {
        self.process(key, UNKNOWN_ID, CgroupId(0))
    }

    /// For whom `process` may act: the clients of itself and of those that started the same program
    /// before it, as servers do for their workers. A tool is no client of itself.
    fn clients_behind(&self, process: &ProcessView, now: BootNs) -> Vec<Arc<ProcessView>> {
        let mut servers = vec![process.key];
        let mut parent = process.parent.clone();
        while let Some(server) = parent.filter(|parent| parent.exe == process.exe)
            && servers.len() < SERVERS_MAX
        {
            servers.push(server.key);
            let found = self.processes.find(server.key);
            parent = found.and_then(|found| found.parent.clone());
        }
        let tool = |process: &ProcessView| process.tool.as_ref().map(|it| Arc::clone(&it.tool.id));
        let own = tool(process);
        let mut clients = self.clients.behind(&servers, now);
        clients.retain(|client| own.is_none() || tool(client) != own);
        clients
    }

    fn report(
        &mut self,
        flow: JudgedFlow,
        time: BootNs,
        cookie: SocketCookie,
        action: FlowAction,
    ) -> Effect {
        Effect::Flow(Box::new(FlowReport {
            sequence: self.next_sequence(),
            time,
            action,
            logged: self.logs(&flow.process, flow.judgement.matters())
                || flow.via.iter().any(|client| client.tool.is_some()),
            process: flow.process,
            remote: flow.remote,
            address: flow.address,
            cookie,
            names: flow.names,
            via: flow.via,
            target: flow.target,
            hello: flow.hello,
            judgement: flow.judgement,
            first: flow.first,
        }))
    }

    /// Whether the event log's scope covers what `process` does; `matters`: the policy says so.
    fn logs(&self, process: &ProcessView, matters: bool) -> bool {
        self.scope == Scope::All || process.tool.is_some() || matters
    }

    fn wall_seconds(&self, now: BootNs) -> i64 {
        const SECOND_NS: i64 = 1_000_000_000;
        let since_boot = i64::try_from(now.0).unwrap_or(i64::MAX);
        since_boot
            .saturating_add(self.wall_offset_ns)
            .div_euclid(SECOND_NS)
    }

    fn alert_of_flow(&mut self, flow: &JudgedFlow, now: BootNs) -> Option<Effect> {
        let details = || alert::details_of_flow(flow);
        self.raise(Cause::of_flow(flow), details, now)
    }

    /// A tool sends telemetry though its environment says that it must not.
    fn alert_after_optout(&mut self, flow: &JudgedFlow, now: BootNs) -> Option<Effect> {
        let member = flow.process.tool.as_ref()?;
        let name = &flow.names.first()?.name;
        let version = member.version.as_deref();
        let catalog = Arc::clone(&self.catalog);
        let endpoint = catalog.endpoint(&member.tool, name, version)?;
        let switch = endpoint.switch.as_deref()?;
        let variable = switch.split('=').next().unwrap_or(switch);
        let is_set = flow.process.opted_out.iter().any(|set| **set == *variable);
        if !is_set || !OPTED_OUT_OF.contains(&&*endpoint.purpose) {
            return None;
        }
        let cause = Cause::after_optout(flow, variable);
        let details = || alert::details_after_optout(flow, variable);
        self.raise(Some(cause), details, now)
    }

    fn raise(
        &mut self,
        cause: Option<Cause>,
        details: impl FnOnce() -> BTreeMap<&'static str, Arc<str>>,
        now: BootNs,
    ) -> Option<Effect> {
        let digest = Arc::clone(self.policy.digest());
        let details = || {
            let mut details = details();
            // Which policy it was, however long the alert lasts.
            details.insert("policy_digest", digest);
            details
        };
        match self.alerts.raise(cause?, now, details) {
            Ok(Raised::Fires(alert)) => Some(self.notice(AlertState::Fired, alert, now)),
            Ok(Raised::Withheld(rule)) => Some(Effect::AlertWithheld(rule)),
            Ok(Raised::Known) => None,
            Err(limit) => Some(Effect::Limited(limit)),
        }
    }

    fn notice(&mut self, state: AlertState, alert: Arc<Alert>, now: BootNs) -> Effect {
        let sequence = self.next_sequence();
        Effect::Alert(Box::new(AlertNotice {
            sequence,
            time: now,
            state,
            alert,
        }))
    }

    /// What sits still gives no new cause, and must not seem gone: a banned tool that runs, an
    /// exception that is over. Nor must what became forbidden while it ran seem fine.
    fn policy_effects(&mut self, now: BootNs) -> Vec<Effect> {
        let wall_seconds = self.wall_seconds(now);
        let mut causes = BTreeMap::new();
        for process in self
            .processes
            .live()
            .filter(|process| process.tool.is_some())
        {
            let judgement = self.policy.judge_presence(process, wall_seconds);
            if let Some(cause) = Cause::of_presence(process, &judgement) {
                causes
                    .entry(cause)
                    .or_insert_with(|| (Arc::clone(process), judgement));
            }
        }
        let mut effects = Vec::new();
        for (cause, (process, judgement)) in causes {
            if !self.alerts.keep(&cause, now) {
                let details = || alert::details_of_presence(&process, &judgement);
                effects.extend(self.raise(Some(cause), details, now));
            }
        }
        if let Some(error) = self.rejected.clone()
            && !self.alerts.keep(&Cause::rejected(), now)
        {
            let details = || alert::details_of_rejected(&error);
            effects.extend(self.raise(Some(Cause::rejected()), details, now));
        }
        let expired = self.policy.exceptions().iter();
        let expired: Vec<_> = expired
            .filter(|it| it.is_expired(wall_seconds))
            .cloned()
            .collect();
        for exception in expired {
            let cause = Cause::expired(&exception);
            if !self.alerts.keep(&cause, now) {
                let details = || alert::details_of_expired(&exception);
                effects.extend(self.raise(Some(cause), details, now));
            }
        }
        self.notice_limits(&effects, now);
        effects
    }

    fn watch(&mut self, process: ProcessKey) {
        self.watches.insert(ProcessKey {
            exec_id: 0,
            ..process
        });
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

/// Whether the program is the tool's own, and no other that it started.
fn is_own(member: &Attribution) -> bool {
    matches!(member.role, Role::Main | Role::Helper)
}

fn in_effect(noted: Noted) -> impl Iterator<Item = Effect> {
    let report = noted
        .report
        .map(|report| Effect::Contacts(Box::new(report)));
    let limited = noted.limited.map(Effect::Limited);
    report.into_iter().chain(limited)
}

/// Whether a flow is of peers that connected to the process: the kernel side counts them under
/// port 0, because theirs vary. A process that asks for that port itself has a `connect()` to show.
fn is_served(event: &FlowCounted) -> bool {
    let Endpoint { addr, protocol } = event.remote;
    let connects = event.delta.connects.max(event.delta.connects_unreported);
    addr.port() == 0 && protocol == Protocol::Tcp && connects == 0
}

#[cfg(test)]
mod tests;
