//! Bytes like those of a corpus, and yet not: what a fuzzer does, without its eyes.
//!
//! In: a corpus and a seed. Out: inputs, the same ones for the same seed.

/// Longest input: a datagram or a segment.
pub const INPUT_BYTES_MAX: usize = 64 << 10;

/// Values at which parsers go wrong.
const EDGES: [u8; 8] = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff];

/// xorshift64.
pub struct Random(u64);

impl Random {
    /// The numbers that follow from a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed | 1)
    }

    /// A number below `limit`, which is above zero.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 32).unwrap_or_default() % limit
    }

    fn byte(&mut self) -> u8 {
        self.below(256).to_le_bytes()[0]
    }
}

/// The next input.
pub fn next(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(6) {
        mutate(random, &mut bytes, corpus);
    }
    if random.below(64) == 0 && !bytes.is_empty() {
        bytes = bytes.repeat(INPUT_BYTES_MAX / bytes.len() + 1);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = random.below(bytes.len() + 1);
    let end = (at + 1 + random.below(8)).min(bytes.len());
    match (random.below(8), bytes.get_mut(at)) {
        (0, Some(byte)) => *byte = random.byte(),
        (1, Some(byte)) => *byte ^= 1 << random.below(8),
        (2, Some(byte)) => *byte = EDGES[random.below(EDGES.len())],
        (3, Some(byte)) => *byte = byte.wrapping_add(if random.below(2) == 0 { 1 } else { 0xff }),
        (4, Some(_)) => drop(bytes.drain(at..end)),
        (5, Some(_)) => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        (6, _) => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        (7, _) => bytes.truncate(at),
        _ => bytes.push(random.byte()),
    }
}
