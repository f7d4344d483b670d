//! The binary: arguments → what to do → exit code.
//!
//! In: the command line. Out: 0 if it went well, 1 if the answer is no, 2 if it could not start.
//! This is the only file that ends the process.

use std::process::ExitCode;

// Linked in for its symbols.
#[cfg(target_env = "musl")]
use monitor_copy as _;
use telltale::cli::Cli;
use telltale::run;

/// What `--version` prints after the name.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\nkernel object sha256:",
    env!("TELLTALE_EBPF_DIGEST")
);

fn main() -> ExitCode {
    let cli = Cli::from_args(std::env::args_os(), VERSION).unwrap_or_else(|error| error.exit());
    match run::command(cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("telltale: {}", run::in_words(&error));
            ExitCode::from(2)
        }
    }
}
