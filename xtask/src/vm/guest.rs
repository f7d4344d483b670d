//! One boot: QEMU, and what the guest says on its serial console.
//!
//! In: a kernel and an initramfs. Out: the console's text, in a file and judged.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::kernel::Kernel;

/// Before the kernel's release on a line of its own; see init.sh.
const KERNEL: &str = "TELLTALE-VM-KERNEL ";
/// Before the payload's exit code on a line of its own; see init.sh.
const EXIT: &str = "TELLTALE-VM-EXIT ";

/// Errors only; and a kernel that fails ends the guest instead of hanging.
const KERNEL_COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 oops=panic";

/// Room for an initramfs of some 200 MB, unpacked next to its packed form, and the tests.
const MEMORY: &str = "2G";

/// How `timeout` says that it was too late.
const TOO_LATE: Option<i32> = Some(124);

/// How to boot.
pub struct Machine {
    /// `tcg`, which works everywhere, or another accelerator of QEMU.
    pub accelerator: String,
    /// A guest that runs longer is ended.
    pub limit_seconds: u64,
    /// An image of a disk, which stays as it is: what the guest writes there is gone with it.
    pub disk: Option<PathBuf>,
}

/// What came of a boot.
pub struct Boot {
    /// All that was on the console, without carriage returns.
    pub console: String,
    is_in_time: bool,
}

impl Boot {
    /// Release of the kernel that ran, as `uname -r` prints it.
    pub fn release(&self) -> Option<&str> {
        self.console
            .lines()
            .find_map(|line| line.strip_prefix(KERNEL))
    }

    /// The payload's exit code, if the guest came that far.
    pub fn exit_code(&self) -> Option<i32> {
        let mut lines = self.console.lines().rev();
        lines.find_map(|line| line.strip_prefix(EXIT)?.trim().parse().ok())
    }

    /// Whether the payload succeeded.
    pub fn is_success(&self) -> bool {
        self.exit_code() == Some(0)
    }

    /// In words.
    pub fn verdict(&self) -> String {
        match (self.exit_code(), self.release()) {
            (Some(0), _) => "ok".to_owned(),
            (Some(code), _) => format!("FAILED with exit code {code}"),
            (None, _) if !self.is_in_time => "FAILED: out of time".to_owned(),
            (None, Some(_)) => "FAILED: the guest stopped while it ran".to_owned(),
            (None, None) => "FAILED: it did not boot".to_owned(),
        }
    }
}

impl Machine {
    /// Boots and waits for the guest's end. Its console is shown, and kept in the file `log`.
    ///
    /// # Errors
    /// When QEMU is missing or the file cannot be written.
    pub fn boot(&self, kernel: &Kernel, initramfs: &Path, log: &Path) -> Result<Boot> {
        let mut qemu = self.command();
        qemu.arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(initramfs);
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = qemu.spawn().context("cannot start timeout, of coreutils")?;
        let console =
            watch(&mut child, &kernel.name, log).with_context(|| format!("{}", log.display()))?;
        let is_in_time = child.wait()?.code() != TOO_LATE;
        Ok(Boot {
            console,
            is_in_time,
        })
    }

    fn command(&self) -> Command {
        // `timeout` ends QEMU in time, whatever this program does.
        let mut qemu = Command::new("timeout");
        qemu.args([
            "--kill-after=5",
            &self.limit_seconds.to_string(),
            "qemu-system-x86_64",
        ]);
        qemu.args([
            "-accel",
            &self.accelerator,
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            MEMORY,
        ]);
        qemu.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]);
        if let Some(disk) = &self.disk {
            let disk = disk.display();
            let drive = format!("file={disk},if=virtio,format=raw,snapshot=on");
            qemu.args(["-drive", &drive]);
        }
        qemu.args(["-serial", "stdio", "-append", KERNEL_COMMAND_LINE]);
        qemu
    }
}

/// Copies the console until the guest ends. What is shown begins with the kernel's name, since
/// other guests may speak as well.
fn watch(child: &mut Child, name: &str, log: &Path) -> Result<String> {
    let mut log = File::create(log)?;
    let mut console = String::new();
    let stdout = child.stdout.take().context("no pipe from QEMU")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).replace('\r', "");
        writeln!(log, "{line}")?;
        println!("{name:<4} {line}");
        console.push_str(&line);
        console.push('\n');
    }
    Ok(console)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(console: &str, is_in_time: bool, expect: &str) {
        let boot = Boot {
            console: console.to_owned(),
            is_in_time,
        };
        assert_eq!(boot.verdict(), expect);
        assert_eq!(boot.is_success(), expect == "ok");
    }

    #[test]
    fn only_an_exit_code_of_zero_is_success() {
        let ran = "TELLTALE-VM-KERNEL 6.1.0\nhello\n";
        check(&format!("{ran}TELLTALE-VM-EXIT 0\n"), true, "ok");
        check(
            &format!("{ran}TELLTALE-VM-EXIT 101\n"),
            true,
            "FAILED with exit code 101",
        );
        check(ran, true, "FAILED: the guest stopped while it ran");
        check(ran, false, "FAILED: out of time");
        check("Kernel panic", true, "FAILED: it did not boot");
    }
}
