//! Another policy while the monitor runs: by itself, by SIGHUP, and one that cannot be used.
//!
//! In: a policy file that changes. Out: by what is judged, what is told of it, and that nothing is
//! lost meanwhile.

use std::path::PathBuf;

use monitor_tests::program::{self, OwnTool, Program};
use monitor_tests::scene::{SERVER_V4, Scene};
use monitor_tests::telltale::Telltale;
use rustix::process::Signal;
use serde_json::Value;

const NOTHING: &str = "# Nothing is forbidden.\n";
const BAN: &str = "[[pack]]\nname = \"ban-and-replace\"\nbanned = [\"claude-code\"]\n";

/// A scene with a policy file that says nothing.
fn scene() -> (Scene, PathBuf, String) {
    let scene = Scene::new();
    scene.dns.answer("api.anthropic.com", &[SERVER_V4]);
    let file = scene.dir().join("policy.toml");
    std::fs::write(&file, NOTHING).unwrap();
    let config = format!("[policy]\nfile = {file:?}\n");
    (scene, file, config)
}

fn wait_for_reloads(telltale: &Telltale<'_>, outcome: &str, count: f64) {
    let labels = [("outcome", outcome)];
    telltale.wait_for_metrics(&format!("{count} reloads {outcome}"), |metrics| {
        metrics.get("telltale_reloads_total", &labels) >= count
    });
}

fn status(telltale: &Telltale<'_>) -> Value {
    serde_json::from_str(&telltale.get("/status").unwrap().body).unwrap()
}

/// Also what runs already, and in silence.
#[test]
fn a_changed_policy_judges_by_itself() {
    let (scene, file, config) = scene();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().config(&config).start();
    let running = scene.start(&claude, &["wait"]);
    telltale
        .wait_for_action(running.pid(), "process-started")
        .expect(&[("telltale.verdict", "not-judged")]);
    std::fs::write(&file, BAN).unwrap();
    wait_for_reloads(&telltale, "loaded", 1.0);
    telltale.wait_for("alert of what runs already", |event| {
        event.action() == "alert" && event.text("telltale.rule") == "banned-tool"
    });
    let policy = &status(&telltale)["policy"];
    assert_eq!(policy["banned"], serde_json::json!(["claude-code"]));
    assert_eq!(policy["rejected"], Value::Null);
    drop(running);
}

/// A process stays what it was taken for when it started; the next one follows the new catalog.
#[test]
fn another_catalog_is_for_what_starts_from_then_on() {
    let scene = Scene::new();
    let tool = scene.own_tool();
    let telltale = scene.telltale().scope("all").start();
    let words = ["wait", "connect-fails", "203.0.113.10:443"];
    let mut running = scene.start(&tool.program, &words);
    let of_tool = [("telltale.tool.id", &*tool.id)];
    // What brings it into the namespace starts under its pid.
    let exe = tool.program.exe.display().to_string();
    let started = |pid: u32| {
        telltale.wait_for("the start of the tool", |event| {
            event.pid() == Some(pid)
                && event.action() == "process-started"
                && event.text("process.executable") == exe
        })
    };
    started(running.pid()).expect(&of_tool);
    let file = OwnTool::catalog(scene.dir()).join(format!("tools/{}.toml", tool.id));
    let elsewhere = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, elsewhere.replace("/own/tool", "/other/tool")).unwrap();
    telltale.process.signal(Signal::HUP);
    wait_for_reloads(&telltale, "loaded", 1.0);
    running.say("go on");
    telltale
        .wait_for_action(running.pid(), "connection-opened")
        .expect(&of_tool);
    let pid = scene.run(&tool.program, &[]);
    assert_eq!(started(pid).get("telltale.tool"), &Value::Null);
    drop(running);
}

#[test]
fn a_policy_that_cannot_be_used_leaves_the_last_good_one() {
    let (scene, file, config) = scene();
    std::fs::write(&file, BAN).unwrap();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().config(&config).start();
    std::fs::write(&file, BAN.replace("claude-code", "cluade-code")).unwrap();
    telltale.process.signal(Signal::HUP);
    wait_for_reloads(&telltale, "rejected", 1.0);
    let rejected = status(&telltale)["policy"]["rejected"].to_string();
    assert!(rejected.contains("policy.toml:3:11"), "{rejected}");
    assert!(rejected.contains("did you mean"), "{rejected}");
    telltale.wait_for("alert", |event| {
        event.action() == "alert" && event.text("telltale.rule") == "config-rejected"
    });
    let pid = scene.run(&claude, &[]);
    telltale
        .wait_for_action(pid, "process-started")
        .expect(&[("telltale.verdict", "denied")]);
    assert_eq!(
        telltale.metrics().get("telltale_reload_successful", &[]),
        0.0
    );
    std::fs::write(&file, BAN).unwrap();
    wait_for_reloads(&telltale, "loaded", 1.0);
    assert_eq!(status(&telltale)["policy"]["rejected"], Value::Null);
}

/// Connections while policies come and go: each is told once.
#[test]
fn nothing_is_lost_meanwhile() {
    const CONNECTIONS: usize = 60;
    let (scene, file, config) = scene();
    let _servers = scene.serve_https();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let telltale = scene.telltale().config(&config).start();
    let mut pids = Vec::new();
    for number in 0..CONNECTIONS {
        if number % 10 == 0 {
            std::fs::write(&file, [NOTHING, BAN][number / 10 % 2]).unwrap();
            telltale.process.signal(Signal::HUP);
        }
        pids.push(scene.run(&claude, &["connect", "203.0.113.10:443"]));
    }
    wait_for_reloads(&telltale, "loaded", 2.0);
    telltale.wait_for_action(*pids.last().unwrap(), "connection-closed");
    let events = telltale.stop();
    for pid in pids {
        let opened = events
            .iter()
            .filter(|event| event.action() == "connection-opened" && event.pid() == Some(pid));
        assert_eq!(opened.count(), 1, "connections of {pid}");
    }
}

/// The folder of the databases that were made for tests.
const DATABASES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../monitor-user/tests/addresses"
);

/// The server is in CN and AS64496 by the database, whoever runs it; another database says
/// nothing of it.
#[test]
fn a_changed_database_of_addresses_judges_by_itself() {
    let (scene, policy, config) = scene();
    let tool = scene.own_tool();
    let _servers = scene.serve_https();
    scene.dns.answer(&tool.api, &[SERVER_V4]);
    let database = scene.dir().join("country.mmdb");
    std::fs::copy(format!("{DATABASES}/country.mmdb"), &database).unwrap();
    let rule = "[[rule]]\nid = \"not-there\"\naction = \"deny\"\naddress_country = [\"CN\"]\n";
    std::fs::write(&policy, rule).unwrap();
    let config = format!(
        "{config}asn_database = \"{DATABASES}/asn.mmdb\"\naddress_country_database = {database:?}\n"
    );
    let telltale = scene.telltale().config(&config).start();
    let connect = || scene.run(&tool.program, &["connect", &format!("{}:443", tool.api)]);
    let opened = telltale.wait_for_action(connect(), "connection-opened");
    opened.expect(&[
        ("telltale.verdict", "denied"),
        ("telltale.rule", "not-there"),
        ("destination.geo.country_iso_code", "CN"),
    ]);
    assert_eq!(opened.get("destination.as.number"), &Value::from(64_496));
    // As those who make databases put new ones in place.
    let next = scene.dir().join("next.mmdb");
    std::fs::copy(format!("{DATABASES}/asn.mmdb"), &next).unwrap();
    std::fs::rename(next, &database).unwrap();
    wait_for_reloads(&telltale, "loaded", 1.0);
    let opened = telltale.wait_for_action(connect(), "connection-opened");
    opened.expect(&[("telltale.verdict", "expected")]);
    assert_eq!(opened.get("destination.geo"), &Value::Null);
    std::fs::write(&database, "damaged").unwrap();
    wait_for_reloads(&telltale, "rejected", 1.0);
    let rejected = status(&telltale)["policy"]["rejected"].to_string();
    assert!(rejected.contains("country.mmdb: no database"), "{rejected}");
}
