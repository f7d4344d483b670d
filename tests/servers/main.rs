//! A real Prometheus scrapes, a real Alertmanager receives: asked over their own APIs.
//!
//! In: Debian's `prometheus` and `prometheus-alertmanager`, on loopback ports. Out: what they hold.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests report failure by panicking, in their helpers too"
)]

mod journal;
mod newer;
mod syslog;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use monitor_tests::running::Running;
use monitor_tests::scene::{SERVER_V4, Scene};
use monitor_tests::telltale::{free_address, write_config};
use monitor_tests::webhook::WebhookReceiver;
use monitor_tests::{binary, http, python, wait};
use rustix::process::Signal;
use serde_json::Value;

/// A server of somebody else's, with an HTTP API.
struct Server {
    address: SocketAddr,
    _process: Running,
}

impl Server {
    /// Starts a program that listens on `--web.listen-address` and serves `/-/ready`.
    #[track_caller]
    fn start(program: &str, dir: &Path, args: &[&str]) -> Server {
        if !program.contains('/') {
            binary::require(program, program);
        }
        let address = free_address();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]).args(args);
        command.arg(format!("--web.listen-address={address}"));
        let label = program.rsplit('/').next().unwrap_or(program);
        let mut process = Running::start(label, dir, command);
        wait::until(&format!("{program} is ready"), wait::START, || {
            assert!(process.status().is_none(), "{}", process.describe());
            let ready = http::get(address, "/-/ready");
            ready
                .is_ok_and(|response| response.status == 200)
                .then_some(())
        });
        Server {
            address,
            _process: process,
        }
    }

    /// The answer to an API call.
    #[track_caller]
    fn ask(&self, path: &str) -> Value {
        let response = http::get(self.address, path).unwrap();
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        serde_json::from_str(&response.body).unwrap()
    }
}

fn prometheus(dir: &Path, target: SocketAddr) -> Server {
    prometheus_with(dir, target, "scheme: http")
}

/// A Prometheus that scrapes as `how` says.
fn prometheus_with(dir: &Path, target: SocketAddr, how: &str) -> Server {
    prometheus_of("prometheus", dir, target, how)
}

fn prometheus_of(program: &str, dir: &Path, target: SocketAddr, how: &str) -> Server {
    let config = dir.join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 1s}}\n\
         scrape_configs: [{{job_name: telltale, static_configs: [{{targets: ['{target}']}}], {how}}}]\n"
    );
    fs::write(&config, text).unwrap();
    let config = format!("--config.file={}", config.display());
    let storage = format!("--storage.tsdb.path={}", dir.join("prometheus").display());
    let exemplars = "--enable-feature=exemplar-storage";
    Server::start(program, dir, &[&config, &storage, exemplars])
}

/// Alertmanager passes on to a webhook at once, as a pager would be told.
fn alertmanager(dir: &Path, pager: &WebhookReceiver) -> Server {
    let alone = ["--cluster.listen-address="];
    alertmanager_of("prometheus-alertmanager", dir, pager, &alone)
}

fn alertmanager_of(program: &str, dir: &Path, pager: &WebhookReceiver, cluster: &[&str]) -> Server {
    let config = dir.join("alertmanager.yml");
    let text = format!(
        "route: {{receiver: pager, group_wait: 0s, group_interval: 1s, group_by: ['...']}}\n\
         receivers: [{{name: pager, webhook_configs: [{{url: '{}'}}]}}]\n",
        pager.url()
    );
    fs::write(&config, text).unwrap();
    let config = format!("--config.file={}", config.display());
    let storage = format!("--storage.path={}", dir.join("alertmanager").display());
    let args = [&[config.as_str(), &storage], cluster].concat();
    Server::start(program, dir, &args)
}

/// A text as part of a URL.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// The value of an instant query with one result.
fn query(prometheus: &Server, expression: &str) -> Option<f64> {
    let expression = encoded(expression);
    let answer = prometheus.ask(&format!("/api/v1/query?query={expression}"));
    answer["data"]["result"][0]["value"][1]
        .as_str()?
        .parse()
        .ok()
}

#[test]
fn prometheus_scrapes_the_connection_of_a_tool() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let tool = scene.own_tool();
    scene.dns.answer(&tool.api, &[SERVER_V4]);
    let telltale = scene.telltale().start();
    let prometheus = prometheus(scene.dir(), telltale.address);
    let series = format!(
        "telltale_connections_total{{tool=\"{}\",role=\"main\",purpose=\"api\",\
         verdict=\"expected\",transport=\"tcp\"}}",
        tool.id
    );
    wait::until("a first scrape", wait::SOON, || {
        query(&prometheus, "up").filter(|&up| up > 0.0)
    });
    scene.run(&tool.program, &["connect", &format!("{}:443", tool.api)]);
    let ask = || query(&prometheus, &series).filter(|&count| count > 0.0);
    let count = wait::until("the connection in Prometheus", wait::SOON, ask);
    assert!((count - 1.0).abs() < f64::EPSILON, "{count} connections");
    // Its exemplar leads to the event in the log.
    let event = telltale.wait_for("connection-opened", |event| {
        event.action() == "connection-opened" && event.text("destination.domain") == tool.api
    });
    let path = format!(
        "/api/v1/query_exemplars?query={}&start=0&end=4000000000",
        encoded(&series)
    );
    let exemplar = wait::until("an exemplar in Prometheus", wait::SOON, || {
        let answer = prometheus.ask(&path);
        let id = &answer["data"][0]["exemplars"][0]["labels"]["event_id"];
        id.as_str().map(str::to_owned)
    });
    assert_eq!(exemplar, event.text("event.id"));
    assert_eq!(
        query(&prometheus, "max(telltale_books_remainder)"),
        Some(0.0)
    );
    let targets = prometheus.ask("/api/v1/targets");
    assert_eq!(
        targets["data"]["activeTargets"][0]["health"], "up",
        "{targets:#}"
    );
}

/// A certificate for 127.0.0.1 that is its own CA, as `NAME.crt` and `NAME.key`.
fn certificate(dir: &Path, name: &str) {
    let path = |kind: &str| dir.join(format!("{name}.{kind}")).display().to_string();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=telltale test"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &path("key"), "-out", &path("crt")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// bcrypt of `secret`.
const SECRET_HASH: &str = "$2b$04$mYfu8j6NJXOn/DrsMRd4lua/3OOC.1mMt6N6ZFXd2F.5zhKYyfJBa";

#[test]
fn prometheus_scrapes_with_mutual_tls_and_a_password() {
    let scene = Scene::new();
    binary::require("promtool", "prometheus");
    let dir = scene.dir();
    certificate(dir, "server");
    certificate(dir, "scraper");
    let path = dir.join("web-config.yml");
    let text = format!(
        "tls_server_config: {{cert_file: server.crt, key_file: server.key, \
         client_ca_file: scraper.crt, client_auth_type: RequireAndVerifyClientCert}}\n\
         basic_auth_users: {{prometheus: {SECRET_HASH}}}\n"
    );
    fs::write(&path, text).unwrap();
    let mut promtool = Command::new("promtool");
    let check = promtool.args(["check", "web-config"]).arg(&path).output();
    let check = check.unwrap();
    assert!(check.status.success(), "{check:?}");
    let secured = free_address();
    let config = path.display().to_string();
    let dir_text = dir.display();
    let address = secured.to_string();
    let args = [
        "--web.listen-address",
        &address,
        "--web.config.file",
        &config,
    ];
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(binary::telltale());
    let config = write_config(dir, "");
    command.arg("run").args(args).arg("--config").arg(config);
    let mut process = Running::start("telltale", dir, command);
    process.wait_for_message("metrics on https://");
    assert!(
        http::get(secured, "/metrics").is_err(),
        "plain HTTP is answered"
    );
    let how = format!(
        "scheme: https, basic_auth: {{username: prometheus, password: secret}}, \
         tls_config: {{ca_file: {dir_text}/server.crt, cert_file: {dir_text}/scraper.crt, \
         key_file: {dir_text}/scraper.key}}"
    );
    let prometheus = prometheus_with(dir, secured, &how);
    wait::until("a first scrape", wait::SOON, || {
        query(&prometheus, "telltale_build_info").filter(|&up| up > 0.0)
    });
}

#[test]
fn prometheus_finds_no_fault_with_the_metrics() {
    let scene = Scene::new();
    binary::require("promtool", "prometheus");
    let telltale = scene.telltale().start();
    let scrape = scene.dir().join("scrape");
    fs::write(&scrape, telltale.get("/metrics").unwrap().body).unwrap();
    let check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(fs::File::open(&scrape).unwrap())
        .output()
        .unwrap();
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stderr)
    );
}

/// Reads OpenMetrics with the reference parser, and prints what it found.
const PARSE: &str = "\
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
samples = [(f.unit, s) for f in parse(sys.stdin.read()) for s in f.samples]
print(len(samples), 'samples')
print(sum(1 for _, s in samples if s.exemplar), 'exemplars')
print(sum(1 for unit, _ in samples if unit == 'seconds'), 'in seconds')
";

#[test]
fn the_reference_parser_reads_the_open_metrics() {
    let mut python = python::program("python");
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let tool = scene.own_tool();
    scene.dns.answer(&tool.api, &[SERVER_V4]);
    let telltale = scene.telltale().start();
    scene.run(&tool.program, &["connect", &format!("{}:443", tool.api)]);
    telltale.wait_for_metrics("connection of the tool", |metrics| {
        metrics
            .sum("telltale_connections_total", &[("tool", &tool.id)])
            .is_some()
    });
    let accept = "Accept: application/openmetrics-text; version=1.0.0";
    let scrape = http::get_with(telltale.address, "/metrics", accept).unwrap();
    let head = scrape.head.to_ascii_lowercase();
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    let path = scene.dir().join("scrape");
    fs::write(&path, &scrape.body).unwrap();
    let parsed = python
        .args(["-c", PARSE])
        .stdin(fs::File::open(&path).unwrap())
        .output()
        .unwrap();
    assert!(parsed.status.success(), "{parsed:?}");
    let lines = scrape.body.lines().filter(|line| !line.starts_with('#'));
    let found = String::from_utf8(parsed.stdout).unwrap();
    let expect = format!("{} samples\n", lines.count());
    assert!(found.starts_with(&expect), "{found}, wanted {expect}");
    assert!(!found.contains("\n0 "), "{found}");
}

#[test]
fn alertmanager_is_told_of_a_banned_tool_and_of_its_end() {
    let scene = Scene::new();
    let pager = WebhookReceiver::start();
    let alertmanager = alertmanager(scene.dir(), &pager);
    let tool = scene.own_tool();
    let config = format!(
        "[policy]\nbanned = [\"{}\"]\n\n[alerts]\nresend_seconds = 1\n\
         resolve_after_seconds = 4\n\n[[alerts.alertmanager]]\nurl = \"http://{}\"\n",
        tool.id, alertmanager.address
    );
    let telltale = scene.telltale().config(&config).start();
    scene.run(&tool.program, &[]);
    let alert = wait::until("the alert in Alertmanager", wait::SOON, || {
        let alerts = alertmanager.ask("/api/v2/alerts");
        let alerts = alerts.as_array().unwrap();
        alerts
            .iter()
            .find(|alert| alert["labels"]["tool"] == tool.id)
            .cloned()
    });
    assert_eq!(alert["labels"]["severity"], "critical", "{alert:#}");
    assert!(alert["labels"]["alertname"].is_string(), "{alert:#}");
    assert!(alert["annotations"]["summary"].is_string(), "{alert:#}");
    // As somebody on call would ask.
    let mut amtool = Command::new("amtool");
    amtool.arg(format!(
        "--alertmanager.url=http://{}",
        alertmanager.address
    ));
    amtool.args(["alert", "query", &format!("tool={}", tool.id)]);
    let said = succeeds(&mut amtool);
    assert!(said.contains("banned-tool"), "{said}");
    let state = |state: &'static str| {
        let tool = tool.id.clone();
        move |body: &Value| {
            let alert = &body["alerts"][0];
            alert["status"] == state && alert["labels"]["tool"] == tool
        }
    };
    pager.wait_for("page", state("firing"));
    let resolved = || pager.bodies().into_iter().find(state("resolved"));
    wait::until(
        "the all-clear at the pager",
        Duration::from_secs(20),
        resolved,
    );
    telltale.stop();
}

#[test]
fn a_cluster_of_alertmanagers_pages_once() {
    page_once("prometheus-alertmanager");
}

/// Two Alertmanagers of a cluster are both told, and the pager hears of it once.
#[track_caller]
fn page_once(program: &str) {
    let scene = Scene::new();
    let pager = WebhookReceiver::start();
    let gossip = [free_address(), free_address()].map(|at| at.to_string());
    let servers = [0, 1].map(|index| {
        let dir = scene.dir().join(format!("peer-{index}"));
        fs::create_dir(&dir).unwrap();
        let flags = [
            format!("--cluster.listen-address={}", gossip[index]),
            format!("--cluster.advertise-address={}", gossip[index]),
            format!("--cluster.peer={}", gossip[1 - index]),
            "--cluster.peer-timeout=5s".to_owned(),
        ];
        alertmanager_of(program, &dir, &pager, &flags.each_ref().map(String::as_str))
    });
    let tool = scene.own_tool();
    let receivers: String = servers
        .iter()
        .map(|server| {
            format!(
                "[[alerts.alertmanager]]\nurl = \"http://{}\"\n",
                server.address
            )
        })
        .collect();
    let config = format!("[policy]\nbanned = [\"{}\"]\n\n{receivers}", tool.id);
    let _telltale = scene.telltale().config(&config).start();
    scene.run(&tool.program, &[]);
    for server in &servers {
        wait::until("the alert in each Alertmanager", wait::SOON, || {
            let alerts = server.ask("/api/v2/alerts");
            let of_tool = |alert: &Value| alert["labels"]["tool"] == tool.id;
            alerts.as_array().unwrap().iter().any(of_tool).then_some(())
        });
    }
    let fires = |body: &Value| body["alerts"][0]["labels"]["tool"] == tool.id;
    pager.wait_for("page", fires);
    // The second peer waits its turn for the peer timeout, hears that the first paged, and stays
    // silent.
    thread::sleep(Duration::from_secs(7));
    let pages = pager.bodies().into_iter().filter(fires).count();
    assert_eq!(pages, 1);
}

/// What was accepted is delivered, though the receiver was away and the monitor was killed.
#[test]
fn an_alert_survives_a_kill_while_its_receiver_is_away() {
    let scene = Scene::new();
    let tool = scene.own_tool();
    let away = free_address();
    let spool = scene.dir().join("spool");
    let config = |banned: &str| {
        format!(
            "[policy]\nbanned = [{banned}]\n\n[alerts]\nspool_directory = \"{}\"\n\n\
             [[alerts.webhook]]\nurl = \"http://{away}/hook\"\n",
            spool.display()
        )
    };
    let banned = format!("{:?}", tool.id);
    let mut telltale = scene.telltale().config(&config(&banned)).start();
    scene.run(&tool.program, &[]);
    let event = telltale.wait_for("alert", |event| event.text("event.kind") == "alert");
    telltale.wait_for_metrics("delivery that was tried again", |metrics| {
        let of_sink = [("sink", "webhook-1")];
        metrics.sum("telltale_sink_retries_total", &of_sink) > Some(0.0)
            && metrics.sum("telltale_sink_queue_length", &of_sink) > Some(0.0)
    });
    telltale.process.signal(Signal::KILL);
    telltale.process.end(wait::SOON);
    drop(telltale);
    let receiver = WebhookReceiver::on(TcpListener::bind(away).unwrap());
    let telltale = scene.telltale().config(&config("")).start();
    let body = receiver.wait_for("alert of the first run", |body| {
        body["id"] == event.text("event.id")
    });
    assert_eq!(body["alert"]["rule"], "banned-tool", "{body:#}");
    let metrics = telltale.wait_for_metrics("empty spool", |metrics| {
        metrics.sum("telltale_sink_queue_length", &[("sink", "webhook-1")]) == Some(0.0)
    });
    assert_eq!(metrics.sum("telltale_sink_dropped_total", &[]), Some(0.0));
}

/// A file below `deploy/`.
fn deployed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(path)
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{said}{told}");
    said
}

#[test]
fn the_rules_of_prometheus_fire_when_they_should() {
    binary::require("promtool", "prometheus");
    let rules = deployed("prometheus/telltale.rules.yml");
    let mut check = Command::new("promtool");
    succeeds(
        check
            .args(["check", "rules", "--lint=all", "--lint-fatal"])
            .arg(rules),
    );
    let tests = deployed("prometheus/telltale.rules.test.yml");
    succeeds(Command::new("promtool").args(["test", "rules"]).arg(tests));
}

#[test]
fn the_demo_pages_within_its_limit() {
    let _scene = Scene::new(); // For the turn: no other monitor has the host for itself.
    binary::require("curl", "curl");
    let mut demo = Command::new("setpriv");
    demo.args(["--pdeathsig", "TERM"])
        .arg(deployed("demo/demo.py"));
    // With the queries of the dashboards, which must find something there.
    let said = succeeds(
        demo.args(["--dashboards", "--telltale"])
            .arg(binary::telltale()),
    );
    for alert in ["banned-tool", "unexpected-endpoint", "TelltaleBannedTool"] {
        assert!(said.contains(alert), "{said}");
    }
}

#[test]
fn the_dashboards_are_what_grafana_reads() {
    let script = deployed("grafana/dashboards.py");
    succeeds(Command::new("python3").arg(script).arg("--check"));
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/dashboards.py");
    let folder = fs::read_dir(deployed("grafana/dashboards")).unwrap();
    let dashboards: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(dashboards.len(), 5);
    succeeds(python::program("python").arg(reader).args(dashboards));
}
