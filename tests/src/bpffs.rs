//! A BPF file system of the test's own, in which a monitor can leave its kernel side.
//!
//! In: a folder. Out: a path to pin below; what is left there is gone when the test ends.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::binary;

/// Name of the folder that it is mounted on.
const FOLDER: &str = "bpf";

/// A mounted BPF file system. Dropping it unmounts it, which detaches what is pinned there.
#[derive(Debug)]
pub struct BpfFs {
    path: PathBuf,
}

impl BpfFs {
    /// Mounts one on a new folder in `dir`.
    ///
    /// # Panics
    ///
    /// If that is not allowed.
    #[must_use]
    pub fn mount(dir: &Path) -> BpfFs {
        binary::require_root();
        let path = dir.join(FOLDER);
        fs::create_dir(&path).expect("a folder to mount on");
        mount("bpf", &path, "bpf", MountFlags::empty(), None).expect("a BPF file system");
        BpfFs { path }
    }

    /// Where to pin.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        self.path.join("telltale")
    }

    /// Where to pin in the one that is mounted in `dir`.
    #[must_use]
    pub fn pins_in(dir: &Path) -> PathBuf {
        dir.join(FOLDER).join("telltale")
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        // Lazily: a monitor that was killed a moment ago may still have a file of it open.
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}
