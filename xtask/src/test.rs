//! `cargo xtask test`: the whole test suite, or one part of it.
//!
//! In: which part. Out: what `cargo test` prints, and how long building and running took. The
//! tests of `monitor-tests` load kernel programs and make network namespaces: where this is not
//! root, the test programs run through sudo, while cargo and the compiler do not.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{packages, servers, shell};

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
    /// As `kernel`, and of that only the tests against real Prometheus and Alertmanager servers.
    Servers,
    /// Both.
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
            Self::All => &["--workspace"],
        }
    }
}

/// Builds and runs the part that was asked for.
///
/// # Errors
/// When a test fails, or root is needed and cannot be had.
pub fn run(args: &Args) -> Result<()> {
    let root = shell::workspace_root()?;
    let mut test = shell::cargo();
    test.current_dir(&root)
        .arg("test")
        .args(args.part.packages());
    if args.part != Part::Unit {
        packages::install_missing()?;
        packages::install_python(&root)?;
        servers::install(&root)?;
        become_root(&mut test)?;
    }
    let mut build = shell::cargo();
    build
        .current_dir(&root)
        .args(test.get_args())
        .arg("--no-run");
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
