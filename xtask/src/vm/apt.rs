//! Packages of another Debian suite, without touching this machine's own apt.
//!
//! In: the mirrors that this machine is already set up with. Out: a private apt root per suite
//! under the cache folder, and .deb files whose signatures and digests apt has checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Who may sign Debian's indices; part of the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A suite's own apt root.
pub struct Suite {
    folder: PathBuf,
}

impl Suite {
    /// Prepares the suite `name` under `cache` and fetches its index.
    ///
    /// # Errors
    /// When this machine has no Debian mirror, or the index cannot be fetched and verified.
    pub fn open(cache: &Path, name: &str) -> Result<Suite> {
        Suite::open_kinds(cache, name, &["deb"])
    }

    /// As [`Suite::open`], with source packages.
    ///
    /// # Errors
    /// As [`Suite::open`].
    pub fn open_with_sources(cache: &Path, name: &str) -> Result<Suite> {
        Suite::open_kinds(cache, name, &["deb", "deb-src"])
    }

    fn open_kinds(cache: &Path, name: &str, kinds: &[&str]) -> Result<Suite> {
        let suite = Suite {
            folder: cache.join("apt").join(name),
        };
        for folder in [
            "etc/apt.conf.d",
            "etc/preferences.d",
            "state/lists/partial",
            "cache",
        ] {
            fs::create_dir_all(suite.folder.join(folder))
                .with_context(|| format!("{}", suite.folder.display()))?;
        }
        let mirror = mirror(name.ends_with("-security"))?;
        let source = |kind| format!("{kind} [signed-by={KEYRING}] {mirror} {name} main\n");
        let sources: String = kinds.iter().map(source).collect();
        suite.write("etc/sources.list", &sources)?;
        suite.write("state/status", "")?;
        // Without this an index that could not be fetched is a warning, and no package is there.
        let strict = "APT::Update::Error-Mode=any";
        shell::run(suite.apt("apt-get").args(["-qq", "-o", strict, "update"]))?;
        Ok(suite)
    }

    /// Names of all packages that begin with `prefix`.
    ///
    /// # Errors
    /// When apt fails.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = shell::output(self.apt("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(String::from).collect())
    }

    /// Version of a package, as `apt-get download` would fetch it.
    ///
    /// # Errors
    /// When the suite does not have it.
    pub fn version(&self, package: &str) -> Result<String> {
        let show =
            shell::output(
                self.apt("apt-cache")
                    .args(["show", "--no-all-versions", package]),
            )?;
        let version = show.lines().find_map(|line| line.strip_prefix("Version: "));
        Ok(version
            .with_context(|| format!("apt tells no version of {package}"))?
            .to_owned())
    }

    /// Fetches packages and unpacks them into `folder`.
    ///
    /// # Errors
    /// When a package is not there, or is not what the suite's index says.
    pub fn unpack(&self, packages: &[String], folder: &Path) -> Result<()> {
        let archives = self.folder.join("archives");
        if archives.exists() {
            fs::remove_dir_all(&archives).with_context(|| format!("{}", archives.display()))?;
        }
        fs::create_dir_all(&archives).with_context(|| format!("{}", archives.display()))?;
        let mut download = self.apt("apt-get");
        shell::run(
            download
                .current_dir(&archives)
                .args(["-qq", "download"])
                .args(packages),
        )?;
        for archive in fs::read_dir(&archives)? {
            shell::run(
                Command::new("dpkg-deb")
                    .arg("-x")
                    .arg(archive?.path())
                    .arg(folder),
            )?;
        }
        fs::remove_dir_all(&archives).with_context(|| format!("{}", archives.display()))
    }

    /// Fetches packages with all that they need, and unpacks those of them into `folder` whose
    /// names begin with `prefix`.
    ///
    /// # Errors
    /// As [`Suite::unpack`].
    pub fn unpack_needed(&self, packages: &[&str], prefix: &str, folder: &Path) -> Result<()> {
        self.unpack_fetched("install", packages, prefix, folder)
    }

    /// Fetches what building a source package needs, and unpacks as [`Suite::unpack_needed`].
    ///
    /// # Errors
    /// As [`Suite::unpack`].
    pub fn unpack_needed_to_build(&self, source: &str, prefix: &str, folder: &Path) -> Result<()> {
        self.unpack_fetched("build-dep", &[source], prefix, folder)
    }

    /// Fetches a source package and unpacks it into `folder`, without applying its patches.
    ///
    /// # Errors
    /// As [`Suite::unpack`].
    pub fn unpack_source(&self, source: &str, folder: &Path) -> Result<()> {
        let archives = self.folder.join("archives");
        for folder in [&archives, folder] {
            fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        }
        let mut download = self.apt("apt-get");
        download.args(["-qq", "source", "--download-only", source]);
        shell::run(download.current_dir(&archives))?;
        // Its own files are in an archive beside the original's, whose top folder has any name.
        for (part, strip) in [(".orig.tar", "1"), (".debian.tar", "0")] {
            let mut files = fs::read_dir(&archives)?.filter_map(|entry| Some(entry.ok()?.path()));
            let archive = files
                .find(|path| path.to_string_lossy().contains(part))
                .with_context(|| format!("no {part} in {}", archives.display()))?;
            let mut unpack = Command::new("tar");
            unpack.arg("-xf").arg(archive).arg("-C").arg(folder);
            shell::run(unpack.args(["--strip-components", strip]))?;
        }
        fs::remove_dir_all(&archives).with_context(|| format!("{}", archives.display()))
    }

    fn unpack_fetched(
        &self,
        command: &str,
        packages: &[&str],
        prefix: &str,
        folder: &Path,
    ) -> Result<()> {
        let archives = self.folder.join("cache/archives");
        fs::create_dir_all(archives.join("partial"))
            .with_context(|| format!("{}", archives.display()))?;
        let mut download = self.apt("apt-get");
        download.args(["-qq", "-y", "--no-install-recommends", "--download-only"]);
        shell::run(download.arg(command).args(packages))?;
        for archive in fs::read_dir(&archives)? {
            let archive = archive?;
            if archive.file_name().to_string_lossy().starts_with(prefix) {
                let mut unpack = Command::new("dpkg-deb");
                shell::run(unpack.arg("-x").arg(archive.path()).arg(folder))?;
            }
        }
        Ok(())
    }

    /// An apt program that knows this suite alone.
    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (key, folder) in [
            ("Dir::Etc", "etc"),
            ("Dir::State", "state"),
            ("Dir::State::status", "state/status"),
            ("Dir::Cache", "cache"),
        ] {
            let path = self.folder.join(folder);
            command.arg("-o").arg(format!("{key}={}", path.display()));
        }
        // Descriptions are not read, and apt's own user may not enter this folder.
        command.args(["-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User="]);
        command.args(["-o", "Acquire::Retries=3"]);
        command
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The mirror for a suite: of those that this machine uses, the one for (or not for) security
/// updates.
///
/// # Errors
/// When this machine uses none.
pub fn mirror(security: bool) -> Result<String> {
    let mut list = Command::new("apt-get");
    list.args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]);
    let mirrors = shell::output(&mut list).context("kernels come as Debian packages, by apt")?;
    match mirrors
        .lines()
        .find(|uri| uri.contains("-security") == security)
    {
        Some(uri) => Ok(uri.trim_end_matches('/').to_owned()),
        None => bail!(
            "apt has no index of a Debian {} here: add one to its sources and `apt-get update`",
            if security {
                "security mirror"
            } else {
                "mirror"
            }
        ),
    }
}
