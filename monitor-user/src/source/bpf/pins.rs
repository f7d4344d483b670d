//! The folder in which the kernel side outlives the monitor.
//!
//! In: a path on a BPF file system. Out: [`Pins`], the folder locked for one monitor, and what
//! earlier ones left there. [`purge`] removes it all, and with it the programs.
//!
//! ```text
//! /sys/fs/bpf/telltale/           0700, locked while a monitor runs
//!     generation                  which copy of the programs works
//!     links-7/connect4 …          one link per program of generation 7: attached while it is here
//!     4be1c0ffee154bad/FLOWS …    the maps of one layout, shared by all generations that have it
//! ```
//!
//! A start loads the programs as the next generation, on the maps that are there, attaches them
//! and only then lets them work in place of the old ones. So nothing happens unseen, nothing twice,
//! and an upgrade is the same as any other start. Where the layout is another one, the new programs
//! get maps of their own, and what is left in the old ones is counted and thrown away.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statfs};
use rustix::mount::{MountFlags, mount};

/// Where BPF file systems are mounted.
const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of include/uapi/linux/magic.h.
const BPFFS_MAGIC: i64 = 0xcafe_4a11;
/// Digits that name a layout.
const LAYOUT_DIGITS: usize = 16;
/// Before the number of a generation.
const LINKS: &str = "links-";
/// The map that all generations share, whatever their layout.
pub const GENERATION: &str = "GENERATION";

/// SHA-256 of the sources that lay out maps and records, hex.
const LAYOUT_DIGEST: &str = env!("TELLTALE_LAYOUT_DIGEST");

/// Why the kernel side cannot be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// There is no BPF file system, or no right to write there.
    #[error(
        "{} cannot hold the kernel side ({why}): `mount -t bpf bpf {BPFFS}`, and run as root",
        path.display()
    )]
    NotThere {
        /// The folder.
        path: PathBuf,
        /// What the kernel says.
        why: io::Error,
    },
    /// The folder is of no BPF file system.
    #[error(
        "{} is not on a BPF file system: choose a folder below {BPFFS}, or `mount -t bpf bpf DIR` \
         and choose one below DIR",
        .0.display()
    )]
    NotBpf(PathBuf),
    /// Another monitor runs on it.
    #[error(
        "another Telltale uses {}: stop it first, or give this one another folder with --pin",
        .0.display()
    )]
    Busy(PathBuf),
    /// It holds something else, or others can write to it.
    #[error(
        "{}: {why}. If it is not in use by anything else: \
         `telltale uninstall --purge-kernel-state --pin {}`, or `rm -r` it",
        path.display(),
        folder.display()
    )]
    Foreign {
        /// What is wrong.
        path: PathBuf,
        /// The folder of the pins.
        folder: PathBuf,
        /// Why.
        why: String,
    },
}

/// The folder, locked for this monitor.
pub struct Pins {
    folder: PathBuf,
    generation: u32,
    // Holds the lock.
    _lock: File,
}

impl Pins {
    /// Opens the folder, makes it if it is not there, and locks it.
    ///
    /// # Errors
    ///
    /// [`PinsError`], whose text says what to do.
    pub fn open(folder: &Path) -> Result<Pins, PinsError> {
        let not_there = |why| PinsError::NotThere {
            path: folder.to_owned(),
            why,
        };
        mount_if_needed(folder).map_err(not_there)?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(not_there)?;
        if !is_bpffs(folder).map_err(not_there)? {
            return Err(PinsError::NotBpf(folder.to_owned()));
        }
        let lock = lock(folder)?;
        let mut pins = Pins {
            folder: folder.to_owned(),
            generation: 0,
            _lock: lock,
        };
        pins.check_owner()?;
        pins.generation = pins.last_generation()? + 1;
        for own in [pins.layout(), pins.links(pins.generation)] {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(&own);
            made.map_err(not_there)?;
        }
        Ok(pins)
    }

    /// The number of the programs that this monitor loads.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The folder itself.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a map is pinned.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        if name == GENERATION {
            self.folder.join(GENERATION.to_lowercase())
        } else {
            self.layout().join(name)
        }
    }

    /// Where the link of a program of this monitor is pinned.
    #[must_use]
    pub fn link(&self, program: &str) -> PathBuf {
        self.links(self.generation).join(program)
    }

    /// Detaches the programs of all other generations.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn remove_other_links(&self) -> io::Result<()> {
        for (path, entry) in entries(&self.folder)? {
            if matches!(entry, Entry::Links(number) if number != self.generation) {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    /// The folders of maps of another layout.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn other_layouts(&self) -> io::Result<Vec<PathBuf>> {
        let own = self.layout();
        let entries = entries(&self.folder)?.into_iter();
        let others = entries.filter(|(path, entry)| *entry == Entry::Layout && *path != own);
        Ok(others.map(|(path, _)| path).collect())
    }

    fn layout(&self) -> PathBuf {
        let (digits, _) = LAYOUT_DIGEST.split_at(LAYOUT_DIGITS);
        self.folder.join(digits)
    }

    fn links(&self, generation: u32) -> PathBuf {
        self.folder.join(format!("{LINKS}{generation}"))
    }

    fn check_owner(&self) -> Result<(), PinsError> {
        let metadata = fs::metadata(&self.folder).map_err(|why| PinsError::NotThere {
            path: self.folder.clone(),
            why,
        })?;
        let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
        let own = rustix::process::geteuid().as_raw();
        if mode & 0o077 != 0 || owner != own {
            let why = format!(
                "it has mode {mode:o} and belongs to user {owner}; it must have mode 700 and \
                 belong to user {own}"
            );
            return Err(self.foreign(&self.folder, why));
        }
        Ok(())
    }

    /// The highest generation that left something; 0 if none.
    fn last_generation(&self) -> Result<u32, PinsError> {
        let listed = entries(&self.folder);
        let listed = listed.map_err(|why| self.foreign(&self.folder, why.to_string()))?;
        let mut last = 0;
        for (path, entry) in listed {
            match entry {
                Entry::Links(number) => last = last.max(number),
                Entry::Foreign => return Err(self.foreign(&path, "not Telltale's".to_owned())),
                Entry::Layout | Entry::Generation => {}
            }
        }
        Ok(last)
    }

    /// Something in the folder cannot be used.
    #[must_use]
    pub fn foreign(&self, path: &Path, why: String) -> PinsError {
        PinsError::Foreign {
            path: path.to_owned(),
            folder: self.folder.clone(),
            why,
        }
    }
}

/// What a name in the folder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Generation,
    Links(u32),
    Layout,
    Foreign,
}

impl Entry {
    fn of(name: &str) -> Entry {
        if name == GENERATION.to_lowercase() {
            Entry::Generation
        } else if let Some(number) = name.strip_prefix(LINKS) {
            number.parse().map_or(Entry::Foreign, Entry::Links)
        } else if name.len() == LAYOUT_DIGITS && name.bytes().all(|it| it.is_ascii_hexdigit()) {
            Entry::Layout
        } else {
            Entry::Foreign
        }
    }
}

fn entries(folder: &Path) -> io::Result<Vec<(PathBuf, Entry)>> {
    let known = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((
            entry.path(),
            Entry::of(&entry.file_name().to_string_lossy()),
        ))
    };
    fs::read_dir(folder)?.map(known).collect()
}

fn lock(folder: &Path) -> Result<File, PinsError> {
    let file = File::open(folder).map_err(|why| PinsError::NotThere {
        path: folder.to_owned(),
        why,
    })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(PinsError::Busy(folder.to_owned())),
    }
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    // The type of the field differs between architectures.
    #[allow(clippy::useless_conversion, reason = "i64 here, u32 on s390x")]
    Ok(i64::from(statfs(path)?.f_type) == BPFFS_MAGIC)
}

/// Mounts the BPF file system where hosts have it, if the folder is to be there and it is not.
fn mount_if_needed(folder: &Path) -> io::Result<()> {
    if !folder.starts_with(BPFFS) || is_bpffs(Path::new(BPFFS))? {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("bpf", BPFFS, "bpf", flags, Some(c"mode=700"))?;
    tracing::info!("mounted a BPF file system on {BPFFS}");
    Ok(())
}

/// Removes everything that monitors left in `folder`, which detaches their programs. Returns
/// whether something was there.
///
/// # Errors
///
/// [`PinsError`] if a monitor runs on it, or it holds something that is not Telltale's.
pub fn purge(folder: &Path) -> Result<bool, PinsError> {
    if !folder.exists() {
        return Ok(false);
    }
    let there = |why| PinsError::NotThere {
        path: folder.to_owned(),
        why,
    };
    if !is_bpffs(folder).map_err(there)? {
        return Err(PinsError::NotBpf(folder.to_owned()));
    }
    let _lock = lock(folder)?;
    let listed = entries(folder).map_err(there)?;
    if let Some((path, _)) = listed.iter().find(|(_, entry)| *entry == Entry::Foreign) {
        return Err(PinsError::Foreign {
            path: path.clone(),
            folder: folder.to_owned(),
            why: "not Telltale's".to_owned(),
        });
    }
    // Links first: programs are not to run on without their maps' readers for longer than needed.
    fs::remove_dir_all(folder).map_err(there)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expect: Entry) {
        assert_eq!(Entry::of(name), expect);
    }

    #[test]
    fn what_is_telltales_is_told_from_what_is_not() {
        check("generation", Entry::Generation);
        check("links-12", Entry::Links(12));
        check("links-", Entry::Foreign);
        check("links-x", Entry::Foreign);
        check("0123456789abcdef", Entry::Layout);
        check("0123456789abcde", Entry::Foreign);
        check("0123456789abcdeg", Entry::Foreign);
        check("cilium", Entry::Foreign);
    }

    #[test]
    fn a_folder_elsewhere_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().join("new"), folder.path().to_owned()] {
            let error = Pins::open(&path).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("mount -t bpf"), "{error}");
        }
        let error = purge(folder.path()).unwrap_err().to_string();
        assert!(error.contains("not on a BPF file system"), "{error}");
        assert!(!purge(&folder.path().join("none")).unwrap());
    }
}
