//! What the collector makes of events: whole stories, each told as lines.

use monitor_common::counter;

use super::*;
use crate::core::event::{FlowOpened, Hook, SocketKind};
use crate::core::fixture::{
    self, at, catalog, counted, ended, executed, exited, forked, found_socket, image, joined, next,
    opened, over_budget, redirected, resolved, tcp,
};
use crate::core::flow::NAMES_MAX;
use crate::core::policy::PolicyConfig;
use crate::core::policy::judgement::{Judgement, Verdict};
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
        let mut config = fixture::config();
        change(&mut config);
        let collector = Collector::new(config, Arc::new(catalog()));
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
        Host::with(|config| config.policy = fixture::ban(&[tool]))
    }

    fn apply(&mut self, event: Event) {
        let told = self.collector.apply(event, self.now).into_iter();
        // For metrics alone.
        let is_told = |effect: &Effect| !matches!(effect, Effect::Contacts(_));
        self.told.extend(told.filter(is_told));
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

    /// The first sign of a flow of this socket that is no call of `process`'s.
    fn see(&mut self, process: ProcessKey, addr: &str, hook: Hook) {
        let event = opened(process, addr, process.tgid.into());
        self.apply(Event::FlowOpened(FlowOpened { hook, ..event }));
    }

    fn redirect(&mut self, process: ProcessKey, asked: &str, wire: &str) {
        let event = redirected(process, asked, wire, process.tgid.into());
        self.apply(Event::FlowRedirected(event));
    }

    fn find_socket(&mut self, process: ProcessKey, kind: SocketKind) {
        self.apply(Event::SocketOpened(found_socket(process, kind)));
    }

    fn open_raw_socket(&mut self, process: ProcessKey) {
        self.apply(Event::SocketOpened(SocketOpened {
            found: false,
            protocol: 253,
            ..found_socket(process, SocketKind::Raw)
        }));
    }

    fn overrun(&mut self, process: ProcessKey, refused: u64) {
        self.apply(Event::OverBudget(over_budget(process, refused)));
    }

    /// Looks at the kernel side, of which these programs are attached, or not.
    fn self_check(&mut self, attached: &[(&'static str, bool)]) {
        let check = SelfChecked {
            attached: attached.to_vec(),
            canary: Some(self.now),
            ..SelfChecked::default()
        };
        self.apply(Event::SelfChecked(Box::new(check)));
    }

    /// Reads the books, in which these cells are not 0.
    fn read_books(&mut self, cells: &[(u32, u64)]) {
        let mut values = [0; _];
        for (index, value) in cells {
            values[*index as usize] = *value;
        }
        let time = self.now;
        self.apply(Event::KernelCounters(Box::new(KernelCounters {
            time,
            values,
            astray: 0,
        })));
    }

    /// As long as nothing is wrong with the kernel side, second by second.
    fn wait_in_order(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.read_books(&[]);
            self.self_check(&[("connect4", true)]);
            self.wait(1);
        }
    }

    /// Time passes, with a sweep every second.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = BootNs(self.now.0 + at(1).0);
            self.told.extend(self.collector.sweep(self.now));
        }
    }

    /// What was told since the last check, DNS and books apart.
    #[track_caller]
    fn check(&mut self, expect: &[&str]) {
        let told = std::mem::take(&mut self.told);
        let told: Vec<_> = told.iter().filter_map(line).collect();
        assert_eq!(told, expect, "\ntold:\n  {}\n", told.join("\n  "));
    }
}

/// What happened to a flow, whose it is, and for whom it may be.
fn flow_line(it: &FlowReport) -> String {
    let action = match &it.action {
        FlowAction::Opened {
            hook: Hook::Connect,
        } => "open".to_owned(),
        FlowAction::Opened { hook } => hook.name().to_owned(),
        FlowAction::Redirected { asked, asked_name } => {
            let ip = asked.addr.ip();
            format!("redirect {}", endpoint_name(asked_name.as_ref(), ip))
        }
        FlowAction::Ended(_) => "close".to_owned(),
    };
    let remote = it.name().map_or_else(|| it.ip().to_string(), str::to_owned);
    let via: String = it
        .via
        .iter()
        .map(|it| format!(" via {}", who(it)))
        .collect();
    let (process, said) = (who(&it.process), said(&it.judgement));
    format!("{action} {process} > {remote} {said}{via}")
}

/// One effect as one line; what the event log's scope does not cover is in brackets.
fn line(effect: &Effect) -> Option<String> {
    let (line, logged) = match effect {
        Effect::ProcessStarted(it) => {
            let verdict = it.judgement.verdict.name();
            (format!("start {} {verdict}", who(&it.process)), it.logged)
        }
        Effect::ProcessEnded(it) => (format!("end {}", who(&it.process)), it.logged),
        Effect::Flow(it) => (flow_line(it), it.logged),
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
        Effect::SocketOpened(it) => {
            let (kind, protocol) = (it.kind.name(), it.protocol);
            let socket = format!("socket {} {kind} {protocol}", who(&it.process));
            (socket, it.logged)
        }
        Effect::OverBudget(it) => {
            let (new, all) = (it.refused, it.refused_total);
            let overrun = format!("overrun {} {new} of {all}", who(&it.process));
            (overrun, true)
        }
        Effect::Coverage(it) => {
            let gaps: Vec<_> = it.gaps.iter().map(ToString::to_string).collect();
            (format!("gaps {gaps:?}"), true)
        }
        Effect::Limited(limit) => (format!("limit {}", limit.name()), true),
        Effect::Resumed(it) => (
            format!(
                "resumed {} of {}, {} lost",
                it.recovered, it.attempted, it.lost
            ),
            true,
        ),
        Effect::AlertWithheld(rule) => (format!("withheld {rule}"), true),
        Effect::Books(_) | Effect::Dns(_) | Effect::Claimed(_) | Effect::Contacts(_) => {
            return None;
        }
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
fn a_tool_behind_npms_link_is_the_tool_of_the_package_and_of_its_version() {
    let mut host = Host::new();
    let process = host.fork(SHELL, 100);
    let event = ProcessExecuted {
        script: Some(CLI_JS.into()),
        package_version: Some("2.1.91".into()),
        ..executed(next(process), SHELL, &[NODE, "/usr/local/bin/claude"])
    };
    host.apply(Event::ProcessExecuted(Box::new(event)));
    let Some(Effect::ProcessStarted(started)) = host.told.first() else {
        unreachable!()
    };
    let member = started.process.tool.as_ref().unwrap();
    assert_eq!((&*member.tool.id, member.trusted), ("claude-code", true));
    assert_eq!(member.version.as_deref(), Some("2.1.91"));
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
    let native = "/usr/lib/node_modules/@openai/codex/vendor/x86_64-unknown-linux-musl/codex/codex";
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
        "open node[100] claude-code/main > 127.0.0.1 denied loopback",
        "start true[101] claude-code/other-child denied",
        "open true[101] claude-code/other-child > 203.0.113.9 denied -",
    ]);
    host.wait(60);
    host.check(&["StillFiring banned-tool critical x4: claude-code denied"]);
}

#[test]
fn a_reload_that_changes_nothing_tells_nobody_anything() {
    let mut host = Host::banning("claude-code");
    host.spawn_claude();
    host.told.clear();
    let policy = host.collector.policy.clone();
    let catalog = Arc::clone(&host.collector.catalog);
    let effects = host.collector.judge_by(policy, catalog, host.now);
    host.told.extend(effects);
    host.wait(1);
    host.check(&[]);
}

#[test]
fn a_banned_tools_child_under_the_name_of_another_tool_is_still_denied() {
    let mut host = Host::banning("claude-code");
    host.collector.catalog = Arc::new(Catalog::embedded().unwrap());
    let claude = host.spawn_claude();
    host.told.clear();
    let codex = host.spawn(claude, 101, &["/tmp/codex"]);
    host.resolve(codex, "api.openai.com", API);
    host.connect(codex, API);
    host.check(&[
        "start codex[101] claude-code/other-child denied",
        "open codex[101] claude-code/other-child > api.openai.com denied api",
    ]);
}

#[test]
fn a_program_that_bears_a_banned_tools_name_is_denied_below_another_tool_too() {
    let mut host = Host::banning("claude-code");
    host.collector.catalog = Arc::new(Catalog::embedded().unwrap());
    let codex = "/u/node_modules/@openai/codex/bin/codex.js";
    let codex = host.spawn(SHELL, 100, &[NODE, codex]);
    let fake = host.spawn(codex, 101, &["/tmp/claude"]);
    let curl = host.spawn(fake, 102, &["/usr/bin/curl"]);
    host.connect(curl, API);
    host.check(&[
        "start node[100] codex-cli/main not-judged",
        "start claude[101] codex-cli/other-child denied",
        "Fired banned-tool critical x1: claude-code denied",
        "start curl[102] codex-cli/other-child denied",
        "open curl[102] codex-cli/other-child > 160.79.104.10 denied api",
    ]);
    host.wait(3600);
    host.told.clear();
    host.exit(fake);
    host.exit(curl);
    host.wait(300);
    let last = host.told.last().and_then(line);
    let resolved = "Resolved banned-tool critical x3: claude-code denied";
    assert_eq!(last.as_deref(), Some(resolved));
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
    // An open flow keeps its name.
    host.wait(300);
    host.told.clear();
    host.connect(claude, API);
    host.check(&["open node[100] claude-code/main > api.anthropic.com expected api"]);
    host.close(claude, API);
    host.wait(900);
    host.told.clear();
    host.connect(claude, API);
    host.check(&[
        "open node[100] claude-code/main > 160.79.104.10 unknown -",
        "Fired unexpected-endpoint info x1: 160.79.104.10 main claude-code unknown",
    ]);
}

#[test]
fn dns_to_the_configured_resolver_is_local_and_to_others_is_not() {
    let mut host = Host::with(|config| config.resolvers = vec!["192.0.2.53:53".parse().unwrap()]);
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
        "Fired banned-vendor critical x1: api.openai.com unidentified unidentified denied",
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
    host.check(&["open node[100] claude-code/main > api.anthropic.com expected-unverified api"]);
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
    host.redirect(claude, API, "203.0.113.9:3128");
    host.close(claude, API);
    host.open_raw_socket(claude);
    host.overrun(claude, 1);
    host.exit(claude);
    host.told.extend(host.collector.shutdown(host.now));
    let numbers: Vec<_> = host
        .told
        .iter()
        .map(|effect| match effect {
            Effect::ProcessStarted(it) => it.sequence,
            Effect::ProcessEnded(it) => it.sequence,
            Effect::Flow(it) => it.sequence,
            Effect::SocketOpened(it) => it.sequence,
            Effect::OverBudget(it) => it.sequence,
            Effect::Alert(it) => it.sequence,
            other => unreachable!("{other:?}"),
        })
        .collect();
    // The shell was number 1.
    assert_eq!(numbers, Vec::from_iter(2..=16));
}

#[test]
fn stopping_resolves_nothing() {
    let mut host = Host::banning("claude-code");
    host.spawn_claude();
    host.told = host.collector.shutdown(host.now);
    host.check(&["StillFiring banned-tool critical x1: claude-code denied"]);
}

#[test]
fn packets_that_go_elsewhere_are_judged_by_where_they_go_and_told_with_what_was_asked() {
    let mut host = Host::new();
    let claude = host.spawn_claude();
    host.resolve(claude, "api.anthropic.com", API);
    host.connect(claude, API);
    host.told.clear();
    host.redirect(claude, API, "203.0.113.9:3128");
    host.see(claude, "203.0.113.9:3128", Hook::Packet);
    host.check(&[
        "redirect api.anthropic.com node[100] claude-code/main > 203.0.113.9 unknown -",
        "Fired dst-mismatch info x1: api.anthropic.com main claude-code unknown",
        "packet node[100] claude-code/main > 203.0.113.9 unknown -",
        "Fired unexpected-endpoint info x1: 203.0.113.9 main claude-code unknown",
    ]);
    // The flow ends as it opened: with what the process asked for.
    host.close(claude, API);
    host.check(&["close node[100] claude-code/main > api.anthropic.com expected api"]);
}

#[test]
fn a_redirection_carries_the_names_of_both_ends() {
    let mut host = Host::new();
    let claude = host.spawn_claude();
    host.resolve(claude, "cdn.anthropic.com", "203.0.113.9:443");
    host.told.clear();
    host.redirect(claude, "198.51.100.7:443", "203.0.113.9:443");
    let Some(Effect::Flow(flow)) = host.told.first() else {
        unreachable!()
    };
    let action = FlowAction::Redirected {
        asked: tcp("198.51.100.7:443"),
        asked_name: None,
    };
    assert_eq!((&flow.action, flow.first), (&action, true));
    assert_eq!(flow.remote, tcp("203.0.113.9:443"));
    host.check(&[
        "redirect 198.51.100.7 node[100] claude-code/main > cdn.anthropic.com optional assets",
        "Fired dst-mismatch info x1: 198.51.100.7 main claude-code optional",
    ]);
}

#[test]
fn where_other_programs_are_redirected_to_is_told_and_no_alert() {
    let mut host = Host::new();
    let curl = host.spawn(SHELL, 100, &["/usr/bin/curl"]);
    host.told.clear();
    host.redirect(curl, API, "203.0.113.9:3128");
    host.check(&["(redirect 160.79.104.10 curl[100] > 203.0.113.9 not-judged -)"]);
}

#[test]
fn flows_that_no_call_announced_are_judged_like_any() {
    let mut host = Host::new();
    let claude = host.spawn_claude();
    host.resolve(claude, "api.anthropic.com", API);
    host.told.clear();
    host.see(claude, "203.0.113.9:0", Hook::Packet);
    host.see(claude, API, Hook::Found);
    host.close(claude, API);
    host.check(&[
        "packet node[100] claude-code/main > 203.0.113.9 unknown -",
        "Fired unexpected-endpoint info x1: 203.0.113.9 main claude-code unknown",
        "found node[100] claude-code/main > api.anthropic.com expected api",
        "close node[100] claude-code/main > api.anthropic.com expected api",
    ]);
}

#[test]
fn only_flows_whose_end_is_told_wait_for_it() {
    let mut host = Host::new();
    let claude = host.spawn_claude();
    for hook in [Hook::Sendmsg, Hook::Packet, Hook::Accepted] {
        host.see(claude, "203.0.113.9:0", hook);
        assert_eq!(host.collector.sizes().flows, 0, "{hook:?}");
    }
    for hook in [Hook::Connect, Hook::Found] {
        host.see(claude, API, hook);
        assert_eq!(host.collector.sizes().flows, 1, "{hook:?}");
        host.close(claude, API);
    }
}

#[test]
fn whoever_connects_to_a_tool_is_served_and_no_contact_of_the_tools() {
    let mut host = Host::new();
    let ollama = host.spawn_claude();
    host.told.clear();
    host.see(ollama, "203.0.113.9:0", Hook::Accepted);
    host.see(ollama, "127.0.0.1:0", Hook::Accepted);
    host.drain(ollama, "203.0.113.9:0", 0);
    host.check(&[
        "accepted node[100] claude-code/main > 203.0.113.9 served -",
        "accepted node[100] claude-code/main > 127.0.0.1 local loopback",
        "count 0 node[100] claude-code/main > 203.0.113.9 served -",
    ]);
    let nginx = host.spawn(SHELL, 101, &["/usr/sbin/nginx"]);
    host.told.clear();
    host.see(nginx, "203.0.113.9:0", Hook::Accepted);
    host.check(&["(accepted nginx[101] > 203.0.113.9 not-judged -)"]);
    assert_eq!(host.collector.take_watches(), [image(100)]);
}

#[test]
fn a_connect_to_port_0_is_no_service() {
    let mut host = Host::new();
    let claude = host.spawn_claude();
    host.told.clear();
    host.drain(claude, "203.0.113.9:0", 1);
    host.check(&[
        "count 1 node[100] claude-code/main > 203.0.113.9 unknown -",
        "Fired unexpected-endpoint info x1: 203.0.113.9 main claude-code unknown",
    ]);
}

#[test]
fn a_banned_tool_that_serves_is_denied() {
    let mut host = Host::banning("claude-code");
    let claude = host.spawn_claude();
    host.told.clear();
    host.see(claude, "203.0.113.9:0", Hook::Accepted);
    host.check(&["accepted node[100] claude-code/main > 203.0.113.9 denied -"]);
}

#[test]
fn what_belongs_to_no_process_is_the_kernels_and_never_a_tools() {
    let nobody = ProcessKey::default();
    let story = |host: &mut Host| {
        // An address that another process called by the name of an AI provider.
        let curl = host.spawn(SHELL, 100, &["/usr/bin/curl"]);
        host.resolve(curl, "api.openai.com", API);
        host.told.clear();
        host.see(nobody, API, Hook::Packet);
        host.see(nobody, API, Hook::Packet);
    };
    let mut host = Host::banning("codex-cli");
    story(&mut host);
    let Some([Effect::Flow(one), Effect::Flow(two)]) = host.told.get(..2) else {
        unreachable!()
    };
    assert_eq!(one.process, two.process);
    let process = &one.process;
    assert_eq!((process.origin, &*process.exe), (Origin::Kernel, ""));
    let line = "packet [0] > api.openai.com not-judged -";
    host.check(&[&format!("({line})"), &format!("({line})")]);
    assert_eq!(host.collector.take_watches(), []);

    let mut host = Host::with(|config| config.scope = Scope::All);
    story(&mut host);
    host.check(&[line, line]);
}

#[test]
fn a_socket_that_can_send_unasked_is_an_alert_where_a_tool_has_it() {
    let mut host = Host::new();
    let claude = host.spawn_claude();
    let python = host.spawn(claude, 101, &["/usr/bin/python3"]);
    let tcpdump = host.spawn(SHELL, 102, &["/usr/bin/tcpdump"]);
    host.told.clear();
    host.open_raw_socket(python);
    host.open_raw_socket(python);
    host.find_socket(python, SocketKind::Packet);
    host.find_socket(claude, SocketKind::Xdp);
    host.find_socket(claude, SocketKind::Vsock);
    host.find_socket(claude, SocketKind::Other(31));
    host.find_socket(tcpdump, SocketKind::Packet);
    host.check(&[
        "socket python3[101] claude-code/other-child raw 253",
        "Fired raw-socket warning x1: raw other-child claude-code",
        "socket python3[101] claude-code/other-child raw 253",
        "socket python3[101] claude-code/other-child packet 0",
        "Fired packet-socket warning x1: packet other-child claude-code",
        "socket node[100] claude-code/main xdp 0",
        "Fired packet-socket warning x1: xdp main claude-code",
        "socket node[100] claude-code/main vsock 0",
        "Fired vsock-socket warning x1: vsock main claude-code",
        "socket node[100] claude-code/main other 0",
        "(socket tcpdump[102] packet 0)",
    ]);
}

#[test]
fn a_device_that_every_look_finds_is_told_once_and_its_alert_goes_on() {
    let mut host = Host::new();
    let claude = host.spawn_claude();
    host.told.clear();
    for _ in 0..400 {
        host.find_socket(claude, SocketKind::Tun);
        host.wait(1);
    }
    let told = host.told.iter().filter_map(line);
    let (still, once): (Vec<_>, Vec<_>) = told.partition(|line| line.starts_with("Still"));
    assert_eq!(
        once,
        [
            "socket node[100] claude-code/main tun 0",
            "Fired packet-socket warning x1: tun main claude-code",
        ]
    );
    assert_eq!(still.len(), 6);
    host.told.clear();
    host.exit(claude);
    host.wait(300);
    let last = host.told.iter().filter_map(line).next_back().unwrap();
    assert_eq!(
        last,
        "Resolved packet-socket warning x1: tun main claude-code"
    );
}

/// Claude Code of this version, as the npm package of its script states it.
fn claude_of(host: &mut Host, pid: u32, version: &str) -> ProcessKey {
    let child = host.fork(SHELL, pid);
    let event = executed(next(child), image(1), &[NODE, CLI_JS]);
    host.apply(Event::ProcessExecuted(Box::new(ProcessExecuted {
        package_version: Some(version.to_owned()),
        ..event
    })));
    next(child)
}

#[test]
fn a_version_that_something_is_known_of_is_told_while_it_runs() {
    let advisories = |host: &mut Host| {
        let told = std::mem::take(&mut host.told);
        let lines = told.iter().filter_map(line);
        let lines = lines.filter(|line| line.contains("tool-advisory"));
        lines
            .filter(|line| !line.starts_with("Still"))
            .collect::<Vec<_>>()
    };
    let mut host = Host::new();
    for (pid, version) in [(100, "2.1.90"), (101, "2.1.198"), (102, "what")] {
        claude_of(&mut host, pid, version);
    }
    host.spawn(SHELL, 103, &[NODE, CLI_JS]);
    assert_eq!(advisories(&mut host), [""; 0]);
    let old = claude_of(&mut host, 104, "2.1.91");
    claude_of(&mut host, 105, "2.1.197");
    let fired = "Fired tool-advisory info x1: old-news claude-code";
    assert_eq!(advisories(&mut host), [fired]);
    // Its children are of their own versions.
    let child = host.fork(old, 106);
    host.exec(child, &["/usr/bin/git"]);
    host.wait(400);
    assert_eq!(advisories(&mut host), [""; 0], "they run still");
    host.exit(old);
    host.exit(ProcessKey { tgid: 105, ..old });
    host.wait(400);
    let resolved = "Resolved tool-advisory info x2: old-news claude-code";
    assert_eq!(advisories(&mut host), [resolved]);
}

#[test]
fn whoever_floods_is_named_whatever_it_is() {
    let mut host = Host::new();
    let claude = host.spawn_claude();
    let nmap = host.spawn(SHELL, 101, &["/usr/bin/nmap"]);
    host.told.clear();
    host.overrun(nmap, 5);
    host.overrun(nmap, 12);
    host.overrun(claude, 1);
    host.overrun(image(77), 3);
    host.overrun(ProcessKey::default(), 2);
    host.check(&[
        "overrun nmap[101] 5 of 5",
        "Fired flow-flood warning x1: /usr/bin/nmap none",
        "overrun nmap[101] 7 of 12",
        "overrun node[100] claude-code/main 1 of 1",
        "Fired flow-flood warning x1: /usr/bin/node claude-code",
        "overrun [77] 3 of 3",
        "Fired flow-flood warning x1: unknown none",
        "overrun [0] 2 of 2",
        "Fired flow-flood warning x1: kernel none",
    ]);
}

#[test]
fn coverage_is_complete_once_it_is_verified_and_lost_with_an_alert() {
    let mut host = Host::new();
    host.wait_in_order(2);
    host.check(&["gaps []"]);
    let dropped = counter::index(counter::HOOK_EXEC, counter::DROPPED_RING_FULL);
    let attempted = counter::index(counter::HOOK_EXEC, counter::ATTEMPTED);
    host.read_books(&[(attempted, 1), (dropped, 1)]);
    host.wait(1);
    host.check(&[
        "Fired coverage-lost warning x1: dropped:exec:ring_full",
        "gaps [\"dropped:exec:ring_full\"]",
    ]);
    // It lasts for a window; its alert until nothing was heard of it for a while.
    for _ in 0..400 {
        host.read_books(&[(attempted, 1), (dropped, 1)]);
        host.self_check(&[("connect4", true)]);
        host.wait(1);
    }
    let told = host.told.iter().filter_map(line);
    let told: Vec<_> = told.filter(|line| !line.starts_with("Still")).collect();
    let expect = [
        "gaps []",
        "Resolved coverage-lost warning x1: dropped:exec:ring_full",
    ];
    assert_eq!(told, expect);
}

#[test]
fn an_exception_that_is_over_fires_until_it_is_renewed() {
    let mut host = Host::with(|config| config.policy.exceptions = vec![fixture::exception(4)]);
    host.wait(2);
    host.check(&[]);
    host.wait(1);
    host.check(&["Fired policy-exception-expired warning x1: x"]);
    let renewed = Policy::new(PolicyConfig {
        exceptions: vec![fixture::exception(1_000_000)],
        ..PolicyConfig::default()
    });
    let effects = host
        .collector
        .judge_by(renewed, Arc::new(catalog()), host.now);
    host.told.extend(effects);
    host.wait(400);
    let told = std::mem::take(&mut host.told);
    let told: Vec<_> = told.iter().filter_map(line).collect();
    assert!(
        told.iter()
            .any(|it| it.starts_with("Resolved policy-exception-expired")),
        "{told:#?}"
    );
}

#[test]
fn a_hook_that_is_detached_is_told_at_once() {
    let mut host = Host::new();
    host.wait_in_order(2);
    host.told.clear();
    host.self_check(&[("connect4", false)]);
    host.check(&["Fired hook-lost critical x1: connect4"]);
    host.wait(1);
    host.check(&[
        "Fired coverage-lost warning x1: hook_lost:connect4",
        "gaps [\"hook_lost:connect4\"]",
    ]);
    // Attached again: still a gap for a window.
    host.wait_in_order(58);
    host.check(&[]);
    host.wait_in_order(2);
    host.check(&[
        "StillFiring hook-lost critical x1: connect4",
        "gaps []",
        "StillFiring coverage-lost warning x1: hook_lost:connect4",
    ]);
}

#[test]
fn what_the_shell_could_not_use_or_keep_is_a_gap() {
    let mut host = Host::new();
    host.wait_in_order(2);
    host.told.clear();
    host.collector.undecodable(host.now);
    let told = host.collector.limited(Limit::Watched, host.now);
    host.told.extend(told);
    host.wait(1);
    host.check(&[
        "limit watched",
        "Fired coverage-lost warning x1: decode_errors",
        "Fired coverage-lost warning x1: table_full:watched",
        "gaps [\"decode_errors\", \"table_full:watched\"]",
    ]);
}

#[test]
fn the_kernels_books_and_dns_outcomes_pass_through() {
    let mut host = Host::new();
    let books = KernelCounters {
        time: at(1),
        values: [1; _],
        astray: 0,
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

const OUTSIDE: &str = "203.0.113.9:3128";

#[test]
fn what_a_proxy_contacts_is_told_with_its_client() {
    let mut host = Host::new();
    let claude = host.spawn_claude();
    let squid = host.spawn(SHELL, 200, &["/usr/sbin/squid"]);
    let worker = host.spawn(squid, 201, &["/usr/sbin/squid", "--kid"]);
    host.told.clear();
    host.connect(worker, OUTSIDE);
    host.check(&["(open squid[201] > 203.0.113.9 not-judged -)"]);
    host.apply(Event::FlowJoined(joined(claude, squid, 7)));
    assert_eq!(host.collector.take_watches(), [image(100), image(200)]);
    for process in [squid, worker] {
        let pid = process.tgid;
        host.connect(process, OUTSIDE);
        host.check(&[&format!(
            "open squid[{pid}] > 203.0.113.9 not-judged - via node[100] claude-code/main"
        )]);
    }
    // Not from this host to this host, and not by what the proxy merely started.
    host.connect(squid, "127.0.0.1:80");
    host.check(&["(open squid[200] > 127.0.0.1 not-judged -)"]);
    let helper = host.spawn(squid, 202, &["/usr/bin/curl"]);
    host.told.clear();
    host.connect(helper, OUTSIDE);
    host.check(&["(open curl[202] > 203.0.113.9 not-judged -)"]);
}

#[test]
fn a_proxy_works_for_nobody_once_its_client_is_gone() {
    let mut host = Host::new();
    let claude = host.spawn_claude();
    let squid = host.spawn(SHELL, 200, &["/usr/sbin/squid"]);
    host.apply(Event::FlowJoined(joined(claude, squid, 7)));
    host.exit(claude);
    host.wait(10);
    host.wait(10);
    host.told.clear();
    host.connect(squid, OUTSIDE);
    host.check(&["(open squid[200] > 203.0.113.9 not-judged -)"]);
}

#[test]
fn a_tool_is_no_client_of_itself() {
    let mut host = Host::new();
    let claude = host.spawn_claude();
    let helper = host.spawn(claude, 101, &[NODE, CLI_JS, "helper"]);
    host.told.clear();
    host.apply(Event::FlowJoined(joined(helper, claude, 7)));
    host.connect(claude, OUTSIDE);
    assert!(!host.told.is_empty());
    for effect in &host.told {
        if let Effect::Flow(flow) = effect {
            assert_eq!(flow.via, []);
        }
    }
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
    let command = [&[NODE, CLI_JS][..], &["/bin/sh"], &[]][usize::try_from(pick(32, 3)).unwrap()];
    match random % 13 {
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
        7 => Event::FlowRedirected(redirected(process, addr, API, pick(40, 8))),
        8 => Event::SocketOpened(found_socket(process, SocketKind::Tun)),
        9 => Event::OverBudget(over_budget(process, pick(40, 8))),
        10 => Event::FlowOpened(FlowOpened {
            hook: Hook::Accepted,
            ..opened(process, addr, pick(40, 8))
        }),
        11 => Event::FlowJoined(joined(process, parent, pick(40, 8))),
        _ => {
            let [query, answer] = resolved(process, name, ip);
            Event::DnsMessage(Box::new(if pick(40, 2) == 0 { query } else { answer }))
        }
    }
}

/// What is told of `events` events that follow from nothing but each other's randomness.
fn chaos(events: u32) -> Vec<Effect> {
    let mut host = Host::with(|config| {
        config.policy = fixture::ban(&["codex-cli"]);
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
        "start", "(start", "end", "open", "close", "count", "redirect", "socket", "overrun",
        "accepted", "gaps", "Fired", "Resolved", "limit",
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
