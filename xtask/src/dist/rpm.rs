//! The RPM.
//!
//! In: the laid out files, and deploy/packages/rpm/telltale.spec, which rpmbuild works by. Out: a
//! .rpm.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Release;
use super::program::ARCHITECTURE;
use crate::shell;

/// Builds the package.
///
/// # Errors
/// When rpmbuild is missing or fails.
pub fn build(release: &Release, stage: &Path) -> Result<PathBuf> {
    if shell::find_on_path("rpmbuild").is_none() {
        bail!("no rpmbuild here: apt-get install rpm");
    }
    let top = release.folder.join("rpm");
    let mut rpmbuild = release.command("rpmbuild");
    rpmbuild.args(["-bb", "--quiet", "--target", ARCHITECTURE]);
    for (name, value) in [
        ("_topdir", top.display().to_string()),
        ("stage", stage.display().to_string()),
        ("version", release.version.clone()),
    ] {
        rpmbuild.arg("--define").arg(format!("{name} {value}"));
    }
    rpmbuild.arg(release.root.join("deploy/packages/rpm/telltale.spec"));
    shell::run(&mut rpmbuild)?;
    let name = format!("telltale-{}-1.{ARCHITECTURE}.rpm", release.version);
    let package = release.folder.join(&name);
    fs::rename(top.join("RPMS").join(ARCHITECTURE).join(&name), &package)
        .with_context(|| name.clone())?;
    fs::remove_dir_all(&top)?;
    Ok(package)
}
