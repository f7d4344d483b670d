//! The tarball, for hosts without a package manager that we serve.
//!
//! In: the laid out files. Out: a .tar.gz with one folder, to be copied over `/`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Release;
use super::program::{ARCHITECTURE, compress};
use crate::shell;

/// Packs the files in the order of their names, all of one time and one owner.
///
/// # Errors
/// When tar or gzip fails.
pub fn build(release: &Release, stage: &Path) -> Result<PathBuf> {
    let name = format!("telltale-{}-{ARCHITECTURE}-linux", release.version);
    let tar = release.folder.join(format!("{name}.tar"));
    let mut command = release.command("tar");
    command
        .args(["--sort=name", "--format=gnu", "--owner=0", "--group=0"])
        .args(["--numeric-owner", &format!("--mtime=@{}", release.epoch)])
        .arg(format!("--transform=s,^\\.,{name},"))
        .arg("--directory")
        .arg(stage)
        .arg("--create")
        .arg("--file")
        .arg(&tar)
        .arg(".");
    shell::run(&mut command)?;
    compress(&tar)?;
    Ok(release.folder.join(format!("{name}.tar.gz")))
}
