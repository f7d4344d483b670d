//! The same against servers that Debian 12 does not have: Prometheus 3, Alertmanager 0.33, an
//! OpenTelemetry Collector, and VictoriaLogs.
//!
//! In: `target/tools/servers`, which `cargo xtask test servers` fills. Out: what they hold.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use monitor_tests::running::Running;
use monitor_tests::scene::{SERVER_V4, Scene};
use monitor_tests::telltale::free_address;
use monitor_tests::{http, wait};
use serde_json::Value;

use super::{encoded, page_once, prometheus_of, query};

/// A program that is not this machine's own.
#[track_caller]
fn newer(program: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/servers/bin");
    let path: PathBuf = folder.join(program);
    let shown = path.display();
    assert!(
        path.exists(),
        "no {shown}: `cargo xtask test servers` gets it"
    );
    shown.to_string()
}

#[test]
fn prometheus_3_scrapes_both_formats() {
    let program = newer("prometheus");
    let scene = Scene::new();
    let telltale = scene.telltale().start();
    for protocol in ["OpenMetricsText1.0.0", "PrometheusText0.0.4"] {
        let how = format!("scheme: http, scrape_protocols: [{protocol}]");
        let dir = scene.dir().join(protocol);
        fs::create_dir(&dir).unwrap();
        let prometheus = prometheus_of(&program, &dir, telltale.address, &how);
        wait::until("a first scrape", wait::SOON, || {
            query(&prometheus, "telltale_build_info").filter(|&up| up > 0.0)
        });
        let version = prometheus.ask("/api/v1/status/buildinfo");
        let version = version["data"]["version"].as_str().unwrap_or_default();
        assert!(version.starts_with("3."), "{version}");
    }
}

#[test]
fn a_newer_cluster_of_alertmanagers_pages_once() {
    page_once(&newer("prometheus-alertmanager"));
}

/// What a collector says of all that it received.
fn collector(dir: &Path, address: &str) -> Running {
    let config = dir.join("otelcol.yaml");
    let text = format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: '{address}'}}}}}}}}\n\
         exporters: {{debug: {{verbosity: detailed, sampling_initial: 100000}}}}\n\
         service:\n  telemetry: {{metrics: {{level: none}}}}\n  pipelines:\n    \
         logs: {{receivers: [otlp], exporters: [debug]}}\n    \
         metrics: {{receivers: [otlp], exporters: [debug]}}\n"
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", &newer("otelcol"), "--config"]);
    let mut process = Running::start("otelcol", dir, {
        command.arg(&config);
        command
    });
    process.wait_for_message("Everything is ready");
    process
}

/// Events and metrics arrive in a real collector, though it was not there when they happened.
#[test]
fn a_collector_is_told_events_and_metrics() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let tool = scene.own_tool();
    scene.dns.answer(&tool.api, &[SERVER_V4]);
    let address = free_address().to_string();
    let config = format!("[otlp]\nurl = \"http://{address}\"\nmetrics_seconds = 1\n");
    let telltale = scene.telltale().config(&config).start();
    scene.run(&tool.program, &["connect", &format!("{}:443", tool.api)]);
    telltale.wait_for("connection-opened", |event| {
        event.action() == "connection-opened" && event.text("destination.domain") == tool.api
    });
    let of_events = [("sink", "otlp-events")];
    telltale.wait_for_metrics("a try", |metrics| {
        metrics.sum("telltale_sink_retries_total", &of_events) > Some(0.0)
    });
    let mut collector = collector(scene.dir(), &address);
    for text in [
        "EventName: telltale.connection-opened",
        &format!("destination.domain: Str({})", tool.api),
        "service.name: Str(telltale)",
        "Name: telltale_connections_total",
        "IsMonotonic: true",
        "Name: telltale_connection_duration_seconds",
    ] {
        // The longest pause between two tries is 15 seconds.
        wait::until(text, Duration::from_secs(40), || {
            assert!(collector.status().is_none(), "{}", collector.describe());
            collector.stderr().contains(text).then_some(())
        });
    }
    telltale.wait_for_metrics("nothing that waits", |metrics| {
        metrics.sum("telltale_sink_delivered_total", &of_events) > Some(0.0)
            && metrics.sum("telltale_sink_queue_length", &of_events) == Some(0.0)
    });
    let dropped = telltale.metrics().sum("telltale_sink_dropped_total", &[]);
    assert_eq!(dropped, Some(0.0));
}

/// A store of logs that listens at `address`.
fn victoria_logs(dir: &Path, address: SocketAddr) -> Running {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", &newer("victoria-logs")]);
    command.arg(format!("-httpListenAddr={address}"));
    command.arg(format!("-storageDataPath={}", dir.join("logs").display()));
    let mut process = Running::start("victoria-logs", dir, command);
    wait::until("VictoriaLogs", wait::START, || {
        assert!(process.status().is_none(), "{}", process.describe());
        let health = http::get(address, "/health");
        health.is_ok_and(|it| it.status == 200).then_some(())
    });
    process
}

/// Events are kept by a store of logs, which finds them by their fields.
#[test]
fn victoria_logs_finds_events_by_their_fields() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let tool = scene.own_tool();
    scene.dns.answer(&tool.api, &[SERVER_V4]);
    let address = free_address();
    let _logs = victoria_logs(scene.dir(), address);
    let config = format!(
        "[policy]\nbanned = [\"{}\"]\n\n\
         [otlp]\nurl = \"http://{address}/insert/opentelemetry\"\nmetrics_seconds = 0\n",
        tool.id
    );
    let telltale = scene.telltale().config(&config).start();
    scene.run(&tool.program, &["connect", &format!("{}:443", tool.api)]);
    let opened = telltale.wait_for("connection-opened", |event| {
        event.action() == "connection-opened" && event.text("destination.domain") == tool.api
    });
    let find = |query: &str| {
        let path = format!("/select/logsql/query?query={}", encoded(query));
        wait::until(query, wait::SOON, || {
            let found = http::get(address, &path).ok()?.body;
            serde_json::from_str::<Value>(found.lines().next()?).ok()
        })
    };
    let found = find(&format!(
        "\"telltale.tool.id\":=\"{}\" \"event.action\":=\"connection-opened\" \
         \"destination.domain\":=\"{}\"",
        tool.id, tool.api
    ));
    for (field, value) in [
        ("event.id", opened.text("event.id")),
        ("process.entity_id", opened.text("process.entity_id")),
        ("destination.ip", SERVER_V4),
        ("destination.port", "443"),
        ("service.name", "telltale"),
        ("_time", opened.text("@timestamp")),
    ] {
        assert_eq!(found[field], value, "{field} of {found:#}");
    }
    assert!(found["_msg"].as_str().unwrap().contains(&tool.api));
    let banned = find("\"event.kind\":=\"alert\" \"rule.name\":=\"banned-tool\"");
    assert_eq!(banned["severity"], "ERROR", "{banned:#}");
    // Each event of the log is there, once.
    let events = telltale.stop();
    let lines = events.len();
    find(&format!(
        "* | stats count() all, count_uniq(\"event.id\") different \
         | filter all:={lines} different:={lines}"
    ));
}
