//! What is done to the receivers of alerts, events and metrics, all at once.
//!
//! In: for each fault, a monitor with every kind of receiver, all of which have it, and alerts
//! before and while they do. Out: once they are mended, each receiver has each alert; nothing was
//! dropped.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use monitor_tests::metrics::Metrics;
use monitor_tests::scene::Scene;
use monitor_tests::telltale::Telltale;
use monitor_tests::wait;

use super::receiver::{Fault, Identities, Receiver, Speaks};

/// How long receivers are away, in seconds, if `TELLTALE_TEST_OUTAGE_SECONDS` does not say
/// otherwise.
const OUTAGE_S: u64 = 6;
/// Alerts come in so many portions, from the beginning of the outage on.
const PORTIONS: u32 = 3;
/// So many in each.
const PORTION: usize = 8;
/// The longest that a receiver that is back waits for what it missed: the longest pause between two
/// tries and the longest try, on a busy host.
const CATCH_UP: Duration = Duration::from_secs(45);

/// Makes the folder of this test the one where the journal's socket is, for one process.
const WITH_JOURNAL: &str = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                            mount --bind \"$0\" /run/systemd/journal && exec \"$@\"";

#[test]
fn away_and_back() {
    let seconds = env::var("TELLTALE_TEST_OUTAGE_SECONDS");
    let seconds = seconds.map_or(OUTAGE_S, |seconds| seconds.parse().unwrap());
    let outage = Duration::from_secs(seconds);
    thread::scope(|scope| {
        let played = Fault::ALL.map(|fault| (fault, scope.spawn(move || play(fault, outage))));
        for (fault, played) in played {
            match played.join() {
                Ok(table) => print!("{table}"),
                Err(_) => panic!("{fault:?} failed; see above"),
            }
        }
    });
}

/// A monitor's receivers: name of the sink, path that its messages come to, receiver.
struct Sink {
    name: String,
    path: &'static str,
    receiver: usize,
}

/// The receivers of one monitor, and the configuration that names them.
struct Stage {
    receivers: Vec<Receiver>,
    sinks: Vec<Sink>,
    config: String,
}

impl Stage {
    fn set(scene: &Scene, fault: Fault, identities: &Identities) -> Stage {
        let mut stage = Stage {
            receivers: Vec::new(),
            sinks: Vec::new(),
            config: format!(
                "[alerts]\nresend_seconds = 86400\nresolve_after_seconds = 86400\n\
                 spool_directory = \"{}\"\n\n",
                scene.dir().join("spool").display()
            ),
        };
        let scheme = match fault {
            Fault::Untrusted => "https",
            _ => "http",
        };
        let at = |receiver: &Receiver| format!("{scheme}://{}", receiver.address());
        for kind in ["alertmanager", "webhook", "slack"] {
            let url = at(stage.add(&format!("{kind}-1"), "", Speaks::Http, fault, identities));
            let _ = writeln!(
                stage.config,
                "[[alerts.{kind}]]\nurl = \"{url}/\"\ntimeout_seconds = 3\n"
            );
        }
        let url = at(stage.add("otlp-events", "/v1/logs", Speaks::Http, fault, identities));
        stage.sinks.push(Sink {
            name: "otlp-metrics".to_owned(),
            path: "/v1/metrics",
            receiver: stage.receivers.len() - 1,
        });
        let _ = writeln!(
            stage.config,
            "[otlp]\nurl = \"{url}\"\nmetrics_seconds = 1\ntimeout_seconds = 3\n"
        );
        stage.add_syslog(scene, fault, identities);
        stage
    }

    /// Each of them has a fault of its own kind only.
    fn add_syslog(&mut self, scene: &Scene, fault: Fault, identities: &Identities) {
        let (stream, datagrams) = (Speaks::Stream, Speaks::Datagrams);
        let unix = |name: &str| Speaks::Unix(scene.dir().join(name));
        let journal = scene.dir().join("journal");
        fs::create_dir(&journal).unwrap();
        let scheme = match fault {
            Fault::Untrusted => "tls",
            _ => "tcp",
        };
        let all = [
            (stream.clone(), "rfc5424", scheme),
            (stream, "cef", scheme),
            (datagrams, "rfc5424", "udp"),
            (unix("log.sock"), "rfc5424", "unix"),
            (unix("journal/socket"), "rfc5424", "journald"),
        ];
        for (speaks, format, scheme) in all {
            if !applies(fault, &speaks) {
                continue;
            }
            let number = self.sinks.iter().filter(|it| it.name.starts_with("syslog"));
            let name = format!("syslog-{}", number.count() + 1);
            let path = match &speaks {
                Speaks::Unix(path) => Some(path.display().to_string()),
                _ => None,
            };
            let receiver = self.add(&name, "", speaks, fault, identities);
            let address = match (scheme, path) {
                ("journald", _) => scheme.to_owned(),
                (_, Some(path)) => format!("{scheme}:{path}"),
                (_, None) => format!("{scheme}:{}", receiver.address()),
            };
            let _ = writeln!(
                self.config,
                "[[alerts.syslog]]\naddress = \"{address}\"\nformat = \"{format}\"\n"
            );
            if let Some(sink) = self.sinks.last_mut() {
                let _ = write!(sink.name, " ({scheme} {format})");
            }
        }
    }

    fn add(
        &mut self,
        name: &str,
        path: &'static str,
        speaks: Speaks,
        fault: Fault,
        identities: &Identities,
    ) -> &Receiver {
        self.sinks.push(Sink {
            name: name.to_owned(),
            path,
            receiver: self.receivers.len(),
        });
        self.receivers
            .push(Receiver::start(speaks, fault, identities));
        self.receivers.last().unwrap()
    }
}

/// A datagram is not answered, and has no certificate.
fn applies(fault: Fault, speaks: &Speaks) -> bool {
    match speaks {
        Speaks::Http | Speaks::Stream => true,
        Speaks::Datagrams | Speaks::Unix(_) => {
            matches!(fault, Fault::Refuses | Fault::Hangs | Fault::Slow)
        }
    }
}

/// Lets every receiver have this fault for so long, and writes a line for each.
fn play(fault: Fault, outage: Duration) -> String {
    let scene = Scene::new();
    let _server = scene.serve("0.0.0.0:443");
    let tool = scene.own_tool();
    let identities = Identities::make(scene.dir());
    let stage = Stage::set(&scene, fault, &identities);
    let names: Vec<String> = (0..PORTIONS as usize * PORTION)
        .map(|number| format!("x{number:02}.{}.example", tool.id))
        .collect();
    for (number, name) in (1..).zip(&names) {
        // One address for all names would be one remote.
        scene.dns.answer(name, &[&format!("198.51.100.{number}")]);
    }
    let trust = format!("SSL_CERT_FILE={}", identities.trust.display());
    let journal = scene.dir().join("journal").display().to_string();
    let telltale = scene
        .telltale()
        .config(&stage.config)
        .through(&[
            "env",
            &trust,
            "unshare",
            "--mount",
            "sh",
            "-c",
            WITH_JOURNAL,
            &journal,
        ])
        .start();
    let begin = Instant::now();
    for (number, names) in (0..).zip(names.chunks(PORTION)) {
        for name in names {
            // A process each: alerts have its arguments.
            scene.run(&tool.program, &["connect", &format!("{name}:443")]);
        }
        let next = outage * (number + 1) / PORTIONS;
        thread::sleep(next.saturating_sub(begin.elapsed()));
    }
    let ids = wait::until("an alert for each name", wait::SOON, || {
        let ids = alerts(&telltale, &names);
        (ids.len() == names.len()).then_some(ids)
    });
    for receiver in &stage.receivers {
        receiver.mend();
    }
    check(fault, &stage, &telltale, &ids)
}

/// The ids of the alerts that the event log has for these names.
fn alerts(telltale: &Telltale, names: &[String]) -> BTreeMap<String, String> {
    let events = telltale.events();
    let alerts = events.iter().filter(|it| it.text("event.kind") == "alert");
    alerts
        .filter_map(|alert| {
            let text = alert.0.to_string();
            let name = names.iter().find(|name| text.contains(name.as_str()))?;
            Some((name.clone(), alert.text("event.id").to_owned()))
        })
        .collect()
}

/// Every receiver gets everything, and nothing was dropped.
fn check(
    fault: Fault,
    stage: &Stage,
    telltale: &Telltale,
    ids: &BTreeMap<String, String>,
) -> String {
    let mended = Instant::now();
    let mut table = String::new();
    let mut after = BTreeMap::new();
    wait::try_until(CATCH_UP, || {
        for sink in &stage.sinks {
            let counts = counts(stage, sink, ids);
            if counts.iter().all(|count| *count > 0) {
                after.entry(&sink.name).or_insert_with(|| mended.elapsed());
            }
        }
        (after.len() == stage.sinks.len()).then_some(())
    });
    let empty = |metrics: &Metrics| metrics.sum("telltale_sink_queue_length", &[]) == Some(0.0);
    let metrics = telltale.wait_long_for_metrics("nothing that waits", CATCH_UP, empty);
    for sink in &stage.sinks {
        let counts = counts(stage, sink, ids);
        let missing = counts.iter().filter(|count| **count == 0).count();
        let after = after.get(&sink.name);
        assert!(after.is_some(), "{fault:?}: {} lacks {missing}", sink.name);
        let of_sink = [("sink", sink.name.split(' ').next().unwrap())];
        let get = |name| metrics.get(name, &of_sink);
        let _ = writeln!(
            table,
            "receivers: {:9} {:26} {:3} of {:3} there {:4.1} s after; {:3} delivered, {:3} tried \
             again, {:2} told twice",
            format!("{fault:?}"),
            sink.name,
            counts.len() - missing,
            counts.len(),
            after.map_or(0.0, Duration::as_secs_f64),
            get("telltale_sink_delivered_total"),
            get("telltale_sink_retries_total"),
            counts.iter().filter(|count| **count > 1).count(),
        );
    }
    check_drops(&metrics);
    table
}

fn check_drops(metrics: &Metrics) {
    let dropped = metrics.sum("telltale_sink_dropped_total", &[]);
    assert_eq!(
        dropped,
        Some(0.0),
        "{}",
        metrics.lines("telltale_sink_dropped")
    );
}

/// How often each alert came; of metrics, how often they did.
fn counts(stage: &Stage, sink: &Sink, ids: &BTreeMap<String, String>) -> Vec<usize> {
    let receiver = &stage.receivers[sink.receiver];
    match sink.name.as_str() {
        "otlp-metrics" => vec![
            receiver
                .count(sink.path, b"telltale_connections_total")
                .min(1),
        ],
        // Other events have the name too, but not the id: a text in protobuf, with its length.
        "otlp-events" => ids
            .values()
            .map(|id| {
                let length = u8::try_from(id.len()).unwrap();
                receiver.count(sink.path, &[&[0x0a, length], id.as_bytes()].concat())
            })
            .collect(),
        _ => ids
            .keys()
            .map(|name| receiver.count(sink.path, name.as_bytes()))
            .collect(),
    }
}
