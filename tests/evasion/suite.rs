//! The whole performance: the monitor, every case, and the books after each.
//!
//! In: names of cases. Out: a [`Report`].

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use monitor_tests::bpffs::BpfFs;
use monitor_tests::event::Event;
use monitor_tests::program::CLAUDE_NATIVE;
use monitor_tests::scene::temp_dir;
use monitor_tests::telltale::{Options, Telltale};
use monitor_tests::turn::Turn;
use monitor_tests::{binary, wait};

use crate::cases::{self, Case, How, Owed};
use crate::log::Log;
use crate::network::Network;
use crate::peer::Peer;
use crate::report::{Line, Report};
use crate::score::{Bench, Got, Judged, Played, is_missing, judge_tracer};
use crate::special;
use crate::stage::{Acting, Stage};
use crate::tracer::Tracer;

/// Whom the suite itself calls; an address for documentation (RFC 5737).
const MARK: [u8; 4] = [192, 0, 2, 77];
/// How long Telltale may lag behind a host that has more to do than it can.
const CATCH_UP: Duration = Duration::from_secs(120);
/// How long Telltale has to say what it owes: it looks for open sockets now and then.
const PATIENCE: Duration = Duration::from_secs(8);
/// Within this, Telltale reads the books twice.
const QUIET: Duration = Duration::from_millis(2500);
/// Numbers of the addresses of the second pass.
const SECOND_PASS: usize = 1000;

/// Where everything is.
pub struct Suite<'a> {
    /// The stage.
    pub stage: Stage,
    /// The monitor.
    pub telltale: Telltale<'a>,
    /// Its event log.
    pub log: Log,
    /// The tracer, where there is one.
    pub tracer: Option<Tracer>,
    coverage: String,
    calls: u16,
}

/// Plays all cases, or those that are named.
pub fn run(wanted: &[String]) -> Report {
    binary::require_root();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|it| it == name);
    let turn = Turn::shared();
    let temp = temp_dir();
    let dir = temp.path();
    let network = Network::new();
    let evade = dir.join("evade");
    place(&evade);
    let peer = Peer::start(&network.peer, &evade);
    let mut stage = Stage {
        network,
        peer,
        evade,
        dir: dir.to_owned(),
    };
    // Gone with what the monitors left there when the suite ends.
    let _bpf = BpfFs::mount(dir);
    let tracer = Tracer::start(dir);
    let chosen: Vec<(usize, &'static Case)> = cases::all()
        .filter(|(_, case)| is_wanted(case.name))
        .collect();
    let mut older = Vec::new();
    for (number, case) in &chosen {
        if matches!(case.how, How::Older | How::OlderCalled(_)) {
            let mut acting = stage.start(*number, case);
            acting.wait_until_ready();
            older.push(acting);
        }
    }
    let (telltale, log) = monitor(dir, "all");
    let mut suite = Suite {
        stage,
        telltale,
        log,
        tracer,
        coverage: coverage(),
        calls: 0,
    };
    let mut report = Report::default();
    for acting in older {
        suite.case(&mut report, acting);
    }
    for (number, case) in &chosen {
        if !matches!(case.how, How::Older | How::OlderCalled(_)) {
            let acting = suite.stage.start(*number, case);
            suite.case(&mut report, acting);
        }
    }
    drop(turn);
    special::run(&mut suite, &mut report, &is_wanted, dir);
    drop(suite.telltale);
    as_a_tool(&mut suite.stage, &mut report, &chosen, dir);
    report
}

/// Starts a monitor with files of its own, on what the one before left in the kernel.
pub fn monitor<'a>(dir: &Path, scope: &str) -> (Telltale<'a>, Log) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Its files are read until the end of the suite.
    let own: &'static Path = Box::leak(dir.join(format!("monitor-{number}")).into_boxed_path());
    fs::create_dir(own).expect("a folder");
    let pins = BpfFs::pins_in(dir).display().to_string();
    let options = Options::new(own).scope(scope).args(&["--pin", &pins]);
    // The floods would fill more files than one, and the log is read as one.
    let options = options.config("[events]\nrotate_mebibytes = 65536\n");
    let telltale = options.start();
    let log = Log::of(&own.join("events.ndjson"));
    (telltale, log)
}

/// What a monitor says that it cannot see.
fn gaps(telltale: &Telltale<'_>) -> String {
    telltale.metrics().lines("telltale_coverage_gap_info")
}

/// What the documentation says of gaps.
fn coverage() -> String {
    let here = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/coverage.md"));
    let path = std::env::var_os("COVERAGE_DOC").map_or_else(|| here.to_owned(), PathBuf::from);
    fs::read_to_string(path).unwrap_or_default()
}

/// Copies the program that acts to where it is to be found.
fn place(to: &Path) {
    fs::create_dir_all(to.parent().expect("a path in a folder")).expect("folders");
    // In a process of its own: a file that this one has open for writing cannot be executed.
    // Without debug information, of which acts would make many copies.
    let from = binary::evade();
    let mut strip = Command::new("strip");
    strip.arg("--strip-debug").arg("-o").arg(to).arg(from);
    let stripped = strip.output().is_ok_and(|output| output.status.success());
    let copied = || Command::new("cp").arg(from).arg(to).status();
    assert!(
        stripped || copied().is_ok_and(|status| status.success()),
        "cp evade"
    );
}

impl Suite<'_> {
    /// Sees a case through, judges it and looks at the books.
    pub fn case(&mut self, report: &mut Report, acting: Acting) {
        let played = self.stage.finish(acting);
        let judged = self.judge(&played);
        let tracer = self.tracer.as_mut().map(Tracer::calls);
        let tracer = tracer.map(|calls| judge_tracer(&played, calls).name());
        report.add(line(&played, &judged, tracer.unwrap_or_default()));
    }

    /// Waits until Telltale has said all that it has to say of what is over: until it tells a call
    /// of this very process. UDP's `connect` sends no packet.
    pub fn catch_up(&mut self) {
        self.calls += 1;
        let address = SocketAddr::from((MARK, self.calls));
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        let _ = socket.connect(address); // Seen before the kernel finds that there is no route.
        let told = wait::try_until(CATCH_UP, || {
            self.log.update();
            let mut about = self.log.about(address.ip()).iter();
            let port = u64::from(address.port());
            let is_it = |event: &Event| event.get("destination.port").as_u64() == Some(port);
            about.any(is_it).then_some(())
        });
        if told.is_none() {
            println!("Telltale has not told a call of the suite's own within {CATCH_UP:?}");
        }
    }

    /// Waits until Telltale has said what it owes, or has had its time.
    fn judge(&mut self, played: &Played) -> Judged {
        self.catch_up();
        let limit = if played.broken.is_some() || played.told.unsupported.is_some() {
            Duration::ZERO
        } else {
            PATIENCE
        };
        let gaps = gaps(&self.telltale);
        let mut last = None;
        wait::try_until(limit, || {
            self.log.update();
            let bench = Bench {
                log: &self.log,
                evade: &self.stage.evade,
                coverage: &self.coverage,
                gaps: &gaps,
            };
            let judged = bench.judge(played);
            let passes = judged.passes();
            last = Some(judged);
            passes.then_some(())
        });
        let mut judged = last.expect("judged at least once");
        judged.faults.extend(self.unbalanced());
        if !judged.passes() {
            judged.faults.extend(self.losses());
        }
        judged
    }

    /// What Telltale itself counts as lost, for whoever looks for the cause.
    fn losses(&self) -> Option<String> {
        let metrics = self.telltale.metrics();
        let wanted = [
            "telltale_coverage_gap_info",
            "telltale_event_log_dropped_lines_total",
            "telltale_table_limited_total",
            "telltale_decode_errors_total",
        ];
        let lines: Vec<String> = wanted.iter().map(|name| metrics.lines(name)).collect();
        let lines = lines.join("\n");
        let lost: Vec<&str> = lines
            .lines()
            .filter(|line| !line.is_empty() && !line.ends_with(" 0"))
            .collect();
        (!lost.is_empty()).then(|| format!("counted: {}", lost.join(" ")))
    }

    /// Hooks whose books do not balance, at rest.
    pub fn unbalanced(&self) -> Option<String> {
        let mut open = Vec::new();
        wait::try_until(PATIENCE, || {
            let metrics = self.telltale.metrics();
            open = metrics
                .unbalanced()
                .into_iter()
                .map(str::to_owned)
                .collect();
            if open.is_empty() {
                return Some(());
            }
            // The books of the rings are exact after a second without records, and a look makes some.
            std::thread::sleep(QUIET);
            None
        });
        (!open.is_empty()).then(|| format!("books of {} do not balance", open.join(", ")))
    }
}

fn line(played: &Played, judged: &Judged, tracer: &str) -> Line {
    let case = played.case;
    let line = Line {
        name: case.name.to_owned(),
        what: case.what.to_owned(),
        owed: judged.owed.name().to_owned(),
        got: judged.got.name().to_owned(),
        tracer: tracer.to_owned(),
        notes: judged.faults.join("; "),
        passes: judged.passes(),
    };
    if let Some(why) = &played.told.unsupported {
        return Line {
            got: "unsupported".to_owned(),
            tracer: String::new(),
            notes: why.clone(),
            passes: true,
            ..line
        };
    }
    if let Some(why) = &played.broken {
        return Line {
            got: "broken".to_owned(),
            notes: why.clone(),
            passes: false,
            ..line
        };
    }
    line
}

/// The cases that owe an alert, once more, played by an AI tool, with the default scope. Each has
/// a monitor of its own: what one has an alert of already is no second alert.
fn as_a_tool(
    stage: &mut Stage,
    report: &mut Report,
    chosen: &[(usize, &'static Case)],
    dir: &Path,
) {
    if chosen.iter().all(|(_, case)| case.alert.is_none()) {
        return;
    }
    let _turn = Turn::shared();
    let tool = dir.join("home").join(CLAUDE_NATIVE);
    place(&tool);
    stage.evade = tool;
    for (number, case) in chosen {
        let Some(rule) = case.alert else { continue };
        let (telltale, mut log) = monitor(dir, "tools");
        let acting = stage.start(SECOND_PASS + number, case);
        let played = stage.finish(acting);
        let fired = wait::try_until(PATIENCE, || {
            log.update();
            log.has_alert(rule).then_some(())
        });
        let missing = is_missing(case, &gaps(&telltale));
        let judged = Judged {
            owed: case.owed,
            got: Got::Silent,
            faults: Vec::new(),
        };
        let name = format!("{} by a tool", case.name);
        let line = line(&played, &judged, "");
        if line.got == "unsupported" || line.got == "broken" {
            report.add(Line { name, ..line });
            continue;
        }
        let got = match fired {
            Some(()) => "alert",
            None if missing => Owed::Declared.name(),
            None => Got::Silent.name(),
        };
        report.add(Line {
            name,
            owed: rule.to_owned(),
            got: got.to_owned(),
            passes: fired.is_some() || missing,
            ..line
        });
    }
}
