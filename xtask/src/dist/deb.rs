//! The Debian package.
//!
//! In: the laid out files, and the scripts in deploy/packages/debian. Out: a .deb by dpkg-deb,
//! which takes every time that is later than SOURCE_DATE_EPOCH for that one; lintian's opinion.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Release;
use crate::shell;

/// Who answers for the packages.
pub const MAINTAINER: &str = "The Telltale authors <telltale@example.org>";

/// Run by dpkg before and after; the operator's own files.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
const CONFFILES: &str = "/etc/telltale/telltale.toml\n";

const DESCRIPTION: &str = "\
shows which AI tools on a build server talk to whom
 Telltale records in the kernel every outbound connection with the process that
 made it, attributes the process to an AI tool, judges the contact against what
 that tool is known to contact and against a policy, and exports Prometheus
 metrics, alerts and an event log.
 .
 It needs Linux 5.10 or newer with BTF and cgroup v2.
";

/// Builds the package.
///
/// # Errors
/// When dpkg-deb is missing or fails.
pub fn build(release: &Release, stage: &Path) -> Result<PathBuf> {
    let tree = release.folder.join("deb");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    let mut cp = Command::new("cp");
    shell::run(cp.args(["--archive"]).arg(stage).arg(&tree))?;
    write_overrides(&tree)?;
    let kilobytes = size(&tree)?.div_ceil(1024);
    let sums = md5sums(&tree)?;

    let control = tree.join("DEBIAN");
    fs::create_dir(&control)?;
    fs::write(control.join("md5sums"), sums)?;
    fs::write(control.join("conffiles"), CONFFILES)?;
    fs::write(control.join("control"), control_file(release, kilobytes))?;
    for name in SCRIPTS {
        let to = control.join(name);
        fs::copy(release.root.join("deploy/packages/debian").join(name), &to)?;
        fs::set_permissions(&to, Permissions::from_mode(0o755))?;
    }
    let package = release
        .folder
        .join(format!("telltale_{}_amd64.deb", release.version));
    let mut dpkg = release.command("dpkg-deb");
    dpkg.args(["--root-owner-group", "--threads-max=1", "-Zxz", "--build"]);
    shell::run(dpkg.arg(&tree).arg(&package))?;
    fs::remove_dir_all(&tree)?;
    Ok(package)
}

/// What lintian says of the package must be nothing.
///
/// # Errors
/// When it is something, or lintian is missing.
pub fn lint(package: &Path) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--tag-display-limit", "0"]);
    if shell::is_root()? {
        lintian.arg("--allow-root");
    }
    shell::run(lintian.arg(package)).context("apt-get install lintian, and heed it")
}

fn control_file(release: &Release, kilobytes: u64) -> String {
    format!(
        "Package: telltale\nVersion: {}\nArchitecture: amd64\nMaintainer: {MAINTAINER}\n\
         Installed-Size: {kilobytes}\nDepends: systemd | systemd-sysusers, passwd\n\
         Section: admin\nPriority: optional\nDescription: {DESCRIPTION}",
        release.version
    )
}

/// Where lintian is right in general, and not here.
fn write_overrides(tree: &Path) -> Result<()> {
    const OVERRIDES: &str = "\
# One file for every distribution, whose digest names what runs.
telltale: statically-linked-binary [usr/bin/telltale]
telltale: shared-library-lacks-prerequisites [usr/bin/telltale]
# Which package a file is of: it reads, as it may execute nothing, dpkg-query included.
telltale: uses-dpkg-database-directly [usr/bin/telltale]
# It is no part of Debian, and nobody asked for it to be.
telltale: initial-upload-closes-no-bugs
";
    let folder = tree.join("usr/share/lintian/overrides");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("telltale"), OVERRIDES)?;
    Ok(())
}

/// Bytes of all files below a folder.
fn size(path: &Path) -> Result<u64> {
    let data = path.symlink_metadata()?;
    if !data.is_dir() {
        return Ok(data.len());
    }
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        sum += size(&entry?.path())?;
    }
    Ok(sum)
}

/// Digests of all files but the operator's own, in dpkg's form.
fn md5sums(tree: &Path) -> Result<String> {
    let mut paths = Vec::new();
    list(tree, tree, &mut paths)?;
    paths.retain(|path| !CONFFILES.trim_end().ends_with(path.as_str()));
    paths.sort();
    if paths.is_empty() {
        bail!("{}: no files", tree.display());
    }
    shell::output(Command::new("md5sum").current_dir(tree).args(paths))
}

fn list(root: &Path, folder: &Path, paths: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(root, &path, paths)?;
        } else {
            paths.push(path.strip_prefix(root)?.display().to_string());
        }
    }
    Ok(())
}
