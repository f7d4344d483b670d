//! Servers that the tests want newer than this Debian has them.
//!
//! In: packages of Debian's testing suite. Out: programs under `target/tools/servers/bin`:
//! Prometheus, Alertmanager, and an OpenTelemetry Collector, which Debian has as libraries only,
//! built from those. Nothing is installed on this machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;
use crate::vm::apt::Suite;

/// The suite that has them.
const SUITE: &str = "forky";

/// Packages whose programs are taken as they are.
const PACKAGES: [&str; 3] = ["prometheus", "promtool", "prometheus-alertmanager"];

/// Packages that the collector is built of, with all that they depend on.
const LIBRARIES: [&str; 2] = ["golang-go", "golang-opentelemetry-collector-dev"];

/// Gets what is not there yet. Later runs find it, whatever became newer since.
///
/// # Errors
/// When packages cannot be fetched, or the collector cannot be built.
pub fn install(root: &Path) -> Result<()> {
    let folder = root.join("target/tools/servers");
    let (programs, unpacked) = (folder.join("bin"), folder.join("unpacked"));
    if programs.join("otelcol").exists() {
        return Ok(());
    }
    println!(
        "xtask: getting servers of Debian {SUITE} into {}",
        folder.display()
    );
    for folder in [&programs, &unpacked] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let suite = Suite::open(&folder, SUITE)?;
    suite.unpack(&PACKAGES.map(String::from), &unpacked)?;
    for program in PACKAGES {
        let to = programs.join(program);
        let from = unpacked.join("usr/bin").join(program);
        fs::copy(&from, to).with_context(|| from.display().to_string())?;
    }
    suite.unpack_needed(&LIBRARIES, "golang", &unpacked)?;
    build_collector(root, &unpacked, &programs.join("otelcol"))?;
    // Half a gigabyte that nobody reads again.
    for folder in [unpacked, folder.join("apt"), folder.join("build")] {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

fn build_collector(root: &Path, unpacked: &Path, to: &Path) -> Result<()> {
    let build = root.join("target/tools/servers/build");
    let source = build.join("src/otelcol");
    fs::create_dir_all(&source).with_context(|| source.display().to_string())?;
    let main = root.join("tests/servers/otelcol/main.go");
    fs::copy(&main, source.join("main.go")).with_context(|| main.display().to_string())?;
    let go = newest_go(unpacked)?;
    let libraries = unpacked.join("usr/share/gocode");
    let mut command = Command::new(go.join("bin/go"));
    command
        .args(["build", "-trimpath", "-o"])
        .arg(to)
        .arg("otelcol")
        .env("GOROOT", &go)
        .env("GOPATH", std::env::join_paths([&build, &libraries])?)
        .env("GOCACHE", build.join("cache"))
        .env("GO111MODULE", "off")
        .env("GOTOOLCHAIN", "local")
        .env("CGO_ENABLED", "0");
    shell::run(&mut command)
}

/// The folder of the one Go that was unpacked.
fn newest_go(unpacked: &Path) -> Result<std::path::PathBuf> {
    let folder = unpacked.join("usr/lib");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let newest = names.filter(|name| name.starts_with("go-1")).max();
    let newest = newest.with_context(|| format!("no Go in {}", folder.display()))?;
    Ok(folder.join(newest))
}
