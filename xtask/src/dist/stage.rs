//! The files of the packages, as they lie on a host.
//!
//! In: the built program, the manuals, the repository. Out: a folder that all packages are made
//! of. Documents keep the places that they have in the repository, so that their links hold.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::program::compress;
use super::{Release, sbom};
use crate::shell;

/// The bill of materials, in the stage.
pub const SBOM: &str = "usr/share/doc/telltale/sbom.cdx.json";

const DOC: &str = "usr/share/doc/telltale";
const SHARE: &str = "usr/share/telltale";
const MAN: &str = "usr/share/man/man1";

/// Files and folders of the repository, and where they go.
const PARTS: [(&str, &str); 20] = [
    (
        "deploy/packages/telltale.toml",
        "etc/telltale/telltale.toml",
    ),
    (
        "deploy/systemd/telltale.service",
        "usr/lib/systemd/system/telltale.service",
    ),
    (
        "deploy/systemd/telltale-resolved.socket",
        "usr/lib/systemd/system/telltale-resolved.socket",
    ),
    (
        "deploy/systemd/telltale-resolved.service",
        "usr/lib/systemd/system/telltale-resolved.service",
    ),
    (
        "deploy/systemd/telltale.sysusers",
        "usr/lib/sysusers.d/telltale.conf",
    ),
    ("catalog/services", "usr/share/telltale/catalog/services"),
    ("catalog/tools", "usr/share/telltale/catalog/tools"),
    ("policy", "usr/share/telltale/policy"),
    ("README.md", "usr/share/doc/telltale/README.md"),
    ("ARCHITECTURE.md", "usr/share/doc/telltale/ARCHITECTURE.md"),
    ("CONTRIBUTING.md", "usr/share/doc/telltale/CONTRIBUTING.md"),
    (
        "catalog/README.md",
        "usr/share/doc/telltale/catalog/README.md",
    ),
    ("docs", "usr/share/doc/telltale/docs"),
    (
        "deploy/telltale.toml",
        "usr/share/doc/telltale/telltale.toml",
    ),
    ("deploy/grafana", "usr/share/doc/telltale/deploy/grafana"),
    (
        "deploy/prometheus",
        "usr/share/doc/telltale/deploy/prometheus",
    ),
    ("deploy/ansible", "usr/share/doc/telltale/deploy/ansible"),
    (
        "deploy/kubernetes",
        "usr/share/doc/telltale/deploy/kubernetes",
    ),
    ("LICENSE-MIT", "usr/share/doc/telltale/LICENSE-MIT"),
    (
        "deploy/packages/copyright",
        "usr/share/doc/telltale/copyright",
    ),
];

/// What `manuals` makes, and where it goes.
const COMPLETIONS: [(&str, &str); 3] = [
    (
        "telltale.bash",
        "usr/share/bash-completion/completions/telltale",
    ),
    (
        "telltale.fish",
        "usr/share/fish/vendor_completions.d/telltale.fish",
    ),
    ("_telltale", "usr/share/zsh/vendor-completions/_telltale"),
];

/// Lays everything out, and says where.
///
/// # Errors
/// When a file is missing or cannot be copied.
pub fn lay_out(release: &Release, program: &Path, manuals: &Path) -> Result<PathBuf> {
    let stage = release.folder.join("stage");
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| stage.display().to_string())?;
    }
    copy(program, &stage.join("usr/bin/telltale"))?;
    for (from, to) in PARTS {
        copy(&release.root.join(from), &stage.join(to))?;
    }
    for (from, to) in COMPLETIONS {
        copy(&manuals.join(from), &stage.join(to))?;
    }
    copy(&manuals.join("man1"), &stage.join(MAN))?;
    for page in fs::read_dir(stage.join(MAN))? {
        compress(&page?.path())?;
    }
    let changes = stage.join(DOC).join("changelog");
    fs::write(&changes, changelog(release)?)?;
    compress(&changes)?;
    fs::write(stage.join(SBOM), sbom::text(release)?)?;
    debug_assert!(stage.join(SHARE).is_dir());
    make_modes_the_same(&stage)?;
    Ok(stage)
}

/// What changed: Debian wants it in this form, in every package.
fn changelog(release: &Release) -> Result<String> {
    let mut date = release.command("date");
    date.args([
        "--utc",
        "--rfc-email",
        &format!("--date=@{}", release.epoch),
    ]);
    Ok(format!(
        "telltale ({}) unstable; urgency=medium\n\n  * See README.md for what it does, and \
         docs/coverage.md for what it sees.\n\n -- {}  {}\n",
        release.version,
        super::deb::MAINTAINER,
        shell::output(&mut date)?.trim_end()
    ))
}

/// Copies a file, or a folder with everything in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("a file without a folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut cp = Command::new("cp");
    shell::run(
        cp.args(["--recursive", "--no-target-directory"])
            .arg(from)
            .arg(to),
    )
}

/// The mode of a file says whether it is a program, whatever the umask of who checked it out.
fn make_modes_the_same(path: &Path) -> Result<()> {
    let data = path.metadata()?;
    let is_program = data.permissions().mode() & 0o100 != 0;
    let mode = if is_program { 0o755 } else { 0o644 };
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    if data.is_dir() {
        for entry in fs::read_dir(path)? {
            make_modes_the_same(&entry?.path())?;
        }
    }
    Ok(())
}
