//! Files as another process may see them: in its own mount namespace and below its own root.
//!
//! In: a root folder, then paths. Out: where a path leads, or what the file there holds.
//! Absolute links stay below the root (`RESOLVE_IN_ROOT`, Linux 5.6), and nothing is opened
//! before it is known to be a regular file: opening a device or a FIFO can have effects.
//!
//! A file system may hang, and then the caller does.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2, readlink};
use rustix::io::Errno;

/// Attempts to follow a path with `..` in it: openat2(2) says `EAGAIN` when anything on the host
/// was renamed or mounted meanwhile, as it then cannot vouch that the path stays below the root.
const ATTEMPTS: u32 = 64;

/// A root folder.
#[derive(Debug)]
pub struct Tree(OwnedFd);

impl Tree {
    /// The tree below `root`.
    ///
    /// # Errors
    ///
    /// It is no folder, or may not be entered.
    pub fn open(root: &Path) -> io::Result<Tree> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Tree(open(root, flags, Mode::empty())?))
    }

    /// The path, without links, of the regular file that `path` leads to. It starts at this
    /// process's root, or, in another mount namespace, at the root of that one.
    ///
    /// # Errors
    ///
    /// There is no such file, it is no regular file, or it may not be reached.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        path_of(&self.find(path)?)
    }

    /// What the regular file at `path` holds, at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// As [`Tree::resolve`]; or it holds more, or may not be read.
    pub fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open_file(path)?
            .take(limit as u64 + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    /// The regular file at `path`, to be read.
    ///
    /// # Errors
    ///
    /// As [`Tree::resolve`]; or it may not be read.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        let found = self.find(path)?;
        // A writer may hold a lease: do not wait for it.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File::from(open(link_of(&found), flags, Mode::empty())?))
    }

    /// A handle of a regular file, which is not opened by it.
    fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let mut attempts = (0..ATTEMPTS)
            .map(|_| openat2(&self.0, path, flags, Mode::empty(), ResolveFlags::IN_ROOT));
        let found = attempts.find(|found| !matches!(found, Err(Errno::AGAIN)));
        let found = found.unwrap_or(Err(Errno::AGAIN))?;
        match FileType::from_raw_mode(fstat(&found)?.st_mode) {
            FileType::RegularFile => Ok(found),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// Where the kernel shows what a handle stands for.
fn link_of(handle: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

fn path_of(handle: &OwnedFd) -> io::Result<PathBuf> {
    let path = readlink(link_of(handle), Vec::new())?;
    Ok(OsStr::from_bytes(path.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const CLI: &str = "lib/node_modules/cli/cli.js";

    /// A tree with a script, `link` to it from `bin/cli`, and what else a test puts there.
    fn tree(link: &str) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("lib/node_modules/cli")).unwrap();
        std::fs::create_dir_all(at("bin")).unwrap();
        std::fs::write(at(CLI), "12345").unwrap();
        symlink(link, at("bin/cli")).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        (folder, tree)
    }

    #[track_caller]
    fn check(link: &str, path: &str, expect: Option<&str>) {
        let (folder, tree) = tree(link);
        let root = folder.path().canonicalize().unwrap();
        let found = tree.resolve(Path::new(path)).ok();
        assert_eq!(found, expect.map(|path| root.join(path)));
    }

    #[test]
    fn a_link_is_followed_below_the_root() {
        check("../lib/node_modules/cli/cli.js", "/bin/cli", Some(CLI));
        check("/lib/node_modules/cli/cli.js", "/bin/cli", Some(CLI));
        check(
            "../../../../lib/node_modules/cli/cli.js",
            "bin/cli",
            Some(CLI),
        );
        check("cli", "/bin/cli", None);
        check("none", "/bin/cli", None);
        check("x", "/bin/../lib/./node_modules/cli/cli.js", Some(CLI));
    }

    #[test]
    fn what_is_no_regular_file_is_not_found() {
        check("../lib", "/bin/cli", None);
        check("x", "/bin", None);
        check("x", "", None);
        let (folder, tree) = tree("fifo");
        let fifo = folder.path().join("bin/fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(tree.resolve(Path::new("/bin/cli")).is_err());
        assert!(tree.read(Path::new("/bin/cli"), 10).is_err());
    }

    /// `/proc/self` is this process, not the one whose tree it is.
    #[test]
    fn magic_links_are_not_followed() {
        let tree = Tree::open(Path::new("/")).unwrap();
        assert!(tree.resolve(Path::new("/proc/self/exe")).is_err());
    }

    #[test]
    fn a_file_is_read_up_to_a_limit() {
        let (_folder, tree) = tree("/lib/node_modules/cli/cli.js");
        let read = |limit| tree.read(Path::new("/bin/cli"), limit).ok();
        assert_eq!(read(5).as_deref(), Some(&b"12345"[..]));
        assert_eq!(read(4), None);
    }

    #[test]
    fn what_others_rename_meanwhile_does_not_matter() {
        use std::sync::atomic::{AtomicBool, Ordering};

        let (folder, tree) = tree("../lib/node_modules/cli/cli.js");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
                std::fs::write(&a, "").unwrap();
                while !stop.load(Ordering::Relaxed) {
                    std::fs::rename(&a, &b).unwrap();
                    std::fs::rename(&b, &a).unwrap();
                }
            });
            let failed = (0..40_000).find_map(|_| tree.resolve(Path::new("bin/cli")).err());
            stop.store(true, Ordering::Relaxed);
            assert!(failed.is_none(), "{failed:?}");
        });
    }
}
