//! Effects for the tests of metrics and sinks: a stand-in Claude Code and what it does.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use monitor_common::flow::{FlowCounters, ProcessKey};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::HostInfo;
use crate::clock::WallClock;
use crate::core::addresses::{AddressOrigin, Addresses, CountryCode, Database};
use crate::core::alert::Alert;
use crate::core::attribute::{Attribution, Evidence, Role};
use crate::core::catalog::{Operator, Tool};
use crate::core::event::{
    BootNs, CgroupId, Endpoint, ExeFile, Hook, Outcome, Protocol, SocketCookie, SocketKind,
};
use crate::core::job::JobOf;
use crate::core::names::{NameEvidence, NameSource};
use crate::core::policy::judgement::{Judgement, Severity, Verdict};
use crate::core::policy::rule::{Action, Matcher, Rule, Word};
use crate::core::policy::{Policy, PolicyConfig};
use crate::core::report::{
    AlertNotice, AlertState, Effect, FlowAction, FlowEnd, FlowReport, FlowsCounted, Hello, Origin,
    OverBudgetReport, ParentView, ProcessEnded, ProcessStarted, ProcessView, ResumedReport,
    SocketReport,
};
use crate::core::wire::tls::Alpn;

/// Boot at 2026-11-20T09:32:00Z.
pub const CLOCK: WallClock = WallClock {
    offset_ns: 1_795_167_120_000_000_000,
};

pub const SECOND: u64 = 1_000_000_000;

pub fn host() -> HostInfo {
    HostInfo {
        name: "build-7".into(),
        boot_id: "7d0a1f6e-0000-4000-8000-000000000001".into(),
        session: "5f3c".into(),
        runbooks: "docs/runbooks/README.md".into(),
    }
}

pub fn process(pid: u32) -> ProcessView {
    ProcessView {
        key: ProcessKey {
            start_ns: SECOND,
            tgid: pid,
            exec_id: 2,
        },
        entity_id: "00000000000000aa".into(),
        parent: Some(Arc::new(ParentView {
            key: ProcessKey {
                start_ns: 1,
                tgid: 7,
                exec_id: 1,
            },
            entity_id: "0000000000000007".into(),
            exe: "/usr/bin/bash".into(),
            parent: Some(Arc::new(ParentView {
                key: ProcessKey {
                    start_ns: 1,
                    tgid: 5,
                    exec_id: 1,
                },
                entity_id: "0000000000000005".into(),
                exe: "/usr/bin/runner".into(),
                parent: None,
                generation: 0,
            })),
            generation: 1,
        })),
        exe: "/home/u/.local/share/claude/versions/2.1.328".into(),
        exe_file: ExeFile {
            device: 8 << 20 | 1,
            inode: u64::MAX,
            links: 1,
        },
        args: Arc::new(["claude".into(), "--print".into()]),
        args_truncated: false,
        started: BootNs(2 * SECOND),
        uid: 1000,
        gid: 1000,
        cgroup: CgroupId(4242),
        place: None,
        job: JobOf::NotAsked,
        opted_out: Arc::default(),
        origin: Origin::Executed,
        tool: Some(Arc::new(attribution("claude-code", Role::Main))),
    }
}

pub fn attribution(id: &str, role: Role) -> Attribution {
    Attribution {
        tool: Arc::new(Tool {
            id: id.into(),
            name: "Claude Code".into(),
            vendor: "Anthropic".into(),
            jurisdiction: "US".into(),
        }),
        version: Some("2.1.328".into()),
        role,
        evidence: vec![
            Evidence::ExePath {
                glob: "**/claude/versions/*".into(),
            },
            Evidence::Lineage {
                ancestor_exe: "/opt/x".into(),
                ancestor_pid: 7,
            },
        ],
        trusted: true,
        namesakes: Vec::new(),
    }
}

/// A process that belongs to no tool.
pub fn stranger(pid: u32) -> ProcessView {
    ProcessView {
        exe: "/usr/bin/curl".into(),
        tool: None,
        ..process(pid)
    }
}

pub fn judgement(verdict: Verdict) -> Judgement {
    Judgement {
        verdict,
        rule: "manifest".into(),
        action: None,
        exception: None,
        purpose: Some("api".into()),
        operator: Some(Operator {
            vendor: "Anthropic".into(),
            jurisdiction: "US".into(),
        }),
        why: "api.anthropic.com is in the manifest of Claude Code".into(),
        about: None,
    }
}

pub fn started(process: ProcessView) -> Effect {
    Effect::ProcessStarted(Box::new(ProcessStarted {
        sequence: 1,
        time: process.started,
        process: Arc::new(process),
        judgement: Judgement {
            verdict: Verdict::Denied,
            rule: "banned-tool".into(),
            action: Some(Action::Deny(Severity::Critical)),
            exception: None,
            purpose: None,
            operator: None,
            why: "Claude Code is banned".into(),
            about: None,
        },
        logged: true,
    }))
}

pub fn ended(process: ProcessView, exit_code: i32) -> Effect {
    Effect::ProcessEnded(Box::new(ProcessEnded {
        sequence: 9,
        time: BootNs(9 * SECOND),
        process: Arc::new(process),
        exit_code,
        logged: true,
    }))
}

/// What belongs to no process.
pub fn kernel() -> ProcessView {
    ProcessView {
        key: ProcessKey::default(),
        parent: None,
        exe: "".into(),
        exe_file: ExeFile::default(),
        args: Arc::new([]),
        origin: Origin::Kernel,
        ..stranger(0)
    }
}

pub fn remote(addr: &str, protocol: Protocol) -> Endpoint {
    let addr: SocketAddr = addr.parse().unwrap();
    Endpoint { addr, protocol }
}

pub fn report(process: ProcessView, action: FlowAction) -> FlowReport {
    let name = |name: &str, source| NameEvidence {
        name: name.into(),
        source,
        first: BootNs(2_500_000_000),
        learned: BootNs(2_500_000_000),
        asked_by: process.key,
    };
    FlowReport {
        sequence: 3,
        time: BootNs(3 * SECOND),
        action,
        names: vec![
            name("api.anthropic.com", NameSource::DnsOwn),
            name("edge.example.net", NameSource::DnsShared),
        ],
        via: vec![],
        target: None,
        hello: Some(Arc::new(Hello {
            server_name: "api.anthropic.com".into(),
            alpn: vec![Alpn::Http2, Alpn::Http1],
            ech: false,
        })),
        process: Arc::new(process),
        remote: remote("192.0.2.10:443", Protocol::Tcp),
        address: AddressOrigin {
            asn: Some(64_496),
            country: CountryCode::parse("SG"),
        },
        cookie: SocketCookie(77),
        judgement: judgement(Verdict::Expected),
        first: true,
        logged: true,
    }
}

pub fn opened(process: ProcessView) -> FlowReport {
    report(
        process,
        FlowAction::Opened {
            hook: Hook::Connect,
        },
    )
}

/// A peer connected to the process.
pub fn accepted(process: ProcessView) -> FlowReport {
    FlowReport {
        remote: remote("192.0.2.99:0", Protocol::Tcp),
        names: Vec::new(),
        judgement: Judgement {
            verdict: Verdict::Served,
            rule: "served".into(),
            action: None,
            exception: None,
            purpose: None,
            operator: None,
            about: None,
            why: "192.0.2.99 connected to Claude Code, not the other way round".into(),
        },
        ..report(
            process,
            FlowAction::Opened {
                hook: Hook::Accepted,
            },
        )
    }
}

/// It asked for the API, and reaches a proxy.
pub fn redirected(process: ProcessView) -> FlowReport {
    let opened = opened(process.clone());
    FlowReport {
        remote: remote("192.0.2.128:3128", Protocol::Tcp),
        names: Vec::new(),
        judgement: Judgement {
            purpose: None,
            ..judgement(Verdict::Unknown)
        },
        ..report(
            process,
            FlowAction::Redirected {
                asked: opened.remote,
                asked_name: opened.names.into_iter().next(),
            },
        )
    }
}

pub fn closed(process: ProcessView, outcome: Outcome) -> FlowReport {
    let end = FlowEnd {
        outcome,
        opened: BootNs(3 * SECOND),
        established: Some(BootNs(3 * SECOND + 20_000_000)),
        bytes_sent: 1_500,
        bytes_received: 64_000,
        srtt_us: Some(19_500),
        retransmits: 1,
    };
    FlowReport {
        sequence: 4,
        time: BootNs(5 * SECOND),
        ..report(process, FlowAction::Ended(end))
    }
}

pub fn flow(report: FlowReport) -> Effect {
    Effect::Flow(Box::new(report))
}

pub fn counted(process: ProcessView, delta: FlowCounters) -> Effect {
    let FlowReport {
        process,
        remote,
        names,
        judgement,
        ..
    } = opened(process);
    Effect::FlowsCounted(Box::new(FlowsCounted {
        process,
        remote,
        names,
        judgement,
        delta,
    }))
}

pub fn socket(process: ProcessView, kind: SocketKind, found: bool) -> SocketReport {
    SocketReport {
        sequence: 6,
        time: BootNs(7 * SECOND),
        process: Arc::new(process),
        kind,
        protocol: 253,
        found,
        logged: true,
    }
}

fn opened_socket(report: SocketReport) -> Effect {
    Effect::SocketOpened(Box::new(report))
}

/// One effect for each kind of line there is, and those that are told with less.
pub fn every_line() -> Vec<Effect> {
    let udp = FlowReport {
        remote: remote("[2001:db8::1]:53", Protocol::Udp),
        names: Vec::new(),
        judgement: judgement(Verdict::NotJudged),
        ..closed(stranger(43), Outcome::Closed)
    };
    vec![
        started(process(42)),
        flow(opened(process(42))),
        flow(closed(process(42), Outcome::Closed)),
        flow(closed(process(42), Outcome::Failed(Some(111)))),
        flow(closed(process(42), Outcome::NeverSent)),
        flow(udp),
        flow(opened(stranger(44))),
        flow(accepted(process(42))),
        flow(redirected(process(42))),
        flow(FlowReport {
            names: Vec::new(),
            ..opened(kernel())
        }),
        opened_socket(socket(process(42), SocketKind::Raw, false)),
        opened_socket(socket(process(42), SocketKind::Tun, true)),
        over_budget(stranger(43), 10, 250),
        ended(process(42), 3 << 8),
        ended(process(42), 9),
        alert(AlertState::Fired),
        alert(AlertState::Resolved),
        resumed(),
    ]
}

pub fn over_budget(process: ProcessView, refused: u64, refused_total: u64) -> Effect {
    Effect::OverBudget(Box::new(OverBudgetReport {
        sequence: 7,
        time: BootNs(8 * SECOND),
        process: Arc::new(process),
        refused,
        refused_total,
    }))
}

pub fn resumed() -> Effect {
    Effect::Resumed(Box::new(ResumedReport {
        sequence: 8,
        time: BootNs(9 * SECOND),
        from: BootNs(5 * SECOND),
        attempted: 50,
        delivered: 20,
        aggregated: 27,
        dropped: 3,
        recovered: 18,
        lost: 2,
    }))
}

pub fn notice(state: AlertState) -> AlertNotice {
    AlertNotice {
        sequence: 5,
        time: BootNs(6 * SECOND),
        state,
        alert: Arc::new(Alert {
            rule: "banned-tool".into(),
            severity: Severity::Critical,
            labels: BTreeMap::from([("tool", "claude-code".into())]),
            annotations: BTreeMap::from([
                ("policy_digest", "00ff".into()),
                ("summary", "Claude Code is banned and runs".into()),
            ]),
            started: BootNs(2 * SECOND),
            last_seen: BootNs(3 * SECOND),
            occurrences: 2,
        }),
    }
}

pub fn alert(state: AlertState) -> Effect {
    Effect::Alert(Box::new(notice(state)))
}

/// A policy of one rule, whose alert is [`alert`], and databases of addresses.
pub fn policy() -> Policy {
    let database = |bytes: &[u8]| Database::new(bytes.to_vec()).ok();
    let addresses = Addresses {
        asn: database(include_bytes!("../../tests/addresses/asn.mmdb")),
        country: database(include_bytes!("../../tests/addresses/country.mmdb")),
    };
    let mut when = Matcher::default();
    when.words[Word::Tool as usize] = vec!["claude-code".into()];
    let rule = Rule {
        id: "banned-tool".into(),
        what: None,
        pack: None,
        when,
        unless: Matcher::default(),
        action: Action::Deny(Severity::Critical),
    };
    Policy::new(PolicyConfig {
        rules: vec![rule],
        addresses: Arc::new(addresses),
        ..PolicyConfig::default()
    })
}

/// Compares with a file of the repository; `UPDATE=1` rewrites it.
/// `path` is relative to this crate.
#[track_caller]
pub fn check_golden(path: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expect = std::fs::read_to_string(&path).unwrap_or_default();
    let advice = "differs: run the test with UPDATE=1 and look at the change";
    assert!(expect == actual, "{} {advice}\n{actual}", path.display());
}

/// An HTTP server that keeps the bodies it is sent.
pub struct TestReceiver {
    /// `http://127.0.0.1:port/`
    pub url: String,
    state: Arc<Mutex<Received>>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Received {
    /// Statuses of the first answers; then 200.
    answers: VecDeque<StatusCode>,
    requests: Vec<(String, String)>,
}

impl TestReceiver {
    /// Starts one that gives these answers first, and then 200.
    pub async fn start(answers: Vec<StatusCode>) -> Self {
        let state = Arc::new(Mutex::new(Received {
            answers: answers.into(),
            requests: vec![],
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let app = Router::new()
            .fallback(receive)
            .with_state(Arc::clone(&state));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        TestReceiver { url, state, server }
    }

    /// The bodies so far.
    pub fn bodies(&self) -> Vec<String> {
        self.requests().into_iter().map(|(_, body)| body).collect()
    }

    /// Request lines with their content type, and bodies, so far.
    pub fn requests(&self) -> Vec<(String, String)> {
        self.state.lock().unwrap().requests.clone()
    }
}

impl Drop for TestReceiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(
    State(state): State<Arc<Mutex<Received>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let body = String::from_utf8_lossy(&body).into_owned();
    let mut state = state.lock().unwrap();
    let kind = headers
        .get(CONTENT_TYPE)
        .map_or("", |kind| kind.to_str().unwrap());
    state
        .requests
        .push((format!("{method} {uri} {kind}"), body));
    state.answers.pop_front().unwrap_or(StatusCode::OK)
}
