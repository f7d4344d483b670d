//! The cgroup-v2 tree as it is mounted: which path a cgroup's id has.
//!
//! In: the mounts of the host. Out: the path of each directory, by its inode number, which is the
//! cgroup's id. For cgroups that are older than the monitor; of newer ones the kernel side tells.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};

use super::HostRoot;

/// Directories looked at: some times those of a large host, and half a second's work.
const DIRECTORIES_MAX: usize = 65_536;

impl HostRoot {
    /// The paths of all cgroups, from the root of the hierarchy on, by id. Empty if it is mounted
    /// nowhere.
    #[must_use]
    pub fn cgroup_paths(&self) -> HashMap<u64, String> {
        let mounts = self.cgroup2_mounts().unwrap_or_default();
        let Some(mount) = mounts
            .into_iter()
            .find(super::mounts::Cgroup2Mount::is_whole)
        else {
            return HashMap::new();
        };
        // Its path is from this host's root on, whatever the injected one is.
        let mount = self
            .0
            .join(mount.path.strip_prefix("/").unwrap_or(&mount.path));
        directories(&mount)
    }
}

fn directories(mount: &Path) -> HashMap<u64, String> {
    let mut found = HashMap::new();
    let mut left: Vec<PathBuf> = vec![PathBuf::new()];
    while let Some(folder) = left.pop() {
        // One that is gone by now has nothing to tell.
        let Ok(entries) = fs::read_dir(mount.join(&folder)) else {
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            if found.len() >= DIRECTORIES_MAX {
                return found;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = folder.join(entry.file_name());
                found.insert(entry.ino(), format!("/{}", path.to_string_lossy()));
                left.push(path);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::super::tests::root;

    #[test]
    fn every_folder_has_its_path() {
        let (folder, root) = root(&[
            (
                "proc/self/mountinfo",
                b"29 23 0:26 / /cgroup rw - cgroup2 cgroup2 rw\n",
            ),
            ("cgroup/cgroup.procs", b""),
            ("cgroup/system.slice/web.service/cgroup.procs", b""),
        ]);
        let paths = root.cgroup_paths();
        let id = |path: &str| {
            folder
                .path()
                .join("cgroup")
                .join(path)
                .metadata()
                .unwrap()
                .ino()
        };
        assert_eq!(paths.len(), 2);
        assert_eq!(paths[&id("system.slice")], "/system.slice");
        assert_eq!(
            paths[&id("system.slice/web.service")],
            "/system.slice/web.service"
        );
    }

    #[test]
    fn without_a_mount_there_are_none() {
        let (_folder, root) = root(&[("proc/self/mountinfo", b"")]);
        assert!(root.cgroup_paths().is_empty());
    }
}
