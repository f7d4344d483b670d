//! Puts the records of several rings into one order of time.
//!
//! In: records as the rings yield them. Out: the same records, oldest first. A record is held
//! back until nothing older can still arrive, so that the exec of a program comes before its
//! connections although they travel in different rings.

use monitor_common::record::Header;
use zerocopy::FromBytes;

use crate::core::event::BootNs;

/// Records waiting for their turn. Bounded by the rings it is filled from.
#[derive(Default)]
pub struct Order {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

struct Entry {
    time_ns: u64,
    start: usize,
    length: usize,
}

impl Order {
    /// Takes in one record. One without a whole header goes first: decoding will count it.
    pub fn push(&mut self, record: &[u8]) {
        let time_ns = Header::read_from_prefix(record).map_or(0, |(header, _)| header.time_ns);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record);
        self.entries.push(Entry {
            time_ns,
            start,
            length: record.len(),
        });
    }

    /// Hands out all records up to `cutoff`, oldest first; equal times keep their order.
    pub fn release(&mut self, cutoff: BootNs, mut each: impl FnMut(&[u8])) {
        self.entries.sort_by_key(|entry| entry.time_ns);
        let ready = self
            .entries
            .partition_point(|entry| entry.time_ns <= cutoff.0);
        for entry in self.entries.drain(..ready) {
            each(
                self.bytes
                    .get(entry.start..entry.start + entry.length)
                    .unwrap_or_default(),
            );
        }
        self.compact();
    }

    /// Number of records held back.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is held back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn compact(&mut self) {
        let held = std::mem::take(&mut self.bytes);
        if self.entries.is_empty() {
            self.bytes = held; // Keep the allocation.
            self.bytes.clear();
            return;
        }
        for entry in &mut self.entries {
            let start = self.bytes.len();
            let record = held
                .get(entry.start..entry.start + entry.length)
                .unwrap_or_default();
            self.bytes.extend_from_slice(record);
            entry.start = start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn record(time_ns: u64, kind: u32) -> Vec<u8> {
        Header {
            time_ns,
            kind,
            bytes: 16,
        }
        .as_bytes()
        .to_vec()
    }

    #[track_caller]
    fn check(order: &mut Order, cutoff: u64, expect: &[(u64, u32)]) {
        let mut got = Vec::new();
        order.release(BootNs(cutoff), |bytes| {
            let (header, _) = Header::read_from_prefix(bytes).unwrap();
            got.push((header.time_ns, header.kind));
        });
        assert_eq!(got, expect);
    }

    #[test]
    fn records_leave_in_order_and_late_ones_wait() {
        let mut order = Order::default();
        for (time, kind) in [(30, 1), (10, 2), (20, 3), (20, 4)] {
            order.push(&record(time, kind));
        }
        check(&mut order, 20, &[(10, 2), (20, 3), (20, 4)]);
        assert_eq!(order.len(), 1);
        order.push(&record(25, 5));
        check(&mut order, 40, &[(25, 5), (30, 1)]);
        assert!(order.is_empty());
    }
}
