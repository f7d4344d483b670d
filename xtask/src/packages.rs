//! What the tests need from the distribution.
//!
//! In: the programs on this machine. Out: on Debian and its kin, the missing packages installed;
//! elsewhere a list of what is missing. And a Python environment, under `target`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// A program that the tests run, and the Debian package that has it.
const NEEDED: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("ps", "procps"),
    ("node", "nodejs"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("python3", "python3"),
    ("dig", "bind9-dnsutils"),
    ("tinyproxy", "tinyproxy-bin"),
    ("microsocks", "microsocks"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("rsyslogd", "rsyslog"),
    ("podman", "podman"),
    ("runc", "runc"),
    ("systemctl", "systemd"),
    ("patch", "patch"),
    ("xz", "xz-utils"),
];

/// A systemd-resolved for the tests. Installed, it would become the resolver of this machine.
const RESOLVED_PACKAGES: [&str; 3] = ["systemd-resolved", "libnss-resolve", "libsystemd-shared"];

/// What Debian asks whether a package may start its services.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// What the tests use of the Python package index: a client of QUIC 2, the reference parser of
/// OpenMetrics, linters of the files for fleets, and Grafana's own types. (The number before the
/// `!` is the latter's epoch: its build time.)
const PYTHON_PACKAGES: [&str; 5] = [
    "aioquic==1.7.2",
    "ansible-lint==26.10.1",
    "kubernetes-validate==1.37.0",
    "prometheus-client==0.26.0",
    "grafana-foundation-sdk==1769699379!11.6.0",
];

/// Makes a Python environment in `target/python` with what the tests use.
///
/// # Errors
/// When it cannot be made; the text is pip's.
pub fn install_python(root: &Path) -> Result<()> {
    let folder = root.join("target/python");
    // Made anew when what it is to hold has changed.
    let (wanted, stamp) = (PYTHON_PACKAGES.join(" "), folder.join("telltale-packages"));
    if fs::read_to_string(&stamp).is_ok_and(|held| held == wanted) {
        return Ok(());
    }
    println!("xtask: installing {wanted} into {}", folder.display());
    let mut venv = Command::new("python3");
    shell::run(venv.args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check"]);
    shell::run(pip.args(PYTHON_PACKAGES))?;
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())
}

/// Unpacks systemd-resolved and what it needs into `target/systemd-resolved`.
///
/// # Errors
/// When the packages cannot be had; the text is apt's.
pub fn unpack_resolved(root: &Path) -> Result<()> {
    let folder = root.join("target/systemd-resolved");
    if folder.join("lib/systemd/systemd-resolved").exists() {
        return Ok(());
    }
    let list = RESOLVED_PACKAGES.join(" ");
    if shell::find_on_path("apt-get").is_none() {
        let folder = folder.display();
        bail!("the tests need a systemd-resolved in {folder}; unpack what Debian calls: {list}");
    }
    println!("xtask: unpacking {list} into {}", folder.display());
    let archives = root.join("target/systemd-resolved.part");
    for folder in [&folder, &archives] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
    }
    fs::create_dir_all(&archives).with_context(|| archives.display().to_string())?;
    let mut download = Command::new("apt-get");
    // apt's own user may not enter this folder.
    download.args(["-qq", "-o", "APT::Sandbox::User=", "download"]);
    let download = download.args(RESOLVED_PACKAGES).current_dir(&archives);
    if shell::run(download).is_err() {
        apt(&["update"])?;
        shell::run(download)?;
    }
    let unpacked = archives.join("root");
    let downloaded: Vec<_> = fs::read_dir(&archives)?.collect::<Result<_, _>>()?;
    for archive in downloaded {
        let mut unpack = Command::new("dpkg-deb");
        shell::run(unpack.arg("-x").arg(archive.path()).arg(&unpacked))?;
    }
    // Only whole: what is there is not unpacked again.
    fs::rename(&unpacked, &folder).with_context(|| folder.display().to_string())?;
    fs::remove_dir_all(&archives).with_context(|| archives.display().to_string())
}

/// Whether Python can make environments; Debian has that in a package of its own.
fn has_venv() -> bool {
    let mut python = Command::new("python3");
    shell::output(python.args(["-c", "import ensurepip"])).is_ok()
}

/// Installs what is missing.
///
/// # Errors
/// When something is missing and cannot be installed; the text names it.
pub fn install_missing() -> Result<()> {
    let mut packages: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| shell::find_on_path(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !has_venv() {
        packages.push("python3-venv");
    }
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if shell::find_on_path("apt-get").is_none() {
        bail!("the tests need programs that are not here; install what Debian calls: {list}");
    }
    println!("xtask: installing {list}");
    let quiet = NoServices::begin()?;
    let result = apt(&["update"]).and_then(|()| {
        let words = ["install", "-y", "--no-install-recommends"];
        apt(&[&words[..], &packages].concat())
    });
    quiet.end()?;
    result
}

fn apt(words: &[&str]) -> Result<()> {
    let mut command = as_root("apt-get")?;
    command
        .arg("-q")
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive");
    shell::run(&mut command)
}

/// A command that runs as root, through sudo if need be.
///
/// # Errors
/// When this is not root and there is no sudo.
pub fn as_root(program: &str) -> Result<Command> {
    if shell::is_root()? {
        return Ok(Command::new(program));
    }
    if shell::find_on_path("sudo").is_none() {
        bail!("`{program}` needs root, and there is no sudo: run this as root");
    }
    let mut command = Command::new("sudo");
    command.args(["-E", program]);
    Ok(command)
}

/// The tests start servers of their own; the packages must not start theirs.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        let ours = !Path::new(POLICY).exists() && shell::is_root()?;
        if ours {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| POLICY.to_owned())?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(NoServices { ours })
    }

    fn end(self) -> Result<()> {
        if self.ours {
            fs::remove_file(POLICY).with_context(|| POLICY.to_owned())?;
        }
        Ok(())
    }
}
