//! Finds a Rust compiler that can build for BPF: one that has the sources of `core`.
//!
//! In: rustup's toolchains and `/usr`. Out: a [`Toolchain`], or what to install. Nothing is
//! downloaded here.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::digest;
use crate::shell;

/// The LLVM that bpf-linker 0.10 speaks to. The linker reads the compiler's bitcode with the
/// compiler's own library, so the two must agree.
const LLVM_MAJOR: &str = "22";

/// A compiler with everything that the kernel object needs.
pub struct Toolchain {
    /// Folder that holds `bin/rustc`.
    sysroot: PathBuf,
    /// LLVM's shared library, which the linker loads.
    pub llvm_library: PathBuf,
    /// First line of `rustc -V`.
    pub compiler: String,
    /// LLVM's version.
    llvm_version: String,
}

impl Toolchain {
    /// The toolchain whose compiler is `recorded`, if it is here; else the first that will do.
    ///
    /// # Errors
    /// When none will do: the text says why each was passed over, and what to install.
    pub fn find(recorded: Option<&str>) -> Result<Self> {
        let mut rejected = String::new();
        let mut found = Vec::new();
        for sysroot in sysroots() {
            match Self::probe(&sysroot) {
                Ok(toolchain) => found.push(toolchain),
                Err(why) => rejected.push_str(&format!("\n  {}: {why:#}", sysroot.display())),
            }
        }
        let wanted = found
            .iter()
            .position(|it| Some(it.compiler.as_str()) == recorded);
        if found.is_empty() {
            bail!(
                "no Rust compiler here can build for BPF:{rejected}\n\
                 on Debian run `apt-get install rustc-web cargo-web rust-web-src`; with rustup, \
                 `rustup component add rust-src` to a toolchain whose LLVM is {LLVM_MAJOR}"
            );
        }
        Ok(found.swap_remove(wanted.unwrap_or(0)))
    }

    fn probe(sysroot: &Path) -> Result<Self> {
        for part in [
            "bin/rustc",
            "bin/cargo",
            "lib/rustlib/src/rust/library/core",
        ] {
            if !sysroot.join(part).exists() {
                bail!("has no {part}");
            }
        }
        let verbose = shell::output(Command::new(sysroot.join("bin/rustc")).arg("-vV"))?;
        let field = |name| {
            let value = verbose.lines().find_map(|line| line.strip_prefix(name));
            value.with_context(|| format!("`rustc -vV` prints no `{name}`"))
        };
        let llvm_version = field("LLVM version: ")?.to_owned();
        if llvm_version.split('.').next() != Some(LLVM_MAJOR) {
            bail!("its LLVM is {llvm_version}, and bpf-linker needs {LLVM_MAJOR}");
        }
        Ok(Self {
            sysroot: sysroot.to_owned(),
            llvm_library: llvm_library(sysroot, field("host: ")?)?,
            compiler: verbose.lines().next().unwrap_or_default().to_owned(),
            llvm_version,
        })
    }

    /// The compiler program.
    pub fn rustc(&self) -> PathBuf {
        self.sysroot.join("bin/rustc")
    }

    /// The cargo of the same version.
    pub fn cargo(&self) -> PathBuf {
        self.sysroot.join("bin/cargo")
    }

    /// Folders under which the compiler may name the sources of `core`: as asked for, and with
    /// symbolic links resolved.
    pub fn core_sources(&self) -> Vec<PathBuf> {
        let asked = self.sysroot.join("lib/rustlib/src/rust");
        let resolved = asked.canonicalize().ok().filter(|it| *it != asked);
        [asked].into_iter().chain(resolved).collect()
    }

    /// LLVM's version and the digest of its library, which distributions patch without raising the
    /// compiler's version.
    ///
    /// # Errors
    /// When the library cannot be read.
    pub fn llvm(&self) -> Result<String> {
        let bytes = fs::read(&self.llvm_library)
            .with_context(|| format!("cannot read {}", self.llvm_library.display()))?;
        Ok(format!("{} sha256:{}", self.llvm_version, digest(&bytes)))
    }
}

/// rustup's toolchains that have `rust-src`, in order of name, then the distribution's.
fn sysroots() -> Vec<PathBuf> {
    let rustup_home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".rustup")));
    let toolchains = rustup_home.and_then(|home| fs::read_dir(home.join("toolchains")).ok());
    let mut sysroots: Vec<PathBuf> = toolchains
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    sysroots.sort();
    sysroots.push("/usr".into());
    sysroots
}

/// The file `libLLVM*` of the wanted version that belongs to the compiler under `sysroot`.
fn llvm_library(sysroot: &Path, host: &str) -> Result<PathBuf> {
    let multiarch = host.replace("-unknown", "");
    let folders = [
        sysroot.join("lib"),
        sysroot.join("lib").join(multiarch),
        sysroot.join("lib64"),
    ];
    let entries = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten();
    let mut libraries: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(is_llvm)
        })
        .collect();
    libraries.sort();
    // `libLLVM.so.22.1` sorts after `libLLVM-22.so`; in some packages the latter is a text file
    // for the C linker and cannot be loaded.
    libraries
        .pop()
        .with_context(|| format!("has no libLLVM of version {LLVM_MAJOR}"))
}

fn is_llvm(name: &str) -> bool {
    let version = name
        .strip_prefix("libLLVM.so.")
        .or_else(|| name.strip_prefix("libLLVM-"));
    version
        .and_then(|it| it.strip_prefix(LLVM_MAJOR))
        .is_some_and(|it| it.starts_with(['.', '-']))
}

#[cfg(test)]
mod tests {
    use super::is_llvm;

    #[track_caller]
    fn check(name: &str, expect: bool) {
        assert_eq!(is_llvm(name), expect, "{name}");
    }

    #[test]
    fn knows_the_library_of_the_wanted_version() {
        check("libLLVM.so.22.1", true);
        check("libLLVM-22.so", true);
        check("libLLVM.so.22.1-rust-1.95.0-stable", true);
        check("libLLVM-14.so.1", false);
        check("libLLVM.so.220.1", false);
        check("libLLVMfoo.so", false);
    }
}
