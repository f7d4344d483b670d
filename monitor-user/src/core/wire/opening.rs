//! What a client says first on a TCP connection: whom it wants to speak to.
//!
//! In: the first bytes that a process sends, as segments, in any order. Out: what is found in
//! them. A flow is looked at until [`TcpOpening::is_done`]; who feeds it closes it after
//! [`WAIT_MAX`], since there is no clock here.
//!
//! Names found here are claims of the client. Bytes are forgotten with the flow, and those that
//! may be secret (HTTP fields, SOCKS passwords) as soon as they were read.

use std::time::Duration;

use super::found::{Found, Incomplete, Protocol, ProxyProtocol};
use super::http::{self, Request};
use super::proxy::{self, Stage};
use super::stream::Stream;
use super::tls::{self, HELLO_BYTES_MAX, Records};

/// First bytes of a TCP flow that are looked at: the longest hello, in one record.
pub const TCP_BYTES_MAX: usize = HELLO_BYTES_MAX + 5;

/// Tunnels in a tunnel that are looked into. Two are a chain of proxies; a proxy that wants a
/// password makes the client ask twice.
pub const TUNNELS_MAX: usize = 4;

/// How long after its first byte a flow may take to say what it is.
pub const WAIT_MAX: Duration = Duration::from_secs(2);

/// The beginning of a TCP flow, as its client sends it.
#[derive(Debug)]
pub struct TcpOpening {
    stream: Stream,
    layer: Layer,
    tunnels: usize,
    contradiction_told: bool,
}

/// What is being read.
enum Layer {
    /// The first bytes, or the first in a tunnel.
    Unrecognised,
    Tls(Records),
    Http(http::Head),
    Socks(Stage),
    Done,
}

/// What became of the bytes at hand.
enum Step {
    /// More are needed.
    Wait,
    /// Something else is to be read now.
    Go(Layer),
    /// That was it; nothing if something was found before.
    End(Option<Found>),
    /// A tunnel begins.
    Tunnel(Found),
}

impl Default for TcpOpening {
    fn default() -> Self {
        TcpOpening {
            stream: Stream::new(TCP_BYTES_MAX),
            layer: Layer::Unrecognised,
            tunnels: 0,
            contradiction_told: false,
        }
    }
}

impl TcpOpening {
    /// Takes a segment that begins `offset` bytes behind the first payload byte that the client
    /// sent, and tells what is found now.
    ///
    /// Segments may come in any order, repeated or overlapping. Where they overlap, the first that
    /// came counts.
    pub fn segment(&mut self, offset: u32, bytes: &[u8]) -> Vec<Found> {
        let mut found = Vec::new();
        if self.is_done() {
            return found;
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let room = TCP_BYTES_MAX.saturating_sub(start);
        self.stream
            .insert(offset.into(), bytes.get(..room).unwrap_or(bytes));
        if self.stream.is_contradicted() && !self.contradiction_told {
            self.contradiction_told = true;
            found.push(Found::Contradicted);
        }
        self.read(&mut found);
        if self.stream.end() >= TCP_BYTES_MAX as u64 {
            found.extend(self.close(Incomplete::TooLong));
        }
        found
    }

    /// Ends looking, and tells what there was to tell. Nothing if it is done already.
    pub fn close(&mut self, why: Incomplete) -> Option<Found> {
        let layer = std::mem::replace(&mut self.layer, Layer::Done);
        let stream = std::mem::replace(&mut self.stream, Stream::new(0));
        let (protocol, request) = match layer {
            Layer::Done => return None,
            Layer::Unrecognised if self.tunnels > 0 || stream.is_untouched() => return None,
            Layer::Unrecognised if !stream.ready().is_empty() => return Some(Found::NotRecognised),
            Layer::Unrecognised => (Protocol::Unknown, None),
            Layer::Tls(_) => (Protocol::Tls, None),
            Layer::Http(head) => (Protocol::Http, head.request()),
            Layer::Socks(_) => (Protocol::Socks, None),
        };
        match request {
            // The name stands in a whole line.
            Some(request) if request != Request::Origin(None) => Some(request.into()),
            _ => Some(Found::Incomplete(protocol, why)),
        }
    }

    /// Nothing more will be found.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.layer, Layer::Done)
    }

    fn read(&mut self, found: &mut Vec<Found>) {
        loop {
            let (used, step) = self.layer.read(self.stream.ready());
            self.stream.consume(used);
            match step {
                Step::Wait => return,
                Step::Go(layer) => self.layer = layer,
                Step::Tunnel(proxied) => {
                    found.push(proxied);
                    self.tunnels += 1;
                    if self.tunnels == TUNNELS_MAX {
                        self.done();
                        return;
                    }
                    self.layer = Layer::Unrecognised;
                }
                Step::End(last) => {
                    let alone = self.tunnels == 0;
                    let last = last.or_else(|| alone.then_some(Found::NotRecognised));
                    found.extend(last);
                    self.done();
                    return;
                }
            }
        }
    }

    fn done(&mut self) {
        self.layer = Layer::Done;
        self.stream = Stream::new(0);
    }
}

impl Layer {
    /// Reads what there is; tells how many bytes are not needed any more, and what to do next.
    fn read(&mut self, bytes: &[u8]) -> (usize, Step) {
        match self {
            Layer::Unrecognised => recognise(bytes),
            Layer::Tls(records) => {
                let step = match records.read(bytes) {
                    Ok(None) => Step::Wait,
                    Ok(Some(hello)) => Step::End(Some(Found::Tls(hello))),
                    Err(stop) => Step::End(Some(Found::Incomplete(Protocol::Tls, stop.into()))),
                };
                (0, step)
            }
            Layer::Http(head) => match head.read(bytes) {
                None => (0, Step::incomplete(Protocol::Http, Incomplete::Malformed)),
                Some(read) if !read.done => (read.used, Step::Wait),
                Some(read) => {
                    let request = std::mem::take(head).request();
                    let found = request.map(Found::from);
                    let step = match found {
                        Some(found @ Found::Proxied(ProxyProtocol::HttpConnect, _)) => {
                            Step::Tunnel(found)
                        }
                        found => Step::End(found),
                    };
                    (read.used, step)
                }
            },
            Layer::Socks(stage) => match proxy::read(*stage, bytes) {
                proxy::Read::More => (0, Step::Wait),
                proxy::Read::Stage(used, stage) => (used, Step::Go(Layer::Socks(stage))),
                proxy::Read::Connect(used, by, target) => {
                    (used, Step::Tunnel(Found::Proxied(by.into(), target)))
                }
                proxy::Read::Unsupported => (
                    0,
                    Step::incomplete(Protocol::Socks, Incomplete::Unsupported),
                ),
                proxy::Read::Malformed => {
                    (0, Step::incomplete(Protocol::Socks, Incomplete::Malformed))
                }
            },
            Layer::Done => (0, Step::Wait),
        }
    }
}

impl Step {
    fn incomplete(protocol: Protocol, why: Incomplete) -> Self {
        Step::End(Some(Found::Incomplete(protocol, why)))
    }
}

/// Tells what bytes begin with.
fn recognise(bytes: &[u8]) -> (usize, Step) {
    let header = match proxy::header_bytes(bytes) {
        None => return (0, Step::Wait),
        Some(header) => header,
    };
    if header > 0 {
        return (header, Step::Go(Layer::Unrecognised));
    }
    let answers = [
        tls::begins(bytes),
        http::begins(bytes),
        proxy::begins(bytes),
    ];
    let step = match answers {
        [Some(true), _, _] => Step::Go(Layer::Tls(Records::default())),
        [_, Some(true), _] => Step::Go(Layer::Http(http::Head::default())),
        [_, _, Some(true)] => Step::Go(Layer::Socks(Stage::Greeting)),
        [Some(false), Some(false), Some(false)] => Step::End(None),
        _ => Step::Wait,
    };
    (0, step)
}

/// Says what is being read, not what was.
impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Layer::Unrecognised => "Unrecognised",
            Layer::Tls(_) => "Tls",
            Layer::Http(_) => "Http",
            Layer::Socks(_) => "Socks",
            Layer::Done => "Done",
        })
    }
}
