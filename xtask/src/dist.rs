//! `cargo xtask dist`: what is handed to those who install Telltale.
//!
//! In: the sources, and SOURCE_DATE_EPOCH or else the time of the last commit. Out, in
//! target/packages: a Debian package, an RPM, a tarball, a bill of materials, and their digests. The
//! program is the same static file in all of them, so one digest names what runs, on whatever
//! distribution. Needs rustup's target and Debian's musl-tools, rpm and lintian.
//!
//! The same sources make the same bytes, wherever they lie: `--twice` shows it.

mod deb;
mod program;
mod rpm;
mod sbom;
mod stage;
mod tarball;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Where the results go, under the workspace's root.
const FOLDER: &str = "target/packages";
/// Digests of the results.
const SUMS: &str = "SHA256SUMS";
/// What reproducible builds take as the present, in seconds.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What was asked for.
#[derive(clap::Args)]
pub struct Args {
    /// Build a second time from what is committed, in another folder, and compare.
    #[arg(long)]
    twice: bool,
    /// Number of the version, instead of the workspace's: for trying an upgrade.
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
}

/// What all packages are made from.
pub struct Release {
    /// The workspace.
    root: PathBuf,
    /// Where the results go.
    folder: PathBuf,
    version: String,
    /// Everything in a package gets this time, in seconds.
    epoch: u64,
}

/// Builds everything.
///
/// # Errors
/// When something does not build or is not installed, lintian objects, or two builds differ.
pub fn run(args: &Args) -> Result<()> {
    let release = Release::new(args)?;
    let sums = release.build()?;
    print!("{sums}");
    if args.twice {
        release.compare(&sums)?;
    }
    Ok(())
}

/// The version that is built.
///
/// # Errors
/// When the workspace says none.
pub fn version(root: &Path) -> Result<String> {
    sbom::version(root)
}

/// Builds the program that packages hold, and says where it is.
///
/// # Errors
/// When it does not build, for want of musl-tools perhaps.
pub fn program(root: &Path) -> Result<PathBuf> {
    program::build(root)
}

/// Builds the Debian package and the RPM alone, with this version, and says where they are.
///
/// # Errors
/// As [`run`].
pub fn packages(version: Option<&str>) -> Result<[PathBuf; 2]> {
    let release = Release::new(&Args {
        twice: false,
        version: version.map(str::to_owned),
    })?;
    let program = program::build(&release.root)?;
    let stage = release.stage(&program)?;
    Ok([deb::build(&release, &stage)?, rpm::build(&release, &stage)?])
}

impl Release {
    fn new(args: &Args) -> Result<Release> {
        let root = shell::workspace_root()?;
        let folder = root.join(FOLDER);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let version = match &args.version {
            Some(version) => version.clone(),
            None => sbom::version(&root)?,
        };
        let epoch = match env::var(EPOCH) {
            Ok(epoch) => epoch,
            Err(_) => {
                let mut git = Command::new("git");
                git.current_dir(&root).args(["log", "-1", "--format=%ct"]);
                shell::output(&mut git)
                    .with_context(|| format!("no git history here: set {EPOCH}"))?
            }
        };
        let epoch = epoch.trim();
        Ok(Release {
            epoch: epoch
                .parse()
                .with_context(|| format!("{EPOCH} is {epoch}"))?,
            root,
            folder,
            version,
        })
    }

    /// Builds everything, and returns the digests.
    fn build(&self) -> Result<String> {
        let program = program::build(&self.root)?;
        let stage = self.stage(&program)?;
        let results = [
            deb::build(self, &stage)?,
            rpm::build(self, &stage)?,
            tarball::build(self, &stage)?,
            self.sbom(&stage)?,
        ];
        deb::lint(&results[0])?;
        let names = results.iter().filter_map(|path| path.file_name());
        let mut sums = Command::new("sha256sum");
        let sums = shell::output(sums.current_dir(&self.folder).args(names))?;
        fs::write(self.folder.join(SUMS), &sums)?;
        Ok(sums)
    }

    /// The bill of materials, also as a file of its own.
    fn sbom(&self, stage: &Path) -> Result<PathBuf> {
        let path = self
            .folder
            .join(format!("telltale-{}.cdx.json", self.version));
        fs::copy(stage.join(stage::SBOM), &path).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Lays everything out as it lies on a host.
    fn stage(&self, program: &Path) -> Result<PathBuf> {
        let manuals = program::manuals(self)?;
        stage::lay_out(self, program, &manuals)
    }

    /// A command that takes the release's time as the present.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env(EPOCH, self.epoch.to_string())
            .env("LC_ALL", "C");
        command
    }

    /// Builds what is committed in another folder. The digests must be `expect`.
    fn compare(&self, expect: &str) -> Result<()> {
        let other = self.folder.join("again");
        if other.exists() {
            fs::remove_dir_all(&other)?;
        }
        fs::create_dir(&other)?;
        let archive = self.folder.join("again.tar");
        let mut git = Command::new("git");
        git.current_dir(&self.root)
            .args(["archive", "--output"])
            .arg(&archive);
        shell::run(git.arg("HEAD"))?;
        shell::run(
            Command::new("tar")
                .arg("-xf")
                .arg(&archive)
                .arg("-C")
                .arg(&other),
        )?;
        fs::remove_file(&archive)?;
        let mut cargo = shell::cargo();
        cargo.current_dir(&other).env(EPOCH, self.epoch.to_string());
        cargo.env_remove("CARGO_TARGET_DIR");
        cargo.args(["xtask", "dist", "--version", &self.version]);
        shell::run(&mut cargo)?;
        let again = fs::read_to_string(other.join(FOLDER).join(SUMS))?;
        if again != expect {
            bail!(
                "two builds differ; here:\n{expect}in {}:\n{again}",
                other.display()
            );
        }
        println!("xtask dist: a second build in another folder has the same digests");
        fs::remove_dir_all(&other).with_context(|| other.display().to_string())
    }
}
