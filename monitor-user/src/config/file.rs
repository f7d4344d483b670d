//! Reads the files that judge, or refuses them: they must be their owner's alone.
//!
//! In: a path. Out: its text or bytes, or the [`ConfigError`] that says what to mend.
//! Folders above the file's own are not looked at.

use std::fs::{self, FileType, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::error::ConfigError;

/// Longest config file: far above a ban of every tool there is, far below what hurts.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Write permission for the group and for everyone.
const WRITE_OTHERS: u32 = 0o022;
/// Write permission for everyone.
const WRITE_EVERYONE: u32 = 0o002;
/// In a folder with this bit, only a file's owner may replace it.
const STICKY: u32 = 0o1000;

/// Text of a config or policy file that has at most `limit` bytes.
///
/// # Errors
///
/// Each kind of [`ConfigError`] but `Invalid` and `NoDatabase`.
pub fn read(path: &Path, limit: u64) -> Result<String, ConfigError> {
    let bytes = read_bytes(path, limit)?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error
            .as_bytes()
            .iter()
            .take(error.utf8_error().valid_up_to());
        let line = 1 + valid.filter(|&&byte| byte == b'\n').count();
        ConfigError::NotUtf8 {
            file: path.to_owned(),
            line,
        }
    })
}

/// Bytes of a file that has at most `limit`.
///
/// # Errors
///
/// As [`read`], but for `NotUtf8`.
pub fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        file: path.to_owned(),
        source,
    };
    // Without NONBLOCK, opening a pipe would wait for a writer.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        let kind = kind_name(metadata.file_type());
        return Err(ConfigError::NotRegular {
            file: path.to_owned(),
            kind,
        });
    }
    refuse_if_others_write(path, &metadata)?;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(ConfigError::TooLarge {
            file: path.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

fn refuse_if_others_write(path: &Path, metadata: &Metadata) -> Result<(), ConfigError> {
    let file = path.to_owned();
    if metadata.mode() & WRITE_OTHERS != 0 {
        return Err(ConfigError::WritableFile {
            file,
            mode: permissions(metadata),
        });
    }
    for folder in folders_of(path) {
        let metadata = fs::metadata(&folder).map_err(|source| ConfigError::Unreadable {
            file: folder.clone(),
            source,
        })?;
        if metadata.mode() & (WRITE_EVERYONE | STICKY) == WRITE_EVERYONE {
            let mode = permissions(&metadata);
            return Err(ConfigError::WritableFolder { folder, mode, file });
        }
    }
    Ok(())
}

/// The folder the path names and, behind a symbolic link, the one that the file is really in.
fn folders_of(path: &Path) -> Vec<PathBuf> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut folders = vec![folder.to_owned()];
    let real = fs::canonicalize(path).ok();
    folders.extend(real.as_deref().and_then(Path::parent).map(Path::to_owned));
    folders
}

fn permissions(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o7777
}

fn kind_name(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "no file"
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::{CWD, Mode, mknodat};

    use super::*;

    fn put(path: &Path, content: &[u8], mode: u32) {
        fs::write(path, content).unwrap();
        set_mode(path, mode);
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Reading this path is refused, in these words; `DIR` stands for its folder.
    #[track_caller]
    fn check_refused(path: &Path, expect: &str) {
        let folder = path.parent().unwrap().display().to_string();
        assert_eq!(
            read(path, FILE_BYTES_MAX)
                .unwrap_err()
                .to_string()
                .replace(&folder, "DIR"),
            expect
        );
    }

    #[test]
    fn a_private_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("telltale.toml");
        for mode in [0o600, 0o640, 0o644, 0o444] {
            put(&path, "[web]\n# é\n".as_bytes(), mode);
            assert_eq!(read(&path, FILE_BYTES_MAX).unwrap(), "[web]\n# é\n");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        check_refused(
            &folder.path().join("none.toml"),
            "cannot read DIR/none.toml: No such file or directory (os error 2); \
             check the path that was given",
        );
    }

    #[test]
    fn an_unreadable_file_names_the_remedy() {
        // Whoever runs the tests may be root, who may read everything.
        let source = std::io::Error::from_raw_os_error(13);
        let error = ConfigError::Unreadable {
            file: PathBuf::from("/etc/x.toml"),
            source,
        };
        assert_eq!(
            error.to_string(),
            "cannot read /etc/x.toml: Permission denied (os error 13); \
             let the user that telltale runs as read it"
        );
    }

    #[test]
    fn a_link_that_leads_to_itself_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("telltale.toml");
        symlink(&path, &path).unwrap();
        check_refused(
            &path,
            "cannot read DIR/telltale.toml: Too many levels of symbolic links (os error 40); \
             check the path that was given",
        );
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let must_be = "it must be a regular file";

        let pipe = folder.path().join("pipe");
        mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        check_refused(&pipe, &format!("DIR/pipe is a pipe; {must_be}"));

        let device = folder.path().join("link-to-zero");
        symlink("/dev/zero", &device).unwrap();
        check_refused(&device, &format!("DIR/link-to-zero is a device; {must_be}"));

        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        check_refused(&inner, &format!("DIR/inner is a folder; {must_be}"));
    }

    #[test]
    fn a_large_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("telltale.toml");
        put(&path, &vec![b'\n'; 1 << 20], 0o600);
        assert_eq!(read(&path, FILE_BYTES_MAX).unwrap().len(), 1 << 20);
        // Sparse: 100 MB that the disk need not hold, and that must not be read.
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(100 << 20)
            .unwrap();
        check_refused(
            &path,
            "DIR/telltale.toml has more than 1048576 bytes; is it the right file?",
        );
    }

    #[test]
    fn what_is_not_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("telltale.toml");
        put(&path, b"[web]\n# caf\xe9\n", 0o600);
        check_refused(
            &path,
            "DIR/telltale.toml:2: not UTF-8; save the file in that encoding",
        );
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("telltale.toml");
        for mode in [0o620, 0o602, 0o666] {
            put(&path, b"", mode);
            check_refused(
                &path,
                &format!(
                    "DIR/telltale.toml can be written by others than its owner (mode {mode:04o}), \
                     who could lift a ban; mend it with: chmod go-w DIR/telltale.toml"
                ),
            );
        }
    }

    #[test]
    fn a_file_that_others_can_replace_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("telltale.toml");
        put(&path, b"", 0o600);
        set_mode(folder.path(), 0o777);
        check_refused(
            &path,
            "DIR can be written by everyone (mode 0777), who could replace DIR/telltale.toml; \
             mend it with: chmod o-w DIR",
        );
        set_mode(folder.path(), 0o1777);
        assert_eq!(read(&path, FILE_BYTES_MAX).unwrap(), "");
    }

    #[test]
    fn the_folder_behind_a_link_counts_too() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        set_mode(&open, 0o777);
        put(&open.join("real.toml"), b"", 0o600);
        let link = folder.path().join("telltale.toml");
        symlink(open.join("real.toml"), &link).unwrap();
        check_refused(
            &link,
            "DIR/open can be written by everyone (mode 0777), who could replace \
             DIR/telltale.toml; mend it with: chmod o-w DIR/open",
        );
    }
}
