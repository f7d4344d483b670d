//! The TLS ClientHello, RFC 8446 §4.1.2, and the records that carry it, §5.1.
//!
//! In: untrusted bytes that a client sent. Out: the server name (RFC 6066 §3), the application
//! protocols (RFC 7301) and whether there is an Encrypted Client Hello; nothing else is kept.
//!
//! Nothing is read before the message is whole, and then once, so work follows the bytes.

use super::cursor::Cursor;
use super::{HostName, NameInvalid};

/// Longest ClientHello that is read, its header of four bytes included. The largest of real clients, with a post-quantum key share
/// and a session ticket, have 2 to 4 KiB; servers refuse more than 16 to 64.
pub const HELLO_BYTES_MAX: usize = 16 << 10;

/// Longest record, RFC 8446 §5.1. A hello is never encrypted.
const RECORD_BYTES_MAX: u16 = 1 << 14;

/// Extensions read, as many as the registry has entries or so. Each may be there once, and
/// finding out takes a look at all before it.
const EXTENSIONS_MAX: usize = 128;

const RECORD_HANDSHAKE: u8 = 22;
const VERSION_MAJOR: u8 = 3;
const MESSAGE_CLIENT_HELLO: u8 = 1;

const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
const EXTENSION_ECH: u16 = 0xfe0d;
/// `host_name`, the only kind of server name that there is.
const NAME_TYPE_HOST: u8 = 0;

/// What a client says in clear before a TLS or QUIC connection is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// Whom it wants to speak to; `None` if it does not say.
    pub server_name: Option<Result<HostName, NameInvalid>>,
    /// The protocols it offers to speak, each once, in its order.
    pub alpn: Vec<Alpn>,
    /// There is an Encrypted Client Hello, so that `server_name` may be a public name in front of
    /// the real one. It may be GREASE as well: only who has the key can tell.
    pub ech: bool,
}

/// An application protocol. A closed list: its bytes are the client's to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alpn {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 over TLS.
    Http2,
    /// HTTP/3.
    Http3,
    /// DNS over TLS.
    DnsOverTls,
    /// DNS over QUIC.
    DnsOverQuic,
    /// Any other, GREASE included.
    Other,
}

impl Alpn {
    /// All of them, in the order of their bits in records.
    pub const ALL: [Alpn; 6] = [
        Alpn::Http1,
        Alpn::Http2,
        Alpn::Http3,
        Alpn::DnsOverTls,
        Alpn::DnsOverQuic,
        Alpn::Other,
    ];

    fn of(protocol: &[u8]) -> Self {
        match protocol {
            b"http/1.0" | b"http/1.1" => Alpn::Http1,
            b"h2" => Alpn::Http2,
            b"h3" => Alpn::Http3,
            b"dot" => Alpn::DnsOverTls,
            b"doq" => Alpn::DnsOverQuic,
            _ => Alpn::Other,
        }
    }

    /// Name in events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Alpn::Http1 => "http/1.1",
            Alpn::Http2 => "h2",
            Alpn::Http3 => "h3",
            Alpn::DnsOverTls => "dot",
            Alpn::DnsOverQuic => "doq",
            Alpn::Other => "other",
        }
    }
}

/// Why there is no hello, and never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The bytes contradict the protocol or themselves.
    Malformed,
    /// It is longer than [`HELLO_BYTES_MAX`].
    TooLong,
}

/// Whether bytes begin as a TLS record with a handshake message does; `None` if there are too few.
pub(super) fn begins(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [RECORD_HANDSHAKE, major, ..] => Some(*major == VERSION_MAJOR),
        [RECORD_HANDSHAKE] | [] => None,
        _ => Some(false),
    }
}

/// Takes the handshake messages out of records.
#[derive(Default)]
pub(super) struct Records {
    /// Bytes of the stream that were looked at.
    at: usize,
    /// Bytes that the record in hand still has.
    left: usize,
    message: Vec<u8>,
}

impl Records {
    /// Looks at what is new in `bytes`, which begin where the first record does; `None` while the
    /// hello is not whole.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Option<ClientHello>, Stop> {
        loop {
            if let Some(hello) = read_message(&self.message)? {
                return Ok(Some(hello));
            }
            let mut rest = Cursor(bytes.get(self.at..).unwrap_or_default());
            if self.left == 0 {
                let Some([kind, major, _minor, high, low]) = rest.array() else {
                    return Ok(None);
                };
                let size = u16::from_be_bytes([high, low]);
                let in_range = (1..=RECORD_BYTES_MAX).contains(&size);
                if (kind, major) != (RECORD_HANDSHAKE, VERSION_MAJOR) || !in_range {
                    return Err(Stop::Malformed);
                }
                self.at += 5;
                self.left = size.into();
            }
            let part = rest.take(self.left.min(rest.0.len())).unwrap_or_default();
            if part.is_empty() {
                return Ok(None);
            }
            self.message.extend_from_slice(part);
            self.at += part.len();
            self.left -= part.len();
        }
    }
}

/// The hello that handshake bytes begin with; `None` while it is not whole.
pub(super) fn read_message(bytes: &[u8]) -> Result<Option<ClientHello>, Stop> {
    let Some(&kind) = bytes.first() else {
        return Ok(None);
    };
    if kind != MESSAGE_CLIENT_HELLO {
        return Err(Stop::Malformed);
    }
    let Some(head) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let size = u32::from_be_bytes(*head) & 0x00ff_ffff;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > HELLO_BYTES_MAX - head.len() {
        return Err(Stop::TooLong);
    }
    let Some(body) = bytes.get(head.len()..head.len() + size) else {
        return Ok(None);
    };
    read_body(Cursor(body)).map(Some).ok_or(Stop::Malformed)
}

/// The body of a hello, all of it; `None` if it is malformed.
fn read_body(mut body: Cursor) -> Option<ClientHello> {
    let _version = body.u16()?;
    let _random = body.array::<32>()?;
    let session_id = body.vec8()?;
    let cipher_suites = body.vec16()?;
    let compression = body.vec8()?;
    let suites_ok = !cipher_suites.is_empty() && cipher_suites.len().is_multiple_of(2);
    if session_id.len() > 32 || !suites_ok || compression.is_empty() {
        return None;
    }
    let mut hello = ClientHello {
        server_name: None,
        alpn: Vec::new(),
        ech: false,
    };
    if body.is_empty() {
        return Some(hello); // There were no extensions before RFC 3546.
    }
    let mut extensions = Cursor(body.vec16()?);
    if !body.is_empty() {
        return None;
    }
    let mut seen = Vec::new();
    while !extensions.is_empty() {
        let (kind, data) = (extensions.u16()?, extensions.vec16()?);
        if seen.contains(&kind) || seen.len() == EXTENSIONS_MAX {
            return None;
        }
        seen.push(kind);
        match kind {
            EXTENSION_SERVER_NAME => hello.server_name = Some(server_name(Cursor(data))?),
            EXTENSION_ALPN => hello.alpn = protocols(Cursor(data))?,
            EXTENSION_ECH => hello.ech = true,
            _ => {}
        }
    }
    Some(hello)
}

/// The name in a `server_name` extension; `None` if it is malformed.
fn server_name(mut data: Cursor) -> Option<Result<HostName, NameInvalid>> {
    let mut list = Cursor(data.vec16()?);
    if list.is_empty() || !data.is_empty() {
        return None;
    }
    let mut found = None;
    while !list.is_empty() {
        let (kind, name) = (list.u8()?, list.vec16()?);
        if kind == NAME_TYPE_HOST {
            found = Some(match found {
                None => HostName::from_text(name),
                Some(_) => Err(NameInvalid::Several),
            });
        }
    }
    // A list of names of unknown kinds names no host.
    Some(found.unwrap_or(Err(NameInvalid::Empty)))
}

/// The protocols in an ALPN extension; `None` if it is malformed.
fn protocols(mut data: Cursor) -> Option<Vec<Alpn>> {
    let mut list = Cursor(data.vec16()?);
    if list.is_empty() || !data.is_empty() {
        return None;
    }
    let mut protocols = Vec::new();
    while !list.is_empty() {
        let protocol = list.vec8()?;
        if protocol.is_empty() {
            return None;
        }
        let protocol = Alpn::of(protocol);
        if !protocols.contains(&protocol) {
            protocols.push(protocol);
        }
    }
    Some(protocols)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may fail by a panic")]
mod tests {
    use super::super::fixture::{
        alpn, extension, hello, large_hello, message, records, server_names, vec8, vec16,
    };
    use super::*;

    const NAME: &str = "api.example.com";

    fn sni(name: &str) -> Vec<u8> {
        server_names(&[(0, name.as_bytes())])
    }

    /// Reads the message in one record, and in records of seven bytes.
    #[track_caller]
    fn check(message: &[u8], expect: Result<Option<&str>, Stop>) {
        for size in [1 << 14, 7] {
            let read = Records::default().read(&records(message, size));
            let name = read.map(|hello| {
                let hello = hello?;
                Some(match hello.server_name {
                    None => "-".to_owned(),
                    Some(Ok(name)) => name.as_str().to_owned(),
                    Some(Err(why)) => format!("!{why}"),
                })
            });
            assert_eq!(name, expect.map(|name| name.map(str::to_owned)));
        }
    }

    /// Reads a hello with these extensions.
    #[track_caller]
    fn check_extensions(extensions: &[Vec<u8>], expect: Option<&str>) {
        check(&hello(extensions), expect.map(Some).ok_or(Stop::Malformed));
    }

    #[test]
    fn names_protocols_and_ech_are_read() {
        let ech = extension(EXTENSION_ECH, &[0, 1, 2]);
        let protocols = alpn(&["\u{a}\u{a}", "h2", "http/1.1", "http/1.0", "dot", "x"]);
        let bytes = hello(&[ech, protocols, sni("API.Example.com.")]);
        let hello = read_message(&bytes).unwrap().unwrap();
        let name = HostName::from_text(NAME.as_bytes());
        assert_eq!(hello.server_name, Some(name));
        let expect = [Alpn::Other, Alpn::Http2, Alpn::Http1, Alpn::DnsOverTls];
        assert_eq!((hello.alpn, hello.ech), (expect.to_vec(), true));
        let hello = read_message(&large_hello(NAME)).unwrap().unwrap();
        assert!(!hello.ech);
    }

    #[test]
    fn a_hello_may_name_nobody() {
        check_extensions(&[], Some("-"));
        check_extensions(&[alpn(&["h2"])], Some("-"));
        let whole = hello(&[]);
        check(&message(&whole[4..whole.len() - 2]), Ok(Some("-")));
    }

    #[test]
    fn names_that_are_none_are_told() {
        check_extensions(&[sni("192.0.2.1")], Some("!address"));
        check_extensions(&[sni("2001:db8::1")], Some("!character"));
        check_extensions(&[sni("b\u{fc}cher.example")], Some("!not-ascii"));
        check_extensions(&[sni("a b")], Some("!character"));
        check_extensions(&[sni("a\0.example")], Some("!character"));
        check_extensions(&[sni("*.example")], Some("!character"));
        check_extensions(&[sni(&"a".repeat(255))], Some("!length"));
        check_extensions(&[sni(&"a.".repeat(128))], Some("!length"));
        check_extensions(&[sni("")], Some("!empty"));
    }

    #[test]
    fn only_one_host_is_named() {
        let (a, b) = ((0, &b"a.example"[..]), (0, &b"b.example"[..]));
        check_extensions(&[server_names(&[a, b])], Some("!several"));
        check_extensions(&[server_names(&[a, b, a])], Some("!several"));
        check_extensions(&[server_names(&[(1, b"x"), a])], Some("a.example"));
        check_extensions(&[server_names(&[(1, b"a.example")])], Some("!empty"));
        check_extensions(&[server_names(&[])], None);
        check_extensions(&[sni("a.example"), sni("b.example")], None);
    }

    #[test]
    fn extensions_of_any_kind_and_number_come_before_the_name() {
        let others = (0..100).map(|index| extension(0x4000 + index, &[1, 2, 3]));
        let many: Vec<_> = others.chain([sni(NAME)]).collect();
        check_extensions(&many, Some(NAME));
        let others = (0..200).map(|index| extension(0x4000 + index, &[]));
        check_extensions(&others.chain([sni(NAME)]).collect::<Vec<_>>(), None);
        let twice = [extension(0x4000, &[]), extension(0x4000, &[]), sni(NAME)];
        check_extensions(&twice, None);
        // GREASE, RFC 8701, twice with different values.
        let grease = [extension(0x0a0a, &[]), extension(0x1a1a, &[0]), sni(NAME)];
        check_extensions(&grease, Some(NAME));
    }

    #[test]
    fn lengths_that_lie_are_found() {
        let inner = vec16(&[&[0], &vec16(NAME.as_bytes())[..]].concat());
        check_extensions(&[extension(0, &inner)], Some(NAME));
        check_extensions(&[extension(0, &inner[..inner.len() - 1])], None);
        check_extensions(&[extension(0, &[&inner[..], &[0]].concat())], None);
        check_extensions(&[extension(0, &[])], None);
        check_extensions(&[extension(0, &[0, 0])], None);
        check_extensions(&[extension(16, &[])], None);
        check_extensions(&[extension(16, &[0, 1, 0])], None);
        check_extensions(&[extension(16, &[0, 3, 9, b'h', b'2'])], None);
        // Each length in the message, too small or too large by one.
        let whole = hello(&[sni(NAME)]);
        let name_at = whole.len() - NAME.len();
        for at in [38, 72, 77, 80, name_at - 6, name_at - 4, name_at - 1] {
            for change in [1, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = bytes[at].wrapping_add(change);
                let name = read_message(&bytes).map(|hello| hello?.server_name);
                assert_ne!(name, Ok(Some(HostName::from_text(NAME.as_bytes()))), "{at}");
            }
        }
        let no_suites = [&[3; 34][..], &vec8(&[]), &vec16(&[]), &vec8(&[0])].concat();
        check(&message(&no_suites), Err(Stop::Malformed));
        let long_session = [&[3; 34][..], &vec8(&[0; 33]), &vec16(&[0; 2]), &vec8(&[0])];
        check(&message(&long_session.concat()), Err(Stop::Malformed));
    }

    #[test]
    fn a_hello_is_read_when_it_is_whole() {
        let bytes = records(&large_hello(NAME), 1 << 14);
        let mut reader = Records::default();
        for end in 0..bytes.len() {
            assert_eq!(reader.read(&bytes[..end]), Ok(None), "{end}");
        }
        assert!(reader.read(&bytes).unwrap().is_some());
        // Something may follow at once: early data, or another message.
        let more = [&bytes[..], &[20, 3, 3, 0, 1, 1]].concat();
        assert!(Records::default().read(&more).unwrap().is_some());
    }

    #[test]
    fn records_may_be_split_anywhere() {
        let whole = large_hello(NAME);
        for size in [1, 2, 3, 5, 64, whole.len() - 20, whole.len() - 1] {
            let hello = Records::default().read(&records(&whole, size)).unwrap();
            let name = hello.unwrap().server_name.unwrap().unwrap();
            assert_eq!(name.as_str(), NAME);
        }
    }

    #[test]
    fn records_of_other_kinds_end_it() {
        let mut bytes = records(&large_hello(NAME), 100);
        bytes[105] = 23;
        assert_eq!(Records::default().read(&bytes), Err(Stop::Malformed));
        for header in [[22, 3, 1, 0, 0], [22, 2, 0, 0, 9], [22, 3, 1, 0x40, 1]] {
            assert_eq!(Records::default().read(&header), Err(Stop::Malformed));
        }
        let server_hello = [22, 3, 3, 0, 4, 2, 0, 0, 9];
        assert_eq!(Records::default().read(&server_hello), Err(Stop::Malformed));
    }

    #[test]
    fn long_hellos_are_left_at_once() {
        let fill = |size: usize| hello(&[extension(21, &vec![0; size]), sni(NAME)]);
        let longest = fill(HELLO_BYTES_MAX - fill(0).len());
        assert_eq!(longest.len(), HELLO_BYTES_MAX);
        check(&longest, Ok(Some(NAME)));
        let longer = fill(HELLO_BYTES_MAX + 1 - fill(0).len());
        check(&longer, Err(Stop::TooLong));
        check(&longer[..4], Err(Stop::TooLong));
        check(&longest[..4], Ok(None));
    }

    #[test]
    fn what_begins_like_tls_is_told() {
        for (bytes, expect) in [
            (&[][..], None),
            (&[22], None),
            (&[22, 3], Some(true)),
            (&[22, 2], Some(false)),
            (&[0x80, 0x2e, 1, 3, 1], Some(false)), // SSL 2.
            (b"GET / HTTP/1.1", Some(false)),
        ] {
            assert_eq!(begins(bytes), expect, "{bytes:?}");
        }
    }
}
