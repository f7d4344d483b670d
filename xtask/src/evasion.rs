//! `cargo xtask evasion`: every known way out of the host, and what Telltale said of each.
//!
//! In: names of cases, or none for all. Out: a table of case, verdict owed and verdict got; the
//! exit code is 1 if one is less than owed. Needs root.

use anyhow::Result;

use crate::{packages, shell};

/// What was asked for.
#[derive(clap::Args)]
pub struct Args {
    /// Cases; all if none is named.
    cases: Vec<String>,
}

/// Runs the suite.
///
/// # Errors
/// When it cannot be built, this is not root, or a verdict is less than owed.
pub fn run(args: &Args) -> Result<()> {
    packages::install_missing()?;
    let mut cargo = shell::cargo();
    cargo
        .current_dir(shell::workspace_root()?)
        .args([
            "test",
            "--package",
            "monitor-tests",
            "--test",
            "evasion",
            "--",
        ])
        .args(&args.cases);
    crate::test::become_root(&mut cargo)?;
    shell::run(&mut cargo)
}
