//! SOCKS requests, versions 4, 4a and 5 (RFC 1928), and the PROXY header of load balancers.
//!
//! In: untrusted bytes that a client sent. Out: the target that it asks a proxy for, and how many
//! bytes were used up. User names and passwords (RFC 1929) are passed over.

use std::net::{IpAddr, Ipv4Addr};

use super::cursor::Cursor;
use super::{Host, HostName, NameInvalid, Target, parse};

/// Longest user or host name of a version 4 request, which has no length. Version 5 has 255, too.
const TEXT_BYTES_MAX: usize = 255;

/// Longest PROXY header as text: the bound of its specification.
const PROXY_LINE_BYTES_MAX: usize = 107;

const SOCKS4: u8 = 4;
const SOCKS5: u8 = 5;
const PASSWORD_VERSION: u8 = 1;
const METHOD_PASSWORD: u8 = 2;
const COMMAND_CONNECT: u8 = 1;
const ADDRESS_V4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_V6: u8 = 4;

const PROXY_TEXT: &[u8] = b"PROXY ";
const PROXY_BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a proxy client says next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Which version it speaks; in version 4 all of the request.
    Greeting,
    /// Version 5: a password or the request.
    Request {
        /// Passwords were offered.
        passwords: bool,
    },
}

/// What bytes at a [`Stage`] are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Too few to say.
    More,
    /// This many bytes lead to the next stage.
    Stage(usize, Stage),
    /// This many bytes are a request to connect.
    Connect(usize, Version, Result<Target, NameInvalid>),
    /// Another request, or another way to log in.
    Unsupported,
    /// Not the protocol.
    Malformed,
}

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// 4 or 4a.
    Four,
    /// 5.
    Five,
}

/// Whether bytes begin as a SOCKS greeting does; `None` if there are too few.
pub(super) fn begins(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [] | [SOCKS4 | SOCKS5] => None,
        [SOCKS4, command, ..] => Some(matches!(command, 1 | 2)),
        [SOCKS5, methods, ..] => Some(*methods > 0),
        _ => Some(false),
    }
}

/// Reads what a client says at `stage`.
pub(super) fn read(stage: Stage, bytes: &[u8]) -> Read {
    match (stage, bytes.first()) {
        (_, None) => Read::More,
        (Stage::Greeting, Some(&SOCKS4)) => version_4(bytes),
        (Stage::Greeting, Some(_)) => match Cursor(bytes.get(1..).unwrap_or_default()).vec8() {
            Some(methods) => {
                let passwords = methods.contains(&METHOD_PASSWORD);
                Read::Stage(2 + methods.len(), Stage::Request { passwords })
            }
            None => Read::More,
        },
        (Stage::Request { .. }, Some(&SOCKS5)) => version_5(bytes),
        (Stage::Request { passwords }, Some(&PASSWORD_VERSION)) if passwords => {
            match password_bytes(bytes) {
                Some(used) => Read::Stage(used, Stage::Request { passwords: false }),
                None => Read::More,
            }
        }
        // GSSAPI, RFC 1961, or what the two agreed upon.
        (Stage::Request { .. }, Some(_)) => Read::Unsupported,
    }
}

fn password_bytes(bytes: &[u8]) -> Option<usize> {
    let mut rest = Cursor(bytes);
    rest.u8()?;
    let (user, password) = (rest.vec8()?, rest.vec8()?);
    Some(3 + user.len() + password.len())
}

/// A version 5 request, RFC 1928 §4.
fn version_5(bytes: &[u8]) -> Read {
    let mut rest = Cursor(bytes);
    let Some([_version, command, _reserved, kind]) = rest.array() else {
        return Read::More;
    };
    if command != COMMAND_CONNECT {
        return Read::Unsupported;
    }
    let host = match kind {
        ADDRESS_V4 => rest.array::<4>().map(|ip| Ok(address(ip.into()))),
        ADDRESS_V6 => rest.array::<16>().map(|ip| Ok(address(ip.into()))),
        ADDRESS_NAME => rest.vec8().map(name),
        _ => return Read::Malformed,
    };
    let (Some(host), Some(port)) = (host, rest.u16()) else {
        return Read::More;
    };
    let used = bytes.len() - rest.0.len();
    Read::Connect(used, Version::Five, target(host, port))
}

/// A version 4 or 4a request.
fn version_4(bytes: &[u8]) -> Read {
    let mut rest = Cursor(bytes);
    let (Some([_version, command]), Some(port), Some(ip)) =
        (rest.array(), rest.u16(), rest.array::<4>())
    else {
        return Read::More;
    };
    if command != COMMAND_CONNECT {
        return Read::Unsupported;
    }
    if let Err(read) = text(&mut rest) {
        return read; // Who the user is is not kept.
    }
    let host = match ip {
        // An address that cannot be: version 4a, a name follows.
        [0, 0, 0, last] if last != 0 => match text(&mut rest) {
            Ok(host) => name(host),
            Err(read) => return read,
        },
        _ => Ok(address(Ipv4Addr::from(ip).into())),
    };
    let used = bytes.len() - rest.0.len();
    Read::Connect(used, Version::Four, target(host, port))
}

/// Bytes up to a NUL.
fn text<'a>(rest: &mut Cursor<'a>) -> Result<&'a [u8], Read> {
    match rest
        .0
        .iter()
        .take(TEXT_BYTES_MAX + 1)
        .position(|&byte| byte == 0)
    {
        Some(end) => {
            let text = rest.take(end).unwrap_or_default();
            rest.u8();
            Ok(text)
        }
        None if rest.0.len() > TEXT_BYTES_MAX => Err(Read::Malformed),
        None => Err(Read::More),
    }
}

fn address(ip: IpAddr) -> Host {
    Host::Address(ip.to_canonical())
}

/// A name, or an address as text, which clients send, too.
fn name(text: &[u8]) -> Result<Host, NameInvalid> {
    match parse::<IpAddr>(text) {
        Some(ip) => Ok(address(ip)),
        None => HostName::from_text(text).map(Host::Name),
    }
}

fn target(host: Result<Host, NameInvalid>, port: u16) -> Result<Target, NameInvalid> {
    let port = Some(port);
    host.map(|host| Target { host, port })
}

/// Length of the PROXY header that bytes begin with; `Some(0)` if they begin with none, `None` if
/// there are too few to say.
pub(super) fn header_bytes(bytes: &[u8]) -> Option<usize> {
    if begin_alike(bytes, PROXY_TEXT) {
        if bytes.len() < PROXY_TEXT.len() {
            return None;
        }
        let line = bytes.get(..PROXY_LINE_BYTES_MAX).unwrap_or(bytes);
        return match line.iter().position(|&byte| byte == b'\n') {
            Some(end) => Some(end + 1),
            None if bytes.len() < PROXY_LINE_BYTES_MAX => None,
            None => Some(0),
        };
    }
    if begin_alike(bytes, PROXY_BINARY) {
        let mut rest = Cursor(bytes.get(PROXY_BINARY.len() + 2..)?);
        let addresses = rest.vec16()?;
        return Some(PROXY_BINARY.len() + 4 + addresses.len());
    }
    Some(0)
}

/// Whether bytes are the beginning of `whole`, or it of them.
fn begin_alike(bytes: &[u8], whole: &[u8]) -> bool {
    bytes.starts_with(whole) || whole.starts_with(bytes)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may fail by a panic")]
mod tests {
    use super::*;

    const GREETING: Stage = Stage::Greeting;
    const REQUEST: Stage = Stage::Request { passwords: false };
    const LOGIN: Stage = Stage::Request { passwords: true };

    /// Reads the bytes, with others behind them, and each part of them, which is too few.
    #[track_caller]
    fn check(stage: Stage, bytes: &[u8], expect: Read) {
        let followed = [bytes, &[9, 9, 9]].concat();
        assert_eq!(read(stage, &followed), expect);
        if !matches!(expect, Read::Unsupported | Read::Malformed) {
            for end in 0..bytes.len() {
                assert_eq!(read(stage, &bytes[..end]), Read::More, "{end} bytes");
            }
        }
    }

    fn connect(version: Version, used: usize, host: &str) -> Read {
        let host = Host::from_text(host.as_bytes());
        Read::Connect(used, version, target(host, 443))
    }

    fn request(kind: u8, address: &[u8]) -> Vec<u8> {
        [&[5, 1, 0, kind], address, &[1, 0xbb]].concat()
    }

    #[test]
    fn version_5_requests_are_read() {
        check(GREETING, &[5, 1, 0], Read::Stage(3, REQUEST));
        check(GREETING, &[5, 3, 0, 1, 2], Read::Stage(5, LOGIN));
        let name = request(3, b"\x09A.example");
        check(REQUEST, &name, connect(Version::Five, 16, "a.example"));
        check(LOGIN, &name, connect(Version::Five, 16, "a.example"));
        let v4 = request(1, &[192, 0, 2, 1]);
        check(REQUEST, &v4, connect(Version::Five, 10, "192.0.2.1"));
        let mut ip = [0; 16];
        ip[15] = 1;
        let v6 = request(4, &ip);
        check(REQUEST, &v6, connect(Version::Five, 22, "[::1]"));
        let text = request(3, b"\x09192.0.2.1");
        check(REQUEST, &text, connect(Version::Five, 16, "192.0.2.1"));
        let text = request(3, b"\x03::1");
        check(REQUEST, &text, connect(Version::Five, 10, "[::1]"));
    }

    #[test]
    fn names_in_requests_may_be_none() {
        let invalid = |used, why| Read::Connect(used, Version::Five, Err(why));
        check(REQUEST, &request(3, b"\0"), invalid(7, NameInvalid::Empty));
        check(
            REQUEST,
            &request(3, b"\x03a\0b"),
            invalid(10, NameInvalid::Character),
        );
        let long = [&[255][..], &[b'a'; 255]].concat();
        check(
            REQUEST,
            &request(3, &long),
            invalid(262, NameInvalid::Length),
        );
    }

    #[test]
    fn passwords_are_passed_over() {
        check(LOGIN, b"\x01\x04user\x06secret", Read::Stage(13, REQUEST));
        check(LOGIN, &[1, 0, 0], Read::Stage(3, REQUEST));
        check(REQUEST, b"\x01\x04user\x06secret", Read::Unsupported);
    }

    #[test]
    fn what_is_not_read_is_told() {
        check(REQUEST, &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0], Read::Unsupported);
        check(REQUEST, &[5, 1, 0, 2, 0, 0, 0, 0, 0, 0], Read::Malformed);
        check(GREETING, &[4, 2, 0, 1, 192, 0, 2, 1, 0], Read::Unsupported);
        check(LOGIN, &[6], Read::Unsupported);
    }

    #[test]
    fn version_4_requests_are_read() {
        let plain = b"\x04\x01\x01\xbb\xc0\0\x02\x01user\0";
        check(GREETING, plain, connect(Version::Four, 13, "192.0.2.1"));
        let named = b"\x04\x01\x01\xbb\0\0\0\x01\0a.example\0";
        check(GREETING, named, connect(Version::Four, 19, "a.example"));
        let long = [&[4, 1, 1, 0xbb, 192, 0, 2, 1][..], &[b'u'; 256]].concat();
        assert_eq!(read(GREETING, &long), Read::Malformed);
        assert_eq!(read(GREETING, &long[..8 + 255]), Read::More);
    }

    #[test]
    fn what_begins_like_socks_is_told() {
        for (bytes, expect) in [
            (&[][..], None),
            (&[5], None),
            (&[5, 1], Some(true)),
            (&[5, 0], Some(false)),
            (&[4, 1], Some(true)),
            (&[4, 9], Some(false)),
            (&[6, 1], Some(false)),
        ] {
            assert_eq!(begins(bytes), expect, "{bytes:?}");
        }
    }

    #[test]
    fn headers_of_load_balancers_are_passed_over() {
        let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n";
        assert_eq!(header_bytes(line), Some(line.len()));
        assert_eq!(header_bytes(&line[..20]), None);
        assert_eq!(
            header_bytes(&[b"PROXY ", &[b'x'; 107][..]].concat()),
            Some(0)
        );
        let binary = [PROXY_BINARY, &[0x21, 0x11, 0, 2, 7, 7, 22]].concat();
        assert_eq!(header_bytes(&binary), Some(18));
        for end in 0..18 {
            assert_eq!(header_bytes(&binary[..end]), None, "{end}");
        }
        assert_eq!(header_bytes(b"PUT "), Some(0));
        assert_eq!(header_bytes(&[22, 3, 1]), Some(0));
    }
}
