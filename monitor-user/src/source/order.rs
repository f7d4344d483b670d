//! Puts the records of several rings into one order of time.
//!
//! In: records as the rings yield them. Out: the same records, oldest first. A record is held
//! back until nothing older can still arrive, so that the exec of a program comes before its
//! connections although they travel in different rings. Those of one ring stay in its order, which
//! is that of cause and effect: the clock that stamps them may go back a little from one CPU to the
//! next (kernel/time/timekeeping.c `ktime_get_mono_fast_ns`).

use monitor_common::record::{Header, is_booked};
use zerocopy::FromBytes;

use crate::core::event::BootNs;

/// Records waiting for their turn. Bounded by the rings it is filled from.
#[derive(Default)]
pub struct Order {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// By ring: the latest time of its records so far.
    latest: [u64; RINGS],
    released: u64,
}

/// Which ring a record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Processes, and first sightings of flows.
    Control,
    /// Repeats, and ends of flows.
    Detail,
    /// Samples.
    Payload,
}

/// Number of rings.
pub const RINGS: usize = 3;

struct Entry {
    /// Its place: the time of the record, or of one before it in its ring, or 0 to go first.
    time_ns: u64,
    /// A hook has booked it as delivered.
    booked: bool,
    start: usize,
    length: usize,
}

impl Order {
    /// Takes in one record of a ring. One without a whole header goes with the one before it:
    /// decoding will count it.
    pub fn push(&mut self, ring: Ring, record: &[u8]) {
        let header = Header::read_from_prefix(record).map(|(header, _)| header);
        let header = header.unwrap_or_default();
        let latest = &mut self.latest[ring as usize];
        *latest = header.time_ns.max(*latest);
        let place = *latest;
        self.append(place, is_booked(header.kind), record);
    }

    /// Takes in one record that no hook has made.
    pub fn push_found(&mut self, record: &[u8]) {
        let header = Header::read_from_prefix(record).map(|(header, _)| header);
        self.append(header.unwrap_or_default().time_ns, false, record);
    }

    /// As [`Order::push_found`], before everything that is there.
    pub fn push_first(&mut self, record: &[u8]) {
        self.append(0, false, record);
    }

    fn append(&mut self, time_ns: u64, booked: bool, record: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record);
        self.entries.push(Entry {
            time_ns,
            booked,
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
            self.released += u64::from(entry.booked);
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

    /// Records that a hook has booked and that were handed out so far.
    #[must_use]
    pub fn released(&self) -> u64 {
        self.released
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
    use monitor_common::record::{KIND_FLOW_OPENED, KIND_OVER_BUDGET, KIND_PROCESS_EXECUTED};
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
        let rings = [Ring::Detail, Ring::Control, Ring::Control, Ring::Payload];
        for (ring, (time, kind)) in rings.into_iter().zip([(30, 1), (10, 2), (20, 3), (20, 4)]) {
            order.push(ring, &record(time, kind));
        }
        check(&mut order, 20, &[(10, 2), (20, 3), (20, 4)]);
        assert_eq!(order.len(), 1);
        order.push(Ring::Control, &record(25, 5));
        check(&mut order, 40, &[(25, 5), (30, 1)]);
        assert!(order.is_empty());
    }

    #[test]
    fn records_of_one_ring_stay_in_its_order() {
        let mut order = Order::default();
        for (ring, time, kind) in [
            (Ring::Control, 20, 1),
            (Ring::Control, 19, 2),
            (Ring::Detail, 15, 3),
            (Ring::Control, 21, 4),
        ] {
            order.push(ring, &record(time, kind));
        }
        check(&mut order, 19, &[(15, 3)]);
        check(&mut order, 21, &[(20, 1), (19, 2), (21, 4)]);
    }

    #[test]
    fn what_was_found_can_go_first_and_is_in_no_books() {
        let mut order = Order::default();
        order.push(Ring::Control, &record(10, KIND_FLOW_OPENED));
        order.push(Ring::Control, &record(11, KIND_OVER_BUDGET));
        order.push_found(&record(12, KIND_FLOW_OPENED));
        order.push_first(&record(13, KIND_PROCESS_EXECUTED));
        let released = [
            (13, KIND_PROCESS_EXECUTED),
            (10, KIND_FLOW_OPENED),
            (11, KIND_OVER_BUDGET),
            (12, KIND_FLOW_OPENED),
        ];
        check(&mut order, 20, &released);
        assert_eq!(order.released(), 1);
    }
}
