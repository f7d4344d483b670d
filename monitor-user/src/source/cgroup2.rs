//! A handle on the root of the cgroup-v2 hierarchy, to attach programs to.
//!
//! In: the mounts that the host has. Out: an open directory. Where no cgroup-v2 hierarchy is
//! mounted (a pure v1 host), a private mount that nobody else sees.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, bail};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::host::HostRoot;

/// Inode of the hierarchy's root and of no other cgroup (since Linux 5.5: `kernfs_create_root`, in
/// fs/kernfs/dir.c).
const ROOT_INODE: u64 = 1;

/// Opens the root of the cgroup-v2 hierarchy.
///
/// # Errors
///
/// Says which mount could not be opened, or why none could be made.
pub fn open_root(host: &HostRoot) -> anyhow::Result<OwnedFd> {
    let mounts = host
        .cgroup2_mounts()
        .context("cannot read the list of mounts")?;
    if mounts.is_empty() {
        return private_mount();
    }
    if let Some(mount) = mounts.iter().find(|mount| mount.is_whole()) {
        let directory = open_directory(&mount.path)?;
        // A namespace has a root of its own, below the real one.
        if rustix::fs::fstat(&directory)?.st_ino == ROOT_INODE {
            return Ok(directory);
        }
    }
    let paths = mounts.iter().map(|mount| mount.path.display().to_string());
    bail!(
        "only a part of the cgroup-v2 hierarchy is mounted here ({}): Telltale must see its root. \
         In a container, mount the host's /sys/fs/cgroup over the container's own",
        paths.collect::<Vec<_>>().join(", ")
    )
}

fn open_directory(path: &Path) -> anyhow::Result<OwnedFd> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(file.into())
}

/// Mounts the hierarchy without a place in any mount namespace (kernel 5.2+).
fn private_mount() -> anyhow::Result<OwnedFd> {
    let remedy = "no cgroup-v2 hierarchy is mounted and none could be made: \
                  `mount -t cgroup2 none /sys/fs/cgroup/unified`, or run as root";
    let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC).context(remedy)?;
    fsconfig_create(&context).context(remedy)?;
    let mount = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .context(remedy)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(&mount, ".", flags, Mode::empty()).context(remedy)
}
