//! The program as it is shipped, and what describes its command line.
//!
//! In: the sources. Out: one static file without symbols or paths of this machine; man pages and
//! completions.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Release;
use crate::shell;

/// Linked with musl, a program runs on any distribution, however old its libraries.
const TARGET: &str = "x86_64-unknown-linux-musl";
/// Cargo's profile; see the workspace's Cargo.toml.
const PROFILE: &str = "dist";

/// Builds the program.
///
/// # Errors
/// When the target is missing, or it does not build.
pub fn build(root: &Path) -> Result<PathBuf> {
    if shell::find_on_path("musl-gcc").is_none() {
        bail!("the program is linked by musl-gcc: apt-get install musl-tools");
    }
    if shell::find_on_path("rustup").is_some() {
        shell::run(Command::new("rustup").args(["target", "add", TARGET]))?;
    }
    println!("== building telltale for {TARGET}");
    let target = root.join("target");
    let mut cargo = shell::cargo();
    cargo
        .current_dir(root)
        .env("CARGO_ENCODED_RUSTFLAGS", renamed_folders(root)?)
        .args(["build", "--locked", "--quiet", "-p", "telltale"])
        .args(["--profile", PROFILE, "--target", TARGET, "--target-dir"])
        .arg(&target);
    shell::run(&mut cargo)?;
    Ok(target.join(TARGET).join(PROFILE).join("telltale"))
}

/// Messages of panics name source files: by a name that is the same on every machine.
fn renamed_folders(root: &Path) -> Result<String> {
    let home = env::home_dir().context("no home folder")?;
    let cargo = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let renamed = [(root, "/telltale"), (&cargo, "/cargo")];
    let flags = renamed.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    Ok(flags.join("\x1f"))
}

/// Writes man pages and completions, and says into which folder.
///
/// # Errors
/// When the example that makes them does not build.
pub fn manuals(release: &Release) -> Result<PathBuf> {
    let folder = release.folder.join("manuals");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let mut cargo = shell::cargo();
    cargo
        .current_dir(&release.root)
        .args(["run", "--locked", "--quiet", "-p", "telltale"])
        .args(["--example", "manuals", "--"])
        .arg(&folder);
    shell::run(&mut cargo)?;
    Ok(folder)
}

/// The host triple's name of the processor, as packages call it.
pub const ARCHITECTURE: &str = "x86_64";

/// Compresses a file in place, the same way each time.
///
/// # Errors
/// When gzip fails.
pub fn compress(path: &Path) -> Result<()> {
    shell::run(Command::new("gzip").args(["-9n", "--force"]).arg(path))
}
