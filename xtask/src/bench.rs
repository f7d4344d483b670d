//! `cargo xtask bench`: what Telltale costs, and whether it sees everything.
//!
//! In: which part, and how often. Out: tables, on standard output and, if asked, in
//! `docs/performance.md`. Nothing here passes or fails: figures belong to a machine and an hour.
//!
//! Every load talks over loopback in a network namespace of its own, does a fixed number of
//! operations and ends. With and without the monitor take turns, so that both see the same
//! neighbours; figures are medians over the rounds.

mod connects;
mod exec;
mod generator;
mod kernel;
mod line;
mod monitor;
mod names;
mod programs;
mod report;
mod sample;
mod soak;

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{dist, shell};
use generator::Generator;
use report::Document;

/// What was asked for.
#[derive(clap::Args)]
pub struct Args {
    /// Which part.
    #[arg(value_enum, default_value_t = Part::All)]
    part: Part,
    /// Pairs of runs with and without the monitor.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// How long `soak` takes.
    #[arg(long, default_value_t = 1800, value_parser = clap::value_parser!(u32).range(12..=86_400))]
    seconds: u32,
    /// Measure this monitor, instead of the one that packages hold.
    #[arg(long, value_name = "FILE")]
    monitor: Option<PathBuf>,
    /// Write the figures, with how they were got, to docs/performance.md.
    #[arg(long)]
    write: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// 100 000 TCP connects: all seen? rate, CPU, memory.
    Connects,
    /// 2 000 short-lived processes: all identified? rate, CPU.
    Exec,
    /// Nanoseconds that one operation costs its caller.
    Kernel,
    /// Nanoseconds of each stage for one record, and of a scrape.
    Line,
    /// 50 000 connections that say hello, and packets, with and without a look at first bytes.
    Names,
    /// Memory with 10 000 processes and 50 000 flows.
    Memory,
    /// Memory and open files over half an hour of 1 000 connections a second.
    Soak,
    /// All but `soak`.
    All,
}

/// What the parts work with.
struct Bench {
    /// The built monitor.
    telltale: PathBuf,
    generator: Generator,
    /// Where event logs and recordings go, for as long as they are looked at.
    folder: PathBuf,
    rounds: u32,
    seconds: u32,
}

/// Measures one part; the text is a table with what it means.
type Measure = fn(&Bench) -> Result<String>;

/// Runs the parts that were asked for.
///
/// # Errors
///
/// When something cannot be built or started, or this is not root.
pub fn run(args: &Args) -> Result<()> {
    if !shell::is_root()? {
        bail!("the monitor and the namespaces need root: run this as root");
    }
    let bench = Bench::build(args)?;
    let parts: [(Part, &str, Measure); 7] = [
        (Part::Connects, "connects", connects::run),
        (Part::Exec, "exec", exec::run),
        (Part::Kernel, "kernel", kernel::run),
        (Part::Line, "line", line::run),
        (Part::Names, "names", names::run),
        (Part::Memory, "memory", soak::memory),
        (Part::Soak, "soak", soak::run),
    ];
    for (part, name, measure) in parts {
        let is_in_all = args.part == Part::All && part != Part::Soak;
        if args.part != part && !is_in_all {
            continue;
        }
        let text = format!("{}\n{}", circumstances(bench.rounds)?, measure(&bench)?);
        println!("## {name}\n\n{text}");
        if args.write {
            // Opened now: a part may take half an hour, and others write meanwhile.
            let mut document = Document::open()?;
            document.set(name, &text);
            document.save()?;
        }
    }
    Ok(())
}

/// Where, when and in what company the figures were got.
fn circumstances(rounds: u32) -> Result<String> {
    let mut text = report::circumstances(rounds)?;
    if programs::another_monitor()? {
        text +=
            "Another Telltale was attached to this kernel: all figures hold its cost as well.\n";
    }
    Ok(text)
}

impl Bench {
    /// Builds the monitor as it is shipped, and the load generator.
    fn build(args: &Args) -> Result<Bench> {
        let root = shell::workspace_root()?;
        let telltale = match &args.monitor {
            Some(file) => file.clone(),
            None => dist::program(&root)?,
        };
        let mut cargo = shell::cargo();
        cargo
            .current_dir(&root)
            .args(["build", "--release", "--quiet"])
            .args(["-p", "monitor-tests", "--bin", "load"]);
        shell::run(&mut cargo)?;
        let folder = root.join("target/bench");
        std::fs::create_dir_all(&folder)?;
        Ok(Bench {
            telltale,
            generator: Generator::new(root.join("target/release/load")),
            folder,
            rounds: args.rounds,
            seconds: args.seconds,
        })
    }
}
