//! Writes what the packages carry of the command line: man pages and shell completions.
//!
//! In: `manuals FOLDER`, and the definition of the command line. Out, in that folder: one man page
//! per command (`man1`), and completions for bash, fish and zsh.

use std::env;
use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use telltale::cli::Cli;

fn main() -> anyhow::Result<()> {
    let folder = env::args_os().nth(1).context("usage: manuals FOLDER")?;
    let folder = Path::new(&folder);
    let mut command = Cli::command().version(env!("CARGO_PKG_VERSION"));
    let pages = folder.join("man1");
    fs::create_dir_all(&pages)?;
    clap_mangen::generate_to(command.clone(), &pages)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut command, "telltale", folder)?;
    }
    Ok(())
}
