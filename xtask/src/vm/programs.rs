//! What is run in a guest: programs that cargo builds, and programs of this machine.
//!
//! In: cargo, `PATH`. Out: for each program the file here and its path there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Payload;
use crate::shell;

/// What the kernel tests start, besides BusyBox's own `cat` and the like.
const USED_BY_TESTS: [&str; 7] = ["bash", "cp", "curl", "getent", "ip", "node", "setpriv"];

/// Where the guest finds what cargo built; `init.sh` has it on its `PATH`.
const BUILT: &str = "/usr/local/bin";

/// Cargo profile of what has time limits to keep, however slow the emulator is.
const EMULATED: &str = "emulated";

/// A program to take along.
pub struct Program {
    /// The file on this machine.
    pub from: PathBuf,
    /// Its path in the guest.
    pub to: PathBuf,
}

impl Program {
    /// A program of this machine, by name or path. It keeps its path.
    ///
    /// # Errors
    /// When there is none, or it is a script, whose interpreter would be missed.
    pub fn of_this_machine(name: &str) -> Result<Program> {
        let path = Path::new(name);
        let found = if path.is_file() {
            Some(path.to_owned())
        } else {
            shell::find_on_path(name)
        };
        let found = found.with_context(|| format!("{name}: no such program here"))?;
        let from = found
            .canonicalize()
            .with_context(|| format!("{}", found.display()))?;
        if fs::read(&from)?.starts_with(b"#!") {
            bail!(
                "{} is a script: name the program that it starts",
                from.display()
            );
        }
        let folder = found.parent().filter(|folder| folder.is_absolute());
        let file = found.file_name().unwrap_or_default();
        Ok(Program {
            to: folder.unwrap_or_else(|| Path::new(BUILT)).join(file),
            from,
        })
    }

    /// A target of a package, built by cargo. `kind` is `--bin` or `--test`.
    fn built(profile: &str, package: &str, kind: &str, name: &str) -> Result<Program> {
        Ok(Program {
            from: build(profile, package, kind, name)?,
            to: Path::new(BUILT).join(name),
        })
    }
}

/// The test that acts before every single program.
///
/// # Errors
/// When it does not build.
pub fn program_check() -> Result<Payload> {
    Ok(Payload {
        command: "programs --nocapture".to_owned(),
        programs: vec![Program::built(
            "dev",
            "monitor-tests",
            "--test",
            "programs",
        )?],
    })
}

/// All tests of the whole monitor on a running kernel.
///
/// # Errors
/// When something does not build, or a program that they use is not installed.
pub fn kernel_tests() -> Result<Payload> {
    let mut programs = vec![
        Program::built(EMULATED, "monitor-tests", "--test", "kernel")?,
        Program::built(EMULATED, "monitor-tests", "--bin", "standin")?,
        Program::built(EMULATED, "telltale", "--bin", "telltale")?,
    ];
    for name in USED_BY_TESTS {
        programs.push(Program::of_this_machine(name)?);
    }
    // One test at a time: under emulation two would wait for each other longer than they may.
    let command = "kernel --test-threads=1".to_owned();
    Ok(Payload { command, programs })
}

/// The evasion suite.
///
/// # Errors
/// As [`kernel_tests`].
pub fn evasion() -> Result<Payload> {
    const USED: [&str; 4] = ["cp", "ip", "nft", "setpriv"];
    let mut programs = vec![
        Program::built(EMULATED, "monitor-tests", "--test", "evasion")?,
        Program::built(EMULATED, "monitor-tests", "--bin", "evade")?,
        Program::built(EMULATED, "telltale", "--bin", "telltale")?,
        Program {
            from: shell::workspace_root()?.join("docs/coverage.md"),
            to: Path::new(BUILT).join("coverage.md"),
        },
    ];
    for name in USED {
        programs.push(Program::of_this_machine(name)?);
    }
    let command = format!("EVADE_BIN={BUILT}/evade COVERAGE_DOC={BUILT}/coverage.md evasion");
    Ok(Payload { command, programs })
}

/// Lets cargo build a target of a package and returns where the executable is.
fn build(profile: &str, package: &str, kind: &str, name: &str) -> Result<PathBuf> {
    println!("== building {name}");
    let mut cargo = shell::cargo();
    cargo.current_dir(shell::workspace_root()?);
    cargo.args(["build", "--profile", profile, "-p", package, kind, name]);
    cargo.args(["--quiet", "--message-format=json-render-diagnostics"]);
    shell::output(&mut cargo)?
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo names no executable {name}"))
}
