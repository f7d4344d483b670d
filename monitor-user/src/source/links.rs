//! Whether the kernel programs are still attached.
//!
//! In: `/proc/self/fdinfo`, where the kernel describes each of this process's BPF links. Out: the
//! ids of the programs that are attached. Anyone with the right to may detach a link that is not
//! theirs; its descriptor stays open, and then names no cgroup. Reading needs no privilege.
//! Format: kernel/bpf/syscall.c `bpf_link_show_fdinfo`, kernel/bpf/cgroup.c
//! `bpf_cgroup_link_show_fdinfo`, since 5.8.

use std::collections::BTreeSet;

use anyhow::Context;

use crate::host::HostRoot;

/// Longest description of a link: a dozen short lines.
const FDINFO_BYTES_MAX: usize = 4096;

/// Ids of the programs that this process holds an intact link of.
///
/// # Errors
///
/// If `/proc` cannot be read.
pub fn attached_programs(host: &HostRoot) -> anyhow::Result<BTreeSet<u32>> {
    let folder = host.0.join("proc/self/fdinfo");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut programs = BTreeSet::new();
    for entry in entries.flatten() {
        // A descriptor that was closed since is not there to read.
        if let Ok(text) = std::fs::read(entry.path())
            && text.len() <= FDINFO_BYTES_MAX
            && let Some(program) = program_of_link(&String::from_utf8_lossy(&text))
        {
            programs.insert(program);
        }
    }
    Ok(programs)
}

/// The program of a link that is still attached.
fn program_of_link(fdinfo: &str) -> Option<u32> {
    let field = |name: &str| {
        let lines = fdinfo.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value.trim())
            .next()
    };
    field("link_type")?;
    if field("cgroup_id") == Some("0") {
        return None; // Detached: kernel/bpf/cgroup.c `bpf_cgroup_link_release`.
    }
    field("prog_id")?.parse().ok()
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
}
