//! DNS messages out of a TCP stream: a length of two bytes before each, RFC 1035 §4.2.2.
//!
//! In: segments of one direction of a connection, in any order. Out: whole messages, as bytes for
//! [`super::dns::parse`].

use super::stream::Stream;

/// A message that is not whole yet, with its length, and the longest segment.
const WINDOW_BYTES: usize = 2 + 65_535 + 65_536;

/// One direction of a DNS connection. Holds at most [`WINDOW_BYTES`] of it.
#[derive(Debug)]
pub struct DnsStream {
    stream: Stream,
}

impl Default for DnsStream {
    fn default() -> Self {
        DnsStream {
            stream: Stream::new(WINDOW_BYTES),
        }
    }
}

impl DnsStream {
    /// Takes a segment that begins `offset` bytes behind the first payload byte of its direction,
    /// and gives the messages that it completes, in order.
    ///
    /// Where segments overlap, the first that came counts. Empty messages are left out.
    pub fn segment(&mut self, offset: u32, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.stream.insert(offset.into(), bytes);
        let mut messages = Vec::new();
        while let Some((length, rest)) = self.stream.ready().split_first_chunk() {
            let size = usize::from(u16::from_be_bytes(*length));
            let Some(message) = rest.get(..size) else {
                break;
            };
            if !message.is_empty() {
                messages.push(message.to_vec());
            }
            self.stream.consume(length.len() + size);
        }
        messages
    }

    /// Bytes were seen that lie too far ahead to be kept: what is missing before them will not
    /// come, and no more messages will.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.stream.has_left_out()
    }

    /// A segment had other bytes than an earlier one at the same place.
    #[must_use]
    pub fn is_contradicted(&self) -> bool {
        self.stream.is_contradicted()
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may fail by a panic")]
mod tests {
    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let size = u16::try_from(message.len()).unwrap();
        [&size.to_be_bytes(), message].concat()
    }

    /// Feeds the stream in segments of `size` bytes, and gives what comes out.
    fn messages(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
        let mut stream = DnsStream::default();
        let segments = bytes.chunks(size).enumerate();
        let feed = segments.map(|(index, segment)| {
            let offset = u32::try_from(index * size).unwrap();
            stream.segment(offset, segment)
        });
        let messages = feed.flatten().collect();
        assert!(!stream.is_lost() && !stream.is_contradicted());
        messages
    }

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let long = vec![7; 65_535];
        let sent = [&b"ab"[..], b"", b"c", &long, b"d"];
        let bytes: Vec<u8> = sent.iter().flat_map(|it| framed(it)).collect();
        let expect = [&b"ab"[..], b"c", &long, b"d"];
        for size in [1, 2, 3, 1448, 16_384, 65_536] {
            assert_eq!(messages(&bytes, size), expect, "{size}");
        }
    }

    #[test]
    fn segments_may_come_in_any_order() {
        let bytes = [framed(b"abc"), framed(b"de")].concat();
        let mut stream = DnsStream::default();
        assert!(stream.segment(5, &bytes[5..]).is_empty());
        assert!(stream.segment(1, &bytes[1..4]).is_empty());
        let both = stream.segment(0, &bytes[..5]);
        assert_eq!(both, [&b"abc"[..], b"de"]);
        // What was read does not come again.
        assert!(stream.segment(0, &bytes).is_empty());
        assert_eq!(stream.segment(9, &framed(b"f")), [b"f"]);
    }

    #[test]
    fn what_cannot_be_put_together_is_told() {
        let mut stream = DnsStream::default();
        stream.segment(140_000, b"x");
        assert!(stream.is_lost());
        let mut stream = DnsStream::default();
        stream.segment(0, &[0, 3, 1]);
        stream.segment(2, &[2, 2]);
        assert!(stream.is_contradicted() && !stream.is_lost());
    }

    #[test]
    fn memory_follows_what_is_sent() {
        let mut stream = DnsStream::default();
        assert!(stream.segment(0, &[0xff, 0xff, 1]).is_empty());
        assert!(stream.segment(u32::MAX, &[0xff; 100]).is_empty());
        assert_eq!(stream.stream.ready(), [0xff, 0xff, 1]);
    }
}
