//! A host on which programs start and connect, as the collector is told of it.
//!
//! In: programs and names. Out: what the collector says of each.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use monitor_common::flow::ProcessKey;
use telltale::config::Config;
use telltale::config::policy::{World, parse};
use telltale::core::alert::AlertTiming;
use telltale::core::attribute::Attribution;
use telltale::core::catalog::Catalog;
use telltale::core::collector::{Collector, CollectorConfig, Limits, Scope};
use telltale::core::event::{
    BootNs, CgroupId, Direction, DnsMessage, Endpoint, Event, ExeFile, FlowOpened, Hook,
    ProcessExecuted, Protocol, SocketCookie,
};
use telltale::core::names::NameLimits;
use telltale::core::policy::judgement::Judgement;
use telltale::core::report::{Effect, ProcessView};

const RESOLVER: &str = "192.0.2.53:53";
/// The test's own process, which starts the tools.
const NOBODY: ProcessKey = ProcessKey {
    start_ns: 0,
    tgid: 1,
    exec_id: 0,
};
const STEP_NS: u64 = 1_000_000;

/// A program that starts.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The executable.
    pub exe: String,
    /// argv.
    pub args: Vec<String>,
    /// What the `package.json` of the npm package says that it lies in.
    pub package_version: Option<String>,
}

/// What is said of a process or of its connection.
#[derive(Clone, Debug)]
pub struct Said {
    /// Who.
    pub process: Arc<ProcessView>,
    /// What the policy says.
    pub judgement: Judgement,
    /// Rules of the alerts that it raised.
    pub alerts: Vec<String>,
}

impl Said {
    /// The tool that the process belongs to.
    pub fn member(&self) -> Option<&Attribution> {
        self.process.tool.as_deref()
    }
}

/// The host.
pub struct Host {
    collector: Collector,
    now: BootNs,
    /// Numbers processes, sockets and addresses.
    number: u32,
}

impl Host {
    /// A host with this policy, on which nothing runs.
    #[track_caller]
    pub fn new(catalog: &Arc<Catalog>, policy: &str) -> Host {
        let config = Config::default();
        let world = World {
            catalog,
            users: &|_| None,
            addresses: Arc::default(),
        };
        let loaded = parse(Path::new("policy"), policy, &[], &world).unwrap();
        let config = CollectorConfig {
            boot_id: "boot".into(),
            scope: Scope::Tools,
            policy: loaded.policy,
            wall_offset_ns: 0,
            resolvers: vec![RESOLVER.parse().unwrap()],
            proxies: Vec::new(),
            sampling: false,
            limits: Limits {
                processes: 4_096,
                flows: 4_096,
                alerts: 4_096,
                names: NameLimits::of(4_096),
            },
            alerts: AlertTiming {
                resend: Duration::from_secs(60),
                resolve_after: Duration::from_secs(300),
                pace: config.alerts.pace,
                paces: BTreeMap::new(),
            },
            arguments: config.events.arguments,
        };
        Host {
            collector: Collector::new(config, Arc::clone(catalog)),
            now: BootNs(0),
            number: 1,
        }
    }

    /// Starts a program below another process, or below none that is known.
    pub fn start(&mut self, parent: Option<ProcessKey>, program: &Program) -> Said {
        let process = ProcessKey {
            start_ns: 0,
            tgid: self.next(),
            exec_id: 1,
        };
        let event = Event::ProcessExecuted(Box::new(ProcessExecuted {
            time: self.now,
            process,
            parent: parent.unwrap_or(NOBODY),
            cgroup: CgroupId(1),
            uid: 1000,
            gid: 1000,
            exe: program.exe.clone(),
            exe_file: ExeFile {
                links: 1,
                ..ExeFile::default()
            },
            args: program.args.clone(),
            script: None,
            package_version: program.package_version.clone(),
            exe_truncated: false,
            args_truncated: false,
            found: false,
            kernel_thread: false,
            mount_ns: 0,
            net_ns: 0,
        }));
        let effects = self.apply(event);
        let started = effects.iter().find_map(|effect| match effect {
            Effect::ProcessStarted(event) => {
                Some((Arc::clone(&event.process), event.judgement.clone()))
            }
            _ => None,
        });
        said(started.unwrap(), &effects)
    }

    /// Lets a process resolve a name, if it is one, and connect to what it stands for.
    pub fn connect(&mut self, process: ProcessKey, host: &str) -> Said {
        let ip = host.parse().unwrap_or_else(|_| self.resolve(process, host));
        let number = self.next();
        let event = Event::FlowOpened(FlowOpened {
            time: self.now,
            process,
            remote: endpoint(SocketAddr::new(ip, 443), Protocol::Tcp),
            cookie: SocketCookie(number.into()),
            cgroup: CgroupId(1),
            uid: 1000,
            tid: process.tgid,
            hook: Hook::Connect,
            first: true,
        });
        let effects = self.apply(event);
        let opened = effects.iter().find_map(|effect| match effect {
            Effect::Flow(report) => Some((Arc::clone(&report.process), report.judgement.clone())),
            _ => None,
        });
        said(opened.unwrap(), &effects)
    }

    /// Lets a process ask the resolver for a name, which has an address of its own.
    fn resolve(&mut self, process: ProcessKey, name: &str) -> IpAddr {
        let number = self.next();
        // 198.18.0.0/15: for benchmarks (RFC 2544), nobody's.
        let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number);
        let [query, answer] = messages(name, ip);
        for (direction, payload) in [(Direction::Egress, query), (Direction::Ingress, answer)] {
            let event = Event::DnsMessage(Box::new(DnsMessage {
                time: self.now,
                process,
                resolver: endpoint(RESOLVER.parse().unwrap(), Protocol::Udp),
                cookie: SocketCookie(number.into()),
                direction,
                payload,
                truncated: false,
            }));
            self.apply(event);
        }
        ip.into()
    }

    fn apply(&mut self, event: Event) -> Vec<Effect> {
        self.collector.apply(event, self.now)
    }

    fn next(&mut self) -> u32 {
        self.number += 1;
        self.now.0 += STEP_NS;
        self.number
    }
}

fn said((process, judgement): (Arc<ProcessView>, Judgement), effects: &[Effect]) -> Said {
    let alert = |effect: &Effect| match effect {
        Effect::Alert(notice) => Some(notice.alert.rule.to_string()),
        _ => None,
    };
    Said {
        process,
        judgement,
        alerts: effects.iter().filter_map(alert).collect(),
    }
}

fn endpoint(addr: SocketAddr, protocol: Protocol) -> Endpoint {
    Endpoint { addr, protocol }
}

/// A query for the address of a name, and the answer (RFC 1035, 4.1).
fn messages(name: &str, ip: Ipv4Addr) -> [Vec<u8>; 2] {
    let label = |label: &str| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat();
    let name: Vec<u8> = name.split('.').flat_map(label).collect();
    let question = [&name, &[0, 0, 1, 0, 1][..]].concat();
    // Id 7, recursion desired, one question; the answer's one record has the question's name and
    // lives for 300 s.
    let query = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], &question[..]].concat();
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0x2c, 0, 4];
    let head = [0, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    [
        query,
        [&head, &question[..], &record, &ip.octets()].concat(),
    ]
}
