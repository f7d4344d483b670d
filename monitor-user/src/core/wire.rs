//! Parsers of hostile bytes: names come out, payload never does.
//!
//! In: bytes that a process sent or received. Out: typed values, or an error without content.
//! Host names of every protocol take one form here, [`HostName`], so that they compare.
#![deny(clippy::indexing_slicing)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

mod cursor;
pub mod dns;
pub mod dns_stream;
#[cfg(test)]
mod fixture;
pub mod found;
mod http;
pub mod opening;
mod proxy;
pub mod quic;
pub mod resolved;
mod stream;
pub mod tls;

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

/// Why text is not a host name. Holds nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum NameInvalid {
    /// There is no text.
    #[error("empty")]
    Empty,
    /// The name, or a label of it, is too long, or a label is empty.
    #[error("length")]
    Length,
    /// A byte that host names do not have, or a leading hyphen.
    #[error("character")]
    Character,
    /// A byte outside ASCII: a U-label that nobody turned into an A-label.
    #[error("not-ascii")]
    NotAscii,
    /// It would be read as an address.
    #[error("address")]
    Address,
    /// There are several names where one is meant.
    #[error("several")]
    Several,
    /// What follows the name is not a port.
    #[error("port")]
    Port,
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
    /// The canonical form of `text`, which may end in a dot.
    ///
    /// U-labels are refused, not converted: TLS (RFC 6066 §3), HTTP and SOCKS carry A-labels, and
    /// what a resolver would make of other bytes is not known.
    ///
    /// # Errors
    ///
    /// [`NameInvalid`] if it is no host name.
    pub fn from_text(text: &[u8]) -> Result<HostName, NameInvalid> {
        let text = text.strip_suffix(b".").unwrap_or(text);
        if text.is_empty() {
            return Err(NameInvalid::Empty);
        }
        if !text.is_ascii() {
            return Err(NameInvalid::NotAscii);
        }
        if text.starts_with(b"-") || !text.iter().all(|byte| *byte == b'.' || is_host_byte(byte)) {
            return Err(NameInvalid::Character);
        }
        let labels = || text.split(|&byte| byte == b'.');
        let is_length = |label: &[u8]| (1..=LABEL_BYTES_MAX).contains(&label.len());
        if text.len() > HOST_NAME_BYTES_MAX || !labels().all(is_length) {
            return Err(NameInvalid::Length);
        }
        if labels().next_back().is_some_and(is_number) {
            return Err(NameInvalid::Address);
        }
        let text = std::str::from_utf8(text).map_err(|_| NameInvalid::NotAscii)?;
        Ok(HostName(text.to_ascii_lowercase().into()))
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

fn is_host_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn is_number(label: &[u8]) -> bool {
    label.iter().all(u8::is_ascii_digit)
}

/// Whom a client names where an address will do as well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// By name.
    Name(HostName),
    /// By address; IPv4-mapped ones are IPv4 here.
    Address(IpAddr),
}

impl Host {
    /// A name or an IPv4 address, or an IPv6 address in brackets.
    ///
    /// # Errors
    ///
    /// [`NameInvalid`] if it is none of them.
    pub fn from_text(text: &[u8]) -> Result<Host, NameInvalid> {
        let unbracketed = text.strip_prefix(b"[").map(|it| it.strip_suffix(b"]"));
        let address = match unbracketed {
            Some(inner) => {
                let parsed = inner.and_then(parse::<Ipv6Addr>);
                IpAddr::from(parsed.ok_or(NameInvalid::Address)?)
            }
            None => match parse::<Ipv4Addr>(text) {
                Some(address) => address.into(),
                None => return HostName::from_text(text).map(Host::Name),
            },
        };
        Ok(Host::Address(address.to_canonical()))
    }
}

/// Whom a client wants to reach, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port, if one is given.
    pub port: Option<u16>,
}

impl Target {
    /// `host`, `host:port` or `user@host:port`, RFC 3986 §3.2. Who the user is is not kept.
    ///
    /// # Errors
    ///
    /// [`NameInvalid`] if the host is none, or the port is no number below 65536.
    pub fn from_text(text: &[u8]) -> Result<Target, NameInvalid> {
        let at = text.iter().rposition(|&byte| byte == b'@');
        let text = at.and_then(|at| text.get(at + 1..)).unwrap_or(text);
        let colon = text.iter().rposition(|&byte| byte == b':');
        let split = colon.and_then(|colon| text.split_at_checked(colon));
        // In brackets it is a part of the address.
        let Some((host, port)) = split.filter(|(_, port)| !port.ends_with(b"]")) else {
            let host = Host::from_text(text)?;
            return Ok(Target { host, port: None });
        };
        let port = match port.get(1..).unwrap_or_default() {
            b"" => None, // RFC 3986 §3.2.3 allows it.
            digits if is_number(digits) => Some(parse(digits).ok_or(NameInvalid::Port)?),
            _ => return Err(NameInvalid::Port),
        };
        let host = Host::from_text(host)?;
        Ok(Target { host, port })
    }
}

fn parse<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    use NameInvalid::{Address, Character, Empty, Length, NotAscii, Port};

    #[track_caller]
    fn check(text: impl AsRef<[u8]>, expect: Result<&str, NameInvalid>) {
        let name = HostName::from_text(text.as_ref());
        assert_eq!(
            name.as_ref().map(HostName::as_str),
            expect.as_ref().copied()
        );
    }

    #[test]
    fn names_take_one_form() {
        check("api.anthropic.com", Ok("api.anthropic.com"));
        check("aPi.AnThRoPiC.CoM.", Ok("api.anthropic.com"));
        check("xn--bcher-kva.example", Ok("xn--bcher-kva.example"));
        check("_https._tcp.example.net", Ok("_https._tcp.example.net"));
        check("build_db_1", Ok("build_db_1"));
        check(
            "r3---sn-4g5e6nz7.example.com",
            Ok("r3---sn-4g5e6nz7.example.com"),
        );
        check("1.0.0.127.in-addr.arpa", Ok("1.0.0.127.in-addr.arpa"));
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        for text in ["", "."] {
            check(text, Err(Empty));
        }
        for text in ["..", "a..b", ".a"] {
            check(text, Err(Length));
        }
        for text in [
            "a b.c",
            "*.a.b",
            "a\0.b",
            "-rf.example",
            "::1",
            "a/b",
            "a.b:443",
        ] {
            check(text, Err(Character));
        }
        check("b\u{fc}cher.example", Err(NotAscii));
        check(b"a\xff.b", Err(NotAscii));
        check("192.0.2.1", Err(Address));
        check("999.999", Err(Address));
    }

    #[test]
    fn lengths_are_bounded() {
        let label = "a".repeat(LABEL_BYTES_MAX);
        check(&label, Ok(&label));
        check(format!("{label}a"), Err(Length));
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), HOST_NAME_BYTES_MAX);
        check(&longest, Ok(&longest));
        check(format!("{longest}."), Ok(&longest));
        check(format!("{longest}a"), Err(Length));
    }

    #[track_caller]
    fn check_target(text: &str, expect: Result<(&str, Option<u16>), NameInvalid>) {
        let target = Target::from_text(text.as_bytes()).map(|target| {
            let host = match target.host {
                Host::Name(name) => name.as_str().to_owned(),
                Host::Address(ip) => ip.to_string(),
            };
            (host, target.port)
        });
        let expect = expect.map(|(host, port)| (host.to_owned(), port));
        assert_eq!(target, expect);
    }

    #[test]
    fn targets_are_a_host_and_perhaps_a_port() {
        check_target("A.example", Ok(("a.example", None)));
        check_target("a.example.:443", Ok(("a.example", Some(443))));
        check_target("a.example:", Ok(("a.example", None)));
        check_target("user:secret@a.example:8443", Ok(("a.example", Some(8443))));
        check_target("192.0.2.1:80", Ok(("192.0.2.1", Some(80))));
        check_target("[2001:db8::1]:443", Ok(("2001:db8::1", Some(443))));
        check_target("[2001:db8::1]", Ok(("2001:db8::1", None)));
        check_target("[::ffff:192.0.2.1]", Ok(("192.0.2.1", None)));
        check_target("a.example:65536", Err(Port));
        check_target("a.example:+1", Err(Port));
        check_target("a.example:http", Err(Port));
        check_target("2001:db8::1", Err(Character));
        check_target("[2001:db8::1", Err(Address));
        check_target("[a.example]:1", Err(Address));
        check_target(":443", Err(Empty));
        check_target("", Err(Empty));
        check_target("a b:443", Err(Character));
    }
}
