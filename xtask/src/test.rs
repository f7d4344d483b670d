//! `cargo xtask test`: the whole test suite, or one part of it.
//!
//! In: which part. Out: what `cargo test` prints, and how long each part took. The tests of
//! `monitor-tests` load kernel programs and make network namespaces: where this is not root, cargo
//! runs them, and nothing else, through sudo.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::shell;

/// The package whose tests need root.
const ROOT_PACKAGE: &str = "monitor-tests";

/// What was asked for.
#[derive(clap::Args)]
pub struct Args {
    /// Which part.
    #[arg(value_enum, default_value_t = Part::All)]
    part: Part,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Needs nothing: functions and modules.
    Unit,
    /// Needs root and the running kernel: the built program against real processes.
    Kernel,
    /// Both.
    All,
}

/// Runs the part that was asked for.
///
/// # Errors
/// When a test fails, or root is needed and cannot be had.
pub fn run(args: &Args) -> Result<()> {
    let root = shell::workspace_root()?;
    let cargo_test = |arguments: &[&str]| {
        let mut cargo = shell::cargo();
        cargo.current_dir(&root).arg("test").args(arguments);
        cargo
    };
    let mut parts = Vec::new();
    if args.part != Part::Kernel {
        parts.push((
            "unit",
            cargo_test(&["--workspace", "--exclude", ROOT_PACKAGE]),
        ));
    }
    if args.part != Part::Unit {
        let mut kernel = cargo_test(&["--package", ROOT_PACKAGE]);
        become_root(&mut kernel)?;
        parts.push(("kernel", kernel));
    }
    let build = cargo_test(&["--workspace", "--no-run"]);
    parts.insert(0, ("build", build));

    let mut times = Vec::new();
    for (name, mut command) in parts {
        let start = Instant::now();
        shell::run(&mut command)?;
        times.push(format!("{name} {}", seconds(start.elapsed())));
    }
    println!("xtask test: {}", times.join(", "));
    Ok(())
}

/// Makes cargo run the test programs as root: at once where this is root, else through sudo.
fn become_root(cargo: &mut Command) -> Result<()> {
    if shell::output(Command::new("id").arg("-u"))?.trim() == "0" {
        return Ok(());
    }
    if shell::find_on_path("sudo").is_none() {
        bail!(
            "the kernel tests need root, and there is no sudo: run this as root, or run \
             `cargo xtask test unit` for the rest"
        );
    }
    let verbose = shell::output(Command::new("rustc").arg("-vV"))?;
    let host = verbose
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap_or_default();
    let runner = format!(
        "CARGO_TARGET_{}_RUNNER",
        host.to_uppercase().replace('-', "_")
    );
    // sudo has a PATH of its own; the tests need this one, to find cargo and Node.js.
    let path = std::env::var("PATH").unwrap_or_default();
    cargo.env(runner, format!("sudo -E env PATH={path}"));
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
