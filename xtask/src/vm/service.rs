//! The packages and their service on a fresh Debian 12, with its own kernel and systemd.
//!
//! In: debootstrap, and this machine's Debian mirror. Out: whether tests/service/check.sh was
//! content. A container would not do: it hides the processes that Telltale is to see.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::guest::Machine;
use super::initramfs::Initramfs;
use super::kernel::Kernel;
use super::{ACCELERATOR, FOLDER, apt};
use crate::{dist, shell};

/// The release, and the kernel that it comes with.
const RELEASE: &str = "bookworm";
const KERNEL: &str = "6.1";
/// Beyond what is essential: an init with its bus, the other package manager, and what the checks
/// look with.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,rpm,bpftool,curl";
/// Room on the disk: a fresh system, a package, logs.
const DISK: &str = "1G";
/// Under emulation it takes some ten minutes.
const LIMIT_SECONDS: u64 = 1800;

/// Of README.md, what one types to install it and to see an alert.
const SECTION: &str = "\n## Install it\n";

const INIT: &str = include_str!("disk-init.sh");

/// Builds the packages, boots, and judges.
///
/// # Errors
/// When something is missing on this machine, and when a check fails.
pub fn run() -> Result<()> {
    let root = shell::workspace_root()?;
    let folder = root.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let version = dist::version(&root)?;
    let [deb, rpm] = dist::packages(None)?;
    let [new_deb, new_rpm] = dist::packages(Some(&format!("{version}+new")))?;
    let packages = [
        ("telltale_old_amd64.deb", deb),
        ("new.deb", new_deb),
        ("old.rpm", rpm),
        ("new.rpm", new_rpm),
    ];
    let disk = disk(&folder)?;
    let kernel = Kernel::find(&folder, KERNEL)?;

    let readme = fs::read_to_string(root.join("README.md"))?;
    let operations = fs::read_to_string(root.join("docs/operations.md"))?;
    let mut initramfs = Initramfs::default();
    initramfs.add_base("")?;
    initramfs.add_modules(&kernel)?;
    initramfs.add_file("init", true, INIT.into());
    let tests = root.join("tests/service");
    let unit = "etc/systemd/system/check.service";
    for (to, content) in [
        ("root/check.sh", fs::read(tests.join("check.sh"))?),
        ("root/words.sh", words(section(&readme)?)?.into()),
        ("root/operations.sh", words(&operations)?.into()),
        (unit, fs::read(tests.join("check.service"))?),
    ] {
        initramfs.add_file(&format!("extra/{to}"), to.ends_with(".sh"), content);
    }
    for (name, package) in packages {
        let content = fs::read(&package).with_context(|| package.display().to_string())?;
        initramfs.add_file(&format!("extra/root/{name}"), false, content);
    }
    let wanted = "extra/etc/systemd/system/multi-user.target.wants/check.service";
    initramfs.add_link(wanted, &format!("/{unit}"));
    let image = folder.join("service.cpio");
    initramfs.write(&image)?;

    let machine = Machine {
        accelerator: ACCELERATOR.to_owned(),
        limit_seconds: LIMIT_SECONDS,
        disk: Some(disk),
    };
    let boot = machine.boot(&kernel, &image, &folder.join("service.log"))?;
    fs::remove_file(&image)?;
    if !boot.is_success() {
        bail!("the service under systemd: {}", boot.verdict());
    }
    Ok(())
}

/// What README.md says of the installation.
fn section(readme: &str) -> Result<&str> {
    let (_, section) = readme
        .split_once(SECTION)
        .with_context(|| format!("README.md has no section {:?}", SECTION.trim()))?;
    Ok(section.split("\n## ").next().unwrap_or_default())
}

/// The commands of a document, as they stand there.
fn words(text: &str) -> Result<String> {
    let blocks = text.split("```sh\n").skip(1);
    let words: Vec<&str> = blocks
        .filter_map(|block| block.split("```").next())
        .collect();
    if words.is_empty() {
        bail!("a document that is to be played shows no command");
    }
    Ok(words.concat())
}

/// The disk of a fresh system; made once, and never written to.
fn disk(folder: &Path) -> Result<PathBuf> {
    let disk = folder.join(format!("{RELEASE}.ext4"));
    // Made anew when what it is to hold has changed.
    let stamp = folder.join(format!("{RELEASE}.packages"));
    if disk.exists() && fs::read_to_string(&stamp).is_ok_and(|held| held == PACKAGES) {
        return Ok(disk);
    }
    for (program, package) in [("debootstrap", "debootstrap"), ("mke2fs", "e2fsprogs")] {
        if shell::find_on_path(program).is_none() {
            bail!("no {program} here: apt-get install {package}");
        }
    }
    let tree = folder.join(RELEASE);
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    println!("== making a Debian {RELEASE}");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args([
        "--variant=minbase",
        &format!("--include={PACKAGES}"),
        RELEASE,
    ]);
    shell::run(debootstrap.arg(&tree).arg(apt::mirror(false)?))?;
    let making = folder.join(format!("{RELEASE}.making"));
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]);
    shell::run(mke2fs.arg(&tree).arg(&making).arg(DISK))?;
    fs::remove_dir_all(&tree)?;
    fs::rename(&making, &disk)?;
    fs::write(&stamp, PACKAGES)?;
    Ok(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_one_section_are_taken() {
        let readme = "# X\n```sh\nno\n```\n## Install it\ntext\n```sh\na\nb\n```\n```toml\nno\n```\n\
                      ```sh\nc\n```\n\n## Next\n```sh\nno\n```\n";
        assert_eq!(words(section(readme).unwrap()).unwrap(), "a\nb\nc\n");
        assert!(words("# X\n").is_err());
        assert!(section("# X\n").is_err());
    }
}
