//! Hosts that lack something, or have too little of it.
//!
//! In: a mount namespace per test in which BTF, cgroup v2 or free disk space is missing.
//! Out: the remedy; or, where it can go on, that it goes on and counts.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use monitor_tests::binary;
use monitor_tests::event::Event;
use monitor_tests::http;
use monitor_tests::metrics::Metrics;
use monitor_tests::program::{self, Program};
use monitor_tests::running::Running;
use monitor_tests::scene::{Scene, temp_dir};
use monitor_tests::telltale::{Ended, free_address, run_to_end, telltale};
use monitor_tests::wait;

/// A shell in its own mount namespace that does `prepare`, then becomes the monitor.
///
/// The words after the script are `$0` and `$@`.
fn in_own_mounts(prepare: &str, args: &[&str]) -> Command {
    binary::require_root();
    binary::require("unshare", "util-linux");
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--propagation",
        "private",
    ]);
    command.args(["sh", "-ec", &format!("{prepare}\nexec \"$0\" \"$@\"")]);
    command.arg(binary::telltale()).args(args);
    command
}

#[track_caller]
fn run_where(prepare: &str) -> Ended {
    let (dir, address) = (temp_dir(), free_address().to_string());
    let args = ["run", "--web.listen-address", &address];
    run_to_end(dir.path(), in_own_mounts(prepare, &args))
}

#[test]
fn a_kernel_without_btf() {
    run_where("mount -t tmpfs none /sys/kernel/btf").expect(2, &["BTF", "/sys/kernel/btf/vmlinux"]);
}

/// Where no cgroup v2 tree is mounted, the monitor mounts one for itself alone.
#[test]
fn a_host_without_cgroup2() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    // `ip netns exec` gives it a fresh /sys, without the trees that are mounted below the host's.
    let telltale = scene.telltale().inside(&scene.ns).start();
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", telltale.process.pid())).unwrap();
    assert!(
        !mounts.contains(" /sys/fs/cgroup"),
        "the test hides the host's cgroups: {mounts}"
    );
    let pid = scene.run(&claude, &["connect", "203.0.113.10:443"]);
    telltale.wait_for_action(pid, "connection-opened");
    telltale.stop();
}

#[test]
fn a_port_that_is_taken() {
    binary::require_root();
    let (dir, taken) = (temp_dir(), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = taken.local_addr().unwrap().to_string();
    telltale(dir.path(), &["run", "--web.listen-address", &address])
        .expect(2, &[&address, "Address already in use"]);
}

/// No cgroup v2 tree, and no right to mount one.
#[test]
fn a_host_without_cgroup2_and_without_the_right_to_mount() {
    let (dir, address) = (temp_dir(), free_address().to_string());
    let args = ["run", "--web.listen-address", &address];
    let prepare = "awk '$3 == \"cgroup2\" { print $2 }' /proc/self/mounts | xargs -r umount -l\n\
                   set -- --bounding-set=-sys_admin \"$0\" \"$@\"\nexec setpriv \"$@\"";
    run_to_end(dir.path(), in_own_mounts(prepare, &args)).expect(2, &["mount -t cgroup2"]);
}

#[test]
fn a_host_without_proc() {
    run_where("mount -t tmpfs none /proc").expect(2, &["cannot read /proc/"]);
}

/// A process can make those who read its arguments wait as long as it likes. Here a file that
/// nobody writes to stands in the place of its arguments: the start passes it over, and knows the
/// others.
#[test]
fn a_process_that_hangs_who_looks_at_it() {
    let scene = Scene::new();
    let _servers = scene.serve_https();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let mut hanging = scene.start(&claude, &["wait"]);
    hanging.wait_for_output("waiting");
    let gemini = Program::script(scene.dir(), program::GEMINI_SCRIPT);
    let mut process = scene.start(&gemini, &["wait", "connect", "203.0.113.10:443"]);
    process.wait_for_output("waiting");

    let file = |name| scene.dir().join(name).display().to_string();
    let (fifo, events, address) = (file("fifo"), file("events.ndjson"), free_address());
    let prepare = format!(
        "mkfifo {fifo}\nmount --bind {fifo} /proc/{}/cmdline",
        hanging.pid()
    );
    let listen = address.to_string();
    let args = ["run", "--web.listen-address", &listen, "--events", &events];
    let mut monitor = Running::start("hung", scene.dir(), in_own_mounts(&prepare, &args));
    wait::until("telltale is ready", wait::START, || {
        assert!(monitor.status().is_none(), "{}", monitor.describe());
        http::get(address, "/-/ready")
            .is_ok_and(|response| response.status == 200)
            .then_some(())
    });
    process.say("go on");
    wait::until("the connection of the other", wait::SOON, || {
        let log = Event::parse_log(&fs::read_to_string(&events).ok()?);
        let mut opened = log.iter().filter(|event| {
            event.action() == "connection-opened" && event.pid() == Some(process.pid())
        });
        opened.find(|event| event.text("telltale.tool.id") == "gemini-cli")?;
        Some(())
    });
    let said = monitor.stderr();
    let words = format!("process {} does not show its arguments", hanging.pid());
    assert!(said.contains(&words), "{said}");
    monitor.terminate();
    monitor.succeed(wait::SOON);
}

/// Lockdown cannot be tried without restarting the host; what the kernel says of it can be.
#[test]
fn a_kernel_in_lockdown() {
    let lock = |mode: &str, command: &str| {
        let prepare = format!(
            "mount -t tmpfs none /sys/kernel/security\n\
             echo '{mode}' > /sys/kernel/security/lockdown"
        );
        let dir = temp_dir();
        run_to_end(dir.path(), in_own_mounts(&prepare, &[command]))
    };
    let ended = lock("none integrity [confidentiality]", "doctor");
    ended.expect(1, &[]);
    for word in ["MISSING  lockdown", "confidentiality", "lockdown=integrity"] {
        assert!(ended.stdout.contains(word), "no {word:?} in {ended:#?}");
    }
    lock("none [integrity] confidentiality", "doctor").expect(0, &[]);
    let words = ["lockdown, confidentiality", "lockdown=integrity"];
    lock("none integrity [confidentiality]", "run").expect(2, &words);
}

/// `telltale run` with these flags does not start, and says why.
#[track_caller]
fn check_flags(flags: &[&str], words: &[&str]) {
    binary::require_root();
    let (dir, address) = (temp_dir(), free_address().to_string());
    let args = [&["run", "--web.listen-address", &address], flags].concat();
    telltale(dir.path(), &args).expect(2, words);
}

#[test]
fn an_event_log_that_cannot_be_written() {
    let dir = temp_dir();
    let none = dir.path().join("none/events.ndjson").display().to_string();
    check_flags(&["--events", &none], &[&none, "No such file", "--events"]);
    let folder = dir.path().display().to_string();
    check_flags(&["--events", &folder], &[&folder, "Is a directory"]);
}

/// A recording is evidence: it is never overwritten.
#[test]
fn a_recording_that_is_there_already() {
    let dir = temp_dir();
    let file = dir.path().join("recording");
    fs::write(&file, "evidence").unwrap();
    let path = file.display().to_string();
    check_flags(
        &["--record", &path],
        &[&path, "File exists", "choose another name"],
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "evidence");
}

/// `192.0.2.77` is nobody's address.
#[test]
fn an_address_of_another_host() {
    let elsewhere = "192.0.2.77:10142";
    check_flags(
        &["--web.listen-address", elsewhere],
        &[elsewhere, "no such address"],
    );
}

/// The event log's file system is full: it goes on, metrics and all, counts what it drops, and
/// what is in the log is whole lines.
#[test]
fn a_full_disk() {
    let scene = Scene::new();
    let claude = Program::native(scene.dir(), program::CLAUDE_NATIVE);
    let disk = scene.dir().join("disk");
    fs::create_dir(&disk).unwrap();
    let (disk, address) = (disk.display().to_string(), free_address());
    let prepare = format!("mount -t tmpfs -o size=16k none {disk}");
    let events = format!("{disk}/events.ndjson");
    let listen = address.to_string();
    let args = ["run", "--web.listen-address", &listen, "--events", &events];
    let mut monitor = Running::start("full", scene.dir(), in_own_mounts(&prepare, &args));
    wait::until("telltale is ready", wait::START, || {
        assert!(monitor.status().is_none(), "{}", monitor.describe());
        http::get(address, "/-/ready")
            .is_ok_and(|response| response.status == 200)
            .then_some(())
    });
    // Long arguments make long lines: a few dozen events fill the disk.
    let padding = "x".repeat(900);
    for _ in 0..20 {
        scene.run(&claude, &["number", &padding]);
    }
    let metrics = wait::until("write errors are counted", wait::SOON, || {
        let metrics = Metrics::parse(&http::get(address, "/metrics").ok()?.body);
        let errors = metrics.sum("telltale_event_log_write_errors_total", &[])?;
        (errors > 0.0).then_some(metrics)
    });
    let started = [("tool", "claude-code")];
    assert!(metrics.get("telltale_processes_started_total", &started) >= 20.0);
    let seen = format!("/proc/{}/root{events}", monitor.pid());
    let log = fs::read_to_string(seen).unwrap();
    assert!(!Event::parse_log(&log).is_empty());
    monitor.terminate();
    monitor.succeed(wait::SOON);
    assert!(
        !monitor.stderr().contains("panicked"),
        "{}",
        monitor.describe()
    );
}
