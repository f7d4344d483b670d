//! A real journal of systemd takes alerts, and finds them by their fields.
//!
//! In: systemd's journald, in a folder of the test's, as another namespace than the host's own, so
//! that it takes nothing of the host. Out: what `journalctl` says.

use std::fs;
use std::path::Path;
use std::process::Command;

use monitor_tests::running::Running;
use monitor_tests::scene::Scene;
use monitor_tests::{binary, wait};
use serde_json::Value;

/// Runs what follows with a folder of the test's for `/run` and `/var/log`, and the namespace's
/// journal for the host's.
const WITH_RUN: &str = "mount --bind \"$0/log\" /var/log && mount --bind \"$0\" /run && \
                        mount --bind /run/systemd/journal.test /run/systemd/journal && exec \"$@\"";

#[test]
fn the_journal_finds_alerts_by_their_fields() {
    binary::require("journalctl", "systemd");
    let scene = Scene::new();
    let run = scene.dir().join("run");
    for folder in ["systemd/journal", "systemd/journal.test", "log/journal"] {
        fs::create_dir_all(run.join(folder)).unwrap();
    }
    let run_text = run.display().to_string();
    let within = ["unshare", "--mount", "sh", "-c", WITH_RUN, &run_text];
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).args(within);
    command.args(["/lib/systemd/systemd-journald", "test"]);
    let mut journal = Running::start("journald", scene.dir(), command);
    wait::until("the journal's socket", wait::START, || {
        assert!(journal.status().is_none(), "{}", journal.describe());
        run.join("systemd/journal.test/socket")
            .exists()
            .then_some(())
    });
    let tool = scene.own_tool();
    let config = format!(
        "[policy]\nbanned = [\"{}\"]\n\n[[alerts.syslog]]\naddress = \"journald\"\n",
        tool.id
    );
    let telltale = scene.telltale().config(&config).through(&within).start();
    scene.run(&tool.program, &[]);
    let alert = telltale.wait_for("alert", |event| {
        event.text("event.kind") == "alert" && event.text("rule.name") == "banned-tool"
    });
    let entry = wait::until("the alert in the journal", wait::SOON, || {
        find(&run, &format!("TELLTALE_TOOL={}", tool.id))
    });
    for (field, value) in [
        ("TELLTALE_ID", alert.text("event.id")),
        ("TELLTALE_RULE", "banned-tool"),
        ("TELLTALE_STATE", "fired"),
        ("SYSLOG_IDENTIFIER", "telltale"),
        ("PRIORITY", "2"),
    ] {
        assert_eq!(entry[field], value, "{field} of {entry:#}");
    }
    assert!(entry["MESSAGE"].as_str().unwrap().starts_with("fired: "));
}

/// The first entry that has this field, of the journal below `run`.
fn find(run: &Path, field: &str) -> Option<Value> {
    let machines = fs::read_dir(run.join("log/journal")).ok()?;
    machines.filter_map(Result::ok).find_map(|machine| {
        let mut journalctl = Command::new("journalctl");
        journalctl.args(["--quiet", "--output=json", field, "--directory"]);
        let output = journalctl.arg(machine.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(text.lines().next()?).ok()
    })
}
