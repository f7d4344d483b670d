//! Which version an executable is of, by the package that it comes from.
//!
//! In: files, and the path of an executable that ships as a package. Out: the version, as its
//! vendor writes it.
//!
//! First the note that builders put into executables (`.note.package`; systemd's "Package Metadata
//! for Executable Files"), then dpkg's database. rpm's is a database of a kind that differs from
//! release to release, and is not read.
//!
//! Both are as the file's owner or root left them: others' bytes, read with bounds, and believed
//! no more than the path is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Deserialize;

use super::tree::Tree;

/// Program headers that are looked at: linkers write about a dozen.
const SEGMENTS_MAX: u16 = 64;
/// Bytes of one segment of notes: they have some hundred.
const NOTES_BYTES_MAX: u64 = 64 << 10;
/// Longest list of a package's files: those of the largest have some hundred thousand paths.
const LIST_BYTES_MAX: usize = 16 << 20;
/// Longest list of installed packages: that of a large host has some megabytes.
const STATUS_BYTES_MAX: usize = 32 << 20;
/// Names of packages that are tried for one executable.
const CANDIDATES_MAX: usize = 16;

/// dpkg's folder.
const DPKG: &str = "/var/lib/dpkg";
/// What dpkg calls the architecture of this build.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "amd64"
};

/// ELF, 64 bits, little endian (System V ABI, `e_ident`).
const ELF_IDENT: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
const ELF_HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const PT_NOTE: u32 = 4;
/// Type of the note of package metadata, and its owner.
const NOTE_PACKAGE: u32 = 0xcafe_1a7e;
const NOTE_OWNER: &[u8] = b"FDO\0";

/// The version that the executable at `path` is of; `None` if nothing says so.
#[must_use]
pub fn version(tree: &Tree, path: &Path) -> Option<String> {
    let of_note = || note_version(&tree.open_file(path).ok()?).ok()?;
    of_note().or_else(|| dpkg_version(tree, path.to_str()?))
}

/// What the note in an executable says.
fn note_version(file: &File) -> io::Result<Option<String>> {
    let mut header = [0; ELF_HEADER_BYTES];
    file.read_exact_at(&mut header, 0)?;
    if !header.starts_with(&ELF_IDENT) {
        return Ok(None);
    }
    let table = u64_at(&header, 32);
    let (size, count) = (u16_at(&header, 54), u16_at(&header, 56));
    if usize::from(size) < PROGRAM_HEADER_BYTES {
        return Ok(None);
    }
    for number in 0..u64::from(count.min(SEGMENTS_MAX)) {
        let mut entry = [0; PROGRAM_HEADER_BYTES];
        let at = table.checked_add(number * u64::from(size));
        file.read_exact_at(&mut entry, at.ok_or(io::ErrorKind::InvalidData)?)?;
        if u32_at(&entry, 0) != PT_NOTE {
            continue;
        }
        let bytes = u64_at(&entry, 32).min(NOTES_BYTES_MAX);
        let mut notes = vec![0; usize::try_from(bytes).unwrap_or_default()];
        file.read_exact_at(&mut notes, u64_at(&entry, 8))?;
        if let Some(version) = version_in_notes(&notes) {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

/// Notes lie one after the other: three numbers, the owner, the contents, each in whole words.
fn version_in_notes(mut notes: &[u8]) -> Option<String> {
    loop {
        let (head, rest) = notes.split_at_checked(12)?;
        let size = |at| usize::try_from(u32_at(head, at)).ok();
        let (owner_bytes, bytes) = (size(0)?, size(4)?);
        let (owner, rest) = rest.split_at_checked(owner_bytes.checked_next_multiple_of(4)?)?;
        // The last one need not be filled up.
        let whole = bytes.checked_next_multiple_of(4)?.min(rest.len());
        let (contents, rest) = rest.split_at_checked(whole)?;
        if u32_at(head, 8) == NOTE_PACKAGE && owner.starts_with(NOTE_OWNER) {
            return version_in_json(contents.get(..bytes)?);
        }
        notes = rest;
    }
}

fn version_in_json(text: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Package {
        version: String,
    }
    let end = text.iter().rposition(|&byte| byte != 0)? + 1;
    let package: Package = serde_json::from_slice(text.get(..end)?).ok()?;
    Some(upstream(&package.version).to_owned())
}

/// What dpkg says of the package that the file at `path` belongs to. To look through the files of
/// all packages would take too long: those are tried that bear the name of a part of the path.
fn dpkg_version(tree: &Tree, path: &str) -> Option<String> {
    let parts = path.rsplit('/').map(str::to_ascii_lowercase);
    let names = parts.filter(|part| is_package_name(part));
    let package = names
        .take(CANDIDATES_MAX)
        .find(|name| lists(tree, name, path))?;
    let status = tree.read(Path::new(&format!("{DPKG}/status")), STATUS_BYTES_MAX);
    let status = status.ok()?;
    let status = String::from_utf8_lossy(&status);
    let is_its = |entry: &&str| field(entry, "Package") == Some(&package);
    let entry = status.split("\n\n").find(is_its)?;
    Some(upstream(field(entry, "Version")?).to_owned())
}

/// Whether dpkg has the file at `path` in this package.
fn lists(tree: &Tree, package: &str, path: &str) -> bool {
    // Of a merged /usr, packages list either path.
    let other = match path.strip_prefix("/usr") {
        Some(outside) => outside.to_owned(),
        None => format!("/usr{path}"),
    };
    let own = format!("{package}:{ARCHITECTURE}");
    [package, own.as_str()].into_iter().any(|name| {
        let list = format!("{DPKG}/info/{name}.list");
        let Ok(list) = tree.read(Path::new(&list), LIST_BYTES_MAX) else {
            return false;
        };
        let mut lines = list.split(|&byte| byte == b'\n');
        lines.any(|line| line == path.as_bytes() || line == other.as_bytes())
    })
}

/// Debian Policy 5.6.7.
fn is_package_name(text: &str) -> bool {
    let usual =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    text.len() >= 2 && text.bytes().all(usual) && text.as_bytes()[0].is_ascii_alphanumeric()
}

/// The value of a field of a paragraph (Debian Policy 5.1).
fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    paragraph.lines().find_map(value).map(str::trim)
}

/// The vendor's part of a package's version: `1:2.3.4-5` is `2.3.4` (Debian Policy 5.6.12).
fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    version
        .rsplit_once('-')
        .map_or(version, |(upstream, _)| upstream)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"type":"deb","os":"debian","name":"tool","version":"2.3.4-1"}"#;

    fn note(kind: u32, owner: &[u8], contents: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [owner.len(), contents.len()] {
            bytes.extend(u32::try_from(number).unwrap().to_le_bytes());
        }
        bytes.extend(kind.to_le_bytes());
        for part in [owner, contents] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    /// An executable with segments of these types and contents.
    fn elf(segments: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut head = ELF_IDENT.to_vec();
        head.resize(ELF_HEADER_BYTES, 0);
        head[32] = 64;
        head[54] = 56;
        head[56] = u8::try_from(segments.len()).unwrap();
        let mut at = ELF_HEADER_BYTES + segments.len() * PROGRAM_HEADER_BYTES;
        let (mut table, mut contents) = (Vec::new(), Vec::new());
        for (kind, bytes) in segments {
            let mut entry = vec![0; PROGRAM_HEADER_BYTES];
            entry[..4].copy_from_slice(&kind.to_le_bytes());
            entry[8..16].copy_from_slice(&(at as u64).to_le_bytes());
            entry[32..40].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
            at += bytes.len();
            table.extend(entry);
            contents.extend(bytes);
        }
        [head, table, contents].concat()
    }

    /// A root with these files; what is said of the executable at `path`.
    #[track_caller]
    fn check(files: &[(&str, &[u8])], path: &str, expect: Option<&str>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let file = folder.path().join(&name[1..]);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
        }
        let tree = Tree::open(folder.path()).unwrap();
        assert_eq!(version(&tree, Path::new(path)).as_deref(), expect);
    }

    #[test]
    fn a_note_in_the_executable_says_its_version() {
        let package = note(NOTE_PACKAGE, NOTE_OWNER, JSON.as_bytes());
        let padded = note(
            NOTE_PACKAGE,
            NOTE_OWNER,
            &[JSON.as_bytes(), &[0; 3]].concat(),
        );
        let build_id = note(3, b"GNU\0", &[7; 20]);
        let said = |segments: &[(u32, Vec<u8>)], expect| {
            check(&[("/opt/t/t", &elf(segments))], "/opt/t/t", expect);
        };
        said(&[(PT_NOTE, package.clone())], Some("2.3.4"));
        said(&[(PT_NOTE, padded)], Some("2.3.4"));
        said(
            &[
                (1, vec![9; 8]),
                (PT_NOTE, build_id.clone()),
                (PT_NOTE, package.clone()),
            ],
            Some("2.3.4"),
        );
        said(
            &[(PT_NOTE, [build_id.clone(), package.clone()].concat())],
            Some("2.3.4"),
        );
        said(&[(PT_NOTE, build_id)], None);
        said(&[(1, package)], None);
        said(
            &[(PT_NOTE, note(NOTE_PACKAGE, b"GNU\0", JSON.as_bytes()))],
            None,
        );
        said(&[(PT_NOTE, note(NOTE_PACKAGE, NOTE_OWNER, b"{}"))], None);
        said(&[], None);
    }

    /// Whatever the bytes, nothing is read beyond the bounds, and nothing panics.
    #[test]
    fn an_executable_of_any_bytes_does_no_harm() {
        let good = elf(&[(PT_NOTE, note(NOTE_PACKAGE, NOTE_OWNER, JSON.as_bytes()))]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t");
        let tree = Tree::open(folder.path()).unwrap();
        for end in 0..good.len() {
            std::fs::write(&file, &good[..end]).unwrap();
            assert_eq!(version(&tree, Path::new("/t")), None, "{end}");
        }
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] = 0xff;
            std::fs::write(&file, &bytes).unwrap();
            let _ = version(&tree, Path::new("/t"));
        }
    }

    const STATUS: &[u8] =
        b"Package: other\nVersion: 9\n\nPackage: code\nStatus: install ok installed\n\
        Architecture: amd64\nVersion: 1:1.105.1-1760482543\nDescription: x\n Version: 3\n\n";

    #[test]
    fn the_package_database_says_the_version() {
        let status = ("/var/lib/dpkg/status", STATUS);
        let list: &[u8] = b"/.\n/usr/share/code\n/usr/share/code/code\n";
        let plain = ("/var/lib/dpkg/info/code.list", list);
        check(&[status, plain], "/usr/share/code/code", Some("1.105.1"));
        let own = format!("/var/lib/dpkg/info/code:{ARCHITECTURE}.list");
        check(
            &[status, (&own, list)],
            "/usr/share/code/code",
            Some("1.105.1"),
        );
        let outside = ("/var/lib/dpkg/info/code.list", &b"/bin/code\n"[..]);
        check(&[status, outside], "/usr/bin/code", Some("1.105.1"));
        // Of another package, of none, without the database.
        check(&[status, plain], "/usr/share/code/other", None);
        check(&[status, plain], "/opt/code/code", None);
        check(&[plain], "/usr/share/code/code", None);
        check(
            &[status, ("/var/lib/dpkg/info/none.list", b"/opt/none\n")],
            "/opt/none",
            None,
        );
        check(&[], "/usr/share/code/code", None);
    }

    #[test]
    fn versions_are_their_vendors() {
        for (text, expect) in [("1.2", "1.2"), ("1:1.2-3", "1.2"), ("1.2-rc1-4", "1.2-rc1")] {
            assert_eq!(upstream(text), expect);
        }
    }
}
