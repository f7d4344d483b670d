//! What the parsers of a flow's first bytes can find: names that a client claims.
//!
//! In: nothing; these are types alone. Out: the same, without any other content of the flow.

use super::http::Request;
use super::proxy::Version;
use super::tls::{self, ClientHello};
use super::{NameInvalid, Target};

/// Something found in what a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It begins to speak TLS.
    Tls(ClientHello),
    /// It begins to speak QUIC.
    Quic(QuicVersion, ClientHello),
    /// It asks an HTTP/1 server; `None` without a Host field.
    Http(Option<Result<Target, NameInvalid>>),
    /// It asks a proxy for a target. What it says to the target may be found next.
    Proxied(ProxyProtocol, Result<Target, NameInvalid>),
    /// It said two things at one place; what is found is the first.
    Contradicted,
    /// It began to speak a protocol, and did not get to what was looked for.
    Incomplete(Protocol, Incomplete),
    /// It speaks none of these protocols.
    NotRecognised,
}

/// How a proxy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyProtocol {
    /// `CONNECT host:port`.
    HttpConnect,
    /// `GET http://host/`.
    HttpForward,
    /// SOCKS 4 or 4a.
    Socks4,
    /// SOCKS 5.
    Socks5,
}

/// Version of QUIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuicVersion {
    /// RFC 9000.
    V1,
    /// RFC 9369.
    V2,
}

/// A protocol that is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// The first bytes are missing.
    Unknown,
    /// TLS over TCP.
    Tls,
    /// QUIC.
    Quic,
    /// HTTP/1.
    Http,
    /// SOCKS.
    Socks,
}

impl Protocol {
    /// Name in events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Unknown => "unknown",
            Protocol::Tls => "tls",
            Protocol::Quic => "quic",
            Protocol::Http => "http",
            Protocol::Socks => "socks",
        }
    }
}

/// Why a client did not get to what was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Incomplete {
    /// Not within the time that a flow has for it.
    TimedOut,
    /// The flow ended.
    Ended,
    /// Not within the bytes or packets that are looked at.
    TooLong,
    /// What it says contradicts the protocol or itself.
    Malformed,
    /// A part of the protocol that is not read here: other SOCKS commands and logins.
    Unsupported,
    /// A QUIC version whose packets are not read here.
    UnknownVersion,
    /// QUIC packets that do not open with the keys of their version and connection.
    Undecryptable,
}

impl Incomplete {
    /// Name in events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Incomplete::TimedOut => "timed-out",
            Incomplete::Ended => "ended",
            Incomplete::TooLong => "too-long",
            Incomplete::Malformed => "malformed",
            Incomplete::Unsupported => "unsupported",
            Incomplete::UnknownVersion => "unknown-version",
            Incomplete::Undecryptable => "undecryptable",
        }
    }
}

impl From<Request> for Found {
    fn from(request: Request) -> Self {
        match request {
            Request::Origin(host) => Found::Http(host),
            Request::Absolute(target) => Found::Proxied(ProxyProtocol::HttpForward, target),
            Request::Connect(target) => Found::Proxied(ProxyProtocol::HttpConnect, target),
        }
    }
}

impl From<tls::Stop> for Incomplete {
    fn from(stop: tls::Stop) -> Self {
        match stop {
            tls::Stop::Malformed => Incomplete::Malformed,
            tls::Stop::TooLong => Incomplete::TooLong,
        }
    }
}

impl From<Version> for ProxyProtocol {
    fn from(version: Version) -> Self {
        match version {
            Version::Four => ProxyProtocol::Socks4,
            Version::Five => ProxyProtocol::Socks5,
        }
    }
}
