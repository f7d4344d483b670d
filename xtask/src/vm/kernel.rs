//! Kernels from Debian's packages.
//!
//! In: a version such as `6.1`. Out: its image and modules, unpacked under the cache folder and
//! kept there; remove that folder to fetch the newest packages again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::apt::Suite;

/// The kernels of Debian 11, 12 and 13, and the newest.
pub const DEFAULT: [&str; 4] = ["5.10", "6.1", "6.12", "sid"];

/// In which suite a version is maintained; any other is looked for in sid.
const SUITES: [(&str, &str); 3] = [
    ("5.10", "bullseye-security"),
    ("6.1", "bookworm-security"),
    ("6.12", "bookworm-security"),
];

/// Small images without hardware drivers: they are fetched and boot faster than others.
const FLAVOUR: &str = "-cloud-amd64";

/// File in a kernel's folder, written last: the package's version.
const STAMP: &str = "version";

/// A kernel that is ready to boot.
pub struct Kernel {
    /// As it was asked for.
    pub name: String,
    /// `6.1.192-2`, say.
    pub package_version: String,
    /// The bootable image.
    pub image: PathBuf,
    /// Folder in which the modules lie.
    pub modules: PathBuf,
}

impl Kernel {
    /// Finds a kernel in the cache, or fetches it.
    ///
    /// # Errors
    /// When Debian has no such kernel, or it cannot be fetched.
    pub fn find(cache: &Path, name: &str) -> Result<Kernel> {
        let folder = cache.join("kernels").join(name);
        if !folder.join(STAMP).exists() {
            fetch(cache, name, &folder)?;
        }
        let release = |modules: &str| {
            let mut entries = fs::read_dir(folder.join(modules)).ok()?.flatten();
            Some(entries.next()?.path())
        };
        let modules = release("usr/lib/modules").or_else(|| release("lib/modules"));
        let modules = modules.with_context(|| format!("{}: no modules", folder.display()))?;
        let release = modules.file_name().unwrap_or_default().to_string_lossy();
        let places = [
            modules.join("vmlinuz"),
            folder.join(format!("boot/vmlinuz-{release}")),
        ];
        let image = places.into_iter().find(|path| path.exists());
        Ok(Kernel {
            name: name.to_owned(),
            package_version: fs::read_to_string(folder.join(STAMP))?,
            image: image.with_context(|| format!("{}: no kernel image", folder.display()))?,
            modules,
        })
    }
}

fn fetch(cache: &Path, name: &str, folder: &Path) -> Result<()> {
    let known = SUITES.iter().find(|(version, _)| *version == name);
    let suite_name = known.map_or("sid", |(_, suite)| suite);
    let suite = Suite::open(cache, suite_name)?;
    let names = suite.names("linux-")?;
    let release =
        newest(&names, name).with_context(|| format!("no kernel {name} in Debian {suite_name}"))?;
    // Newer packages are split into image and modules.
    let binary = format!("linux-binary-{release}{FLAVOUR}");
    let packages = if names.contains(&binary) {
        vec![binary, format!("linux-modules-{release}{FLAVOUR}")]
    } else {
        vec![format!("linux-image-{release}{FLAVOUR}")]
    };
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    println!("== {name}: fetching {}", packages.join(" and "));
    suite.unpack(&packages, folder)?;
    fs::write(folder.join(STAMP), suite.version(&packages[0])?)
        .with_context(|| format!("cannot write into {}", folder.display()))
}

/// The highest release of a version among package names: `6.1` may find `6.1.0-56`; `sid` finds
/// the highest of all.
fn newest<'a>(packages: &'a [String], version: &str) -> Option<&'a str> {
    let fits = |release: &str| {
        let rest = release.strip_prefix(version);
        version == "sid" || rest.is_some_and(|rest| rest.starts_with('.'))
    };
    let releases = packages
        .iter()
        .filter_map(|package| package.strip_prefix("linux-image-")?.strip_suffix(FLAVOUR))
        // Two numbers are the name of a package that only points to another.
        .filter(|release| fits(release) && numbers(release).len() > 2);
    releases.max_by_key(|release| numbers(release))
}

fn numbers(release: &str) -> Vec<u64> {
    release
        .split(|it: char| !it.is_ascii_digit())
        .filter_map(|it| it.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(version: &str, expect: Option<&str>) {
        let packages = [
            "linux-image-6.1-cloud-amd64",
            "linux-image-9.9-cloud-amd64",
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-57-amd64",
            "linux-image-6.1.0-58-cloud-amd64-unsigned",
            "linux-image-6.12.94+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-cloud-amd64",
            "linux-headers-7.0.1-cloud-amd64",
        ];
        assert_eq!(newest(&packages.map(String::from), version), expect);
    }

    #[test]
    fn the_newest_release_of_a_version_is_found() {
        check("6.1", Some("6.1.0-56"));
        check("6.12", Some("6.12.117+deb12"));
        check("sid", Some("6.12.117+deb12"));
        check("5.10", None);
    }
}
