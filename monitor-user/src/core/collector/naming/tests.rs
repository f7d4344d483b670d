//! Flows told once, under the best name, whatever comes first.
//!
//! In: openings, answers and claims, in the order of real clients. Out: what is told.

use super::*;
use crate::core::collector::CollectorConfig;
use crate::core::event::Event;
use crate::core::fixture::{
    self, at, catalog, ended, executed, image, next, opened, resolved, tcp,
};
use crate::core::wire::tls::Alpn;

const CLAUDE: &[&str] = &[
    "/usr/bin/node",
    "/usr/lib/node_modules/@anthropic-ai/claude-code/cli.js",
];
const API: &str = "160.79.104.10:443";
const OTHER: &str = "203.0.113.9:443";
const PROXY: &str = "10.0.0.8:3128";

struct Host {
    collector: Collector,
    told: Vec<String>,
    now: BootNs,
}

impl Host {
    fn with(change: impl FnOnce(&mut CollectorConfig)) -> Host {
        let mut config = CollectorConfig {
            sampling: true,
            ..fixture::config()
        };
        change(&mut config);
        Host {
            collector: Collector::new(config, Arc::new(catalog())),
            told: Vec::new(),
            now: at(1),
        }
    }

    fn new() -> Host {
        Host::with(|_| ())
    }

    fn apply(&mut self, event: Event) {
        let effects = self.collector.apply(event, self.now);
        self.tell(effects);
    }

    fn tell(&mut self, effects: Vec<Effect>) {
        self.told
            .extend(effects.iter().filter_map(|effect| match effect {
                Effect::Flow(flow) => {
                    let end = matches!(flow.action, FlowAction::Ended(_));
                    let name = flow.target.as_ref().map(ToString::to_string);
                    let name = name.or_else(|| flow.name().map(str::to_owned));
                    let source = flow.names.first().map_or("none", |name| name.source.name());
                    let verdict = flow.judgement.verdict.name();
                    let verb = if end { "end" } else { "open" };
                    Some(format!(
                        "{verb} {} {source} {verdict}",
                        name.unwrap_or_default()
                    ))
                }
                Effect::Alert(notice) => {
                    let labels: Vec<_> = notice.alert.labels.values().map(|it| &**it).collect();
                    Some(format!("{} {}", notice.alert.rule, labels.join(" ")))
                }
                Effect::Limited(limit) => Some(format!("limit {}", limit.name())),
                _ => None,
            }));
    }

    fn spawn(&mut self, pid: u32, command: &[&str]) -> ProcessKey {
        let event = executed(next(image(pid)), image(1), command);
        self.apply(Event::ProcessExecuted(Box::new(event)));
        self.told.clear();
        next(image(pid))
    }

    fn claude(&mut self) -> ProcessKey {
        self.spawn(100, CLAUDE)
    }

    fn resolve(&mut self, process: ProcessKey, name: &str, addr: &str) {
        let (ip, _) = addr.rsplit_once(':').unwrap();
        for message in resolved(process, name, ip) {
            self.apply(Event::DnsMessage(Box::new(message)));
        }
    }

    fn connect(&mut self, process: ProcessKey, addr: &str) {
        let cookie = process.tgid.into();
        self.apply(Event::FlowOpened(opened(process, addr, cookie)));
    }

    fn say(&mut self, process: ProcessKey, addr: &str, claim: Claim) {
        self.apply(Event::NameClaimed(Box::new(NameClaimed {
            time: self.now,
            process,
            remote: tcp(addr),
            cookie: SocketCookie(process.tgid.into()),
            claim,
        })));
    }

    fn name(&mut self, process: ProcessKey, addr: &str, by: By, host: &str) {
        self.say(process, addr, named(by, host, false));
    }

    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = BootNs(self.now.0 + 1_000_000_000);
            let effects = self.collector.sweep(self.now);
            self.tell(effects);
        }
    }

    #[track_caller]
    fn check(&mut self, expect: &[&str]) {
        assert_eq!(std::mem::take(&mut self.told), expect);
    }
}

fn named(by: By, host: &str, ech: bool) -> Claim {
    let target = Target::from_text(host.as_bytes()).unwrap();
    Claim::Named(Named {
        by,
        host: target.host,
        port: target.port,
        ech,
        alpn: vec![Alpn::Http2, Alpn::Http1],
    })
}

#[test]
fn a_flow_without_a_name_waits_for_its_hello() {
    let mut host = Host::new();
    let claude = host.claude();
    host.connect(claude, API);
    host.check(&[]);
    host.name(claude, API, By::Tls, "api.anthropic.com");
    host.check(&["open api.anthropic.com sni expected-unverified"]);
    // Told once, and it ends in the same words.
    host.name(claude, API, By::Tls, "api.anthropic.com");
    host.apply(Event::FlowEnded(ended(claude, API, 100)));
    host.check(&["end api.anthropic.com sni expected-unverified"]);
}

/// What is told of the hellos of flows.
fn hellos(effects: &[Effect]) -> Vec<Option<(&str, &[Alpn], bool)>> {
    fn hello(effect: &Effect) -> Option<Option<&Hello>> {
        match effect {
            Effect::Flow(report) => Some(report.hello.as_deref()),
            _ => None,
        }
    }
    let told = effects.iter().filter_map(hello);
    told.map(|hello| hello.map(|it| (&*it.server_name, &*it.alpn, it.ech)))
        .collect()
}

#[test]
fn a_hello_is_told_with_its_flow_or_at_its_end() {
    let mut host = Host::new();
    let claude = host.claude();
    let expect = [Some((
        "api.anthropic.com",
        &[Alpn::Http2, Alpn::Http1][..],
        true,
    ))];
    let said = |process, addr| {
        Event::NameClaimed(Box::new(NameClaimed {
            time: BootNs(0),
            process,
            remote: tcp(addr),
            cookie: SocketCookie(100),
            claim: named(By::Tls, "api.anthropic.com", true),
        }))
    };
    host.connect(claude, OTHER);
    let told = host.collector.apply(said(claude, OTHER), host.now);
    assert_eq!(hellos(&told), expect);
    // This one is told before its hello.
    host.resolve(claude, "api.anthropic.com", API);
    let opened = Event::FlowOpened(opened(claude, API, 100));
    assert_eq!(hellos(&host.collector.apply(opened, host.now)), [None]);
    let told = host.collector.apply(said(claude, API), host.now);
    assert_eq!(hellos(&told), []);
    let end = Event::FlowEnded(ended(claude, API, 100));
    assert_eq!(hellos(&host.collector.apply(end, host.now)), expect);
    // What a proxy is asked for is no hello.
    host.connect(claude, PROXY);
    let asked = NameClaimed {
        time: BootNs(0),
        process: claude,
        remote: tcp(PROXY),
        cookie: SocketCookie(100),
        claim: named(By::HttpConnect, "api.anthropic.com:443", false),
    };
    let told = host
        .collector
        .apply(Event::NameClaimed(Box::new(asked)), host.now);
    assert_eq!(hellos(&told), [None]);
}

#[test]
fn a_name_from_systemd_resolved_backs_a_flow() {
    let mut host = Host::new();
    let claude = host.claude();
    let tell = |name: &str, addr: &str| {
        Event::NameResolved(NameResolved {
            time: BootNs(0),
            name: name.into(),
            ip: tcp(addr).addr.ip(),
        })
    };
    host.apply(tell("api.anthropic.com", API));
    host.connect(claude, API);
    host.say(claude, API, Claim::NotRecognised);
    host.check(&["open api.anthropic.com resolved expected"]);
    host.connect(claude, API);
    host.name(claude, API, By::Tls, "api.anthropic.com");
    host.check(&["open api.anthropic.com resolved expected"]);
    // It contradicts a false name as any resolver does.
    host.apply(tell("evil.test", OTHER));
    host.connect(claude, OTHER);
    host.name(claude, OTHER, By::Tls, "api.anthropic.com");
    host.check(&[
        "name-conflict api.anthropic.com main sni claude-code",
        "open api.anthropic.com sni expected-unverified",
    ]);
}

#[test]
fn a_flow_that_names_nobody_is_told_as_that() {
    let mut host = Host::new();
    let claude = host.claude();
    let nameless = [
        "open  none unknown",
        "unexpected-endpoint 203.0.113.9 main claude-code unknown",
    ];
    host.connect(claude, OTHER);
    host.say(claude, OTHER, Claim::NotRecognised);
    host.check(&nameless);
    host.connect(claude, OTHER);
    host.wait(2);
    host.check(&[]);
    host.wait(1);
    host.check(&nameless[..1]);
    host.connect(claude, OTHER);
    host.apply(Event::FlowEnded(ended(claude, OTHER, 100)));
    host.check(&[nameless[0], "end  none unknown"]);
    host.connect(claude, OTHER);
    let last = host.collector.shutdown(host.now);
    host.tell(last);
    assert_eq!(host.told[0], nameless[0]);
}

#[test]
fn a_resolved_flow_is_told_at_once() {
    let mut host = Host::new();
    let claude = host.claude();
    host.resolve(claude, "api.anthropic.com", API);
    host.connect(claude, API);
    host.check(&["open api.anthropic.com dns-own expected"]);
    host.name(claude, API, By::Tls, "api.anthropic.com");
    host.check(&[]);
}

#[test]
fn a_false_name_makes_nothing_expected() {
    let mut host = Host::new();
    let claude = host.claude();
    host.resolve(claude, "api.anthropic.com", API);
    host.resolve(claude, "evil.test", OTHER);
    host.connect(claude, OTHER);
    let undeclared = "unexpected-endpoint evil.test main claude-code undeclared";
    host.check(&["open evil.test dns-own undeclared", undeclared]);
    host.name(claude, OTHER, By::Tls, "api.anthropic.com");
    host.check(&["name-conflict api.anthropic.com main sni claude-code"]);
}

/// A declared host's address, and an undeclared name at it.
#[test]
fn a_host_behind_a_declared_one_is_cause_for_an_alert() {
    let mut host = Host::new();
    let claude = host.claude();
    host.resolve(claude, "api.anthropic.com", API);
    host.connect(claude, API);
    host.check(&["open api.anthropic.com dns-own expected"]);
    host.name(claude, API, By::Tls, "evil.test");
    host.check(&["unexpected-endpoint evil.test main claude-code undeclared"]);
}

#[test]
fn two_processes_on_a_shared_address_each_show_their_own() {
    let mut host = Host::new();
    let other = host.spawn(50, &["/usr/bin/curl"]);
    host.resolve(other, "api.anthropic.com", API);
    let claude = host.claude();
    host.connect(claude, API);
    host.name(claude, API, By::Quic, "paste.test");
    host.check(&[
        "open paste.test quic-sni undeclared",
        "unexpected-endpoint paste.test main claude-code undeclared",
    ]);
    // What someone else resolved backs what this process says.
    host.connect(claude, API);
    host.name(claude, API, By::Tls, "api.anthropic.com");
    host.check(&["open api.anthropic.com dns-shared expected"]);
}

#[test]
fn a_name_in_front_of_a_hidden_one_is_no_conflict() {
    let mut host = Host::new();
    let claude = host.claude();
    host.resolve(claude, "front.test", OTHER);
    host.resolve(claude, "api.anthropic.com", API);
    host.connect(claude, API);
    host.check(&["open api.anthropic.com dns-own expected"]);
    host.say(claude, API, named(By::Tls, "front.test", true));
    host.check(&[]);
}

#[test]
fn a_program_of_no_tool_is_known_by_whom_it_names() {
    let mut host = Host::new();
    let script = host.spawn(60, &["/usr/bin/python3", "own.py"]);
    host.connect(script, API);
    host.name(script, API, By::Tls, "api.anthropic.com");
    host.check(&[
        "open api.anthropic.com sni undeclared",
        "unexpected-endpoint api.anthropic.com unidentified unidentified undeclared",
    ]);
}

#[test]
fn whom_a_proxy_is_asked_for_is_whom_the_client_reaches() {
    let mut host = Host::new();
    let claude = host.claude();
    for (by, source) in [(By::HttpConnect, "http-connect"), (By::Socks, "socks")] {
        host.connect(claude, PROXY);
        host.name(claude, PROXY, by, "api.anthropic.com:443");
        let open = format!("open api.anthropic.com:443 {source} expected-unverified");
        host.check(&[&open]);
        // What is said in the tunnel is not said of the proxy.
        host.name(claude, PROXY, By::Tls, "api.anthropic.com");
        host.check(&[]);
    }
    host.connect(claude, PROXY);
    host.name(claude, PROXY, By::HttpConnect, "evil.test:443");
    host.check(&[
        "open evil.test:443 http-connect undeclared",
        "unexpected-endpoint evil.test main claude-code undeclared",
    ]);
    host.connect(claude, PROXY);
    host.name(claude, PROXY, By::HttpConnect, "192.0.2.200:443");
    host.check(&["open 192.0.2.200:443 none expected"]);
}

#[test]
fn a_proxy_on_this_host_is_one_too() {
    let mut host = Host::new();
    let claude = host.claude();
    host.connect(claude, "127.0.0.1:8080");
    host.name(
        claude,
        "127.0.0.1:8080",
        By::HttpConnect,
        "api.anthropic.com:443",
    );
    host.check(&["open api.anthropic.com:443 http-connect expected-unverified"]);
    host.connect(claude, "127.0.0.1:8080");
    host.name(claude, "127.0.0.1:8080", By::Http, "api.anthropic.com");
    host.check(&["open  none local"]);
}

/// An unlisted host is not excused by what it is asked for.
#[test]
fn a_proxy_that_nobody_vouches_for_counts_itself() {
    let mut host = Host::new();
    let claude = host.claude();
    host.resolve(claude, "evil.test", OTHER);
    host.connect(claude, OTHER);
    host.name(claude, OTHER, By::HttpConnect, "api.anthropic.com:443");
    host.check(&[
        "open evil.test dns-own undeclared",
        "unexpected-endpoint evil.test main claude-code undeclared",
    ]);
}

#[test]
fn a_mandatory_proxy_is_vouched_for_and_not_to_be_passed_by() {
    let mut host = Host::with(|config| {
        config.proxies = vec![Target::from_text(b"proxy.test:3128").unwrap()];
    });
    let claude = host.claude();
    host.resolve(claude, "proxy.test", PROXY);
    host.connect(claude, PROXY);
    host.check(&[]);
    host.name(claude, PROXY, By::HttpConnect, "api.anthropic.com:443");
    host.check(&["open api.anthropic.com:443 http-connect expected"]);
    host.resolve(claude, "api.anthropic.com", API);
    host.connect(claude, API);
    host.check(&[
        "open api.anthropic.com dns-own expected",
        "proxy-bypass api.anthropic.com main claude-code",
    ]);
    for inside in [
        "10.1.2.3:443",
        "192.0.2.53:53",
        "[fd00::1]:443",
        "127.0.0.1:1",
    ] {
        host.connect(claude, inside);
        host.say(claude, inside, Claim::NotRecognised);
        let bypass = host
            .told
            .iter()
            .find(|told| told.starts_with("proxy-bypass"));
        assert_eq!(bypass, None);
    }
}

#[test]
fn a_forged_answer_is_told_and_not_used() {
    let mut host = Host::new();
    let claude = host.claude();
    let [query, answer] = resolved(claude, "api.anthropic.com", "203.0.113.9");
    host.apply(Event::DnsMessage(Box::new(query)));
    let mut forged = answer;
    forged.payload[1] ^= 1; // The id.
    host.apply(Event::DnsMessage(Box::new(forged)));
    host.check(&["name-conflict api.anthropic.com main forged claude-code"]);
    host.connect(claude, OTHER);
    host.say(claude, OTHER, Claim::NotRecognised);
    assert_eq!(host.told[0], "open  none unknown");
}

#[test]
fn what_finds_no_room_to_wait_is_told_at_once() {
    let mut host = Host::new();
    host.collector.waiting = crate::core::waiting::Waiting::new(0);
    let claude = host.claude();
    host.connect(claude, OTHER);
    assert_eq!(host.told[..2], ["limit waiting", "open  none unknown"]);
}

#[test]
fn services_are_known_by_name_and_by_address() {
    let mut config = fixture::config();
    config.sampling = true;
    let whole = Arc::new(crate::core::catalog::Catalog::embedded().unwrap());
    let mut collector = Collector::new(config, whole);
    let claude = executed(next(image(100)), image(1), CLAUDE);
    collector.apply(Event::ProcessExecuted(Box::new(claude)), at(1));
    let mut check = |addr: &str, name: Option<&str>, expect: (&str, Option<&str>)| {
        let event = opened(next(image(100)), addr, 7);
        collector.apply(Event::FlowOpened(event), at(1));
        let claim = name.map_or(Claim::NotRecognised, |name| named(By::Tls, name, false));
        let effects = collector.apply(
            Event::NameClaimed(Box::new(NameClaimed {
                time: at(1),
                process: next(image(100)),
                remote: tcp(addr),
                cookie: SocketCookie(7),
                claim,
            })),
            at(1),
        );
        let judgement = effects.iter().find_map(|effect| match effect {
            Effect::Flow(flow) => Some(&flow.judgement),
            _ => None,
        });
        let judgement = judgement.unwrap();
        let purpose = judgement.purpose.as_deref();
        assert_eq!((judgement.verdict.name(), purpose), expect, "{addr}");
    };
    check(
        OTHER,
        Some("dns.alidns.com"),
        ("undeclared", Some("encrypted-dns")),
    );
    check(
        OTHER,
        Some("ipinfo.io"),
        ("undeclared", Some("geolocation-probe")),
    );
    check(
        "203.107.1.1:80",
        None,
        ("undeclared", Some("encrypted-dns")),
    );
    check("223.5.5.5:443", None, ("undeclared", Some("encrypted-dns")));
    check("223.5.5.5:53", None, ("unknown", None));
    check(OTHER, Some("paste.test"), ("undeclared", None));
}
