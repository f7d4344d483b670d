//! Bytes of a stream, put in order.
//!
//! In: pieces with their offsets, in any order, overlapping or repeated. Out: the bytes without a
//! hole from where reading stands. Where pieces overlap, the first that came counts.

use std::ops::Range;

/// Pieces that are apart from each other, at most. Segments of 16 bytes that come every second
/// one first would reach it with 32 KiB.
const PIECES_MAX: usize = 1024;

/// A window of a stream. Holds at most `window` bytes, whatever offsets are named.
pub(super) struct Stream {
    window: usize,
    /// Offset in the stream of the first byte of `bytes`.
    base: u64,
    /// The window as far as it is known, holes included.
    bytes: Vec<u8>,
    /// What of `bytes` is known: in order, apart from each other.
    known: Vec<Range<usize>>,
    contradicted: bool,
    left_out: bool,
}

impl Stream {
    /// A stream of which at most `window` bytes ahead of reading are kept.
    pub(super) fn new(window: usize) -> Self {
        Stream {
            window,
            base: 0,
            bytes: Vec::new(),
            known: Vec::new(),
            contradicted: false,
            left_out: false,
        }
    }

    /// Takes in what the stream has at `offset`. What lies before the window was read already.
    pub(super) fn insert(&mut self, offset: u64, piece: &[u8]) {
        let read = usize::try_from(self.base.saturating_sub(offset)).unwrap_or(usize::MAX);
        let Some(piece) = piece.get(read..).filter(|piece| !piece.is_empty()) else {
            return;
        };
        let start = usize::try_from(offset.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let room = self.window.saturating_sub(start);
        self.left_out |= piece.len() > room;
        let piece = piece.get(..room).unwrap_or(piece);
        if !piece.is_empty() {
            self.insert_known(start, piece);
        }
    }

    /// The bytes without a hole from where reading stands.
    pub(super) fn ready(&self) -> &[u8] {
        let ready = self.known.first().filter(|known| known.start == 0);
        let bytes = ready.and_then(|known| self.bytes.get(known.clone()));
        bytes.unwrap_or_default()
    }

    /// Offset behind the last byte that is ready.
    pub(super) fn end(&self) -> u64 {
        self.base.saturating_add(self.ready().len() as u64)
    }

    /// Moves reading on by `count` of the ready bytes, and forgets them.
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.ready().len());
        if count == 0 {
            return;
        }
        self.bytes.drain(..count);
        self.base = self.base.saturating_add(count as u64);
        for known in &mut self.known {
            *known = known.start.saturating_sub(count)..known.end.saturating_sub(count);
        }
        self.known.retain(|known| !known.is_empty());
    }

    /// Some piece had other bytes than an earlier one at the same place.
    pub(super) fn is_contradicted(&self) -> bool {
        self.contradicted
    }

    /// Some bytes did not fit into the window, or were in too many pieces.
    pub(super) fn has_left_out(&self) -> bool {
        self.left_out
    }

    /// Takes in a piece that lies within the window.
    fn insert_known(&mut self, start: usize, piece: &[u8]) {
        let end = start + piece.len();
        // Those that the piece touches or overlaps.
        let first = self.known.partition_point(|known| known.end < start);
        let behind = self.known.partition_point(|known| known.start <= end);
        if first == behind && self.known.len() == PIECES_MAX {
            self.left_out = true;
            return;
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        let mut merged = start..end;
        let mut at = start;
        for known in self.known.get(first..behind).unwrap_or_default() {
            copy(&mut self.bytes, piece, start, at..known.start);
            let overlap = at.max(known.start)..end.min(known.end);
            if !overlap.is_empty() {
                let same = self.bytes.get(overlap.clone())
                    == piece.get(overlap.start - start..overlap.end - start);
                self.contradicted |= !same;
            }
            at = at.max(known.end);
            merged = merged.start.min(known.start)..merged.end.max(known.end);
        }
        copy(&mut self.bytes, piece, start, at..end);
        self.known.splice(first..behind, [merged]);
    }
}

/// Copies the part `range` of a piece that starts at `start`; nothing if it is empty.
fn copy(bytes: &mut [u8], piece: &[u8], start: usize, range: Range<usize>) {
    if range.is_empty() {
        return;
    }
    let from = piece.get(range.start - start..range.end - start);
    if let (Some(to), Some(from)) = (bytes.get_mut(range), from) {
        to.copy_from_slice(from);
    }
}

/// Says how much there is, not what.
impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("base", &self.base)
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inserts the pieces, and tells what is ready, with `!` if contradicted, `-` if left out.
    #[track_caller]
    fn check(window: usize, pieces: &[(u64, &str)], expect: &str) {
        let mut stream = Stream::new(window);
        for (offset, piece) in pieces {
            stream.insert(*offset, piece.as_bytes());
        }
        let mut text = String::from_utf8(stream.ready().to_vec()).unwrap();
        if stream.is_contradicted() {
            text.push('!');
        }
        if stream.has_left_out() {
            text.push('-');
        }
        assert_eq!(text, expect);
    }

    #[test]
    fn pieces_come_in_any_order() {
        check(9, &[(0, "abc"), (3, "def")], "abcdef");
        check(9, &[(3, "def"), (0, "abc")], "abcdef");
        check(
            9,
            &[(6, "g"), (2, "c"), (4, "e"), (0, "ab"), (5, "f")],
            "abc",
        );
        check(9, &[(2, "c"), (4, "e"), (0, "ab"), (3, "d")], "abcde");
        check(9, &[(1, "b")], "");
        check(9, &[], "");
        check(9, &[(0, ""), (5, "")], "");
    }

    #[test]
    fn the_first_bytes_count() {
        check(9, &[(0, "abc"), (0, "abc"), (1, "bcd")], "abcd");
        check(9, &[(0, "abc"), (1, "BCd")], "abcd!");
        check(9, &[(2, "c"), (0, "abCd")], "abcd!");
        check(9, &[(1, "b"), (3, "d"), (5, "f"), (0, "aBcdef")], "abcdef!");
        check(
            9,
            &[(1, "b"), (3, "d"), (5, "f"), (0, "abcdefg")],
            "abcdefg",
        );
    }

    #[test]
    fn the_window_is_a_bound() {
        check(4, &[(0, "abcdef")], "abcd-");
        check(4, &[(4, "e")], "-");
        check(4, &[(u64::MAX, "e"), (0, "ab")], "ab-");
        check(4, &[((1 << 62) - 1, "ef"), (0, "abcd")], "abcd-");
        let mut stream = Stream::new(4);
        stream.insert(3, b"d");
        assert!(stream.bytes.capacity() <= 8);
    }

    #[test]
    fn the_window_moves_as_bytes_are_read() {
        let mut stream = Stream::new(4);
        stream.insert(0, b"abc");
        stream.insert(5, b"f");
        stream.consume(2);
        stream.insert(1, b"xxd");
        assert_eq!(stream.ready(), b"cd");
        assert!(stream.is_contradicted() && stream.has_left_out());
        stream.consume(9);
        assert_eq!((stream.ready(), stream.base), (&[][..], 4));
        stream.insert(4, b"ef");
        assert_eq!(stream.ready(), b"ef");
    }

    #[test]
    fn pieces_are_bounded() {
        let mut stream = Stream::new(1 << 14);
        for index in 1..=PIECES_MAX as u64 + 1 {
            stream.insert(index * 2, b"x");
        }
        assert_eq!(stream.known.len(), PIECES_MAX);
        assert!(stream.has_left_out());
        stream.insert(0, &[b'x'; 1 << 14]);
        assert_eq!(stream.ready().len(), 1 << 14);
        assert!(!stream.is_contradicted());
    }
}
