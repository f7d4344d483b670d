//! The project's own commands: `cargo xtask COMMAND`.
//!
//! In: the command line. Out: what the command makes or finds; the exit code is 1 on failure.
//! Building, testing and running Telltale never need this crate: `cargo build`, `cargo test` and
//! `cargo run` stand alone. One file is one command.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command line tool talks on stdout")]

mod bench;
mod build_ebpf;
mod dist;
mod evasion;
mod fuzz;
mod packages;
mod run;
mod servers;
mod shell;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Telltale's own build and check commands"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure what Telltale costs, and whether it sees everything.
    Bench(bench::Args),
    /// Build the kernel object from source, or prove that the committed one comes from it.
    BuildEbpf(build_ebpf::Args),
    /// Build the packages, and what comes with them.
    Dist(dist::Args),
    /// Try every known way out of the host, and print what Telltale said of each.
    Evasion(evasion::Args),
    /// Feed every parser of hostile bytes with changed recordings for a while.
    Fuzz(fuzz::Args),
    /// Build Telltale and start it with the privileges that it needs.
    Run(run::Args),
    /// Run the test suite, or one part of it, and say how long it took.
    Test(test::Args),
    /// Check what the compiler cannot: layers, file headers, stray text.
    Tidy,
    /// Check the kernel programs, or run the kernel tests, on other kernels in QEMU.
    Vm(vm::VmArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::BuildEbpf(args) => build_ebpf::run(&args),
        Command::Dist(args) => dist::run(&args),
        Command::Evasion(args) => evasion::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Tidy => tidy::run(),
        Command::Vm(args) => vm::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
