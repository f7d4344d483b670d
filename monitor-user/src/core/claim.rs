//! What a client claims of the other end of its flow, in what it says first.
//!
//! In: what the parsers found ([`Found`]), to be encoded as a record; such a record, to be
//! decoded. Out: the record; the [`Claim`]. A claim explains and may alarm; it never allows.

use std::net::IpAddr;
use std::sync::Arc;

use monitor_common::record::{
    self, CLAIM_CONTRADICTED, CLAIM_EVICTED, CLAIM_INCOMPLETE, CLAIM_INVALID, CLAIM_NAMED,
    CLAIM_NOT_RECOGNISED, CLAIM_UNNAMED, HELLO_ALPN_SHIFT, HELLO_ECH, Header, KIND_NAME_CLAIMED,
    PROTOCOL_HTTP, PROTOCOL_HTTP_CONNECT, PROTOCOL_HTTP_FORWARD, PROTOCOL_QUIC, PROTOCOL_SOCKS,
    PROTOCOL_TLS, PROTOCOL_UNKNOWN, SampleHead,
};
use zerocopy::IntoBytes;

use super::wire::found::{Found, Incomplete, Protocol, ProxyProtocol};
use super::wire::tls::{Alpn, ClientHello};
use super::wire::{Host, HostName, NameInvalid, Target};

/// What a client says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It names whom it speaks to.
    Named(Named),
    /// It speaks the protocol and names nobody.
    Unnamed(By),
    /// It speaks no protocol that carries names.
    NotRecognised,
    /// It said two things at one place; what is told is the first.
    Contradicted,
    /// It did not get to its name.
    Incomplete(By, Incomplete),
    /// What stands where the name should be is none.
    Invalid(By, NameInvalid),
    /// There was no room to look any further.
    Evicted,
}

/// Whom a client says that it speaks to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// In which protocol.
    pub by: By,
    /// Name or address.
    pub host: Host,
    /// The port that a proxy is asked for.
    pub port: Option<u16>,
    /// There is an Encrypted Client Hello, which may hide another name.
    pub ech: bool,
    /// The application protocols that it offers, each once, in the order of [`Alpn::ALL`].
    pub alpn: Vec<Alpn>,
}

impl Named {
    /// The host as text: a canonical name or address.
    #[must_use]
    pub fn text(&self) -> Arc<str> {
        match &self.host {
            Host::Name(name) => name.as_str().into(),
            Host::Address(ip) => ip.to_string().into(),
        }
    }
}

/// The protocol in which a client names whom it speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum By {
    /// The first bytes are missing.
    Unknown,
    /// Server name of TLS.
    Tls,
    /// The same of QUIC.
    Quic,
    /// Host of HTTP/1.
    Http,
    /// `CONNECT` to an HTTP proxy.
    HttpConnect,
    /// A request for another server to an HTTP proxy.
    HttpForward,
    /// SOCKS.
    Socks,
}

/// Numbers of the protocols in records.
const PROTOCOLS: [(u32, By); 7] = [
    (PROTOCOL_UNKNOWN, By::Unknown),
    (PROTOCOL_TLS, By::Tls),
    (PROTOCOL_QUIC, By::Quic),
    (PROTOCOL_HTTP, By::Http),
    (PROTOCOL_HTTP_CONNECT, By::HttpConnect),
    (PROTOCOL_HTTP_FORWARD, By::HttpForward),
    (PROTOCOL_SOCKS, By::Socks),
];

/// Reasons in the order of their numbers behind [`CLAIM_INCOMPLETE`].
pub const INCOMPLETES: [Incomplete; 7] = [
    Incomplete::TimedOut,
    Incomplete::Ended,
    Incomplete::TooLong,
    Incomplete::Malformed,
    Incomplete::Unsupported,
    Incomplete::UnknownVersion,
    Incomplete::Undecryptable,
];

/// Reasons in the order of their numbers behind [`CLAIM_INVALID`].
pub const INVALIDS: [NameInvalid; 7] = [
    NameInvalid::Empty,
    NameInvalid::Length,
    NameInvalid::Character,
    NameInvalid::NotAscii,
    NameInvalid::Address,
    NameInvalid::Several,
    NameInvalid::Port,
];

impl By {
    fn number(self) -> u32 {
        let found = PROTOCOLS.iter().find(|(_, by)| *by == self);
        found.map_or(PROTOCOL_UNKNOWN, |(number, _)| *number)
    }

    /// Name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            By::Unknown => "unknown",
            By::Tls => "tls",
            By::Quic => "quic",
            By::Http => "http",
            By::HttpConnect => "http-connect",
            By::HttpForward => "http-forward",
            By::Socks => "socks",
        }
    }

    /// The client asks a proxy.
    #[must_use]
    pub fn is_proxy(self) -> bool {
        matches!(self, By::HttpConnect | By::HttpForward | By::Socks)
    }
}

impl From<Protocol> for By {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Unknown => By::Unknown,
            Protocol::Tls => By::Tls,
            Protocol::Quic => By::Quic,
            Protocol::Http => By::Http,
            Protocol::Socks => By::Socks,
        }
    }
}

impl From<ProxyProtocol> for By {
    fn from(protocol: ProxyProtocol) -> Self {
        match protocol {
            ProxyProtocol::HttpConnect => By::HttpConnect,
            ProxyProtocol::HttpForward => By::HttpForward,
            ProxyProtocol::Socks4 | ProxyProtocol::Socks5 => By::Socks,
        }
    }
}

impl From<&Found> for Claim {
    fn from(found: &Found) -> Self {
        match found {
            Found::Tls(hello) => of_hello(By::Tls, hello),
            Found::Quic(_, hello) => of_hello(By::Quic, hello),
            Found::Http(None) => Claim::Unnamed(By::Http),
            Found::Http(Some(target)) => of_target(By::Http, target),
            Found::Proxied(protocol, target) => of_target((*protocol).into(), target),
            Found::Contradicted => Claim::Contradicted,
            Found::Incomplete(protocol, why) => Claim::Incomplete((*protocol).into(), *why),
            Found::NotRecognised => Claim::NotRecognised,
        }
    }
}

fn of_hello(by: By, hello: &ClientHello) -> Claim {
    match &hello.server_name {
        None => Claim::Unnamed(by),
        Some(Err(why)) => Claim::Invalid(by, *why),
        Some(Ok(name)) => Claim::Named(Named {
            by,
            host: Host::Name(name.clone()),
            port: None,
            ech: hello.ech,
            alpn: offered(|alpn| hello.alpn.contains(alpn)),
        }),
    }
}

fn offered(is_offered: impl Fn(&Alpn) -> bool) -> Vec<Alpn> {
    Alpn::ALL.into_iter().filter(is_offered).collect()
}

fn alpn_bit(alpn: &Alpn) -> u32 {
    1 << (HELLO_ALPN_SHIFT + place(&Alpn::ALL, alpn))
}

fn of_target(by: By, target: &Result<Target, NameInvalid>) -> Claim {
    match target {
        Err(why) => Claim::Invalid(by, *why),
        Ok(Target { host, port }) => Claim::Named(Named {
            by,
            host: host.clone(),
            port: *port,
            ech: false,
            alpn: Vec::new(),
        }),
    }
}

/// The record of a claim in what `head` is the sample of.
#[must_use]
pub fn encode(head: &SampleHead, claim: &Claim) -> Vec<u8> {
    let mut raw = record::NameClaimed {
        header: head.header,
        process: head.process,
        remote: head.remote,
        cookie: head.cookie,
        ..record::NameClaimed::default()
    };
    let mut name: Arc<str> = Arc::default();
    (raw.protocol, raw.outcome) = match claim {
        Claim::Named(named) => {
            name = named.text();
            raw.port = named.port.unwrap_or_default();
            raw.flags = if named.ech { HELLO_ECH } else { 0 };
            raw.flags |= named
                .alpn
                .iter()
                .map(alpn_bit)
                .fold(0, |bits, bit| bits | bit);
            (named.by.number(), CLAIM_NAMED)
        }
        Claim::Unnamed(by) => (by.number(), CLAIM_UNNAMED),
        Claim::NotRecognised => (PROTOCOL_UNKNOWN, CLAIM_NOT_RECOGNISED),
        Claim::Contradicted => (PROTOCOL_UNKNOWN, CLAIM_CONTRADICTED),
        Claim::Evicted => (PROTOCOL_UNKNOWN, CLAIM_EVICTED),
        Claim::Incomplete(by, why) => (by.number(), CLAIM_INCOMPLETE + place(&INCOMPLETES, why)),
        Claim::Invalid(by, why) => (by.number(), CLAIM_INVALID + place(&INVALIDS, why)),
    };
    raw.name_bytes = u16::try_from(name.len()).unwrap_or_default();
    raw.header = Header {
        time_ns: head.header.time_ns,
        kind: KIND_NAME_CLAIMED,
        bytes: u32::try_from(size_of::<record::NameClaimed>() + name.len()).unwrap_or_default(),
    };
    [raw.as_bytes(), name.as_bytes()].concat()
}

fn place<T: PartialEq>(reasons: &[T], reason: &T) -> u32 {
    let place = reasons.iter().position(|it| it == reason);
    place
        .and_then(|place| u32::try_from(place).ok())
        .unwrap_or(0xff)
}

/// What a record says, of which `name` is the tail.
///
/// # Errors
///
/// The field that holds what this build does not know, and its value.
pub fn decode(raw: &record::NameClaimed, name: &[u8]) -> Result<Claim, (&'static str, u32)> {
    let by = PROTOCOLS.iter().find(|(number, _)| *number == raw.protocol);
    let by = by.ok_or(("protocol", raw.protocol))?.1;
    let reason = usize::try_from(raw.outcome & 0xff).unwrap_or(usize::MAX);
    Ok(match raw.outcome {
        CLAIM_NAMED => Claim::Named(Named {
            by,
            host: host(name).ok_or_else(|| ("name of length", u32::from(raw.name_bytes)))?,
            port: (raw.port != 0).then_some(raw.port),
            ech: raw.flags & HELLO_ECH != 0,
            alpn: offered(|alpn| raw.flags & alpn_bit(alpn) != 0),
        }),
        CLAIM_UNNAMED => Claim::Unnamed(by),
        CLAIM_NOT_RECOGNISED => Claim::NotRecognised,
        CLAIM_CONTRADICTED => Claim::Contradicted,
        CLAIM_EVICTED => Claim::Evicted,
        value if value & !0xff == CLAIM_INCOMPLETE => {
            let why = INCOMPLETES.get(reason).ok_or(("outcome", value))?;
            Claim::Incomplete(by, *why)
        }
        value if value & !0xff == CLAIM_INVALID => {
            let why = INVALIDS.get(reason).ok_or(("outcome", value))?;
            Claim::Invalid(by, *why)
        }
        value => return Err(("outcome", value)),
    })
}

/// A name or an address in its canonical form.
fn host(text: &[u8]) -> Option<Host> {
    let ip = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<IpAddr>().ok());
    match ip {
        Some(ip) => Some(Host::Address(ip.to_canonical())),
        None => HostName::from_text(text).ok().map(Host::Name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Event;
    use super::*;

    #[track_caller]
    fn check(claim: &Claim) {
        let head = SampleHead::default();
        let Ok(Event::NameClaimed(back)) = Event::decode(&encode(&head, claim)) else {
            panic!("{claim:?} is not read back");
        };
        assert_eq!(back.claim, *claim);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for host in ["api.example", "192.0.2.1", "[2001:db8::1]"] {
            check(&Claim::Named(Named {
                by: By::HttpConnect,
                host: Host::from_text(host.as_bytes()).unwrap(),
                port: Some(443),
                ech: true,
                alpn: vec![Alpn::Http2, Alpn::Other],
            }));
        }
        for (_, by) in PROTOCOLS {
            check(&Claim::Unnamed(by));
            for why in INCOMPLETES {
                check(&Claim::Incomplete(by, why));
            }
            for why in INVALIDS {
                check(&Claim::Invalid(by, why));
            }
        }
        for claim in [Claim::NotRecognised, Claim::Contradicted, Claim::Evicted] {
            check(&claim);
        }
    }

    #[test]
    fn what_nobody_writes_is_refused() {
        let whole = encode(&SampleHead::default(), &Claim::Unnamed(By::Tls));
        for (at, value) in [(64, 99_u32), (68, 99), (68, 0x1ff), (68, CLAIM_NAMED)] {
            let mut bad = whole.clone();
            bad[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            assert!(Event::decode(&bad).is_err(), "{at} {value}");
        }
    }
}
