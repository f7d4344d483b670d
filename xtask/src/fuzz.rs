//! `cargo xtask fuzz`: every parser of hostile bytes, fed with changed corpora for a while.
//!
//! In: for how long, and from which seed. Out: how many inputs each parser took; exit code 1 if one
//! of them did not hold, with the file that has the input.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::shell;

/// What was asked for.
#[derive(clap::Args)]
pub struct Args {
    /// How long, shared by all parsers.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// First number of the changes: the one that a failed run printed. Another one each time
    /// otherwise.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the parsers.
///
/// # Errors
/// When one of them does not hold.
pub fn run(args: &Args) -> Result<()> {
    let seed = match args.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let mut test = shell::cargo();
    test.current_dir(shell::workspace_root()?);
    test.args(["test", "--quiet", "--package", "monitor-tests"]);
    test.args(["--test", "fuzz", "--", "--nocapture"]);
    test.env("TELLTALE_FUZZ_SECONDS", args.seconds.to_string());
    test.env("TELLTALE_FUZZ_SEED", seed.to_string());
    shell::run(&mut test)
}
