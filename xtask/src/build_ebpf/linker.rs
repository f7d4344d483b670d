//! Finds the BPF linker, or installs it when asked to.
//!
//! In: `TELLTALE_BPF_LINKER`, `PATH`, `target/tools/bin`. Out: a [`Linker`] of the one version
//! that this workspace uses.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::shell;

/// Later versions need LLVM's development files; this one needs only the compiler's own library.
const VERSION: &str = "0.10.0";

/// A linker that runs and is of the wanted version.
pub struct Linker {
    /// The program.
    pub path: PathBuf,
    /// What `--version` prints, in one line.
    pub version: String,
}

/// Finds the linker; with `install`, installs it under `target/tools` if there is none.
///
/// # Errors
/// When there is none: the text says where was looked and what to do.
pub fn find(root: &Path, install: bool) -> Result<Linker> {
    let mut rejected = String::new();
    for path in places(root) {
        match probe(&path) {
            Ok(linker) => return Ok(linker),
            Err(why) => rejected.push_str(&format!("\n  {}: {why}", path.display())),
        }
    }
    let tools = root.join("target/tools");
    if install {
        let wanted = [
            "install",
            "bpf-linker",
            "--version",
            VERSION,
            "--locked",
            "--root",
        ];
        shell::run(shell::cargo().args(wanted).arg(&tools))?;
        return probe(&tools.join("bin/bpf-linker"));
    }
    bail!(
        "no bpf-linker {VERSION} in $TELLTALE_BPF_LINKER, $PATH or target/tools/bin{rejected}\n\
         run `cargo xtask build-ebpf --install-tools`, or \
         `cargo install bpf-linker --version {VERSION} --locked`"
    )
}

/// Where a linker may be, nearest wish first. A place named by the variable is always tried.
fn places(root: &Path) -> Vec<PathBuf> {
    let named = env::var_os("TELLTALE_BPF_LINKER").map(PathBuf::from);
    let installed = root.join("target/tools/bin/bpf-linker");
    named
        .into_iter()
        .chain(shell::find_on_path("bpf-linker"))
        .chain(installed.exists().then_some(installed))
        .collect()
}

fn probe(path: &Path) -> Result<Linker> {
    let version = shell::output(Command::new(path).arg("--version"))?
        .trim()
        .to_owned();
    if version != format!("bpf-linker {VERSION}") {
        bail!("it is {version}, and {VERSION} is wanted");
    }
    Ok(Linker {
        path: path.to_owned(),
        version,
    })
}
