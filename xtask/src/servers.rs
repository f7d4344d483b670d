//! Servers that the tests want newer than this Debian has them, or that it has not at all.
//!
//! In: packages of Debian's newer suites. Out: programs under `target/tools/servers/bin`:
//! Prometheus and Alertmanager as they are; an OpenTelemetry Collector, which Debian has as
//! libraries only, and VictoriaLogs, which it has as source only, built from those. Nothing is
//! installed on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;
use crate::vm::apt::Suite;

/// The suite that has the newest.
const NEWEST: &str = "forky";

/// Packages whose programs are taken as they are.
const PACKAGES: [&str; 3] = ["prometheus", "promtool", "prometheus-alertmanager"];

/// Packages that the collector is built of, with all that they depend on.
const LIBRARIES: [&str; 2] = ["golang-go", "golang-opentelemetry-collector-dev"];

/// The last suite whose VictoriaMetrics has the source of VictoriaLogs in it.
const WITH_LOGS: &str = "trixie";

/// The source package, and what of Debian's patches VictoriaLogs needs: it leaves out a user
/// interface that is not in the package.
const LOGS_SOURCE: &str = "victoria-metrics";
/// See [`LOGS_SOURCE`].
const LOGS_PATCH: &str = "debian/patches/Disable-vmui.patch";
/// The program of it, by its import path.
const LOGS_PACKAGE: &str = "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-logs";

/// Gets some of them.
type Get = fn(&Site) -> Result<()>;

/// Gets what is not there yet. Later runs find it, whatever became newer since.
///
/// # Errors
/// When packages cannot be fetched, or something cannot be built.
pub fn install(root: &Path) -> Result<()> {
    let folder = root.join("target/tools/servers");
    let programs = folder.join("bin");
    fs::create_dir_all(&programs).with_context(|| programs.display().to_string())?;
    let servers: [(&str, Get); 2] = [("otelcol", newest), ("victoria-logs", victoria_logs)];
    for (last, get) in servers {
        if programs.join(last).exists() {
            continue;
        }
        println!("xtask: getting servers of Debian, up to {last}");
        let site = Site {
            root: root.to_owned(),
            programs: programs.clone(),
            unpacked: folder.join("unpacked"),
            build: folder.join("build"),
            folder: folder.clone(),
        };
        for folder in [&site.unpacked, &site.build] {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        get(&site)?;
        // Up to two gigabytes that nobody reads again.
        for folder in [&site.unpacked, &site.build, &folder.join("apt")] {
            fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
    }
    Ok(())
}

/// Where servers are got together.
struct Site {
    root: PathBuf,
    folder: PathBuf,
    /// Where they end up.
    programs: PathBuf,
    /// Packages, unpacked.
    unpacked: PathBuf,
    /// A Go path, with Go's cache.
    build: PathBuf,
}

/// Prometheus, Alertmanager and the collector.
fn newest(site: &Site) -> Result<()> {
    let suite = Suite::open(&site.folder, NEWEST)?;
    suite.unpack(&PACKAGES.map(String::from), &site.unpacked)?;
    for program in PACKAGES {
        let to = site.programs.join(program);
        let from = site.unpacked.join("usr/bin").join(program);
        fs::copy(&from, to).with_context(|| from.display().to_string())?;
    }
    suite.unpack_needed(&LIBRARIES, "golang", &site.unpacked)?;
    let source = site.build.join("src/otelcol");
    fs::create_dir_all(&source).with_context(|| source.display().to_string())?;
    let main = site.root.join("tests/servers/otelcol/main.go");
    fs::copy(&main, source.join("main.go")).with_context(|| main.display().to_string())?;
    site.go_build("otelcol", "otelcol")
}

fn victoria_logs(site: &Site) -> Result<()> {
    let suite = Suite::open_with_sources(&site.folder, WITH_LOGS)?;
    suite.unpack_needed_to_build(LOGS_SOURCE, "golang", &site.unpacked)?;
    let repository = LOGS_PACKAGE
        .split_once("/app/")
        .map_or(LOGS_PACKAGE, |it| it.0);
    let source = site.build.join("src").join(repository);
    suite.unpack_source(LOGS_SOURCE, &source)?;
    let mut patch = Command::new("patch");
    patch.args(["-p1", "-s", "-i", LOGS_PATCH]);
    shell::run(patch.current_dir(&source))?;
    site.go_build(LOGS_PACKAGE, "victoria-logs")
}

impl Site {
    /// Builds a Go program of the libraries that are unpacked.
    fn go_build(&self, package: &str, program: &str) -> Result<()> {
        let go = self.newest_go()?;
        let libraries = self.unpacked.join("usr/share/gocode");
        let mut command = Command::new(go.join("bin/go"));
        command
            .args(["build", "-trimpath", "-o"])
            .arg(self.programs.join(program))
            .arg(package)
            .env("GOROOT", &go)
            .env("GOPATH", std::env::join_paths([&self.build, &libraries])?)
            .env("GOCACHE", self.build.join("cache"))
            .env("GO111MODULE", "off")
            .env("GOTOOLCHAIN", "local")
            .env("CGO_ENABLED", "0");
        shell::run(&mut command)
    }

    /// The folder of the one Go that was unpacked.
    fn newest_go(&self) -> Result<PathBuf> {
        let folder = self.unpacked.join("usr/lib");
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let newest = names.filter(|name| name.starts_with("go-1")).max();
        let newest = newest.with_context(|| format!("no Go in {}", folder.display()))?;
        Ok(folder.join(newest))
    }
}
