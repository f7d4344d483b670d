//! The heart: one event in, everything that follows from it out.
//!
//! In: [`Event`]s with the time at which they are looked at, and the passing of time. Out:
//! [`Effect`]s, and the processes whose every flow is wanted ([`Collector::take_watches`]).
//!
//! The collector joins the tables and decides nothing by itself: `process` says who it was,
//! `names` to whom, `attribute` which tool, `policy` what to think of it, `alert` whom to wake.
//! It expects events in the order in which they happened, with two allowances: what was found
//! running at start-up comes first, parents before their children, and drained counters come up
//! to [`process::GRACE`](super::process::GRACE) after the end of their process.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use monitor_common::flow::ProcessKey;

use super::alert::{self, ALERTS_MAX, Alert, AlertBook, AlertTiming, Cause};
use super::attribute::{Ancestor, attribute};
use super::catalog::Catalog;
use super::event::{
    BootNs, CgroupId, DnsMessage, Endpoint, Event, FlowCounted, FlowEnded, FlowOpened,
    ProcessExecuted, ProcessExited, ProcessForked, SocketCookie,
};
use super::flow::{FLOWS_MAX, FlowTable, JudgedFlow};
use super::names::{NameLimits, NameTable};
use super::policy::{FlowFacts, Policy, PolicyConfig, PolicyError, Verdict, rule};
use super::process::{Inserted, PROCESSES_MAX, ProcessTable, UNKNOWN_ID};
use super::report::{
    AlertNotice, AlertState, Effect, FlowAction, FlowEnd, FlowReport, FlowsCounted, Origin,
    ProcessEnded, ProcessStarted, ProcessView,
};

/// Port of DNS.
const DNS_PORT: u16 = 53;

/// What the operator and the host ask of the collector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CollectorConfig {
    /// Names this boot of this host: `/proc/sys/kernel/random/boot_id`. Part of entity ids.
    pub boot_id: String,
    /// What the event log covers.
    pub scope: Scope,
    /// What is forbidden.
    pub policy: PolicyConfig,
    /// The resolvers that this host is configured to use.
    pub resolvers: Vec<IpAddr>,
    /// Bounds of the tables.
    pub limits: Limits,
    /// When alerts are told again, and when they are over.
    pub alerts: AlertTiming,
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
    /// Program images. Default [`PROCESSES_MAX`].
    pub processes: usize,
    /// Open flows. Default [`FLOWS_MAX`].
    pub flows: usize,
    /// Alerts that fire at one time. Default [`ALERTS_MAX`].
    pub alerts: usize,
    /// Names.
    pub names: NameLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            processes: PROCESSES_MAX,
            flows: FLOWS_MAX,
            alerts: ALERTS_MAX,
            names: NameLimits::default(),
        }
    }
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
}

/// All state of the monitor.
#[derive(Debug)]
pub struct Collector {
    scope: Scope,
    resolvers: Vec<IpAddr>,
    catalog: Arc<Catalog>,
    policy: Policy,
    processes: ProcessTable,
    flows: FlowTable,
    names: NameTable,
    alerts: AlertBook,
    watches: Vec<ProcessKey>,
    /// Number of the last event that was reported.
    sequence: u64,
}

impl Collector {
    /// A collector that has seen nothing.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] if the policy does not fit the catalog.
    pub fn new(config: CollectorConfig, catalog: Arc<Catalog>) -> Result<Self, PolicyError> {
        let limits = config.limits;
        Ok(Collector {
            scope: config.scope,
            resolvers: config.resolvers,
            policy: Policy::new(&config.policy, &catalog)?,
            catalog,
            processes: ProcessTable::new(config.boot_id, limits.processes),
            flows: FlowTable::new(limits.flows),
            names: NameTable::new(limits.names),
            alerts: AlertBook::new(config.alerts, limits.alerts),
            watches: Vec::new(),
            sequence: 0,
        })
    }

    /// Everything that follows from `event`, looked at at `now`.
    pub fn apply(&mut self, event: Event, now: BootNs) -> Vec<Effect> {
        match event {
            Event::ProcessForked(event) => self.forked(&event, now),
            Event::ProcessExecuted(event) => self.executed(*event, now),
            Event::ProcessExited(event) => self.exited(&event, now),
            Event::FlowOpened(event) => self.flow_opened(&event, now),
            Event::FlowEnded(event) => self.flow_ended(&event, now),
            Event::FlowCounted(event) => self.flow_counted(event, now),
            Event::DnsMessage(event) => self.dns_message(&event),
            Event::KernelCounters(event) => vec![Effect::Books(event)],
        }
    }

    /// Everything that follows from the passing of time. Once a second is often enough.
    pub fn sweep(&mut self, now: BootNs) -> Vec<Effect> {
        self.processes.sweep(now);
        self.flows.sweep(now);
        self.names.sweep(now);
        self.keep_alerts_of_running_banned_tools(now);
        let told = self.alerts.sweep(now);
        told.into_iter()
            .map(|(state, alert)| self.notice(state, alert, now))
            .collect()
    }

    /// The last words: what fires is told once more, so that receivers keep it until the monitor
    /// is back. Nothing is resolved by stopping to look.
    pub fn shutdown(&mut self, now: BootNs) -> Vec<Effect> {
        let firing: Vec<_> = self.alerts.firing().cloned().map(Arc::new).collect();
        let still = AlertState::StillFiring;
        firing
            .into_iter()
            .map(|alert| self.notice(still, alert, now))
            .collect()
    }

    /// The processes, with `exec_id` 0, that joined an AI tool since the last call: the source
    /// is to make a record of each of their flows from now on. Some may be over already.
    #[must_use]
    pub fn take_watches(&mut self) -> Vec<ProcessKey> {
        std::mem::take(&mut self.watches)
    }

    /// How full the tables are.
    #[must_use]
    pub fn sizes(&self) -> TableSizes {
        TableSizes {
            processes: self.processes.len(),
            flows: self.flows.len(),
            alerts: self.alerts.len(),
        }
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
        let lineage = self.processes.lineage(&event);
        let ancestor = lineage.ancestor.as_ref().map(|ancestor| Ancestor {
            exe: &ancestor.exe,
            pid: lineage.ancestor_pid,
            attribution: ancestor.tool.as_ref(),
        });
        let tool = attribute(&self.catalog, &event.exe, &event.args, ancestor);
        let Inserted {
            view: process,
            limited,
        } = self.processes.executed(event, lineage, tool, now);
        if process.tool.is_some() {
            self.watch(process.key);
        }
        let judgement = self.policy.judge_presence(&process);
        let mut effects = vec![Effect::ProcessStarted(Box::new(ProcessStarted {
            sequence: self.next_sequence(),
            time,
            process: Arc::clone(&process),
            judgement: judgement.clone(),
            logged: self.logs(&process, judgement.verdict),
        }))];
        let cause = Cause::of_presence(&process, &judgement);
        let details = || alert::details_of_presence(&process, &judgement);
        effects.extend(self.raise(cause, details, now));
        effects.extend(limited.map(Effect::Limited));
        effects
    }

    fn exited(&mut self, event: &ProcessExited, now: BootNs) -> Vec<Effect> {
        self.names.process_gone(event.process, now);
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
            logged: self.logs(&process, Verdict::NotJudged),
            process,
            exit_code: event.exit_code,
        }))]
    }

    fn flow_opened(&mut self, event: &FlowOpened, now: BootNs) -> Vec<Effect> {
        let process = self.process(event.process, event.uid, event.cgroup);
        let flow = self.judge(event.process, process, event.remote, event.first, now);
        // Members of a tool are watched since they started; a stranger, since it gave cause.
        if event.first && flow.judgement.rule == rule::AI_ENDPOINT_BY_UNKNOWN_PROGRAM {
            self.watch(event.process);
        }
        let action = FlowAction::Opened { hook: event.hook };
        let mut effects = vec![self.report(flow.clone(), event.time, event.cookie, action)];
        effects.extend(self.alert_of_flow(&flow, now));
        effects.extend(
            self.flows
                .opened(event.cookie, flow, now)
                .map(Effect::Limited),
        );
        effects
    }

    fn flow_ended(&mut self, event: &FlowEnded, now: BootNs) -> Vec<Effect> {
        let flow = self
            .flows
            .ended(event.cookie, &event.remote)
            .unwrap_or_else(|| {
                let process = self.process(event.process, UNKNOWN_ID, CgroupId(0));
                self.judge(event.process, process, event.remote, false, now)
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
        vec![self.report(flow, event.time, event.cookie, FlowAction::Ended(end))]
    }

    fn flow_counted(&mut self, event: FlowCounted, now: BootNs) -> Vec<Effect> {
        let process = self.process(event.process, UNKNOWN_ID, CgroupId(0));
        let flow = self.judge(event.process, process, event.remote, false, now);
        let unreported = event.delta.connects_unreported > 0 || event.delta.datagrams > 0;
        let alert = unreported.then(|| self.alert_of_flow(&flow, now)).flatten();
        let JudgedFlow {
            process,
            remote,
            names,
            judgement,
            ..
        } = flow;
        let delta = event.delta;
        let counted = FlowsCounted {
            process,
            remote,
            names,
            judgement,
            delta,
        };
        [Effect::FlowsCounted(Box::new(counted))]
            .into_iter()
            .chain(alert)
            .collect()
    }

    fn dns_message(&mut self, event: &DnsMessage) -> Vec<Effect> {
        let observed = self.names.observe(event);
        let limited = observed.limited.map(Effect::Limited);
        [Effect::Dns(observed.outcome)]
            .into_iter()
            .chain(limited)
            .collect()
    }

    /// Who `key` is. `uid` and `cgroup`: what the record says, for a process that is not known.
    fn process(&self, key: ProcessKey, uid: u32, cgroup: CgroupId) -> Arc<ProcessView> {
        let known = self.processes.find(key).cloned();
        known.unwrap_or_else(|| Arc::new(self.processes.unknown(key, uid, cgroup)))
    }

    /// A flow that `key` opened, of which the table knows `process`.
    fn judge(
        &self,
        key: ProcessKey,
        process: Arc<ProcessView>,
        remote: Endpoint,
        first: bool,
        now: BootNs,
    ) -> JudgedFlow {
        let ip = remote.addr.ip();
        let names = self.names.lookup(key, ip, now);
        let facts = FlowFacts {
            process: &process,
            exact: process.key == key,
            remote,
            to_resolver: remote.addr.port() == DNS_PORT && self.resolvers.contains(&ip),
            names: &names,
        };
        let judgement = self.policy.judge_flow(&self.catalog, &facts);
        JudgedFlow {
            process,
            remote,
            names,
            judgement,
            first,
        }
    }

    fn report(
        &mut self,
        flow: JudgedFlow,
        time: BootNs,
        cookie: SocketCookie,
        action: FlowAction,
    ) -> Effect {
        let logged = self.logs(&flow.process, flow.judgement.verdict);
        let JudgedFlow {
            process,
            remote,
            names,
            judgement,
            first,
        } = flow;
        Effect::Flow(Box::new(FlowReport {
            sequence: self.next_sequence(),
            time,
            action,
            process,
            remote,
            cookie,
            names,
            judgement,
            first,
            logged,
        }))
    }

    /// Whether the event log's scope covers what `process` does with this verdict.
    fn logs(&self, process: &ProcessView, verdict: Verdict) -> bool {
        self.scope == Scope::All || process.tool.is_some() || verdict != Verdict::NotJudged
    }

    fn alert_of_flow(&mut self, flow: &JudgedFlow, now: BootNs) -> Option<Effect> {
        self.raise(Cause::of_flow(flow), || alert::details_of_flow(flow), now)
    }

    fn raise(
        &mut self,
        cause: Option<Cause>,
        details: impl FnOnce() -> BTreeMap<&'static str, Arc<str>>,
        now: BootNs,
    ) -> Option<Effect> {
        match self.alerts.raise(cause?, now, details) {
            Ok(fired) => fired.map(|alert| self.notice(AlertState::Fired, alert, now)),
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

    /// A banned tool that sits still gives no new cause, and must not seem gone.
    fn keep_alerts_of_running_banned_tools(&mut self, now: BootNs) {
        let members = self
            .processes
            .live()
            .filter_map(|process| process.tool.as_ref());
        let banned = members
            .map(|member| &member.tool)
            .filter(|tool| self.policy.bans(tool));
        let ids: BTreeSet<&Arc<str>> = banned.map(|tool| &tool.id).collect();
        for id in ids {
            self.alerts.keep(&Cause::banned(id), now);
        }
    }

    fn watch(&mut self, process: ProcessKey) {
        self.watches.push(ProcessKey {
            exec_id: 0,
            ..process
        });
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}
