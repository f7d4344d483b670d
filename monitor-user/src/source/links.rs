//! Whether the kernel programs are still attached, and whether the kernel runs them each time.
//!
//! In: `/proc/self/fdinfo`, where the kernel describes each of this process's BPF links and
//! programs. Out: the ids of the programs that are attached, and how often each was skipped. Anyone
//! with the right to may detach a link that is not theirs; its descriptor stays open, and then names
//! no cgroup. Reading needs no privilege.
//! Format: kernel/bpf/syscall.c `bpf_link_show_fdinfo` and, since 5.8, kernel/bpf/cgroup.c
//! `bpf_cgroup_link_show_fdinfo`; `bpf_prog_show_fdinfo`, with skipped runs since 5.12.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use anyhow::Context;

use crate::host::HostRoot;

/// Longest description of a link: a dozen short lines.
const FDINFO_BYTES_MAX: usize = 4096;

/// What the kernel says of this process's programs, by their ids.
#[derive(Debug, Default)]
pub struct Programs {
    /// Those that it holds an intact link of.
    pub attached: BTreeSet<u32>,
    /// Runs that the kernel left out: a tracing program does not run while it, preempted or
    /// interrupted, runs on the same CPU already (kernel/trace/bpf_trace.c `__bpf_trace_run`).
    pub skipped: BTreeMap<u32, u64>,
}

/// Asks the kernel.
///
/// # Errors
///
/// If `/proc` cannot be read, or no descriptor is left to read it with: a link that could not be
/// looked at is not a link that is gone.
pub fn programs(host: &HostRoot) -> anyhow::Result<Programs> {
    let folder = host.0.join("proc/self/fdinfo");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut programs = Programs::default();
    for entry in entries {
        let path = entry?.path();
        let text = match std::fs::read(&path) {
            // A descriptor that was closed since.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        if text.len() <= FDINFO_BYTES_MAX {
            let text = String::from_utf8_lossy(&text);
            programs.attached.extend(program_of_link(&text));
            programs.skipped.extend(skipped_runs(&text));
        }
    }
    Ok(programs)
}

/// The program of a link that is still attached.
fn program_of_link(fdinfo: &str) -> Option<u32> {
    field(fdinfo, "link_type")?;
    if field(fdinfo, "cgroup_id") == Some("0") {
        return None; // Detached: kernel/bpf/cgroup.c `bpf_cgroup_link_release`.
    }
    field(fdinfo, "prog_id")?.parse().ok()
}

/// A program, and how often the kernel skipped it.
fn skipped_runs(fdinfo: &str) -> Option<(u32, u64)> {
    field(fdinfo, "prog_type")?;
    let skipped = field(fdinfo, "recursion_misses")?;
    Some((
        field(fdinfo, "prog_id")?.parse().ok()?,
        skipped.parse().ok()?,
    ))
}

fn field<'a>(fdinfo: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = fdinfo.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(key, _)| *key == name)?;
    Some(value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fdinfo: &str, expect: Option<u32>) {
        assert_eq!(program_of_link(fdinfo), expect);
    }

    #[test]
    fn links_are_told_from_other_descriptors_and_from_detached_ones() {
        let head = "pos:\t0\nflags:\t02000000\nmnt_id:\t15\nino:\t61\n";
        check(head, None);
        check(
            &format!(
                "{head}link_type:\tcgroup\nlink_id:\t7\nprog_tag:\tab\nprog_id:\t42\ncgroup_id:\t1\nattach_type:\t10\n"
            ),
            Some(42),
        );
        check(
            &format!(
                "{head}link_type:\tcgroup\nlink_id:\t7\nprog_tag:\tab\nprog_id:\t42\ncgroup_id:\t0\nattach_type:\t10\n"
            ),
            None,
        );
        check(
            &format!(
                "{head}link_type:\traw_tracepoint\nlink_id:\t8\nprog_id:\t43\ntp_name:\tsched_process_exec\n"
            ),
            Some(43),
        );
        check(&format!("{head}prog_type:\t6\nprog_id:\t44\n"), None);
    }

    #[test]
    fn skipped_runs_are_those_of_a_program() {
        #[track_caller]
        fn check(fdinfo: &str, expect: Option<(u32, u64)>) {
            assert_eq!(skipped_runs(fdinfo), expect);
        }
        let program = "flags:\t02000002\nprog_type:\t26\nprog_jited:\t1\nprog_id:\t44\n";
        check(&format!("{program}recursion_misses:\t3\n"), Some((44, 3)));
        check(program, None); // Before 5.12.
        check("link_type:\ttracing\nprog_id:\t44\n", None);
    }
}
