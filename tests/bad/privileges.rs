//! Not root, or root without a capability.
//!
//! In: `telltale run` with privileges taken away. Out: which one is missing, and exit status 2.

use std::path::PathBuf;
use std::process::Command;

use monitor_tests::binary;
use monitor_tests::scene::temp_dir;
use monitor_tests::telltale::{free_address, run_to_end};
use tempfile::TempDir;

/// A copy of the monitor that other users may execute, wherever it was built.
fn copy() -> (TempDir, PathBuf) {
    let dir = temp_dir();
    let copy = dir.path().join("telltale");
    let status = Command::new("install")
        .arg("-m755")
        .arg(binary::telltale())
        .arg(&copy)
        .status();
    assert!(status.unwrap().success());
    (dir, copy)
}

/// `setpriv` takes privileges away; what does `telltale run` say?
#[track_caller]
fn check(setpriv: &[&str], words: &[&str]) {
    binary::require_root();
    binary::require("setpriv", "util-linux");
    let (dir, telltale) = copy();
    let mut command = Command::new("setpriv");
    command.args(setpriv).arg("--pdeathsig=KILL").arg(telltale);
    command.args(["run", "--web.listen-address", &free_address().to_string()]);
    command.current_dir("/");
    run_to_end(dir.path(), command).expect(2, words);
}

#[test]
fn another_user() {
    check(
        &["--reuid=65534", "--regid=65534", "--clear-groups"],
        &["CAP_BPF"],
    );
}

#[test]
fn root_without_bpf() {
    check(&["--bounding-set=-bpf,-sys_admin"], &["CAP_BPF"]);
}

#[test]
fn root_without_perfmon() {
    check(&["--bounding-set=-perfmon,-sys_admin"], &["CAP_PERFMON"]);
}

#[test]
fn root_without_net_admin() {
    check(
        &["--bounding-set=-net_admin,-sys_admin"],
        &["CAP_NET_ADMIN"],
    );
}

/// The doctor tells what is missing instead of failing on it.
#[test]
fn the_doctor_of_another_user() {
    binary::require_root();
    let (dir, telltale) = copy();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(telltale)
        .arg("doctor");
    let ended = run_to_end(dir.path(), command);
    ended.expect(1, &[]);
    assert!(ended.stdout.contains("CAP_BPF"), "{ended:#?}");
    assert!(ended.stdout.contains("MISSING"), "{ended:#?}");
}
