//! Parsers of hostile bytes: names come out, payload never does.
//!
//! In: bytes that a process sent or received. Out: typed values, or an error without content.
//! Host names of every protocol take one form here, [`HostName`], so that they compare.
#![deny(clippy::indexing_slicing)]

use std::sync::Arc;

pub mod dns;

/// Longest host name as text: the 255 bytes of RFC 1035 §2.3.4 without the first length byte
/// and the root.
const HOST_NAME_BYTES_MAX: usize = 253;

/// Longest label, RFC 1035 §2.3.4.
const LABEL_BYTES_MAX: usize = 63;

/// Why bytes of a message could not be used. Holds nothing of their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a message of the protocol: cut off, contradicting itself, or beyond its bounds.
    #[error("malformed message")]
    Malformed,
    /// A message, but what it is about is not a host name.
    #[error("not a host name")]
    NameInvalid,
}

/// A host name in the one form that the core compares.
///
/// Lower case, no trailing dot, 1 to 253 bytes, labels of 1 to 63 bytes out of `a-z 0-9 - _`:
/// A-labels, and the underscores of service labels and of container names. What else the DNS can
/// carry (NUL, spaces, `*`, U-labels, dots inside a label) is no host name, nor is what would be
/// read as something else: a leading hyphen (an option) or a last label of digits (an address).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

impl HostName {
    /// The canonical form of `text`, which may end in a dot; `None` if it is no host name.
    #[must_use]
    pub fn from_text(text: &[u8]) -> Option<HostName> {
        let text = text.strip_suffix(b".").unwrap_or(text);
        let mut labels = text.split(|&byte| byte == b'.');
        let last = labels.clone().next_back()?;
        let ok = text.len() <= HOST_NAME_BYTES_MAX
            && labels.all(is_label)
            && !text.starts_with(b"-")
            && !last.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(text).ok().filter(|_| ok)?;
        Some(HostName(text.to_ascii_lowercase().into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<HostName> for Arc<str> {
    fn from(name: HostName) -> Self {
        name.0
    }
}

fn is_label(label: &[u8]) -> bool {
    let is_host_byte = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.iter().all(is_host_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: impl AsRef<[u8]>, expect: Option<&str>) {
        let name = HostName::from_text(text.as_ref());
        assert_eq!(name.as_ref().map(HostName::as_str), expect);
    }

    #[test]
    fn names_take_one_form() {
        check("api.anthropic.com", Some("api.anthropic.com"));
        check("aPi.AnThRoPiC.CoM.", Some("api.anthropic.com"));
        check("xn--bcher-kva.example", Some("xn--bcher-kva.example"));
        check("_https._tcp.example.net", Some("_https._tcp.example.net"));
        check("build_db_1", Some("build_db_1"));
        check(
            "r3---sn-4g5e6nz7.example.com",
            Some("r3---sn-4g5e6nz7.example.com"),
        );
        check("1.0.0.127.in-addr.arpa", Some("1.0.0.127.in-addr.arpa"));
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b.c",
            "*.a.b",
            "a\0.b",
            "b\u{fc}cher.example",
        ] {
            check(text, None);
        }
        check(b"a\xff.b", None);
        check("-rf.example", None);
        check("192.0.2.1", None);
        check("::1", None);
        check("a/b", None);
    }

    #[test]
    fn lengths_are_bounded() {
        let label = "a".repeat(LABEL_BYTES_MAX);
        check(&label, Some(&label));
        check(format!("{label}a"), None);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), HOST_NAME_BYTES_MAX);
        check(&longest, Some(&longest));
        check(format!("{longest}."), Some(&longest));
        check(format!("{longest}a"), None);
    }
}
