//! Where the fields of kernel structures are, in bytes.
//!
//! In: the loader writes each static from the running kernel's BTF before the programs are
//! loaded (`monitor-user/src/source/offsets.rs` holds the same table, name by name).
//! Out: offsets that the verifier sees as constants.
//! Rust cannot emit CO-RE relocations, hence the table.

use crate::kernel::Setting;

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])* #[unsafe(no_mangle)] pub static $name: Setting = Setting::new(0);)*
    };
}

offsets! {
    /// `task_struct.pid`
    TASK_PID;
    /// `task_struct.tgid`
    TASK_TGID;
    /// `task_struct.group_leader`
    TASK_GROUP_LEADER;
    /// `task_struct.real_parent`
    TASK_REAL_PARENT;
    /// `task_struct.start_boottime`
    TASK_START_BOOTTIME;
    /// `task_struct.self_exec_id`
    TASK_SELF_EXEC_ID;
    /// `task_struct.exit_code`
    TASK_EXIT_CODE;
    /// `task_struct.flags`
    TASK_FLAGS;
    /// `task_struct.signal`
    TASK_SIGNAL;
    /// `signal_struct.live`
    SIGNAL_LIVE;
    /// `task_struct.mm`
    TASK_MM;
    /// `task_struct.cred`
    TASK_CRED;
    /// `task_struct.nsproxy`
    TASK_NSPROXY;
    /// `task_struct.cgroups`
    TASK_CGROUPS;
    /// `cred.uid`
    CRED_UID;
    /// `cred.gid`
    CRED_GID;
    /// `nsproxy.mnt_ns`
    NSPROXY_MNT_NS;
    /// `nsproxy.net_ns`
    NSPROXY_NET_NS;
    /// `mnt_namespace.ns.inum`
    MNT_NS_INUM;
    /// `net.ns.inum`
    NET_NS_INUM;
    /// `css_set.dfl_cgrp`
    CSS_SET_DFL_CGRP;
    /// `cgroup.kn`
    CGROUP_KN;
    /// `cgroup.root`
    CGROUP_ROOT;
    /// `cgroup_root.hierarchy_id`
    CGROUP_ROOT_HIERARCHY_ID;
    /// `kernfs_node.id`
    KERNFS_NODE_ID;
    /// `mm_struct.arg_start`
    MM_ARG_START;
    /// `mm_struct.arg_end`
    MM_ARG_END;
    /// `mm_struct.exe_file`
    MM_EXE_FILE;
    /// `file.f_path.mnt`
    FILE_MNT;
    /// `file.f_path.dentry`
    FILE_DENTRY;
    /// `vfsmount.mnt_root`
    VFSMOUNT_ROOT;
    /// `mount.mnt`
    MOUNT_MNT;
    /// `mount.mnt_parent`
    MOUNT_PARENT;
    /// `mount.mnt_mountpoint`
    MOUNT_MOUNTPOINT;
    /// `dentry.d_parent`
    DENTRY_PARENT;
    /// `dentry.d_name.name`
    DENTRY_NAME;
    /// `dentry.d_inode`
    DENTRY_INODE;
    /// `inode.i_ino`
    INODE_INO;
    /// `inode.i_nlink`
    INODE_NLINK;
    /// `inode.i_sb`
    INODE_SB;
    /// `super_block.s_dev`
    SUPER_BLOCK_DEV;
    /// `sock.sk_err`
    SOCK_ERR;
    /// `sock.__sk_common.skc_flags`
    SOCK_FLAGS;
    /// `sock.sk_type`
    SOCK_TYPE;
    /// `sock.sk_protocol`
    SOCK_PROTOCOL;
    /// `sock.__sk_common.skc_family`
    SOCK_FAMILY;
    /// `sock.__sk_common.skc_state`
    SOCK_STATE;
    /// `sock.__sk_common.skc_daddr`
    SOCK_DADDR;
    /// `sock.__sk_common.skc_v6_daddr`
    SOCK_V6_DADDR;
    /// `sock.__sk_common.skc_dport`
    SOCK_DPORT;
    /// `sock.__sk_common.skc_cookie`
    SOCK_COOKIE;
    /// `socket.sk`
    SOCKET_SK;
    /// `file.f_inode`
    FILE_INODE;
    /// `inode.i_mode`
    INODE_MODE;
    /// `inode.i_rdev`
    INODE_RDEV;
    /// `inet_connection_sock.icsk_ulp_data`; 0 without MPTCP
    ICSK_ULP_DATA;
    /// `mptcp_subflow_context.conn`; 0 without MPTCP
    MPTCP_SUBFLOW_CONN;
}
