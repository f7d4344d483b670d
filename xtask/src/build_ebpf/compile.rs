//! One reproducible build of the kernel program.
//!
//! In: a toolchain and a linker. Out: the object's bytes, which are the same wherever the
//! workspace, cargo's home and the compiler's sources lie.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::linker::Linker;
use super::strip::strip_dwarf;
use super::toolchain::Toolchain;
use crate::shell;

/// `--cfg` keeps aya-ebpf from asking for the build machine's architecture; the programs read no
/// registers, so that one object serves every little-endian machine.
const RUSTFLAGS: [&str; 2] = ["--cfg=bpf_target_arch=\"x86_64\"", "-Clink-arg=--btf"];

const CARGO_ARGS: [&str; 8] = [
    "build",
    "--locked",
    "--profile=bpf",
    "-Zbuild-std=core",
    "--target=bpfel-unknown-none",
    "--package=monitor-ebpf",
    "--features=program",
    "--bins",
];

/// What the three kinds of folder are called in the object.
const NAMES: [&str; 3] = ["/telltale", "/cargo", "/rust"];

/// Variables that change what cargo and rustc do, or how a library is found.
const FOREIGN: [&str; 7] = [
    "CARGO_BUILD_",
    "CARGO_ENCODED_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "RUSTC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// Everything on the command lines that decides the bytes, free of this machine's paths.
pub fn flags() -> Vec<String> {
    let remaps = NAMES.map(|name| format!("--remap-path-prefix={name}"));
    CARGO_ARGS
        .map(String::from)
        .into_iter()
        .chain(RUSTFLAGS.map(String::from))
        .chain(remaps)
        .collect()
}

/// Builds the object under `root/target/bpf` and returns its bytes.
///
/// # Errors
/// When the build fails, and when the object names a folder of this machine.
pub fn compile(root: &Path, toolchain: &Toolchain, linker: &Linker) -> Result<Vec<u8>> {
    let target = root.join("target/bpf");
    let libraries = private_library_folder(&target, &toolchain.llvm_library)?;
    let folders = folders(root, toolchain)?;
    let remaps = folders
        .iter()
        .map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()));
    let rustflags: Vec<String> = RUSTFLAGS
        .map(String::from)
        .into_iter()
        .chain(remaps)
        .collect();

    let mut cargo = Command::new(toolchain.cargo());
    for (variable, _) in env::vars_os() {
        if FOREIGN
            .iter()
            .any(|prefix| variable.to_string_lossy().starts_with(prefix))
        {
            cargo.env_remove(variable);
        }
    }
    cargo
        .current_dir(root)
        .args(CARGO_ARGS)
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTC", toolchain.rustc())
        // `build-std` is unstable; this is how a stable compiler builds its own `core`.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\x1f"))
        // Not among the flags: cargo hashes those into symbol names.
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker.path)
        .env("LD_LIBRARY_PATH", libraries);
    shell::run(&mut cargo)?;

    let file = target.join("bpfel-unknown-none/bpf/telltale-ebpf");
    let linked = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let object = strip_dwarf(&linked)?;
    for (path, _) in &folders {
        if let Some(path) = path.to_str().filter(|path| holds(&object, path.as_bytes())) {
            bail!("the object names {path}, so another machine could not rebuild it");
        }
    }
    Ok(object)
}

/// The linker loads the first LLVM that it finds; this folder holds one, the compiler's.
fn private_library_folder(target: &Path, library: &Path) -> Result<PathBuf> {
    let folder = target.join("llvm");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    let link = folder.join(
        library
            .file_name()
            .context("the LLVM library has no name")?,
    );
    symlink(library, &link).with_context(|| format!("cannot make {}", link.display()))?;
    Ok(folder)
}

/// Folders whose place must not show in the object, each with what it is called there.
fn folders(root: &Path, toolchain: &Toolchain) -> Result<Vec<(PathBuf, &'static str)>> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    // One folder per registry; its name depends on how the registry is reached.
    let registries = fs::read_dir(home.join("registry/src"))
        .into_iter()
        .flatten()
        .flatten();
    let mut folders = vec![(root.to_owned(), NAMES[0])];
    folders.extend(registries.map(|registry| (registry.path(), NAMES[1])));
    folders.extend(
        toolchain
            .core_sources()
            .into_iter()
            .map(|path| (path, NAMES[2])),
    );
    Ok(folders)
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
