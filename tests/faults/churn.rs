//! Cgroups, network namespaces and processes that come and go faster than anyone looks.
//!
//! In: a shell that makes one after the other and connects in each: a UDP socket to loopback, which
//! sends nothing. Out: each connection told, with the place where it was made, however soon that
//! was gone.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use monitor_tests::cgroup::Cgroup;
use monitor_tests::event::Event;
use monitor_tests::running::Running;
use monitor_tests::scene::Scene;
use monitor_tests::telltale::Telltale;
use monitor_tests::wait;

use crate::{check_balance, operations};

/// Making all of one kind, on a busy host.
const CHURN: Duration = Duration::from_secs(300);

/// Runs a script to its end.
fn play(scene: &Scene, script: &str, args: &[&str]) -> Duration {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "bash", "-c", script, "churn"]);
    command.args(args);
    let start = Instant::now();
    Running::start("churn", scene.dir(), command).succeed(CHURN);
    start.elapsed()
}

/// Connections to this address by port, with the path of the cgroup in which each was made.
fn told(telltale: &Telltale<'_>, address: &str) -> BTreeSet<(u64, String)> {
    let events = telltale.events();
    let here = |event: &&Event| {
        event.action() == "connection-opened" && event.text("destination.ip") == address
    };
    let place = |event: &Event| {
        let port = event.get("destination.port").as_u64().unwrap();
        let path = event.get("telltale.cgroup.path");
        (port, path.as_str().unwrap_or_default().to_owned())
    };
    events.iter().filter(here).map(place).collect()
}

#[track_caller]
fn wait_for_all(telltale: &Telltale<'_>, address: &str, count: u64) -> BTreeSet<(u64, String)> {
    let all = wait::try_until(CHURN, || {
        let told = told(telltale, address);
        (told.len() as u64 >= count).then_some(told)
    });
    all.unwrap_or_else(|| panic!("{} of {count} told", told(telltale, address).len()))
}

/// Each cgroup lives for one connection; its path is told all the same.
#[test]
fn cgroups() {
    const COUNT: u64 = 2_000;
    const ADDRESS: &str = "127.77.0.61";
    let scene = Scene::alone();
    let cgroup = Cgroup::make(&format!("/{}", scene.ns.name()));
    let telltale = scene.telltale().scope("all").start();
    let folder = cgroup.procs().parent().unwrap().display().to_string();
    let script = "for i in $(seq $2); do
            mkdir $1/$i; echo $$ > $1/$i/cgroup.procs
            exec 3<> /dev/udp/$3/$((10000 + i)) 3>&-
            echo $$ > $1/cgroup.procs; rmdir $1/$i
        done; echo $$ > $1/../cgroup.procs";
    let took = play(&scene, script, &[&folder, &COUNT.to_string(), ADDRESS]);
    for (port, path) in wait_for_all(&telltale, ADDRESS, COUNT) {
        let expect = format!("/{}/{}", scene.ns.name(), port - 10_000);
        assert_eq!(path, expect);
    }
    check_balance(&telltale.metrics());
    println!("cgroups: {COUNT} made, used and removed in {took:.1?}: each told with its path");
}

/// Each network namespace lives for one connection.
#[test]
fn network_namespaces() {
    const COUNT: u64 = 300;
    const ADDRESS: &str = "127.77.0.62";
    let scene = Scene::alone();
    let telltale = scene.telltale().scope("all").start();
    let script = "for i in $(seq $1); do
            unshare --net bash -c 'ip link set lo up; ip route add local default dev lo
                exec 3<> /dev/udp/$0/$1' $2 $((10000 + i))
        done";
    let took = play(&scene, script, &[&COUNT.to_string(), ADDRESS]);
    let told = wait_for_all(&telltale, ADDRESS, COUNT);
    assert_eq!(told.len() as u64, COUNT);
    check_balance(&telltale.metrics());
    println!("network namespaces: {COUNT} made and left in {took:.1?}: each connection told");
}

/// Processes that only fork and end: the monitor keeps up, or counts, and its tables stay bounded.
#[test]
fn forks() {
    const COUNT: u32 = 10_000;
    let scene = Scene::alone();
    let telltale = scene.telltale().start();
    let before = telltale.metrics();
    let attempted = |hook| {
        let labels = [("hook", hook), ("outcome", "attempted")];
        move |metrics: &monitor_tests::metrics::Metrics| {
            metrics.get("telltale_kernel_operations_total", &labels)
        }
    };
    let forks = attempted("fork");
    let took = play(
        &scene,
        "for i in $(seq $1); do ( : ) & [ $((i % 200)) -ne 0 ] || wait; done; wait",
        &[&COUNT.to_string()],
    );
    let counted = |metrics: &_| forks(metrics) - forks(&before);
    let metrics = telltale.wait_long_for_metrics("all forks", CHURN, |metrics| {
        counted(metrics) >= f64::from(COUNT)
    });
    check_balance(&metrics);
    let status = fs::read_to_string(format!("/proc/{}/status", telltale.process.pid())).unwrap();
    let field = status.lines().find(|line| line.starts_with("VmHWM"));
    println!(
        "forks: {COUNT} in {took:.1?}: all in the books, {} in a full ring; {}",
        operations(&metrics, "ring_full") - operations(&before, "ring_full"),
        field.unwrap_or_default()
    );
}
