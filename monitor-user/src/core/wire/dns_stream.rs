//! DNS messages out of a TCP stream: a length of two bytes before each, RFC 1035 §4.2.2.
//!
//! In: segments of one direction of a connection, in any order. Out: whole messages, as bytes for
//! [`super::dns::parse`].

use super::stream::Stream;

/// A length and the longest message that it can announce.
const WINDOW_BYTES: usize = 2 + 65_535;

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
