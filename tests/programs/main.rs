//! Every kernel program on the running kernel: does it load and attach, does it fire, and is what
//! it says true?
//!
//! In: a fork, an exec, connections, datagrams and DNS messages of this very process, all on
//! loopback. Out: one line per program, `PROGRAM connect4: fired`, and one for the books, from
//! which `cargo xtask vm` makes the table in docs/kernel-support.md; fails if a line says less.
//!
//! Needs root, cgroup v2 and the kernel's BTF.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests report failure by panicking, and this one reports to a caller as well"
)]

mod acts;
mod evidence;

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};

use monitor_common::counter::{self, ATTEMPTED, DELIVERED, HOOK_NAMES, OUTCOMES};
use monitor_common::program::PROGRAMS;
use monitor_tests::binary::require_root;
use monitor_tests::wait::{SOON, try_until};
use telltale::core::event::Event;
use telltale::core::sample::Samples;
use telltale::host::HostRoot;
use telltale::source::bpf::load_error::LoadError;
use telltale::source::bpf::{self, Kernel, Options, Probed};
use telltale::source::cgroup2;

use acts::Acts;
use evidence::CHECKS;

/// What is known of each program: the last step that it made, or what it failed at.
type Report = BTreeMap<&'static str, Result<&'static str, String>>;

/// The kernel is too old for the program, and the monitor does without it.
const NOT_THERE: &str = "not there in this kernel";

#[test]
fn every_program_loads_attaches_and_fires() {
    require_root();
    assert!(
        PROGRAMS.iter().eq(CHECKS.iter().map(|(name, _)| name)),
        "a check per program"
    );
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let older = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    let mut report = loaded();
    let books = if report.values().all(Result::is_ok) {
        attached(&mut report).and_then(|kernel| fired(kernel, &older, &mut report))
    } else {
        Err("not every program is loaded".to_owned())
    };
    println!();
    for (program, step) in &report {
        println!("PROGRAM {program}: {}", text(step));
    }
    println!("BOOKS: {}", text(&books));
    assert!(
        report
            .values()
            .all(|step| matches!(step, Ok("fired" | NOT_THERE))),
        "a program does not fire"
    );
    assert!(books.is_ok(), "the books do not balance");
}

/// The step, or the failure in one line; the whole of it, a verifier's log say, goes before.
fn text(step: &Result<&'static str, String>) -> String {
    match step {
        Ok(step) => (*step).to_owned(),
        Err(error) => {
            println!("{error}");
            one_line(error)
        }
    }
}

/// What failed, and of a verifier's log the verdict: its last line before the statistics.
fn one_line(error: &str) -> String {
    const STATISTICS: [&str; 5] = [
        "verification time",
        "stack depth",
        "insns processed",
        "processed",
        "mark_read",
    ];
    let is_statistic = |line: &&str| STATISTICS.iter().any(|start| line.starts_with(start));
    let (what, log) = error
        .split_once(" Verifier output: ")
        .unwrap_or((error, ""));
    match log
        .lines()
        .rfind(|line| !line.is_empty() && !is_statistic(line))
    {
        Some(verdict) => format!("{what} {verdict}"),
        None => what.to_owned(),
    }
}

fn loaded() -> Report {
    let programs = bpf::probe().expect("maps and the layout of this kernel");
    let step = |probed: Probed| match (probed.loaded, probed.optional_before) {
        (Ok(()), _) => Ok("loaded"),
        (Err(_), Some(since)) if this_kernel() < since => Ok(NOT_THERE),
        (Err(error), _) => Err(format!("refused: {error}")),
    };
    programs
        .into_iter()
        .map(|probed| (probed.program, step(probed)))
        .collect()
}

/// Major and minor version of the running kernel.
fn this_kernel() -> (u32, u32) {
    let release = HostRoot::default().kernel_release().unwrap();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn attached(report: &mut Report) -> Result<Kernel, String> {
    let cgroup = cgroup2::open_root(&HostRoot::default()).unwrap();
    let options = Options {
        report_all: true,
        ..Options::default()
    };
    match Kernel::load(cgroup, &options) {
        Ok(kernel) => {
            let there = report.values_mut().filter(|step| **step != Ok(NOT_THERE));
            there.for_each(|step| *step = Ok("attached"));
            Ok(kernel)
        }
        Err(error) => {
            if let LoadError::Attach { program, .. } = &error {
                report.insert(program, Err(format!("not attached: {error}")));
            }
            Err(error.to_string())
        }
    }
}

/// Acts, looks for the evidence of each program, and then at the books.
fn fired(
    mut kernel: Kernel,
    older: &TcpStream,
    report: &mut Report,
) -> Result<&'static str, String> {
    let mut events = kernel
        .found_sockets()
        .map_or_else(|_| Vec::new(), |found| decode_all(&found));
    let acts = Acts::perform(older);
    let mut samples = Samples::default();
    events.extend(decode_all(&kernel.found_processes().unwrap()));
    for (program, check) in CHECKS {
        if report.get(program) == Some(&Ok(NOT_THERE)) {
            continue;
        }
        // A record may be in another ring, and other CPUs may still be writing theirs.
        let seen = try_until(SOON / 10, || {
            kernel.drain(|_, record| {
                samples.pass(record, &mut |record| {
                    events.push(Event::decode(record).unwrap())
                });
            });
            check(&acts, &events).ok()
        });
        let step = seen.ok_or_else(|| check(&acts, &events).unwrap_err());
        report.insert(
            program,
            step.map(|()| "fired")
                .map_err(|why| format!("silent: {why}")),
        );
    }
    // The host goes on: what is attempted at this moment may not have its outcome yet.
    let unbalanced = || unbalanced(&kernel);
    match try_until(SOON, || unbalanced().is_none().then_some(())) {
        Some(()) => Ok("balanced"),
        None => Err(unbalanced().unwrap_or_default()),
    }
}

/// Records that lie one after the other.
fn decode_all(mut bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while bytes.len() >= 16 {
        let length = u32::from_ne_bytes(bytes[12..16].try_into().unwrap()) as usize;
        events.push(Event::decode(&bytes[..length]).unwrap());
        bytes = &bytes[length..];
    }
    events
}

/// The hooks whose attempts are not the sum of their outcomes.
fn unbalanced(kernel: &Kernel) -> Option<String> {
    let values = kernel.books().unwrap();
    let rows = (0u32..).zip(HOOK_NAMES).filter_map(|(hook, name)| {
        let cell = |outcome| values[counter::index(hook, outcome) as usize];
        let (attempts, outcomes) = (
            cell(ATTEMPTED),
            (DELIVERED..OUTCOMES).map(cell).sum::<u64>(),
        );
        (attempts != outcomes).then(|| format!("{name}: {attempts} attempts, {outcomes} outcomes"))
    });
    let rows: Vec<String> = rows.collect();
    (!rows.is_empty()).then(|| rows.join("; "))
}
