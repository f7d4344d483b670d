//! Cgroups that a test makes, to put processes into.
//!
//! In: a path from the root of the cgroup-v2 hierarchy on. Out: directories there, removed with
//! what still runs in them when the test ends.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// A directory of the hierarchy, with those above it that were not there before.
#[derive(Debug)]
pub struct Cgroup {
    /// Where it is mounted.
    folder: PathBuf,
    /// What this made, outermost first.
    made: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes it.
    ///
    /// # Panics
    ///
    /// If the test does not run as root, or there is no cgroup v2.
    #[must_use]
    pub fn make(path: &str) -> Cgroup {
        let mut folder = root();
        let mut made = Vec::new();
        for step in path.split('/').filter(|step| !step.is_empty()) {
            folder.push(step);
            if !folder.exists() {
                fs::create_dir(&folder).expect("a directory in the cgroup-v2 hierarchy, as root");
                made.push(folder.clone());
            }
        }
        Cgroup { folder, made }
    }

    /// Its id.
    ///
    /// # Panics
    ///
    /// If it is gone.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.folder.metadata().expect("the cgroup").ino()
    }

    /// Moves a process into it.
    ///
    /// # Panics
    ///
    /// If the process is gone.
    pub fn take(&self, pid: u32) {
        fs::write(self.procs(), pid.to_string()).expect("the process moves");
    }

    /// The file that moves whoever's pid is written to it.
    #[must_use]
    pub fn procs(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What runs here is the test's own.
        let _ = fs::write(self.folder.join("cgroup.kill"), "1");
        if let Some(outermost) = self.made.first() {
            remove(outermost);
        }
    }
}

/// Removes a directory with those in it.
fn remove(folder: &Path) {
    let inner = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in inner {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    for _ in 0..100 {
        if fs::remove_dir(folder).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(20)); // Until the last process is reaped.
    }
}

/// Where the hierarchy is mounted.
///
/// # Panics
///
/// If it is not.
#[must_use]
pub fn root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    let mut mounts = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mounts.find(|fields| fields.get(2) == Some(&"cgroup2"));
    mount.expect("cgroup v2 is mounted")[1].into()
}
