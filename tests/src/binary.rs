//! The programs under test: built once per test binary, found wherever cargo puts them.
//!
//! In: `TELLTALE_BIN`, `STANDIN_BIN`, `EVADE_BIN`, `SPEAK_BIN`, where set (a machine without cargo,
//! say). Out: paths.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The monitor under test.
///
/// # Panics
///
/// If it cannot be built.
#[must_use]
pub fn telltale() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| from_env("TELLTALE_BIN").unwrap_or_else(|| build("telltale")))
}

/// The program that plays AI tools; see `src/bin/standin.rs`.
///
/// # Panics
///
/// If it cannot be built.
#[must_use]
pub fn standin() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| from_env("STANDIN_BIN").unwrap_or_else(|| build("standin")))
}

/// The program that goes out in odd ways; see `evasion/evade`.
///
/// # Panics
///
/// If it cannot be built.
#[must_use]
pub fn evade() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| from_env("EVADE_BIN").unwrap_or_else(|| build("evade")))
}

/// The Rust client; see `src/bin/speak.rs`.
///
/// # Panics
///
/// If it cannot be built.
#[must_use]
pub fn speak() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| from_env("SPEAK_BIN").unwrap_or_else(|| build("speak")))
}

/// The real Node.js executable: shims that version managers put in its place are seen through.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn node() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let output = Command::new("node")
            .args(["-p", "process.execPath"])
            .output();
        let output = output.expect("Node.js plays the Node-based tools: apt-get install nodejs");
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
}

/// Fails the test unless it runs as root.
///
/// # Panics
///
/// If it does not.
pub fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes network namespaces and loads eBPF programs: run it as root, for example \
         `sudo -E env PATH=\"$PATH\" cargo test`"
    );
}

/// Fails the test unless a program is installed.
///
/// # Panics
///
/// If it is not on `PATH`.
pub fn require(program: &str, package: &str) {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|dir| dir.join(program).is_file());
    assert!(
        found,
        "this test needs {program}: apt-get install {package}"
    );
}

fn from_env(name: &str) -> Option<PathBuf> {
    env::var_os(name).map(PathBuf::from)
}

/// Builds one binary as `cargo test` itself would, so that it is never older than its sources,
/// and returns where cargo says it is.
fn build(name: &str) -> PathBuf {
    // <target>/<profile>/deps/<this test binary>, or without `deps` for a program of this package.
    let this = env::current_exe().expect("path of this program");
    let profile = this
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"))
        .expect("a profile directory above this program");
    let target = profile
        .parent()
        .expect("a target directory above the profile");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    cargo.args([
        "build",
        "--quiet",
        "--message-format=json-render-diagnostics",
        "--bin",
        name,
    ]);
    cargo
        .arg("--target-dir")
        .arg(target)
        .stderr(Stdio::inherit());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    // What cargo tells a test of its package would make build scripts run again, here and in the
    // next plain `cargo build`.
    for (variable, _) in env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(variable);
        }
    }
    let output = cargo
        .output()
        .expect("cargo starts; or set TELLTALE_BIN and STANDIN_BIN");
    assert!(output.status.success(), "cargo build --bin {name} failed");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable it built")
}
