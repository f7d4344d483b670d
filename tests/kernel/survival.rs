//! What happens while no monitor runs is told by the next one, once, or counted.
//!
//! In: monitors that are killed, stopped and started again while a process connects. Out: each of
//! its connections in the event log, or in the number of those that may be missing.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use monitor_common::counter;
use monitor_tests::bpffs::BpfFs;
use monitor_tests::event::Event;
use monitor_tests::metrics::Metrics;
use monitor_tests::netns::NetNs;
use monitor_tests::scene::{SERVER_V4, temp_dir};
use monitor_tests::tcp::TcpServer;
use monitor_tests::telltale::{Options, Telltale, telltale};
use monitor_tests::turn::Turn;
use monitor_tests::wait;
use rustix::process::Signal;
use telltale::core::event::Event as Decoded;
use telltale::source::recording::{Entry, Recording};

/// How often the monitor is killed, if `TELLTALE_TEST_KILLS` does not say otherwise.
const KILLS: u64 = 6;
/// Pause between two connections: some hundred a second, so that a log of minutes can be read.
const PAUSE: Duration = Duration::from_millis(2);

/// This process, connecting to one address again and again. A UDP socket sends nothing for that.
struct Connects {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    remote: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Connects {
    fn start(remote: &str) -> Connects {
        let remote: SocketAddr = remote.parse().unwrap();
        let (stop, made) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stops, counts) = (Arc::clone(&stop), Arc::clone(&made));
        let thread = thread::spawn(move || {
            while !stops.load(Ordering::Relaxed) {
                connect(remote);
                counts.fetch_add(1, Ordering::Relaxed);
                thread::sleep(PAUSE);
            }
        });
        let thread = Some(thread);
        Connects {
            stop,
            made,
            remote,
            thread,
        }
    }

    /// How many were made in all.
    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.made.load(Ordering::Relaxed)
    }
}

/// Connects a socket of this process that sends nothing.
pub fn connect(remote: SocketAddr) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(remote).unwrap();
}

/// A monitor that tells everything and leaves its kernel side in `pins`.
pub fn pinned<'a>(dir: &'a Path, pins: &Path) -> Telltale<'a> {
    let pins = pins.display().to_string();
    Options::new(dir)
        .scope("all")
        .config("[events]\nchain = \"on\"\n")
        .args(&["--pin", &pins])
        .start()
}

fn kill(mut telltale: Telltale<'_>) {
    telltale.process.signal(Signal::KILL);
    telltale.process.end(wait::SOON);
}

/// Cookies of the sockets that were told to connect to this address.
#[track_caller]
fn told(dir: &Path, remote: SocketAddr) -> BTreeSet<String> {
    let events = log(dir);
    let here = events.iter().filter(|event| {
        event.action() == "connection-opened"
            && event.text("destination.ip") == remote.ip().to_string()
            && *event.get("destination.port") == remote.port()
    });
    let mut cookies = BTreeSet::new();
    for event in here {
        let cookie = event.text("telltale.cookie").to_owned();
        assert!(cookies.insert(cookie), "told twice: {:#}", event.0);
        assert_eq!(event.pid(), Some(std::process::id()));
    }
    cookies
}

/// What is in the log. A kill may tear the line that is being written; the next monitor ends it.
fn log(dir: &Path) -> Vec<Event> {
    let text = fs::read_to_string(dir.join("events.ndjson")).unwrap();
    let whole = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    whole.map(Event).collect()
}

/// What the monitors said of the times before them.
fn resumptions(dir: &Path) -> Vec<Event> {
    let events = log(dir).into_iter();
    events
        .filter(|event| event.action() == "monitor-resumed")
        .collect()
}

/// What the second monitor said of the time before it, once it has.
#[track_caller]
fn resumption(dir: &Path) -> Event {
    wait::until("word of the restart", wait::SOON, || resumptions(dir).pop())
}

fn count(event: &Event, what: &str) -> u64 {
    event
        .get(&format!("telltale.restart.{what}"))
        .as_u64()
        .unwrap()
}

#[track_caller]
fn check_balance(metrics: &Metrics) {
    assert_eq!(metrics.unbalanced(), [""; 0]);
}

/// Every socket that connected is told once, or may be among what is counted as missing.
#[track_caller]
fn check_told_or_counted(dir: &Path, remote: SocketAddr, made: u64) {
    let lost: u64 = resumptions(dir)
        .iter()
        .map(|event| count(event, "lost") + count(event, "dropped"))
        .sum();
    let told = wait::try_until(wait::SOON, || {
        let told = told(dir, remote).len() as u64;
        (told + lost >= made).then_some(told)
    });
    let told = told.unwrap_or_else(|| {
        let told = self::told(dir, remote).len();
        panic!("{told} of {made} told and {lost} lost: the rest is in no book")
    });
    assert!(told <= made, "{told} of {made}");
}

#[test]
fn what_happens_between_a_kill_and_the_next_start_is_told() {
    let (_turn, dir) = (Turn::shared(), temp_dir());
    let bpf = BpfFs::mount(dir.path());
    let remote: SocketAddr = "127.77.0.1:1077".parse().unwrap();
    let first = pinned(dir.path(), &bpf.pins());
    connect(remote);
    first.wait_for("the first connection", |event| {
        event.text("destination.ip") == "127.77.0.1"
    });
    kill(first);
    for _ in 0..50 {
        connect(remote);
    }
    let second = pinned(dir.path(), &bpf.pins());
    let resumed = resumption(dir.path());
    connect(remote);
    check_told_or_counted(dir.path(), remote, 52);
    // Only the first can have been in its hands when it was killed.
    wait::until("all that came after the kill", wait::SOON, || {
        (told(dir.path(), remote).len() >= 51).then_some(())
    });
    assert!(count(&resumed, "recovered") >= 50, "{:#}", resumed.0);
    let metrics = second.metrics();
    check_balance(&metrics);
    let recovered = metrics.get("telltale_restart_operations", &[("outcome", "recovered")]);
    assert_eq!(recovered, count(&resumed, "recovered") as f64);
}

/// A connection that waits for its client to say a name is in no log yet, though its record is
/// taken: a kill then counts it. Segments of which two records were made do not hide that.
#[test]
fn connections_that_wait_for_a_name_when_the_monitor_is_killed_are_counted() {
    const WAITING: usize = 40;
    let (_turn, dir) = (Turn::shared(), temp_dir());
    let bpf = BpfFs::mount(dir.path());
    let ns = NetNs::new();
    let server = TcpServer::start(&ns, &format!("{SERVER_V4}:443"));
    let remote: SocketAddr = format!("{SERVER_V4}:443").parse().unwrap();
    let chatty = TcpServer::start(&ns, &format!("{SERVER_V4}:8443"));
    let first = pinned(dir.path(), &bpf.pins());
    ns.enter(|| {
        for _ in 0..WAITING {
            let mut stream = TcpStream::connect((remote.ip(), 8443)).unwrap();
            stream.write_all(&[b'#'; 20_000]).unwrap();
        }
    });
    let connect = || TcpStream::connect(remote).unwrap();
    let silent = ns.enter(|| -> Vec<_> { (0..WAITING).map(|_| connect()).collect() });
    // Long enough to be taken and noted, and not for the wait to end.
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(told(dir.path(), remote).len(), 0, "they wait");
    kill(first);
    drop((silent, server, chatty)); // What is still open would be found.
    let _second = pinned(dir.path(), &bpf.pins());
    resumption(dir.path());
    check_told_or_counted(dir.path(), remote, WAITING as u64);
}

/// Operations without a record are in the flow map, which the next monitor reads on.
#[test]
fn flows_are_counted_once_across_a_kill() {
    let (_turn, dir) = (Turn::shared(), temp_dir());
    let bpf = BpfFs::mount(dir.path());
    let remote: SocketAddr = "127.77.0.2:1077".parse().unwrap();
    let (pins, record) = (bpf.pins(), dir.path().join("second"));
    let [pins, record] = [pins, record].map(|path| path.display().to_string());
    // With the scope `tools`, only the first is a record.
    let first = Options::new(dir.path()).args(&["--pin", &pins]).start();
    let burst = || (0..200).for_each(|_| connect(remote));
    burst();
    thread::sleep(Duration::from_secs(3)); // Read from the flow map, and noted.
    kill(first);
    burst();
    let second = Options::new(dir.path()).args(&["--pin", &pins, "--record", &record]);
    let second = second.start();
    second.wait_for_metrics("the flow map", |metrics| {
        let read = [("kind", "flow_counted")];
        metrics.sum("telltale_events_total", &read).is_some()
    });
    let _ = second.stop();
    assert_eq!(counted(Path::new(&record), remote), 200);
}

/// Calls to an address that a recording has from the flow map.
fn counted(recording: &Path, remote: SocketAddr) -> u64 {
    let mut connects = 0;
    for entry in Recording::open(recording).unwrap() {
        let Entry::Record { bytes, .. } = entry.unwrap() else {
            continue;
        };
        if let Decoded::FlowCounted(flow) = Decoded::decode(&bytes).unwrap()
            && flow.remote.addr == remote
        {
            connects += flow.delta.connects;
        }
    }
    connects
}

#[test]
fn kills_at_random_times_lose_nothing_uncounted() {
    let (_turn, dir) = (Turn::shared(), temp_dir());
    let bpf = BpfFs::mount(dir.path());
    let kills = env::var("TELLTALE_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let mut telltale = pinned(dir.path(), &bpf.pins());
    let connects = Connects::start("127.77.0.3:1077");
    let mut seed = 7u64;
    for _ in 0..kills {
        // Knuth's linear congruential generator: the same times in every run.
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        thread::sleep(Duration::from_millis(seed >> 54));
        kill(telltale);
        thread::sleep(Duration::from_millis((seed >> 32) % 300));
        telltale = pinned(dir.path(), &bpf.pins());
        check_balance(&telltale.metrics());
    }
    let remote = connects.remote;
    let made = connects.end();
    check_told_or_counted(dir.path(), remote, made);
    let lost: Vec<u64> = resumptions(dir.path())
        .iter()
        .map(|event| count(event, "lost"))
        .collect();
    assert_eq!(lost.len() as u64, kills);
    // No kill broke the chain of the log.
    let log = dir.path().join("events.ndjson").display().to_string();
    monitor_tests::telltale::telltale(dir.path(), &["verify", &log]).expect(0, &[]);
}

#[test]
fn a_planned_restart_loses_nothing() {
    let (_turn, dir) = (Turn::shared(), temp_dir());
    let bpf = BpfFs::mount(dir.path());
    let first = pinned(dir.path(), &bpf.pins());
    let connects = Connects::start("127.77.0.4:1077");
    thread::sleep(Duration::from_millis(500));
    let _ = first.stop();
    thread::sleep(Duration::from_millis(300));
    let _second = pinned(dir.path(), &bpf.pins());
    resumption(dir.path());
    let remote = connects.remote;
    let made = connects.end();
    check_told_or_counted(dir.path(), remote, made);
    assert_eq!(told(dir.path(), remote).len() as u64, made);
    assert_eq!(count(&resumptions(dir.path())[0], "lost"), 0);
}

#[test]
fn two_monitors_do_not_share_a_folder() {
    let (_turn, dir) = (Turn::shared(), temp_dir());
    let bpf = BpfFs::mount(dir.path());
    let pins = bpf.pins().display().to_string();
    let first = pinned(dir.path(), &bpf.pins());
    let address = "127.0.0.1:0";
    let run = ["run", "--pin", &pins, "--web.listen-address", address];
    telltale(dir.path(), &run).expect(2, &["another Telltale uses", "--pin"]);
    let purge = ["uninstall", "--purge-kernel-state", "--pin", &pins];
    telltale(dir.path(), &purge).expect(2, &["another Telltale uses"]);
    let _ = first.stop();
    assert!(bpf.pins().exists());
    telltale(dir.path(), &purge).expect(0, &[]);
    assert!(!bpf.pins().exists());
    telltale(dir.path(), &purge).expect(0, &[]);
}

#[test]
fn after_the_purge_nothing_is_attached() {
    let (_turn, dir) = (Turn::shared(), temp_dir());
    let bpf = BpfFs::mount(dir.path());
    let first = pinned(dir.path(), &bpf.pins());
    let programs = programs_of(first.process.pid());
    assert!(programs.len() >= 12, "{programs:?}");
    let loaded = || -> BTreeSet<u32> {
        let programs = aya::programs::loaded_programs();
        programs.map(|program| program.unwrap().id()).collect()
    };
    kill(first);
    assert!(loaded().is_superset(&programs), "pinned");
    let pins = bpf.pins().display().to_string();
    let purge = ["uninstall", "--purge-kernel-state", "--pin", &pins];
    telltale(dir.path(), &purge).expect(0, &[]);
    // The kernel frees programs a moment after their last link.
    wait::until("the end of the programs", wait::SOON, || {
        loaded().is_disjoint(&programs).then_some(())
    });
}

/// Ids of the programs of the links that a process holds.
fn programs_of(pid: u32) -> BTreeSet<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    texts
        .filter(|text| text.contains("link_type:"))
        .filter_map(|text| {
            let id = text
                .lines()
                .find_map(|line| line.strip_prefix("prog_id:"))?;
            id.trim().parse().ok()
        })
        .collect()
}

#[track_caller]
fn check_refused(prepare: impl FnOnce(&Path), words: &[&str]) {
    let (_turn, dir) = (Turn::shared(), temp_dir());
    let bpf = BpfFs::mount(dir.path());
    kill(pinned(dir.path(), &bpf.pins()));
    prepare(&bpf.pins());
    let pins = bpf.pins().display().to_string();
    let run = ["run", "--pin", &pins, "--web.listen-address", "127.0.0.1:0"];
    telltale(dir.path(), &run).expect(2, &[words, &["--purge-kernel-state"]].concat());
}

#[test]
fn a_folder_that_holds_something_else_is_refused() {
    let foreign = |pins: &Path| fs::create_dir(pins.join("cilium")).unwrap();
    check_refused(foreign, &["cilium", "not Telltale's"]);
    let open = |pins: &Path| {
        fs::set_permissions(pins, fs::Permissions::from_mode(0o777)).unwrap();
    };
    check_refused(open, &["mode 777"]);
    let swapped = |pins: &Path| {
        let layout = layout(pins);
        fs::remove_file(layout.join("FLOWS")).unwrap();
        let other = aya::maps::MapData::from_pin(layout.join("COUNTERS")).unwrap();
        other.pin(layout.join("FLOWS")).unwrap();
    };
    check_refused(swapped, &["not the map FLOWS"]);
}

/// The folder of the maps.
pub fn layout(pins: &Path) -> PathBuf {
    let mut entries = fs::read_dir(pins)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries.find(|path| path.join("FLOWS").exists()).unwrap()
}

/// Here the hooks' count is raised; a ring that loses what it was given would look the same.
#[test]
fn records_that_were_booked_and_never_come_are_told() {
    const ASTRAY: u64 = 1_000_000; // More than others have under way.
    let (_turn, dir) = (Turn::shared(), temp_dir());
    let bpf = BpfFs::mount(dir.path());
    let telltale = pinned(dir.path(), &bpf.pins());
    let map = aya::maps::MapData::from_pin(layout(&bpf.pins()).join("COUNTERS")).unwrap();
    let map = aya::maps::Map::PerCpuArray(map);
    let mut books = aya::maps::PerCpuArray::<_, u64>::try_from(map).unwrap();
    for outcome in [counter::ATTEMPTED, counter::DELIVERED] {
        let cell = counter::index(counter::HOOK_SENDMSG6, outcome);
        let mut by_cpu = books.get(&cell, 0).unwrap().to_vec();
        by_cpu[0] += ASTRAY;
        books.set(cell, by_cpu.try_into().unwrap(), 0).unwrap();
    }
    let rings = [("hook", "rings")];
    let reason = [("reason", "books_unbalanced:rings")];
    telltale.wait_for_metrics("records astray", |metrics| {
        metrics.get("telltale_books_remainder", &rings) > 0.9 * ASTRAY as f64
            && metrics.sum("telltale_coverage_gap_info", &reason) == Some(1.0)
    });
    assert_eq!(
        telltale.metrics().get("telltale_coverage_complete", &[]),
        0.0
    );
    let _ = telltale.stop();
}

/// Another build may lay out its maps in another way: they are not read, and that is told.
#[test]
fn what_another_layout_left_is_counted_and_thrown_away() {
    let (_turn, dir) = (Turn::shared(), temp_dir());
    let bpf = BpfFs::mount(dir.path());
    kill(pinned(dir.path(), &bpf.pins()));
    let remote: SocketAddr = "127.77.0.5:1077".parse().unwrap();
    for _ in 0..50 {
        connect(remote);
    }
    let (own, other) = (layout(&bpf.pins()), bpf.pins().join("0123456789abcdef"));
    fs::DirBuilder::new().mode(0o700).create(&other).unwrap();
    for entry in fs::read_dir(&own).unwrap() {
        let entry = entry.unwrap();
        fs::rename(entry.path(), other.join(entry.file_name())).unwrap();
    }
    let second = pinned(dir.path(), &bpf.pins());
    let resumed = resumption(dir.path());
    assert!(count(&resumed, "lost") >= 50, "{:#}", resumed.0);
    assert!(!other.exists());
    second.wait_for_metrics("the gap", |metrics| {
        metrics
            .lines("telltale_coverage_gap_info")
            .contains("\"restart\"")
    });
    connect(remote);
    second.wait_for("a connection", |event| {
        event.text("destination.ip") == "127.77.0.5"
    });
    check_balance(&second.metrics());
}

#[test]
fn a_monitor_that_cannot_pin_says_so_and_goes_on() {
    let (_turn, dir) = (Turn::shared(), temp_dir());
    let bpf = BpfFs::mount(dir.path());
    let first = pinned(dir.path(), &bpf.pins());
    let gap = |metrics: &Metrics| {
        metrics
            .lines("telltale_coverage_gap_info")
            .contains("\"not_pinned\"")
    };
    first.wait_for_metrics("no gap", |metrics| !gap(metrics));
    fs::remove_file(layout(&bpf.pins()).join("FLOWS")).unwrap();
    first.wait_for_metrics("the gap", gap);
}
