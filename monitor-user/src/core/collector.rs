//! The heart: one event in, everything that follows from it out.
//!
//! In: [`Event`]s with the time at which they are looked at, and the passing of time. Out:
//! [`Effect`]s, and the processes whose every flow is wanted ([`Collector::take_watches`]).
//!
//! The collector joins the tables and decides nothing by itself: `process` says who it was,
//! `names` to whom, `attribute` which tool, `policy` what to think of it, `alert` whom to wake.
//!
//! Events are to come in the order in which they happened, after those of the processes that
//! were found running, parents before children. Drained counters may come up to
//! [`GRACE`](super::process::GRACE) after the end of their process. What comes otherwise, or not
//! at all, costs knowledge of single processes and flows, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::repeat_n;
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
use super::flow::{FLOWS_MAX, FlowTable, JudgedFlow, NAMES_MAX};
use super::names::{NameCounts, NameLimits, NameTable, Observed};
use super::policy::{self, FlowFacts, Policy, PolicyConfig, PolicyError, Verdict};
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
    /// Names and outstanding queries.
    pub names: NameCounts,
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
    watches: BTreeSet<ProcessKey>,
    limits: Limits,
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
            limits,
            scope: config.scope,
            resolvers: config.resolvers,
            policy: Policy::new(&config.policy, &catalog)?,
            catalog,
            processes: ProcessTable::new(config.boot_id, limits.processes),
            flows: FlowTable::new(limits.flows),
            names: NameTable::new(limits.names),
            alerts: AlertBook::new(config.alerts, limits.alerts),
            watches: BTreeSet::new(),
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
        // A member of a tool is watched from its start; a stranger, from when it gives cause.
        if flow.process.tool.is_none() && flow.judgement.verdict != Verdict::NotJudged {
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
        let mut effects = vec![Effect::FlowsCounted(Box::new(FlowsCounted {
            process: flow.process,
            remote: flow.remote,
            names: flow.names,
            judgement: flow.judgement,
            delta: event.delta,
        }))];
        effects.extend(alert);
        effects
    }

    fn dns_message(&mut self, event: &DnsMessage) -> Vec<Effect> {
        let Observed {
            outcome,
            limited,
            evicted,
        } = self.names.observe(event);
        let limited = limited.map(|limit| repeat_n(Effect::Limited(limit), evicted));
        let mut effects = vec![Effect::Dns(outcome)];
        effects.extend(limited.into_iter().flatten());
        effects
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
        let mut names = self.names.lookup(key, ip, now);
        policy::meant_first(&self.catalog, &process, &mut names);
        names.truncate(NAMES_MAX);
        let facts = FlowFacts {
            process: &process,
            exact: process.key == key,
            remote,
            to_resolver: remote.addr.port() == DNS_PORT && self.resolvers.contains(&ip),
            name: names.first(),
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
        Effect::Flow(Box::new(FlowReport {
            sequence: self.next_sequence(),
            time,
            action,
            logged: self.logs(&flow.process, flow.judgement.verdict),
            process: flow.process,
            remote: flow.remote,
            cookie,
            names: flow.names,
            judgement: flow.judgement,
            first: flow.first,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::KernelCounters;
    use crate::core::fixture::{
        at, catalog, counted, ended, executed, exited, forked, image, next, opened, resolved,
    };
    use crate::core::policy::Judgement;
    use crate::core::report::DnsOutcome;

    const NODE: &str = "/usr/bin/node";
    const CLI_JS: &str = "/usr/lib/node_modules/@anthropic-ai/claude-code/cli.js";
    const API: &str = "160.79.104.10:443";

    /// The user's shell.
    const SHELL: ProcessKey = ProcessKey {
        start_ns: 0,
        tgid: 10,
        exec_id: 1,
    };

    /// A host on which things happen, and what the collector tells of them.
    struct Host {
        collector: Collector,
        now: BootNs,
        told: Vec<Effect>,
    }

    impl Host {
        /// A host with a shell, and `change` made to the usual configuration.
        fn with(change: impl FnOnce(&mut CollectorConfig)) -> Host {
            let mut config = CollectorConfig {
                boot_id: "boot".into(),
                ..Default::default()
            };
            change(&mut config);
            let collector = Collector::new(config, Arc::new(catalog())).unwrap();
            let mut host = Host {
                collector,
                now: at(1),
                told: Vec::new(),
            };
            let shell = executed(SHELL, image(1), &["/bin/bash"]);
            host.apply(Event::ProcessExecuted(Box::new(ProcessExecuted {
                found: true,
                ..shell
            })));
            host.told.clear();
            host
        }

        fn new() -> Host {
            Host::with(|_| ())
        }

        fn banning(tool: &str) -> Host {
            Host::with(|config| config.policy.banned.push(tool.to_owned()))
        }

        fn apply(&mut self, event: Event) {
            self.told.extend(self.collector.apply(event, self.now));
        }

        fn fork(&mut self, parent: ProcessKey, pid: u32) -> ProcessKey {
            let child = ProcessKey {
                tgid: pid,
                ..parent
            };
            self.apply(Event::ProcessForked(forked(child, parent)));
            child
        }

        fn exec(&mut self, process: ProcessKey, command: &[&str]) -> ProcessKey {
            // The kernel names pid 1 as the parent throughout: lineage must not need it.
            let event = executed(next(process), image(1), command);
            self.apply(Event::ProcessExecuted(Box::new(event)));
            next(process)
        }

        /// A child of `parent` that executes `command`.
        fn spawn(&mut self, parent: ProcessKey, pid: u32, command: &[&str]) -> ProcessKey {
            let child = self.fork(parent, pid);
            self.exec(child, command)
        }

        /// Claude Code as npm installs it, started from the shell, under pid 100.
        fn spawn_claude(&mut self) -> ProcessKey {
            self.spawn(SHELL, 100, &[NODE, CLI_JS])
        }

        fn exit(&mut self, process: ProcessKey) {
            self.apply(Event::ProcessExited(exited(process)));
        }

        fn resolve(&mut self, process: ProcessKey, name: &str, addr: &str) {
            let (ip, _) = addr.rsplit_once(':').unwrap();
            for message in resolved(process, name, ip.trim_matches(['[', ']'])) {
                self.apply(Event::DnsMessage(Box::new(message)));
            }
        }

        /// A connection on a socket of its own, whose cookie is the pid.
        fn connect(&mut self, process: ProcessKey, addr: &str) {
            self.apply(Event::FlowOpened(opened(
                process,
                addr,
                process.tgid.into(),
            )));
        }

        fn close(&mut self, process: ProcessKey, addr: &str) {
            self.apply(Event::FlowEnded(ended(process, addr, process.tgid.into())));
        }

        fn drain(&mut self, process: ProcessKey, addr: &str, connects_unreported: u64) {
            self.apply(Event::FlowCounted(counted(
                process,
                addr,
                connects_unreported,
            )));
        }

        /// Time passes, with a sweep every second.
        fn wait(&mut self, seconds: u64) {
            for _ in 0..seconds {
                self.now = BootNs(self.now.0 + at(1).0);
                self.told.extend(self.collector.sweep(self.now));
            }
        }

        /// What was told since the last check, DNS apart.
        #[track_caller]
        fn check(&mut self, expect: &[&str]) {
            let told = std::mem::take(&mut self.told);
            let told: Vec<_> = told.iter().filter_map(line).collect();
            assert_eq!(told, expect, "\ntold:\n  {}\n", told.join("\n  "));
        }
    }

    /// One effect as one line; what the event log's scope does not cover is in brackets.
    fn line(effect: &Effect) -> Option<String> {
        let (line, logged) = match effect {
            Effect::ProcessStarted(it) => {
                let verdict = it.judgement.verdict.name();
                (format!("start {} {verdict}", who(&it.process)), it.logged)
            }
            Effect::ProcessEnded(it) => (format!("end {}", who(&it.process)), it.logged),
            Effect::Flow(it) => {
                let action = match it.action {
                    FlowAction::Opened { .. } => "open",
                    FlowAction::Ended(_) => "close",
                };
                let remote = it.name().map_or_else(|| it.ip().to_string(), str::to_owned);
                (
                    format!(
                        "{action} {} > {remote} {}",
                        who(&it.process),
                        said(&it.judgement)
                    ),
                    it.logged,
                )
            }
            Effect::FlowsCounted(it) => {
                let n = it.delta.connects_unreported;
                let ip = it.remote.addr.ip();
                (
                    format!(
                        "count {n} {} > {ip} {}",
                        who(&it.process),
                        said(&it.judgement)
                    ),
                    true,
                )
            }
            Effect::Alert(it) => {
                let alert = &it.alert;
                let labels: Vec<_> = alert.labels.values().map(|value| &**value).collect();
                let severity = alert.severity.name();
                let seen = alert.occurrences;
                let labels = labels.join(" ");
                (
                    format!("{:?} {} {severity} x{seen}: {labels}", it.state, alert.rule),
                    true,
                )
            }
            Effect::Limited(limit) => (format!("limit {}", limit.name()), true),
            Effect::Books(_) => ("books".to_owned(), true),
            Effect::Dns(_) => return None,
        };
        Some(if logged { line } else { format!("({line})") })
    }

    fn who(process: &ProcessView) -> String {
        let file = process.exe.rsplit('/').next().unwrap_or_default();
        let pid = process.key.tgid;
        match &process.tool {
            Some(member) => format!("{file}[{pid}] {}/{}", member.tool.id, member.role.name()),
            None => format!("{file}[{pid}]"),
        }
    }

    fn said(judgement: &Judgement) -> String {
        let purpose = judgement.purpose.as_deref().unwrap_or("-");
        format!("{} {purpose}", judgement.verdict.name())
    }

    #[test]
    fn claude_code_as_npm_installs_it_resolves_its_api_and_talks_to_it() {
        let mut host = Host::new();
        let claude = host.spawn_claude();
        host.check(&["start node[100] claude-code/main not-judged"]);
        host.resolve(claude, "api.anthropic.com", API);
        host.connect(claude, API);
        host.close(claude, API);
        host.exit(claude);
        host.check(&[
            "open node[100] claude-code/main > api.anthropic.com expected api",
            "close node[100] claude-code/main > api.anthropic.com expected api",
            "end node[100] claude-code/main",
        ]);
    }

    #[test]
    fn the_catalog_that_is_compiled_in_tells_the_same() {
        let mut host = Host::new();
        host.collector.catalog = Arc::new(Catalog::embedded().unwrap());
        let native = "/home/dev/.local/share/claude/versions/2.1.328";
        let claude = host.spawn(SHELL, 100, &[native]);
        host.resolve(claude, "api.anthropic.com", API);
        host.connect(claude, API);
        host.check(&[
            "start 2.1.328[100] claude-code/main not-judged",
            "open 2.1.328[100] claude-code/main > api.anthropic.com expected api",
        ]);
    }

    #[test]
    fn ipv6_is_no_different() {
        let mut host = Host::new();
        let claude = host.spawn_claude();
        host.resolve(claude, "api.anthropic.com", "[2607:6bc0::10]:443");
        host.connect(claude, "[2607:6bc0::10]:443");
        host.check(&[
            "start node[100] claude-code/main not-judged",
            "open node[100] claude-code/main > api.anthropic.com expected api",
        ]);
    }

    #[test]
    fn what_a_tool_starts_belongs_to_the_tool() {
        let mut host = Host::new();
        let claude = host.spawn_claude();
        let sh = host.spawn(claude, 101, &["/bin/sh", "-c", "curl evil.test"]);
        let curl = host.exec(sh, &["/usr/bin/curl", "evil.test"]);
        host.resolve(curl, "evil.test", "203.0.113.9:443");
        host.connect(curl, "203.0.113.9:443");
        host.check(&[
            "start node[100] claude-code/main not-judged",
            "start sh[101] claude-code/shell-child not-judged",
            "start curl[101] claude-code/other-child not-judged",
            "open curl[101] claude-code/other-child > evil.test undeclared -",
            "Fired unexpected-endpoint info x1: evil.test other-child claude-code undeclared",
        ]);
    }

    #[test]
    fn a_child_stays_the_tools_when_its_parents_are_long_gone() {
        let mut host = Host::new();
        let claude = host.spawn_claude();
        let sh = host.spawn(claude, 101, &["/bin/sh"]);
        let daemon = host.fork(sh, 102);
        host.exit(sh);
        host.exit(claude);
        host.wait(120);
        host.told.clear();
        host.exec(daemon, &["/usr/bin/curl"]);
        host.check(&["start curl[102] claude-code/other-child not-judged"]);
    }

    #[test]
    fn a_tool_that_executes_its_native_program_stays_the_tool() {
        let mut host = Host::new();
        let js = "/usr/lib/node_modules/@openai/codex/bin/codex.js";
        let native =
            "/usr/lib/node_modules/@openai/codex/vendor/x86_64-unknown-linux-musl/codex/codex";
        let codex = host.spawn(SHELL, 100, &[NODE, js]);
        let codex = host.exec(codex, &[native]);
        host.resolve(codex, "api.openai.com", API);
        host.connect(codex, API);
        host.check(&[
            "start node[100] codex-cli/main not-judged",
            "start codex[100] codex-cli/main not-judged",
            "open codex[100] codex-cli/main > api.openai.com expected api",
        ]);
    }

    #[test]
    fn a_fork_without_exec_is_the_tool_and_is_not_told_apart() {
        let mut host = Host::new();
        let claude = host.spawn_claude();
        host.check(&["start node[100] claude-code/main not-judged"]);
        let worker = host.fork(claude, 101);
        host.resolve(worker, "api.anthropic.com", API);
        host.connect(worker, API);
        host.exit(worker);
        host.check(&["open node[101] claude-code/main > api.anthropic.com expected api"]);
    }

    #[test]
    fn a_banned_tool_is_an_alert_by_its_presence_and_all_it_does() {
        let mut host = Host::banning("claude-code");
        let claude = host.spawn_claude();
        host.connect(claude, "127.0.0.1:8080");
        let git = host.spawn(claude, 101, &["/usr/bin/true"]);
        host.connect(git, "203.0.113.9:443");
        host.check(&[
            "start node[100] claude-code/main denied",
            "Fired banned-tool critical x1: claude-code denied",
            "open node[100] claude-code/main > 127.0.0.1 denied -",
            "start true[101] claude-code/other-child denied",
            "open true[101] claude-code/other-child > 203.0.113.9 denied -",
        ]);
        host.wait(60);
        host.check(&["StillFiring banned-tool critical x4: claude-code denied"]);
    }

    #[test]
    fn a_banned_tool_that_sits_still_fires_until_it_is_gone() {
        let mut host = Host::banning("claude-code");
        let claude = host.spawn_claude();
        host.wait(3600);
        host.told.clear();
        host.exit(claude);
        host.wait(299);
        let told = host.told.iter().filter_map(line);
        assert!(told.skip(1).all(|line| line.starts_with("StillFiring")));
        host.told.clear();
        host.wait(1);
        host.check(&["Resolved banned-tool critical x1: claude-code denied"]);
    }

    #[test]
    fn a_program_that_only_bears_a_tools_name_is_banned_and_never_allowed() {
        let fake = &["/tmp/claude"];
        let mut host = Host::banning("claude-code");
        host.spawn(SHELL, 100, fake);
        host.check(&[
            "start claude[100] claude-code/main denied",
            "Fired banned-tool critical x1: claude-code denied",
        ]);

        let mut host = Host::new();
        let fake = host.spawn(SHELL, 100, fake);
        host.resolve(fake, "api.anthropic.com", API);
        host.connect(fake, API);
        host.check(&[
            "start claude[100] claude-code/main not-judged",
            "open claude[100] claude-code/main > api.anthropic.com expected-unverified api",
        ]);
    }

    #[test]
    fn an_unexpected_endpoint_is_one_alert_until_it_is_quiet_and_a_new_one_later() {
        let mut host = Host::new();
        let claude = host.spawn_claude();
        host.told.clear();
        host.resolve(claude, "evil.test", "203.0.113.9:443");
        host.connect(claude, "203.0.113.9:443");
        host.connect(claude, "203.0.113.9:443");
        let open = "open node[100] claude-code/main > evil.test undeclared -";
        let fired = "Fired unexpected-endpoint warning x1: evil.test main claude-code undeclared";
        host.check(&[open, fired, open]);
        host.wait(300);
        host.check(&[
            "StillFiring unexpected-endpoint warning x2: evil.test main claude-code undeclared",
            "StillFiring unexpected-endpoint warning x2: evil.test main claude-code undeclared",
            "StillFiring unexpected-endpoint warning x2: evil.test main claude-code undeclared",
            "StillFiring unexpected-endpoint warning x2: evil.test main claude-code undeclared",
            "Resolved unexpected-endpoint warning x2: evil.test main claude-code undeclared",
        ]);
        host.connect(claude, "203.0.113.9:443");
        host.check(&[open, fired]);
    }

    #[test]
    fn an_address_without_a_name_is_unknown() {
        let mut host = Host::new();
        let claude = host.spawn_claude();
        host.connect(claude, "203.0.113.9:443");
        host.check(&[
            "start node[100] claude-code/main not-judged",
            "open node[100] claude-code/main > 203.0.113.9 unknown -",
            "Fired unexpected-endpoint info x1: 203.0.113.9 main claude-code unknown",
        ]);
    }

    #[test]
    fn a_flow_is_told_under_the_name_that_explains_it_and_few_others() {
        let mut host = Host::new();
        let claude = host.spawn_claude();
        host.resolve(claude, "api.anthropic.com", API);
        for bucket in 0..NAMES_MAX {
            host.resolve(claude, &format!("bucket{bucket}.test"), API);
        }
        host.connect(claude, API);
        let Some(Effect::Flow(flow)) = host.told.last() else {
            unreachable!()
        };
        assert_eq!(flow.name(), Some("api.anthropic.com"));
        assert_eq!(flow.names.len(), NAMES_MAX);
        assert_eq!(flow.judgement.verdict, Verdict::Expected);
    }

    #[test]
    fn a_name_serves_other_processes_until_a_while_after_its_asker_is_gone() {
        let mut host = Host::new();
        let asker = host.spawn(SHELL, 101, &["/usr/bin/dig"]);
        host.resolve(asker, "api.anthropic.com", API);
        host.exit(asker);
        let claude = host.spawn_claude();
        host.told.clear();
        host.connect(claude, API);
        host.check(&["open node[100] claude-code/main > api.anthropic.com expected api"]);
        host.wait(300);
        host.connect(claude, API);
        host.check(&[
            "open node[100] claude-code/main > 160.79.104.10 unknown -",
            "Fired unexpected-endpoint info x1: 160.79.104.10 main claude-code unknown",
        ]);
    }

    #[test]
    fn dns_to_the_configured_resolver_is_local_and_to_others_is_not() {
        let mut host = Host::with(|config| config.resolvers = vec!["192.0.2.53".parse().unwrap()]);
        let claude = host.spawn_claude();
        host.told.clear();
        host.connect(claude, "192.0.2.53:53");
        host.connect(claude, "192.0.2.53:853");
        host.connect(claude, "8.8.8.8:53");
        host.check(&[
            "open node[100] claude-code/main > 192.0.2.53 local dns",
            "open node[100] claude-code/main > 192.0.2.53 unknown -",
            "Fired unexpected-endpoint info x1: 192.0.2.53 main claude-code unknown",
            "open node[100] claude-code/main > 8.8.8.8 unknown -",
            "Fired unexpected-endpoint info x1: 8.8.8.8 main claude-code unknown",
        ]);
    }

    #[test]
    fn other_programs_are_not_judged_and_logged_only_on_demand() {
        let story = |host: &mut Host| {
            let curl = host.spawn(SHELL, 100, &["/usr/bin/curl"]);
            host.resolve(curl, "example.test", "203.0.113.9:443");
            host.connect(curl, "203.0.113.9:443");
            host.close(curl, "203.0.113.9:443");
            host.exit(curl);
        };
        let mut host = Host::new();
        story(&mut host);
        host.check(&[
            "(start curl[100] not-judged)",
            "(open curl[100] > example.test not-judged -)",
            "(close curl[100] > example.test not-judged -)",
            "(end curl[100])",
        ]);
        let mut host = Host::with(|config| config.scope = Scope::All);
        story(&mut host);
        host.check(&[
            "start curl[100] not-judged",
            "open curl[100] > example.test not-judged -",
            "close curl[100] > example.test not-judged -",
            "end curl[100]",
        ]);
    }

    #[test]
    fn an_unknown_program_that_reaches_an_ai_provider_is_told() {
        let story = |host: &mut Host| {
            let python = host.spawn(SHELL, 100, &["/usr/bin/python3", "agent.py"]);
            host.resolve(python, "api.openai.com", API);
            host.connect(python, API);
        };
        let mut host = Host::new();
        story(&mut host);
        host.check(&[
            "(start python3[100] not-judged)",
            "open python3[100] > api.openai.com undeclared api",
            "Fired unexpected-endpoint warning x1: api.openai.com unidentified unidentified undeclared",
        ]);
        assert_eq!(host.collector.take_watches(), [image(100)]);

        let mut host = Host::banning("codex-cli");
        story(&mut host);
        host.check(&[
            "(start python3[100] not-judged)",
            "open python3[100] > api.openai.com denied api",
            "Fired banned-tool critical x1: api.openai.com unidentified unidentified denied",
        ]);
    }

    #[test]
    fn a_pid_in_use_again_is_not_the_tool_that_had_it() {
        let mut host = Host::new();
        let claude = host.spawn_claude();
        host.exit(claude);
        host.told.clear();
        let reused = ProcessKey {
            start_ns: 9,
            ..image(100)
        };
        host.apply(Event::ProcessForked(forked(reused, SHELL)));
        host.connect(reused, "203.0.113.9:443");
        // A record of the old process comes late, and is still its own.
        host.drain(claude, "203.0.113.8:443", 1);
        host.check(&[
            "(open bash[100] > 203.0.113.9 not-judged -)",
            "count 1 node[100] claude-code/main > 203.0.113.8 unknown -",
            "Fired unexpected-endpoint info x1: 203.0.113.8 main claude-code unknown",
        ]);
    }

    #[test]
    fn counters_that_are_drained_after_the_exit_find_their_process_for_a_while() {
        let mut host = Host::new();
        let claude = host.spawn_claude();
        host.resolve(claude, "api.anthropic.com", API);
        host.exit(claude);
        host.told.clear();
        host.wait(59);
        host.drain(claude, API, 3);
        host.wait(1);
        host.drain(claude, API, 3);
        let (late, too_late) = (host.told.remove(0), host.told.remove(0));
        assert_eq!(
            line(&late).unwrap(),
            "count 3 node[100] claude-code/main > 160.79.104.10 expected api",
        );
        let Effect::FlowsCounted(too_late) = too_late else {
            unreachable!()
        };
        assert_eq!(too_late.process.origin, Origin::Unknown);
        assert!(too_late.process.tool.is_none());
    }

    #[test]
    fn a_flow_ends_as_it_opened_whatever_was_learned_since() {
        let mut host = Host::new();
        let claude = host.spawn_claude();
        host.connect(claude, API);
        host.resolve(claude, "api.anthropic.com", API);
        host.exit(claude);
        host.wait(120);
        host.told.clear();
        host.close(claude, API);
        host.check(&["close node[100] claude-code/main > 160.79.104.10 unknown -"]);
    }

    #[test]
    fn a_flow_whose_opening_is_not_remembered_is_judged_at_its_end() {
        let mut host = Host::new();
        let claude = host.spawn_claude();
        host.resolve(claude, "api.anthropic.com", API);
        host.told.clear();
        host.close(claude, API);
        host.check(&["close node[100] claude-code/main > api.anthropic.com expected api"]);
    }

    #[test]
    fn a_flow_of_an_unknown_process_is_told_with_what_the_record_says() {
        let mut host = Host::new();
        host.connect(image(77), "203.0.113.9:443");
        let Some(Effect::Flow(flow)) = host.told.first() else {
            unreachable!()
        };
        let process = &flow.process;
        assert_eq!(
            (process.origin, process.uid, process.cgroup),
            (Origin::Unknown, 1000, CgroupId(7))
        );
        host.check(&["(open [77] > 203.0.113.9 not-judged -)"]);
    }

    #[test]
    fn after_a_lost_exec_nothing_is_allowed() {
        let mut host = Host::new();
        let claude = host.spawn_claude();
        host.resolve(claude, "api.anthropic.com", API);
        host.told.clear();
        host.connect(next(claude), API);
        host.check(&[
            "open node[100] claude-code/main > api.anthropic.com expected-unverified api",
        ]);
    }

    #[test]
    fn what_ran_before_the_monitor_is_found_with_its_lineage() {
        let mut host = Host::new();
        let mut find = |key, parent, command: &[&str]| {
            let event = ProcessExecuted {
                found: true,
                ..executed(key, parent, command)
            };
            host.apply(Event::ProcessExecuted(Box::new(event)));
        };
        find(image(100), SHELL, &[NODE, CLI_JS]);
        find(image(101), image(100), &["/bin/sh"]);
        // Seen again: nothing new.
        find(image(101), image(1), &["/bin/sh"]);
        host.check(&[
            "start node[100] claude-code/main not-judged",
            "start sh[101] claude-code/shell-child not-judged",
        ]);
    }

    #[test]
    fn members_of_a_tool_are_watched_from_their_start() {
        let mut host = Host::new();
        let claude = host.spawn_claude();
        host.fork(claude, 101);
        host.spawn(SHELL, 200, &["/bin/ls"]);
        assert_eq!(host.collector.take_watches(), [image(100), image(101)]);
        assert_eq!(host.collector.take_watches(), []);
    }

    #[test]
    fn bounds_are_told_when_they_are_reached() {
        let mut host = Host::with(|config| {
            config.limits.processes = 2;
            config.limits.flows = 1;
            config.limits.alerts = 1;
        });
        let claude = host.spawn(SHELL, 100, &[NODE, CLI_JS]);
        host.check(&[
            "start node[100] claude-code/main not-judged",
            "limit processes",
        ]);
        host.connect(claude, "203.0.113.9:443");
        host.connect(SHELL, "203.0.113.8:443");
        host.connect(claude, "203.0.113.8:443");
        host.check(&[
            "open node[100] claude-code/main > 203.0.113.9 unknown -",
            "Fired unexpected-endpoint info x1: 203.0.113.9 main claude-code unknown",
            "(open bash[10] > 203.0.113.8 not-judged -)",
            "limit flows",
            "open node[100] claude-code/main > 203.0.113.8 unknown -",
            "limit alerts",
            "limit flows",
        ]);
        let sizes = host.collector.sizes();
        assert_eq!((sizes.processes, sizes.flows, sizes.alerts), (2, 1, 1));
    }

    #[test]
    fn events_are_numbered_from_one_without_gaps() {
        let mut host = Host::banning("claude-code");
        let claude = host.spawn_claude();
        host.connect(claude, API);
        host.close(claude, API);
        host.exit(claude);
        host.told.extend(host.collector.shutdown(host.now));
        let numbers: Vec<_> = host
            .told
            .iter()
            .map(|effect| match effect {
                Effect::ProcessStarted(it) => it.sequence,
                Effect::ProcessEnded(it) => it.sequence,
                Effect::Flow(it) => it.sequence,
                Effect::Alert(it) => it.sequence,
                other => unreachable!("{other:?}"),
            })
            .collect();
        // The shell was number 1.
        assert_eq!(numbers, [2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn stopping_resolves_nothing() {
        let mut host = Host::banning("claude-code");
        host.spawn_claude();
        host.told = host.collector.shutdown(host.now);
        host.check(&["StillFiring banned-tool critical x1: claude-code denied"]);
    }

    #[test]
    fn the_kernels_books_and_dns_outcomes_pass_through() {
        let mut host = Host::new();
        let books = KernelCounters {
            time: at(1),
            values: [1; _],
        };
        host.apply(Event::KernelCounters(Box::new(books.clone())));
        assert_eq!(host.told, [Effect::Books(Box::new(books))]);
        host.told.clear();
        host.resolve(SHELL, "example.test", "203.0.113.9:443");
        assert_eq!(
            host.told,
            [
                Effect::Dns(DnsOutcome::Query),
                Effect::Dns(DnsOutcome::Answer)
            ]
        );
    }

    #[test]
    fn a_policy_that_does_not_fit_the_catalog_is_refused() {
        let policy = PolicyConfig {
            banned: vec!["no-such-tool".into()],
        };
        let config = CollectorConfig {
            policy,
            ..CollectorConfig::default()
        };
        assert!(Collector::new(config, Arc::new(catalog())).is_err());
    }

    /// An event of a host with few pids, images, sockets and addresses, so that events meet;
    /// `random` says which.
    fn any_event(random: u64) -> Event {
        let pick = |shift: u32, below: u64| (random >> shift) % below;
        let key = |shift| {
            let small = u32::try_from(pick(shift, 64)).unwrap();
            ProcessKey {
                start_ns: u64::from(small / 32),
                tgid: small % 8,
                exec_id: small / 8 % 4,
            }
        };
        let (process, parent) = (key(8), key(16));
        let addr = ["203.0.113.9:443", API, "127.0.0.1:80"][usize::try_from(pick(24, 3)).unwrap()];
        let name = ["api.anthropic.com", "evil.test"][usize::try_from(pick(28, 2)).unwrap()];
        let (ip, _) = addr.rsplit_once(':').unwrap();
        let command =
            [&[NODE, CLI_JS][..], &["/bin/sh"], &[]][usize::try_from(pick(32, 3)).unwrap()];
        match random % 8 {
            0 => Event::ProcessForked(forked(process, parent)),
            1 => Event::ProcessExecuted(Box::new(executed(process, parent, command))),
            2 => Event::ProcessExecuted(Box::new(ProcessExecuted {
                found: true,
                ..executed(process, parent, command)
            })),
            3 => Event::ProcessExited(exited(process)),
            4 => Event::FlowOpened(opened(process, addr, pick(40, 8))),
            5 => Event::FlowEnded(ended(process, addr, pick(40, 8))),
            6 => Event::FlowCounted(counted(process, addr, u64::MAX)),
            _ => {
                let [query, answer] = resolved(process, name, ip);
                Event::DnsMessage(Box::new(if pick(40, 2) == 0 { query } else { answer }))
            }
        }
    }

    /// What is told of `events` events that follow from nothing but each other's randomness.
    fn chaos(events: u32) -> Vec<Effect> {
        let mut host = Host::with(|config| {
            config.policy.banned = vec!["codex-cli".into()];
            config.limits.processes = 6;
            config.limits.flows = 4;
            config.limits.alerts = 2;
        });
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..events {
            // xorshift64
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            host.apply(any_event(random));
            host.wait(u64::from(random.is_multiple_of(16)) * 7);
            let sizes = host.collector.sizes();
            assert!(
                sizes.processes <= 6 && sizes.flows <= 4 && sizes.alerts <= 2,
                "{sizes:?}"
            );
        }
        host.told
    }

    #[test]
    fn events_in_any_order_keep_within_the_bounds_and_always_tell_the_same() {
        let told = chaos(20_000);
        for kind in [
            "start", "(start", "end", "open", "close", "count", "Fired", "Resolved", "limit",
        ] {
            assert!(
                told.iter()
                    .filter_map(line)
                    .any(|line| line.starts_with(kind)),
                "no {kind}"
            );
        }
        assert!(told == chaos(20_000));
    }
}
