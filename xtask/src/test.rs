//! `cargo xtask test`: the whole test suite, or one part of it.
//!
//! In: which part. Out: what `cargo test` prints, and how long building and running took. The
//! tests of `monitor-tests` load kernel programs and make network namespaces: where this is not
//! root, the test programs run through sudo, while cargo and the compiler do not.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{packages, servers, shell, vm};

/// The package whose tests need root.
const ROOT_PACKAGE: &str = "monitor-tests";

/// Tests of faults; the survival of kills among those of the kernel side.
const FAULTS: [&str; 8] = [
    "--package",
    ROOT_PACKAGE,
    "--test",
    "faults",
    "--test",
    "bad",
    "--test",
    "kernel",
];

/// How long receivers are away in the tests of faults; in others some seconds.
const OUTAGE_S: &str = "60";

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
    /// As `kernel`, and of that only the tests against real Prometheus and Alertmanager servers.
    Servers,
    /// As `kernel`, and of that only what is done to the monitor: kills, floods, churn, full disks
    /// and maps, hostile text; prints what was measured.
    Faults,
    /// The Debian package on a fresh system in QEMU: installation, service, upgrade, purge.
    Service,
    /// All but the package.
    All,
}

impl Part {
    /// One selection for building and for running: another would change the features of shared
    /// dependencies, and build them twice.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Unit => &["--workspace", "--exclude", ROOT_PACKAGE],
            Self::Kernel => &["--package", ROOT_PACKAGE],
            Self::Servers => &["--package", ROOT_PACKAGE, "--test", "servers"],
            Self::Faults => &FAULTS,
            Self::All | Self::Service => &["--workspace"],
        }
    }

    /// Words for the test programs themselves.
    fn words(self) -> &'static [&'static str] {
        match self {
            // They measure: one at a time, and what they print is the result.
            Self::Faults => &["--", "--show-output", "--test-threads=1"],
            _ => &[],
        }
    }
}

/// Builds and runs the part that was asked for.
///
/// # Errors
/// When a test fails, or root is needed and cannot be had.
pub fn run(args: &Args) -> Result<()> {
    if args.part == Part::Service {
        return vm::service();
    }
    let root = shell::workspace_root()?;
    let mut test = shell::cargo();
    test.current_dir(&root)
        .arg("test")
        .args(args.part.packages());
    if args.part != Part::Unit {
        packages::install_missing()?;
        packages::install_python(&root)?;
        servers::install(&root)?;
        packages::unpack_resolved(&root)?;
        become_root(&mut test)?;
    }
    if args.part == Part::Faults {
        test.env("TELLTALE_TEST_OUTAGE_SECONDS", OUTAGE_S);
    }
    let mut build = shell::cargo();
    build
        .current_dir(&root)
        .args(test.get_args())
        .arg("--no-run");
    test.args(args.part.words());
    let build_time = timed(&mut build)?;
    let test_time = timed(&mut test)?;
    println!("xtask test: built in {build_time:.1?}, ran in {test_time:.1?}");
    Ok(())
}

fn timed(command: &mut Command) -> Result<Duration> {
    let start = Instant::now();
    shell::run(command)?;
    Ok(start.elapsed())
}

/// Makes cargo run the test programs as root: at once where this is root, else through sudo.
pub fn become_root(cargo: &mut Command) -> Result<()> {
    if shell::is_root()? {
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
