//! What the tests of the core are built from: keys, events, views, names and a small catalog.
//!
//! In: the few values that a test is about. Out: whole events and views, the rest made up.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use monitor_common::flow::{FlowCounters, ProcessKey};

use super::addresses::{Addresses, Database};
use super::alert::{AlertTiming, Pace};
use super::attribute::{Attribution, Evidence, Role};
use super::catalog::{Catalog, CatalogFile};
use super::collector::{CollectorConfig, Limits, Scope};
use super::event::{
    BootNs, CgroupId, Direction, DnsMessage, Endpoint, ExeFile, FlowCounted, FlowEnded, FlowJoined,
    FlowOpened, FlowRedirected, Hook, Outcome, OverBudget, ProcessExecuted, ProcessExited,
    ProcessForked, Protocol, SocketCookie, SocketKind, SocketOpened,
};
use super::job::JobOf;
use super::names::{NameEvidence, NameLimits, NameSource};
use super::policy::PolicyConfig;
use super::policy::judgement::{Judgement, Severity, Verdict};
use super::policy::rule::{Action, Exception, Matcher, Rule, Word};
use super::redact::Arguments;
use super::report::{Origin, ProcessView};

/// Alerts are told at once, again each minute, and over after five.
pub fn timing() -> AlertTiming {
    AlertTiming {
        resend: Duration::from_secs(60),
        resolve_after: Duration::from_secs(300),
        pace: Pace {
            hold: Duration::ZERO,
            new_per_minute: 1_000,
        },
        paces: BTreeMap::new(),
    }
}

/// Tables that no test fills by accident.
pub const LIMITS: Limits = Limits {
    processes: 65_536,
    flows: 65_536,
    alerts: 1_024,
    names: NameLimits::of(32_768),
};

/// A collector that bans nothing and logs tools.
pub fn config() -> CollectorConfig {
    CollectorConfig {
        boot_id: "boot".into(),
        scope: Scope::Tools,
        policy: PolicyConfig::default(),
        wall_offset_ns: 0,
        resolvers: vec!["192.0.2.53:53".parse().unwrap()],
        proxies: Vec::new(),
        sampling: false,
        limits: LIMITS,
        alerts: timing(),
        arguments: Arguments::Redacted,
    }
}

/// The first image of the process with this pid. It started at boot.
pub fn image(tgid: u32) -> ProcessKey {
    ProcessKey {
        start_ns: 0,
        tgid,
        exec_id: 0,
    }
}

/// The image after `key`'s.
pub fn next(key: ProcessKey) -> ProcessKey {
    ProcessKey {
        exec_id: key.exec_id + 1,
        ..key
    }
}

/// This many seconds after boot.
pub fn at(seconds: u64) -> BootNs {
    BootNs(seconds * 1_000_000_000)
}

pub fn forked(process: ProcessKey, parent: ProcessKey) -> ProcessForked {
    ProcessForked {
        time: at(1),
        process,
        parent,
    }
}

pub fn executed(process: ProcessKey, parent: ProcessKey, command: &[&str]) -> ProcessExecuted {
    ProcessExecuted {
        time: at(1),
        process,
        parent,
        cgroup: CgroupId(7),
        uid: 1000,
        gid: 1000,
        exe: command.first().copied().unwrap_or_default().to_owned(),
        exe_file: ExeFile {
            links: 1,
            ..ExeFile::default()
        },
        args: command.iter().map(|&arg| arg.to_owned()).collect(),
        script: None,
        package_version: None,
        exe_truncated: false,
        args_truncated: false,
        found: false,
        kernel_thread: false,
        mount_ns: 0,
        net_ns: 0,
    }
}

pub fn exited(process: ProcessKey) -> ProcessExited {
    ProcessExited {
        time: at(1),
        process,
        exit_code: 0,
    }
}

pub fn tcp(addr: &str) -> Endpoint {
    Endpoint {
        addr: addr.parse().unwrap(),
        protocol: Protocol::Tcp,
    }
}

pub fn opened(process: ProcessKey, addr: &str, cookie: u64) -> FlowOpened {
    FlowOpened {
        time: at(1),
        process,
        remote: tcp(addr),
        cookie: SocketCookie(cookie),
        cgroup: CgroupId(7),
        uid: 1000,
        tid: process.tgid,
        hook: Hook::Connect,
        first: true,
    }
}

pub fn ended(process: ProcessKey, addr: &str, cookie: u64) -> FlowEnded {
    FlowEnded {
        time: at(1),
        process,
        remote: tcp(addr),
        cookie: SocketCookie(cookie),
        opened: at(1),
        established: Some(at(1)),
        outcome: Outcome::Closed,
        bytes_sent: 10,
        bytes_received: 20,
        srtt_us: Some(300),
        retransmits: 0,
    }
}

pub fn redirected(process: ProcessKey, asked: &str, wire: &str, cookie: u64) -> FlowRedirected {
    FlowRedirected {
        time: at(1),
        process,
        asked: tcp(asked),
        wire: tcp(wire),
        cookie: SocketCookie(cookie),
    }
}

pub fn found_socket(process: ProcessKey, kind: SocketKind) -> SocketOpened {
    SocketOpened {
        time: at(1),
        process,
        kind,
        protocol: 0,
        found: true,
    }
}

/// A connection from `client` to `server`, both on this host, on the client's socket `cookie`.
pub fn joined(client: ProcessKey, server: ProcessKey, cookie: u64) -> FlowJoined {
    FlowJoined {
        time: at(1),
        client,
        server,
        cookie: SocketCookie(cookie),
    }
}

pub fn over_budget(process: ProcessKey, refused: u64) -> OverBudget {
    OverBudget {
        time: at(1),
        process,
        refused,
    }
}

pub fn counted(process: ProcessKey, addr: &str, connects_unreported: u64) -> FlowCounted {
    let delta = FlowCounters {
        connects_unreported,
        ..FlowCounters::default()
    };
    FlowCounted {
        time: at(1),
        process,
        remote: tcp(addr),
        delta,
    }
}

/// The query for `name` that `process` sends, then the answer that it gets: `name` is at `ip`.
pub fn resolved(process: ProcessKey, name: &str, ip: &str) -> [DnsMessage; 2] {
    let (kind, data) = match ip.parse().unwrap() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (28, ip.octets().to_vec()),
    };
    let mut question = Vec::new();
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.bytes());
    }
    question.extend([0, 0, kind, 0, 1]);
    // Id 7, recursion desired, one question; then the same as a response with one record, whose
    // name points to the question's and which lives for 300 s.
    let query = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], &*question].concat();
    let length = u8::try_from(data.len()).unwrap();
    let record = [0xc0, 12, 0, kind, 0, 1, 0, 0, 1, 0x2c, 0, length];
    let answer = [
        &[0, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0],
        &*question,
        &record,
        &data,
    ]
    .concat();
    let message = |direction, payload| DnsMessage {
        time: at(1),
        process,
        resolver: Endpoint {
            protocol: Protocol::Udp,
            ..tcp("192.0.2.53:53")
        },
        cookie: SocketCookie(1_000_000 + u64::from(process.tgid)),
        direction,
        payload,
        truncated: false,
    };
    [
        message(Direction::Egress, query),
        message(Direction::Ingress, answer),
    ]
}

/// A name that the process itself asked for.
pub fn own(name: &str) -> NameEvidence {
    let source = NameSource::DnsOwn;
    NameEvidence {
        name: name.into(),
        source,
        first: at(1),
        learned: at(1),
        asked_by: image(1),
    }
}

/// A name that another process asked for.
pub fn shared(name: &str) -> NameEvidence {
    NameEvidence {
        source: NameSource::DnsShared,
        ..own(name)
    }
}

pub fn judged(verdict: Verdict) -> Judgement {
    Judgement {
        verdict,
        rule: "a-rule".into(),
        action: None,
        exception: None,
        purpose: None,
        operator: None,
        why: "because".into(),
        about: None,
    }
}

/// A rule with an id and an action, about nothing.
pub fn rule(id: &str, action: Action) -> Rule {
    Rule {
        id: id.into(),
        what: None,
        pack: None,
        when: Matcher::default(),
        unless: Matcher::default(),
        action,
    }
}

/// Databases of a few networks of the documentation, and of one public resolver.
pub fn addresses() -> Addresses {
    let database = |bytes: &[u8]| Database::new(bytes.to_vec()).ok();
    Addresses {
        asn: database(include_bytes!("../../tests/addresses/asn.mmdb")),
        country: database(include_bytes!("../../tests/addresses/country.mmdb")),
    }
}

/// A matcher of one part.
pub fn words(word: Word, items: &[&str]) -> Matcher {
    let mut matcher = Matcher::default();
    matcher.words[word as usize] = items.iter().map(|&item| item.into()).collect();
    matcher
}

/// An exception to the rule `r` that ends at this time, in seconds since 1970 began.
pub fn exception(ends_seconds: i64) -> Exception {
    Exception {
        id: "x".into(),
        rules: vec!["r".into()],
        when: Matcher::default(),
        owner: "me".into(),
        reason: "so it was agreed".into(),
        ticket: None,
        expires: "2026-12-31".into(),
        ends_seconds,
    }
}

/// What a ban of these tools of the fixture's catalog is made of.
pub fn ban(tools: &[&str]) -> PolicyConfig {
    let catalog = catalog();
    let vendor = |id: &&str| catalog.tool(id).map(|tool| tool.vendor.to_string());
    let vendors: Vec<_> = tools.iter().filter_map(vendor).collect();
    let vendors: Vec<_> = vendors
        .iter()
        .map(String::as_str)
        .chain(tools.iter().copied())
        .collect();
    let deny = Action::Deny(Severity::Critical);
    if tools.is_empty() {
        return PolicyConfig::default();
    }
    PolicyConfig {
        rules: vec![
            Rule {
                what: Some("banned".into()),
                when: words(Word::Tool, tools),
                ..rule("banned-tool", deny)
            },
            Rule {
                what: Some("banned vendor".into()),
                when: words(Word::Provider, &vendors),
                unless: words(Word::Verdict, &["expected", "optional"]),
                ..rule("banned-vendor", deny)
            },
        ],
        ..PolicyConfig::default()
    }
}

/// A process of no tool.
pub fn stranger(exe: &str) -> ProcessView {
    ProcessView {
        key: image(42),
        entity_id: "00000000000000aa".into(),
        parent: None,
        exe: exe.into(),
        exe_file: ExeFile {
            links: 1,
            ..ExeFile::default()
        },
        args: [exe.to_owned()].into(),
        args_truncated: false,
        started: at(1),
        uid: 1000,
        gid: 1000,
        cgroup: CgroupId(7),
        place: None,
        job: JobOf::NotAsked,
        opted_out: Arc::default(),
        origin: Origin::Executed,
        tool: None,
    }
}

/// A process of the tool `id`. `trusted`: its path says so, not just its name.
pub fn member(id: &str, role: Role, trusted: bool) -> ProcessView {
    let evidence = if trusted {
        Evidence::ExePath {
            glob: "/opt/tool/*".into(),
        }
    } else {
        Evidence::Name {
            name: "tool".into(),
        }
    };
    let tool = Arc::clone(catalog().tool(id).unwrap());
    let attribution = Attribution {
        tool,
        version: None,
        role,
        evidence: vec![evidence],
        trusted,
        namesakes: Vec::new(),
    };
    ProcessView {
        tool: Some(Arc::new(attribution)),
        ..stranger("/opt/tool/bin")
    }
}

/// Claude Code and Codex CLI in a few lines each, and OpenAI's API as a service of its own.
pub fn catalog() -> Catalog {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(parse_catalog);
    CATALOG.clone()
}

fn parse_catalog() -> Catalog {
    let file = |name: &str, text: &str| CatalogFile {
        name: name.into(),
        text: format!("schema_version = 1\n{text}").replace("SOURCED", SOURCED),
    };
    Catalog::parse(&[
        file("tools/claude-code.toml", &[CLAUDE_CODE, ADVISORY].concat()),
        file("tools/codex-cli.toml", CODEX_CLI),
        file("services/llm-api.toml", LLM_API),
    ])
    .unwrap()
}

const SOURCED: &str = r#"
source = "made up"
date = 2026-01-01
confidence = "guess"
"#;

const CLAUDE_CODE: &str = r#"
id = "claude-code"
name = "Claude Code"
vendor = "Anthropic"
jurisdiction = "US"
kind = "cli-agent"
SOURCED
[recognise]
script = ["**/node_modules/@anthropic-ai/claude-code/cli.js"]
names = ["claude"]
[[endpoint]]
host = "api.anthropic.com"
purpose = "api"
SOURCED
[[endpoint]]
host = "statsig.anthropic.com"
purpose = "telemetry"
optional = true
switch = "DISABLE_TELEMETRY=1"
SOURCED
[[endpoint]]
host = "cdn.anthropic.com"
purpose = "assets"
optional = true
SOURCED
[[endpoint]]
host = "192.0.2.200"
purpose = "api"
SOURCED
"#;

/// What is known of two versions of Claude Code.
const ADVISORY: &str = r#"
[[advisory]]
id = "old-news"
title = "it says hello"
summary = "It says hello. No endpoint shows it."
since = "2.1.91"
until = "2.1.198"
SOURCED
"#;

const CODEX_CLI: &str = r#"
id = "codex-cli"
name = "Codex CLI"
vendor = "OpenAI"
jurisdiction = "US"
kind = "cli-agent"
SOURCED
[recognise]
exe = ["**/node_modules/@openai/codex/vendor/*/codex/codex"]
script = ["**/node_modules/@openai/codex/bin/codex.js"]
[[endpoint]]
host = "api.openai.com"
purpose = "api"
SOURCED
"#;

const LLM_API: &str = r#"
class = "llm-api"
[[service]]
id = "openai"
name = "OpenAI API"
vendor = "OpenAI"
jurisdiction = "US"
hosts = ["api.openai.com"]
SOURCED
"#;
