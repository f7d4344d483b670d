//! The kernel fields that the programs read, and the globals that hold their offsets.
//!
//! In: the running kernel's [`Btf`]. Out: the value of each global of `monitor-ebpf/src/offsets.rs`.

use super::btf::{Btf, BtfError};

/// `(global, struct, field path)`.
const FIELDS: [(&str, &str, &str); 55] = [
    ("TASK_PID", "task_struct", "pid"),
    ("TASK_TGID", "task_struct", "tgid"),
    ("TASK_GROUP_LEADER", "task_struct", "group_leader"),
    ("TASK_REAL_PARENT", "task_struct", "real_parent"),
    ("TASK_START_BOOTTIME", "task_struct", "start_boottime"),
    ("TASK_SELF_EXEC_ID", "task_struct", "self_exec_id"),
    ("TASK_EXIT_CODE", "task_struct", "exit_code"),
    ("TASK_FLAGS", "task_struct", "flags"),
    ("TASK_SIGNAL", "task_struct", "signal"),
    ("SIGNAL_LIVE", "signal_struct", "live"),
    ("TASK_MM", "task_struct", "mm"),
    ("TASK_CRED", "task_struct", "cred"),
    ("TASK_NSPROXY", "task_struct", "nsproxy"),
    ("TASK_CGROUPS", "task_struct", "cgroups"),
    ("CRED_UID", "cred", "uid"),
    ("CRED_GID", "cred", "gid"),
    ("NSPROXY_MNT_NS", "nsproxy", "mnt_ns"),
    ("NSPROXY_NET_NS", "nsproxy", "net_ns"),
    ("MNT_NS_INUM", "mnt_namespace", "ns.inum"),
    ("NET_NS_INUM", "net", "ns.inum"),
    ("CSS_SET_DFL_CGRP", "css_set", "dfl_cgrp"),
    ("CGROUP_KN", "cgroup", "kn"),
    ("CGROUP_ROOT", "cgroup", "root"),
    ("CGROUP_ROOT_HIERARCHY_ID", "cgroup_root", "hierarchy_id"),
    ("KERNFS_NODE_ID", "kernfs_node", "id"),
    ("MM_ARG_START", "mm_struct", "arg_start"),
    ("MM_ARG_END", "mm_struct", "arg_end"),
    ("MM_EXE_FILE", "mm_struct", "exe_file"),
    ("FILE_MNT", "file", "f_path.mnt"),
    ("FILE_DENTRY", "file", "f_path.dentry"),
    ("VFSMOUNT_ROOT", "vfsmount", "mnt_root"),
    ("MOUNT_MNT", "mount", "mnt"),
    ("MOUNT_PARENT", "mount", "mnt_parent"),
    ("MOUNT_MOUNTPOINT", "mount", "mnt_mountpoint"),
    ("DENTRY_PARENT", "dentry", "d_parent"),
    ("DENTRY_NAME", "dentry", "d_name.name"),
    ("DENTRY_INODE", "dentry", "d_inode"),
    ("INODE_INO", "inode", "i_ino"),
    ("INODE_NLINK", "inode", "i_nlink"),
    ("INODE_SB", "inode", "i_sb"),
    ("SUPER_BLOCK_DEV", "super_block", "s_dev"),
    ("SOCK_ERR", "sock", "sk_err"),
    ("SOCK_FLAGS", "sock", "__sk_common.skc_flags"),
    ("SOCK_TYPE", "sock", "sk_type"),
    ("SOCK_PROTOCOL", "sock", "sk_protocol"),
    ("SOCK_FAMILY", "sock", "__sk_common.skc_family"),
    ("SOCK_STATE", "sock", "__sk_common.skc_state"),
    ("SOCK_DADDR", "sock", "__sk_common.skc_daddr"),
    ("SOCK_V6_DADDR", "sock", "__sk_common.skc_v6_daddr"),
    ("SOCK_DPORT", "sock", "__sk_common.skc_dport"),
    ("SOCK_COOKIE", "sock", "__sk_common.skc_cookie"),
    ("SOCKET_SK", "socket", "sk"),
    ("FILE_INODE", "file", "f_inode"),
    ("INODE_MODE", "inode", "i_mode"),
    ("INODE_RDEV", "inode", "i_rdev"),
];

/// The same for what a kernel may be built without. None of these fields is at offset 0, which
/// therefore says that there is no such field.
const OPTIONAL: [(&str, &str, &str); 2] = [
    ("ICSK_ULP_DATA", "inet_connection_sock", "icsk_ulp_data"),
    ("MPTCP_SUBFLOW_CONN", "mptcp_subflow_context", "conn"),
];

/// The name and the value of every offset global.
///
/// # Errors
///
/// The first field that this kernel does not have, but should.
pub fn resolve(btf: &Btf) -> Result<Vec<(&'static str, u32)>, BtfError> {
    let mut offsets = Vec::with_capacity(FIELDS.len() + OPTIONAL.len());
    for (global, structure, path) in FIELDS {
        offsets.push((global, btf.offset(structure, path)?));
    }
    for (global, structure, path) in OPTIONAL {
        offsets.push((global, btf.offset(structure, path).unwrap_or(0)));
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_the_object_name_the_same_globals() {
        let source = include_str!("../../../monitor-ebpf/src/offsets.rs");
        let declared: Vec<&str> = source
            .lines()
            .filter_map(|line| line.trim().strip_suffix(';'))
            .filter(|name| {
                name.bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
            })
            .collect();
        let table: Vec<&str> = FIELDS
            .iter()
            .chain(&OPTIONAL)
            .map(|(global, ..)| *global)
            .collect();
        assert_eq!(declared, table);
    }
}
