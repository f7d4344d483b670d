//! What is read of the host besides records: its identity, its resolvers, its mounts, `/proc`.
//!
//! In: files below an injectable root. Out: typed values, or a [`HostError`] that names the file.
//! Reads only, each of bounded length; decides nothing. One file per subject:
//! [`capability`], [`cgroups`], [`clock`], [`containers`], [`environment`], [`mounts`], [`procfs`],
//! [`resolvers`], [`tree`]; this one holds the host's identity.

pub mod capability;
pub mod catalog_files;
pub mod cgroups;
pub mod clock;
pub mod containers;
pub mod environment;
pub mod mounts;
pub mod package;
pub mod procfs;
pub mod resolvers;
pub mod threads;
pub mod tree;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

/// More than any host has users of its own, at some 60 bytes each.
const PASSWD_BYTES_MAX: usize = 4 << 20;

/// Longest one-line file of `/proc` or `/sys` read here; a page is what the kernel gives at most.
const LINE_BYTES_MAX: usize = 4096;

/// The root folder below which everything is read: `/`, or a fixture in tests.
///
/// Absolute symbolic links inside a fixture lead out of it.
#[derive(Clone, Debug)]
pub struct HostRoot(pub PathBuf);

impl Default for HostRoot {
    /// The host itself.
    fn default() -> Self {
        HostRoot(PathBuf::from("/"))
    }
}

/// Why the host could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The file cannot be opened or read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is longer than anything it may hold.
    #[error("{path} has more than {limit} bytes")]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// Bytes allowed.
        limit: usize,
    },
    /// The file does not hold what it is read for.
    #[error("{path} holds no {wanted}")]
    Unexpected {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
    },
}

impl HostError {
    /// The file does not exist, or its process has ended.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        let HostError::Unreadable { source, .. } = self else {
            return false;
        };
        source.kind() == io::ErrorKind::NotFound
            || source.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
    }
}

/// Why nothing can be watched in [`Lockdown::Confidentiality`], and the remedy.
pub const LOCKED_DOWN: &str = "confidentiality: BPF programs may not read kernel memory; boot with \
                               lockdown=integrity or without Secure Boot's lockdown";

/// How far kernel lockdown restricts even root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// Off.
    Off,
    /// The kernel may not be changed; BPF programs may still read it.
    Integrity,
    /// The kernel may not be read either: `bpf_probe_read_kernel` is refused.
    Confidentiality,
    /// Not to be found out: securityfs is not mounted, or the kernel has no lockdown.
    Unknown,
}

impl HostRoot {
    /// Id of this boot, 36 characters: `8f3c…-…`. It changes when the host reboots.
    ///
    /// # Errors
    ///
    /// [`HostError`] if `/proc` is not mounted.
    pub fn boot_id(&self) -> Result<String, HostError> {
        self.read_line("proc/sys/kernel/random/boot_id", "boot id")
    }

    /// Name of the host in this UTS namespace.
    ///
    /// # Errors
    ///
    /// [`HostError`] if `/proc` is not mounted.
    pub fn hostname(&self) -> Result<String, HostError> {
        self.read_line("proc/sys/kernel/hostname", "host name")
    }

    /// Ids of the users in `/etc/passwd`, by their names. Users of directories are not in it.
    #[must_use]
    pub fn users(&self) -> BTreeMap<String, u32> {
        let bytes = self
            .read_prefix("etc/passwd", PASSWD_BYTES_MAX)
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let user = |line: &str| {
            let mut fields = line.split(':');
            let (name, id) = (fields.next()?, fields.nth(1)?);
            Some((name.to_owned(), id.parse().ok()?))
        };
        text.lines().filter_map(user).collect()
    }

    /// Release of the running kernel, as `uname -r` prints it.
    ///
    /// # Errors
    ///
    /// [`HostError`] if `/proc` is not mounted.
    pub fn kernel_release(&self) -> Result<String, HostError> {
        self.read_line("proc/sys/kernel/osrelease", "kernel release")
    }

    /// Whether the kernel measures how long BPF programs run: `sysctl kernel.bpf_stats_enabled`.
    #[must_use]
    pub fn measures_programs(&self) -> bool {
        let path = "proc/sys/kernel/bpf_stats_enabled";
        let enabled = self.read_line(path, "0 or 1");
        enabled.is_ok_and(|enabled| enabled == "1")
    }

    /// Kernel lockdown; the mode in brackets is the active one.
    #[must_use]
    pub fn lockdown(&self) -> Lockdown {
        let modes = self.read_line("sys/kernel/security/lockdown", "lockdown mode");
        let modes = modes.unwrap_or_default();
        match modes.split_whitespace().find(|mode| mode.starts_with('[')) {
            Some("[none]") => Lockdown::Off,
            Some("[integrity]") => Lockdown::Integrity,
            Some("[confidentiality]") => Lockdown::Confidentiality,
            _ => Lockdown::Unknown,
        }
    }

    /// A file that holds one line of text.
    fn read_line(&self, path: &str, wanted: &'static str) -> Result<String, HostError> {
        let bytes = self.read(path, LINE_BYTES_MAX)?;
        let line = String::from_utf8_lossy(&bytes).trim().to_owned();
        if line.is_empty() {
            return Err(HostError::Unexpected {
                path: self.0.join(path),
                wanted,
            });
        }
        Ok(line)
    }

    /// A whole file of at most `limit` bytes.
    fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, HostError> {
        let bytes = self.read_prefix(path, limit + 1)?;
        if bytes.len() > limit {
            return Err(HostError::TooLong {
                path: self.0.join(path),
                limit,
            });
        }
        Ok(bytes)
    }

    /// The first `limit` bytes of a file, or all of it if it is shorter.
    fn read_prefix(&self, path: &str, limit: usize) -> Result<Vec<u8>, HostError> {
        let path = self.0.join(path);
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(limit as u64).read_to_end(&mut bytes))
            .map_err(|source| HostError::Unreadable { path, source })?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixture root that holds these files.
    pub(super) fn root(files: &[(&str, &[u8])]) -> (tempfile::TempDir, HostRoot) {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let root = HostRoot(folder.path().to_owned());
        (folder, root)
    }

    #[test]
    fn identity_is_one_trimmed_line_each() {
        let (_folder, root) = root(&[
            (
                "proc/sys/kernel/random/boot_id",
                b"8f3c6a0e-0000-4000-8000-000000000001\n",
            ),
            ("proc/sys/kernel/hostname", b"build-07\n"),
            ("proc/sys/kernel/osrelease", b"6.12.9-amd64\n"),
        ]);
        assert_eq!(
            root.boot_id().unwrap(),
            "8f3c6a0e-0000-4000-8000-000000000001"
        );
        assert_eq!(root.hostname().unwrap(), "build-07");
        assert_eq!(root.kernel_release().unwrap(), "6.12.9-amd64");
    }

    #[test]
    fn errors_name_the_file() {
        let (folder, root) = root(&[
            ("proc/sys/kernel/hostname", b"\n"),
            ("proc/sys/kernel/osrelease", &[b'6'; LINE_BYTES_MAX + 1]),
        ]);
        let at = |path: &str| folder.path().join(path).display().to_string();

        let absent = root.boot_id().unwrap_err();
        assert!(absent.is_absent());
        assert!(
            absent
                .to_string()
                .contains(&at("proc/sys/kernel/random/boot_id")),
            "{absent}"
        );

        let empty = root.hostname().unwrap_err();
        assert!(!empty.is_absent());
        assert_eq!(
            empty.to_string(),
            format!("{} holds no host name", at("proc/sys/kernel/hostname"))
        );

        let long = root.kernel_release().unwrap_err();
        assert_eq!(
            long.to_string(),
            format!(
                "{} has more than 4096 bytes",
                at("proc/sys/kernel/osrelease")
            )
        );
    }

    #[track_caller]
    fn check_lockdown(content: &[u8], expect: Lockdown) {
        let (_folder, root) = root(&[("sys/kernel/security/lockdown", content)]);
        assert_eq!(root.lockdown(), expect);
    }

    #[test]
    fn lockdown_is_the_mode_in_brackets() {
        check_lockdown(b"[none] integrity confidentiality\n", Lockdown::Off);
        check_lockdown(b"none [integrity] confidentiality\n", Lockdown::Integrity);
        check_lockdown(
            b"none integrity [confidentiality]\n",
            Lockdown::Confidentiality,
        );
        check_lockdown(b"none integrity\n", Lockdown::Unknown);
        check_lockdown(b"", Lockdown::Unknown);
        let (_folder, bare) = root(&[]);
        assert_eq!(bare.lockdown(), Lockdown::Unknown);
    }

    #[test]
    fn this_host_can_be_read() {
        let host = HostRoot::default();
        assert_eq!(host.boot_id().unwrap().len(), 36);
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        assert_eq!(host.kernel_release().unwrap(), release);
    }
}
