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
    /// There were bytes, perhaps not the first.
    spoken: bool,
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
            spoken: false,
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
        self.spoken |= !bytes.is_empty();
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
            Layer::Unrecognised if self.tunnels > 0 || !self.spoken => return None,
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

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may fail by a panic")]
mod tests {
    use super::super::fixture::{
        describe, extension, hello, large_hello, large_record, records, server_names,
    };
    use super::*;

    const NAME: &str = "api.example.com";
    const TLS: &str = "tls api.example.com h2 http/1.1";

    /// What segments lead to, one finding in a line; `...` if it is not done.
    fn feed(segments: &[(usize, &[u8])]) -> String {
        let mut opening = TcpOpening::default();
        let mut found = Vec::new();
        for (offset, bytes) in segments {
            found.extend(opening.segment(u32::try_from(*offset).unwrap(), bytes));
        }
        let mut text = describe(&found);
        if !opening.is_done() {
            text.push_str("...");
        }
        text
    }

    /// Feeds the bytes as a whole, and one by one.
    #[track_caller]
    fn check(bytes: &[u8], expect: &str) {
        assert_eq!(feed(&[(0, bytes)]), expect);
        let singles: Vec<_> = bytes.chunks(1).enumerate().collect();
        assert_eq!(feed(&singles), expect, "byte by byte");
    }

    #[test]
    fn hellos_are_found() {
        check(&large_record(NAME), TLS);
        check(&records(&large_hello(NAME), 50), TLS);
        let nameless = records(&hello(&[]), 1 << 14);
        check(&nameless, "tls -");
        check(&large_record("192.0.2.1"), "tls !address h2 http/1.1");
    }

    #[test]
    fn requests_are_found() {
        check(
            b"GET / HTTP/1.1\r\nHost: a.example:80\r\n\r\n",
            "http a.example 80",
        );
        check(b"GET / HTTP/1.0\r\n\r\n", "http -");
        let forward = b"GET http://a.example/x HTTP/1.1\r\nHost: b.example\r\n\r\n";
        check(forward, "HttpForward a.example");
        check(b"GET /\r\n\r\n", "http malformed");
    }

    #[test]
    fn other_protocols_are_left_at_once() {
        for bytes in [
            &b"SSH-2.0-x\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\n",
            b"EHLO a.example\r\n",
            &[0x80, 0x2e, 1, 3, 1],
            &[0; 4],
            &[0xff],
        ] {
            check(bytes, "not-recognised");
        }
        check(b"", "...");
        check(b"POS", "...");
    }

    #[test]
    fn tunnels_are_looked_into() {
        let tls = large_record(NAME);
        let connect = b"CONNECT a.example:443 HTTP/1.1\r\nProxy-Authorization: x\r\n\r\n";
        let proxied = "HttpConnect a.example 443";
        check(&[connect, &tls[..]].concat(), &format!("{proxied}\n{TLS}"));
        let twice = [&connect[..], connect, &tls].concat();
        check(&twice, &format!("{proxied}\n{proxied}\n{TLS}"));
        check(&[&connect[..], b"SSH-2.0-x"].concat(), proxied);
        check(connect, &format!("{proxied}..."));
        let socks = b"\x05\x02\x00\x02\x01\x04user\x06secret\x05\x01\x00\x03\x09a.example\x01\xbb";
        check(
            &[&socks[..], &tls].concat(),
            &format!("Socks5 a.example 443\n{TLS}"),
        );
        let socks4 = b"\x04\x01\x01\xbb\xc0\x00\x02\x01\x00";
        check(
            &[&socks4[..], &tls].concat(),
            &format!("Socks4 192.0.2.1 443\n{TLS}"),
        );
        let chain = [&socks[..], connect, b"GET / HTTP/1.1\r\nHost: c\r\n\r\n"].concat();
        check(&chain, &format!("Socks5 a.example 443\n{proxied}\nhttp c"));
        check(b"\x05\x01\x01\x01", "socks unsupported");
        check(b"\x05\x01\x00\x05\x01\x00\x07", "socks malformed");
    }

    #[test]
    fn tunnels_in_tunnels_have_an_end() {
        let connect = b"CONNECT a.example:443 HTTP/1.1\r\n\r\n".repeat(TUNNELS_MAX + 1);
        let expect = ["HttpConnect a.example 443"; TUNNELS_MAX].join("\n");
        check(&connect, &expect);
    }

    #[test]
    fn headers_of_load_balancers_are_passed_over() {
        let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n";
        check(&[header, &large_record(NAME)[..]].concat(), TLS);
    }

    #[test]
    fn the_first_bytes_count_and_a_contradiction_is_told() {
        let (first, second) = (large_record(NAME), large_record("api.example.net"));
        let told = format!("contradicted\n{TLS}");
        assert_eq!(
            feed(&[(1000, &first[1000..]), (0, &second), (0, &first)]),
            told
        );
        let most = &first[..first.len() - 10];
        assert_eq!(feed(&[(0, most), (0, &second), (0, &first)]), told);
        assert_eq!(feed(&[(0, most), (0, &first[..900]), (0, &first)]), TLS);
    }

    #[test]
    fn bytes_are_bounded() {
        let size = 1 << 14;
        let fill = |fill: usize| {
            let named = server_names(&[(0, NAME.as_bytes())]);
            hello(&[extension(21, &vec![0; fill]), named])
        };
        let longest = fill(size - fill(0).len());
        check(&records(&longest, size), "tls api.example.com");
        let longer = fill(size + 1 - fill(0).len());
        check(&records(&longer, size), "tls too-long");
        // In more than one record, even the longest is too long.
        check(&records(&longest, 9000), "tls too-long");
        let head = b"GET / HTTP/1.1\r\nX: ".iter().chain(&[b'x'; 20_000]);
        check(&head.copied().collect::<Vec<u8>>(), "http too-long");
        let named = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
            .iter()
            .chain(&[b'x'; 20_000]);
        check(&named.copied().collect::<Vec<u8>>(), "http a");
        // What was read makes no room for more.
        let mut late = b"GET / HTTP/1.1\r\n".to_vec();
        late.resize(TCP_BYTES_MAX - 4, b'\t');
        late.extend(b"\r\nHost: a\r\n\r\n");
        let (first, last) = late.split_at(10_000);
        assert_eq!(feed(&[(0, first), (10_000, last)]), "http too-long");
        assert_eq!(feed(&[(20_000, b"x")]), "...");
        assert_eq!(feed(&[(0, &[22, 3, 1]), (20_000, b"x")]), "...");
    }

    /// What closing tells after these bytes at this offset.
    #[track_caller]
    fn check_close(offset: u32, bytes: &[u8], expect: &str) {
        let mut opening = TcpOpening::default();
        opening.segment(offset, bytes);
        let found = opening.close(Incomplete::TimedOut);
        assert_eq!(describe(found.as_slice()), expect);
        assert!(opening.is_done() && opening.close(Incomplete::Ended).is_none());
        assert!(opening.segment(0, &large_record(NAME)).is_empty());
    }

    #[test]
    fn closing_tells_what_was_being_read() {
        check_close(0, b"", "");
        check_close(0, &large_record(NAME)[..1700], "tls timed-out");
        check_close(1, &large_record(NAME)[1..], "unknown timed-out");
        check_close(0, &[5, 1, 0, 5], "socks timed-out");
        check_close(0, b"PO", "not-recognised");
        check_close(0, b"GET / HTTP/1.1\r\n", "http timed-out");
        check_close(0, b"GET / HTTP/1.1\r\nHost: a.exam", "http timed-out");
        check_close(
            0,
            b"GET / HTTP/1.1\r\nHost: a.example\r\n",
            "http a.example",
        );
        check_close(
            0,
            b"CONNECT a.example:443 HTTP/1.1\r\n",
            "HttpConnect a.example 443",
        );
        check_close(0, b"CONNECT a.example:443 HTTP/1.1\r\n\r\n", "");
        check_close(0, &large_record(NAME), "");
        check_close(20_000, b"x", "unknown timed-out");
    }

    /// xorshift64: the same numbers in every run.
    fn next_random(state: &mut u64) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        usize::try_from(*state >> 32).unwrap()
    }

    /// Cuts bytes into segments that overlap here and there, and shuffles them.
    fn shuffled(bytes: &[u8], state: &mut u64) -> Vec<(usize, Vec<u8>)> {
        let longest = 1 + next_random(state) % 700;
        let mut segments = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let end = bytes.len().min(at + 1 + next_random(state) % longest);
            let start = at - (next_random(state) % 3 / 2 * 20).min(at);
            segments.push((start, bytes[start..end].to_vec()));
            at = end;
        }
        for index in (1..segments.len()).rev() {
            segments.swap(index, next_random(state) % (index + 1));
        }
        segments
    }

    #[test]
    fn segments_in_any_order_say_the_same_as_the_whole() {
        let tls = large_record(NAME);
        let socks = b"\x05\x01\x02\x01\x04user\x06secret\x05\x01\x00\x03\x09a.example\x01\xbb";
        let connect = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n";
        let wholes = [
            tls.clone(),
            records(&large_hello(NAME), 100),
            [&socks[..], connect, &tls].concat(),
            b"GET / HTTP/1.1\r\nUser-Agent: x\r\nHost: a.example\r\n\r\n".to_vec(),
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15;
        for round in 0..4000 {
            let whole = &wholes[round % wholes.len()];
            let segments = shuffled(whole, &mut state);
            let segments: Vec<_> = segments.iter().map(|(at, it)| (*at, &it[..])).collect();
            assert_eq!(feed(&segments), feed(&[(0, whole)]), "round {round}");
        }
    }

    #[test]
    fn nothing_of_the_bytes_shows() {
        let mut opening = TcpOpening::default();
        opening.segment(0, b"GET / HTTP/1.1\r\nAuthorization: secret\r\nX: secret");
        let text = format!("{opening:?}");
        assert!(
            text.contains("Http") && !text.contains("115, 101"),
            "{text}"
        );
    }
}
