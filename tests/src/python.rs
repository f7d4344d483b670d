//! The Python environment that `cargo xtask test` makes.
//!
//! In: nothing. Out: commands with its programs.

use std::path::Path;
use std::process::Command;

/// One of its programs: `python` itself, or what a package brought.
///
/// # Panics
///
/// If it is not there.
#[must_use]
#[track_caller]
pub fn program(name: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin");
    let program = folder.join(name);
    assert!(
        program.exists(),
        "no {}: `cargo xtask test` makes it",
        program.display()
    );
    let mut command = Command::new(program);
    // They start each other.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", folder.display()));
    command
}
