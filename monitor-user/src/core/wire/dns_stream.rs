//! DNS messages out of a TCP stream: a length of two bytes before each, RFC 1035 §4.2.2.
//!
//! In: segments of one direction of a connection, in any order. Out: whole messages, as bytes for
//! [`super::dns::parse`].

use super::stream::Stream;

/// Bytes taken in before whole messages are taken out.
const PART_BYTES: usize = 16 << 10;

/// A message that is not whole yet, with its length, and a part behind it.
const WINDOW_BYTES: usize = 2 + 65_535 + PART_BYTES;

/// Messages taken out of one segment. Clients that send several at once send a few.
const MESSAGES_MAX: usize = 256;

/// Shortest message that can be one: a header.
const MESSAGE_BYTES_MIN: usize = 12;

/// One direction of a DNS connection. Holds at most [`WINDOW_BYTES`] of it.
#[derive(Debug)]
pub struct DnsStream {
    stream: Stream,
    /// A segment had more than [`MESSAGES_MAX`].
    crowded: bool,
}

impl Default for DnsStream {
    fn default() -> Self {
        DnsStream {
            stream: Stream::new(WINDOW_BYTES),
            crowded: false,
        }
    }
}

impl DnsStream {
    /// Takes a segment that begins `offset` bytes behind the first payload byte of its direction,
    /// and gives the messages that it completes, in order.
    ///
    /// Where segments overlap, the first that came counts. What is shorter than a header is left
    /// out.
    pub fn segment(&mut self, offset: u32, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let offsets = (u64::from(offset)..).step_by(PART_BYTES);
        for (offset, part) in offsets.zip(bytes.chunks(PART_BYTES)) {
            self.stream.insert(offset, part);
            self.take_messages(&mut messages);
        }
        messages
    }

    fn take_messages(&mut self, messages: &mut Vec<Vec<u8>>) {
        while let Some((length, rest)) = self.stream.ready().split_first_chunk() {
            let size = usize::from(u16::from_be_bytes(*length));
            let Some(message) = rest.get(..size) else {
                break;
            };
            if message.len() >= MESSAGE_BYTES_MIN {
                if messages.len() == MESSAGES_MAX {
                    self.crowded = true;
                    return;
                }
                messages.push(message.to_vec());
            }
            self.stream.consume(length.len() + size);
        }
    }

    /// There are messages that will not come: bytes were seen that lie too far ahead to be kept,
    /// so that those before them are missing, or a segment had too many.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.crowded || self.stream.has_left_out()
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
        let (first, last) = ([1; 12], [2; 100]);
        let sent = [&first[..], b"", b"x", b"too short", &long, &last];
        let bytes: Vec<u8> = sent.iter().flat_map(|it| framed(it)).collect();
        let expect = [&first[..], &long, &last];
        for size in [1, 2, 3, 1448, 16_384, 65_536] {
            assert_eq!(messages(&bytes, size), expect, "{size}");
        }
    }

    #[test]
    fn segments_may_come_in_any_order() {
        let (first, second, third) = ([1; 13], [2; 12], [3; 14]);
        let bytes = [framed(&first), framed(&second)].concat();
        let mut stream = DnsStream::default();
        assert!(stream.segment(15, &bytes[15..]).is_empty());
        assert!(stream.segment(1, &bytes[1..14]).is_empty());
        let both = stream.segment(0, &bytes[..15]);
        assert_eq!(both, [&first[..], &second]);
        // What was read does not come again.
        assert!(stream.segment(0, &bytes).is_empty());
        let end = u32::try_from(bytes.len()).unwrap();
        assert_eq!(stream.segment(end, &framed(&third)), [third]);
    }

    #[test]
    fn what_cannot_be_put_together_is_told() {
        let mut stream = DnsStream::default();
        stream.segment(90_000, b"x");
        assert!(stream.is_lost());
        let mut stream = DnsStream::default();
        stream.segment(0, &[0, 3, 1]);
        stream.segment(2, &[2, 2]);
        assert!(stream.is_contradicted() && !stream.is_lost());
    }

    #[test]
    fn messages_of_a_segment_are_bounded() {
        let bytes = framed(&[7; 12]).repeat(MESSAGES_MAX);
        let mut stream = DnsStream::default();
        assert_eq!(stream.segment(0, &bytes).len(), MESSAGES_MAX);
        assert!(!stream.is_lost());
        let bytes = framed(&[7; 12]).repeat(MESSAGES_MAX + 1);
        let mut stream = DnsStream::default();
        assert_eq!(stream.segment(0, &bytes).len(), MESSAGES_MAX);
        assert!(stream.is_lost());
    }

    #[test]
    fn memory_follows_what_is_sent() {
        let mut stream = DnsStream::default();
        assert!(stream.segment(0, &[0xff, 0xff, 1]).is_empty());
        assert!(stream.segment(u32::MAX, &[0xff; 100]).is_empty());
        assert_eq!(stream.stream.ready(), [0xff, 0xff, 1]);
    }
}
