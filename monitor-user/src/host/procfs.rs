//! One process's files in `/proc`, for processes that are older than the monitor.
//!
//! In: a pid. Out: [`Stat`] and the arguments as the process shows them now, which it may have
//! overwritten. Everything newer comes from the kernel's records, where nothing can vanish.

use monitor_common::limits::ARGS_BYTES;

use super::{HostError, HostRoot};

/// Longest `/proc/PID/stat`: 52 numbers and a name of at most 64 bytes.
const STAT_BYTES_MAX: usize = 4096;

/// What `/proc/PID/stat` says of who a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Pid of its parent as it is now; 0 if it has none.
    pub parent: u32,
    /// When it started, in ticks of 10 ms of `CLOCK_BOOTTIME` (`USER_HZ` is 100 on every
    /// architecture that Telltale runs on). With the pid, it tells a process from a successor.
    pub start_ticks: u64,
}

impl HostRoot {
    /// Arguments of a process, NUL-separated: at most [`ARGS_BYTES`] + 1 bytes, so that a caller
    /// who gets more than [`ARGS_BYTES`] knows that there are more. Empty for a kernel thread.
    ///
    /// # Errors
    ///
    /// [`HostError`] if the process has ended or may not be read.
    pub fn arguments(&self, pid: u32) -> Result<Vec<u8>, HostError> {
        self.read_prefix(&format!("proc/{pid}/cmdline"), ARGS_BYTES + 1)
    }

    /// Parent and start time of a process.
    ///
    /// # Errors
    ///
    /// [`HostError`] if the process has ended or may not be read.
    pub fn stat(&self, pid: u32) -> Result<Stat, HostError> {
        let path = format!("proc/{pid}/stat");
        let bytes = self.read(&path, STAT_BYTES_MAX)?;
        parse_stat(&bytes).ok_or_else(|| HostError::Unexpected {
            path: self.0.join(&path),
            wanted: "parent and start time",
        })
    }
}

/// `pid (comm) state ppid …`: comm may hold spaces and parentheses, so fields are counted from
/// the last parenthesis on. There, ppid is the 2nd and the start time the 20th.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let end_of_comm = bytes.iter().rposition(|&byte| byte == b')')?;
    let fields = std::str::from_utf8(bytes.get(end_of_comm + 1..)?).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Stat {
        parent,
        start_ticks,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::root;
    use super::*;

    #[track_caller]
    fn check(comm: &[u8], expect: Option<Stat>) {
        let mut stat = b"4711 (".to_vec();
        stat.extend_from_slice(comm);
        stat.extend_from_slice(
            b") S 812 4711 4711 0 -1 4194560 101 0 0 0 1 2 0 0 20 0 7 0 98765432 1 2 3\n",
        );
        let (_folder, root) = root(&[("proc/4711/stat", &stat)]);
        assert_eq!(root.stat(4711).ok(), expect);
    }

    #[test]
    fn comm_may_hold_anything() {
        let expect = Some(Stat {
            parent: 812,
            start_ticks: 98_765_432,
        });
        check(b"node", expect);
        check(b"HTTP Client", expect);
        check(b"a) R 1 (b", expect);
        check(b")) ) (", expect);
        check(b"line\nbreak", expect);
        check(b"\xff\xfe", expect);
        check(b"", expect);
    }

    #[test]
    fn a_cut_or_foreign_stat_is_an_error() {
        for stat in [
            "",
            "4711",
            "4711 (x) S",
            "4711 (x) S 1 2 3",
            "4711 (x) S -1 1 1",
        ] {
            let (_folder, root) = root(&[("proc/4711/stat", stat.as_bytes())]);
            let error = root.stat(4711).unwrap_err().to_string();
            assert!(
                error.ends_with("proc/4711/stat holds no parent and start time"),
                "{error}"
            );
        }
    }

    #[test]
    fn arguments_are_cut_one_byte_past_the_limit() {
        let long = vec![b'x'; ARGS_BYTES * 3];
        let files: [(&str, &[u8]); 3] = [
            ("proc/1/cmdline", b"node\0cli.js\0"),
            ("proc/2/cmdline", &long),
            ("proc/3/cmdline", b""),
        ];
        let (_folder, root) = root(&files);
        assert_eq!(root.arguments(1).unwrap(), b"node\0cli.js\0");
        assert_eq!(root.arguments(2).unwrap().len(), ARGS_BYTES + 1);
        assert_eq!(root.arguments(3).unwrap(), b"");
        assert!(root.arguments(4).unwrap_err().is_absent());
    }

    #[test]
    fn this_process_can_be_read() {
        let host = HostRoot::default();
        let stat = host.stat(std::process::id()).unwrap();
        assert_eq!(stat.parent, std::os::unix::process::parent_id());
        assert!(stat.start_ticks > 0);
        assert!(!host.arguments(std::process::id()).unwrap().is_empty());
    }
}
