//! `cargo xtask run`: builds Telltale and starts it with the privileges that it needs.
//!
//! In: the words for `telltale run`. Out: a monitor on this terminal, until Ctrl-C.

use anyhow::Result;

use crate::{packages, shell};

/// What was asked for.
#[derive(clap::Args)]
pub struct Args {
    /// Words for `telltale run`, after `--`.
    #[arg(last = true)]
    words: Vec<String>,
}

/// Builds and starts the monitor.
///
/// # Errors
/// When it does not build, cannot start, or ends with a failure.
pub fn run(args: &Args) -> Result<()> {
    let root = shell::workspace_root()?;
    let build = ["build", "--release", "--package", "telltale"];
    shell::run(shell::cargo().current_dir(&root).args(build))?;
    let program = root.join("target/release/telltale");
    shell::run(
        packages::as_root(&program.to_string_lossy())?
            .arg("run")
            .args(&args.words),
    )
}
