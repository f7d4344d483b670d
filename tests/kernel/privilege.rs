//! What a running monitor may still do.
//!
//! In: a monitor that watches. Out: the capabilities and filters of each of its threads, as the
//! kernel tells them and as `telltale doctor` does.

use std::fs;

use monitor_tests::scene::Scene;
use monitor_tests::telltale::telltale;

/// CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE.
const FILES: u64 = 1 << 2 | 1 << 19;
/// CAP_DAC_OVERRIDE.
const RESOLVED: u64 = 1 << 1;
/// CAP_DAC_READ_SEARCH, CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF.
const KERNEL: u64 = 1 << 2 | 1 << 12 | 1 << 38 | 1 << 39;

#[test]
fn each_thread_keeps_what_it_needs_and_nothing_else() {
    let scene = Scene::new();
    let monitor = scene
        .telltale()
        .args(&["--resolved", "/nonexistent"])
        .start();
    let pid = monitor.process.pid();
    let _ = monitor.metrics(); // A worker that answers is one that has started.
    let mut seen = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let Ok(status) = fs::read_to_string(entry.unwrap().path().join("status")) else {
            continue; // A thread that has ended.
        };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let name = field("Name:");
        let most = match name.as_str() {
            "kernel" => KERNEL,
            "scripts" | "places" | "jobs" => FILES,
            "resolved" => RESOLVED,
            _ => 0,
        };
        for set in ["CapEff:", "CapPrm:"] {
            let set = u64::from_str_radix(&field(set), 16).unwrap();
            assert_eq!(set & !most, 0, "{status}");
        }
        for set in ["CapInh:", "CapAmb:"] {
            assert_eq!(u64::from_str_radix(&field(set), 16), Ok(0), "{status}");
        }
        assert_eq!(field("Seccomp:"), "2", "{status}");
        assert_eq!(field("NoNewPrivs:"), "1", "{status}");
        seen.push(name);
    }
    for name in [
        "telltale", "line", "kernel", "scripts", "places", "jobs", "resolved",
    ] {
        assert!(seen.iter().any(|it| it == name), "no {name} in {seen:?}");
    }
    let doctor = telltale(scene.dir(), &["doctor"]);
    let said = doctor.stdout;
    assert!(said.contains(&format!("process id {pid}")), "{said}");
    assert!(
        said.contains("no capability; system calls filtered, no new privileges"),
        "{said}"
    );
}
