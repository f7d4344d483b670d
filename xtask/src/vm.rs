//! `cargo xtask vm`: the kernel programs on kernels that this machine does not run.
//!
//! In: Debian's kernel packages, fetched by apt from this machine's own mirror; QEMU, BusyBox and
//! the test programs that cargo builds. Out: per kernel a verdict and the console's text under
//! target/vm; after a run over all default kernels also docs/kernel-support.md.
//!
//! A kernel boots straight into an initramfs that holds BusyBox, the programs and their shared
//! libraries; nothing is installed and the guest has no network and no disk. Without KVM all is
//! emulated, which takes some ten seconds per kernel.

pub mod apt;
mod guest;
mod initramfs;
mod kernel;
mod programs;
mod service;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::shell;
use guest::{Boot, Machine};
use initramfs::Initramfs;
use kernel::Kernel;
use programs::Program;

/// QEMU's accelerator that works everywhere.
const ACCELERATOR: &str = "tcg";

/// Everything that is fetched or written, under the workspace's root.
const FOLDER: &str = "target/vm";

/// What was asked for.
#[derive(clap::Args)]
pub struct VmArgs {
    /// A version that Debian has, such as 6.1, or `sid` for its newest kernel
    #[arg(value_name = "KERNEL", default_values = kernel::DEFAULT)]
    kernels: Vec<String>,
    /// Run the kernel tests of monitor-tests instead of the check of each program
    #[arg(long)]
    tests: bool,
    /// Run a shell command instead
    #[arg(long, value_name = "COMMAND", conflicts_with = "tests")]
    cmd: Option<String>,
    /// Take a program of this machine along, by name or path, with its shared libraries
    #[arg(long = "with", value_name = "PROGRAM")]
    with: Vec<String>,
    /// Give up on a kernel after this long
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// QEMU's accelerator: `kvm` is faster where it works
    #[arg(long, value_name = "NAME", default_value = ACCELERATOR)]
    accel: String,
    /// Further arguments of the tests or the command
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// What runs in the guest.
struct Payload {
    /// For the guest's shell.
    command: String,
    programs: Vec<Program>,
}

/// Boots each kernel, runs the payload there, and judges.
///
/// # Errors
/// When something is missing on this machine, and when a kernel fails.
pub fn run(args: &VmArgs) -> Result<()> {
    let root = shell::workspace_root()?;
    let folder = root.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    let payload = payload(args)?;
    let machine = Machine {
        accelerator: args.accel.clone(),
        limit_seconds: args.timeout,
        disk: None,
    };
    let mut report = support::Report::default();
    let mut failed = Vec::new();
    for name in &args.kernels {
        let kernel = Kernel::find(&folder, name)?;
        println!("== {name}: {}", kernel.package_version);
        let begin = Instant::now();
        let (boot, console) = boot(&folder, &kernel, &payload, &machine)?;
        let verdict = boot.verdict();
        println!(
            "== {name}: {verdict} after {:.0} s; console in {}",
            begin.elapsed().as_secs_f32(),
            console.strip_prefix(&root).unwrap_or(&console).display()
        );
        report.add(&kernel, &boot);
        if !boot.is_success() {
            failed.push(name.as_str());
        }
    }
    if is_whole_check(args) {
        report.write(&root)?;
    }
    if !failed.is_empty() {
        bail!("failed on {}", failed.join(", "));
    }
    Ok(())
}

/// What came of the evasion suite in a guest.
pub struct Guest {
    /// Name of the kernel, as it was asked for.
    pub name: String,
    /// Release of the kernel.
    pub release: String,
    /// All that was on the console.
    pub console: String,
    /// Whether the suite was content.
    pub is_success: bool,
}

/// Boots kernels, two at a time, and plays the evasion suite there.
///
/// # Errors
/// When something is missing on this machine.
pub fn evasion(kernels: &[String], cases: &[String]) -> Result<Vec<Guest>> {
    if kernels.is_empty() {
        return Ok(Vec::new());
    }
    let folder = shell::workspace_root()?.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    let mut payload = programs::evasion()?;
    for case in cases {
        payload.command.push(' ');
        payload.command.push_str(&quoted(case));
    }
    // One after the other: apt locks its folder.
    let kernels: Vec<Kernel> = kernels
        .iter()
        .map(|name| Kernel::find(&folder, name))
        .collect::<Result<_>>()?;
    let mut guests = Vec::new();
    for pair in kernels.chunks(2) {
        let played: Vec<Result<Guest>> = thread::scope(|scope| {
            let (folder, payload) = (&folder, &payload);
            let play = |kernel| scope.spawn(move || play(folder, kernel, payload));
            let threads: Vec<_> = pair.iter().map(play).collect();
            let ended = threads.into_iter().map(thread::ScopedJoinHandle::join);
            ended
                .map(|it| it.unwrap_or_else(|_| bail!("a thread panicked")))
                .collect()
        });
        for guest in played {
            guests.push(guest?);
        }
    }
    Ok(guests)
}

/// The evasion suite on one kernel.
fn play(folder: &Path, kernel: &Kernel, payload: &Payload) -> Result<Guest> {
    /// Some 200 cases under emulation.
    const LIMIT_SECONDS: u64 = 7200;
    println!("== {}: {}", kernel.name, kernel.package_version);
    let machine = Machine {
        accelerator: ACCELERATOR.to_owned(),
        limit_seconds: LIMIT_SECONDS,
        disk: None,
    };
    let begin = Instant::now();
    let (boot, _) = boot(folder, kernel, payload, &machine)?;
    let seconds = begin.elapsed().as_secs();
    println!("== {}: {} after {seconds} s", kernel.name, boot.verdict());
    Ok(Guest {
        name: kernel.name.clone(),
        release: boot.release().unwrap_or(&kernel.name).to_owned(),
        is_success: boot.is_success(),
        console: boot.console,
    })
}

/// Installs the package on a fresh system, and tries its service there.
///
/// # Errors
/// When something is missing on this machine, and when a check fails.
pub fn service() -> Result<()> {
    service::run()
}

/// The kernels that are tested by default.
pub fn default_kernels() -> Vec<String> {
    kernel::DEFAULT.map(str::to_owned).to_vec()
}

/// Whether this is the run that the documentation tells of.
fn is_whole_check(args: &VmArgs) -> bool {
    !args.tests && args.cmd.is_none() && args.kernels == kernel::DEFAULT
}

fn payload(args: &VmArgs) -> Result<Payload> {
    let mut payload = if let Some(command) = &args.cmd {
        Payload {
            command: command.clone(),
            programs: Vec::new(),
        }
    } else if args.tests {
        programs::kernel_tests()?
    } else {
        programs::program_check()?
    };
    for arg in &args.args {
        payload.command.push(' ');
        payload.command.push_str(&quoted(arg));
    }
    for name in &args.with {
        payload.programs.push(Program::of_this_machine(name)?);
    }
    Ok(payload)
}

/// One word for the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Runs the payload on one kernel. Returns what came of it, and the file with the whole console.
fn boot(
    folder: &Path,
    kernel: &Kernel,
    payload: &Payload,
    machine: &Machine,
) -> Result<(Boot, PathBuf)> {
    let mut initramfs = Initramfs::default();
    initramfs.add_base(&payload.command)?;
    initramfs.add_modules(kernel)?;
    for program in &payload.programs {
        initramfs.add_program(program)?;
    }
    let image = folder.join(format!("{}.cpio", kernel.name));
    initramfs.write(&image)?;
    let console = folder.join(format!("{}.log", kernel.name));
    let boot = machine.boot(kernel, &image, &console)?;
    fs::remove_file(&image).with_context(|| format!("{}", image.display()))?;
    Ok((boot, console))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words_in_the_shell() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
