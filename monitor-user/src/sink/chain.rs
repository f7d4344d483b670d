//! Seals lines of the event log into a chain, so that it can be proven complete and unaltered.
//!
//! In: a line, and the seal of the one before it. Out: the line with its own seal as the last
//! member of its last object:
//!
//! `…,"chain":{"line":N,"hash":"H"}}}`
//!
//! H is the SHA-256, in hex, of the H of line N - 1 (64 zeros for line 1) followed by this line
//! up to `,"hash":`. So no line can be altered, removed, added or moved without all seals behind
//! it being made anew; whoever keeps one H elsewhere can tell that, too.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::lines::{PENDING_BYTES_MAX, put_aside_as};

/// Hex digits of a SHA-256.
pub const HASH_DIGITS: usize = 64;

/// The seal's start; in JSON, a quotation mark within a string never stands alone.
const MEMBER: &[u8] = b",\"chain\":{\"line\":";
/// Before the hash, and after it.
const HASH_KEY: &[u8] = b",\"hash\":\"";
const HASH_END: &[u8] = b"\"}}}";
/// How a line ends that can be sealed: its last member is an object that is not empty.
const UNSEALED_END: &[u8] = b"}}";

/// The last seal so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Number of its line, from 1; 0 before the first.
    pub line: u64,
    /// Its hash, in hex.
    pub hash: String,
}

impl Default for Seal {
    fn default() -> Self {
        Seal {
            line: 0,
            hash: "0".repeat(HASH_DIGITS),
        }
    }
}

/// A sealed line, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// What it says of itself.
    pub seal: Seal,
    /// What its hash covers, beside the hash of the line before it.
    covered: &'a [u8],
}

impl Sealed<'_> {
    /// Whether it is the line that was written after the one of `previous`.
    #[must_use]
    pub fn follows(&self, previous: &Seal) -> bool {
        self.seal.line == previous.line + 1 && self.seal.hash == hash(previous, self.covered)
    }
}

impl Seal {
    /// Seals a line that is to follow this one; it has no newline yet. `None` if it does not end
    /// as events do; a test proves that they do.
    #[must_use]
    pub fn next(&self, line: &mut Vec<u8>) -> Option<Seal> {
        line.ends_with(UNSEALED_END).then_some(())?;
        let number = self.line + 1;
        line.truncate(line.len() - UNSEALED_END.len());
        line.extend_from_slice(MEMBER);
        line.extend_from_slice(number.to_string().as_bytes());
        let hash = hash(self, line);
        line.extend_from_slice(HASH_KEY);
        line.extend_from_slice(hash.as_bytes());
        line.extend_from_slice(HASH_END);
        Some(Seal { line: number, hash })
    }

    /// Takes a line apart, which has no newline; `None` if it bears no seal.
    #[must_use]
    pub fn of(line: &[u8]) -> Option<Sealed<'_>> {
        let rest = line.strip_suffix(HASH_END)?;
        let (rest, hash) = rest.split_at_checked(rest.len().checked_sub(HASH_DIGITS)?)?;
        let covered = rest.strip_suffix(HASH_KEY)?;
        let digits = covered
            .iter()
            .rev()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (before, number) = covered.split_at_checked(covered.len() - digits)?;
        before.ends_with(MEMBER).then_some(())?;
        let hash = std::str::from_utf8(hash).ok()?.to_owned();
        let line = std::str::from_utf8(number).ok()?.parse().ok()?;
        Some(Sealed {
            seal: Seal { line, hash },
            covered,
        })
    }

    /// The last seal in the log at `path`: of its file or, if that is empty or not there, of the
    /// one that was put aside last. A log without one begins a chain.
    ///
    /// # Errors
    ///
    /// If a file is there and cannot be read.
    pub fn last_in(path: &Path) -> io::Result<Seal> {
        for file in [path, &put_aside_as(path, 1)] {
            let end = match end_of(file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                end => end?,
            };
            if !end.is_empty() {
                let sealed = end.rsplit(|byte| *byte == b'\n').find_map(Seal::of);
                return Ok(sealed.map(|sealed| sealed.seal).unwrap_or_default());
            }
        }
        Ok(Seal::default())
    }
}

fn hash(previous: &Seal, covered: &[u8]) -> String {
    let digest = Sha256::new()
        .chain_update(&previous.hash)
        .chain_update(covered)
        .finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The end of a file: at least one line, as none is longer than what may wait to be written.
fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(
        length.saturating_sub(2 * PENDING_BYTES_MAX as u64),
    ))?;
    let mut end = Vec::new();
    file.take(2 * PENDING_BYTES_MAX as u64)
        .read_to_end(&mut end)?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(previous: &Seal, text: &str) -> (Seal, String) {
        let mut line = text.as_bytes().to_vec();
        let seal = previous.next(&mut line).unwrap();
        (seal, String::from_utf8(line).unwrap())
    }

    #[test]
    fn a_seal_is_the_hash_of_the_one_before_and_of_the_line() {
        let (first, line) = sealed(&Seal::default(), r#"{"a":{"b":1}}"#);
        let covered = r#"{"a":{"b":1,"chain":{"line":1"#;
        let digest = Sha256::digest("0".repeat(64) + covered);
        let expect: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(line, format!("{covered},\"hash\":\"{expect}\"}}}}}}"));
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
        let (second, line) = sealed(&first, r#"{"a":{"b":2}}"#);
        let taken = Seal::of(line.as_bytes()).unwrap();
        assert_eq!(taken.seal, second);
        assert!(taken.follows(&first));
        assert!(!taken.follows(&Seal::default()));
        let altered = line.replace("\"b\":2", "\"b\":3");
        assert!(!Seal::of(altered.as_bytes()).unwrap().follows(&first));
    }

    #[test]
    fn what_bears_no_seal_is_told() {
        let (_, line) = sealed(&Seal::default(), r#"{"a":{"b":1}}"#);
        for length in 0..line.len() {
            assert_eq!(Seal::of(&line.as_bytes()[..length]), None, "{length}");
        }
        // A value that reads like a seal is no seal: its quotation marks are escaped.
        let quoted = serde_json::json!({"a": {"b": line}}).to_string();
        assert_eq!(Seal::of(quoted.as_bytes()), None);
        assert_eq!(Seal::default().next(&mut b"{}".to_vec()), None);
    }

    #[test]
    fn a_chain_goes_on_where_the_log_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert_eq!(Seal::last_in(&path).unwrap(), Seal::default());
        let (first, line) = sealed(&Seal::default(), r#"{"a":{"b":1}}"#);
        std::fs::write(&path, format!("{line}\n{{\"torn\":{{\"li")).unwrap();
        assert_eq!(Seal::last_in(&path).unwrap(), first);
        std::fs::rename(&path, put_aside_as(&path, 1)).unwrap();
        assert_eq!(Seal::last_in(&path).unwrap(), first);
        std::fs::write(&path, "").unwrap();
        assert_eq!(Seal::last_in(&path).unwrap(), first);
        std::fs::write(&path, "{}\n").unwrap();
        assert_eq!(Seal::last_in(&path).unwrap(), Seal::default());
    }
}
