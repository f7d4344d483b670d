//! What the kernel side costs, and how full its tables and rings are.
//!
//! In: the loaded programs and maps. Out: numbers for the metrics; no record depends on them.

use std::time::Duration;

use aya::maps::{HashMap, MapData};
use monitor_common::limits::{
    BUDGETS_MAX, CONTROL_RING_BYTES, DETAIL_RING_BYTES, PAYLOAD_RING_BYTES, WATCHED_MAX,
};

use super::Kernel;
use crate::host::HostRoot;
use crate::source::order::{RINGS, Ring};

/// The rings: name, and bytes that each holds. In the order of [`Ring`].
const CAPACITIES: [(&str, u32); RINGS] = [
    ("control", CONTROL_RING_BYTES),
    ("detail", DETAIL_RING_BYTES),
    ("payload", PAYLOAD_RING_BYTES),
];
/// What the kernel puts before each record of a ring (`BPF_RINGBUF_HDR_SZ`), and what it rounds
/// both up to.
const RECORD_HEAD_BYTES: usize = 8;

/// What the kernel side says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The kernel measures how long programs run.
    pub measured: bool,
    /// Each program that is loaded.
    pub programs: Vec<ProgramFigures>,
    /// Tables: name, entries, and the most it can hold.
    pub maps: Vec<(&'static str, u64, u64)>,
    /// Rings: name, the most bytes that were in it when it was emptied since the last figures, and
    /// the most it can hold.
    pub rings: Vec<(&'static str, u64, u64)>,
}

/// What one program cost since it was loaded, while the kernel measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramFigures {
    /// Its name.
    pub name: &'static str,
    /// Runs.
    pub runs: u64,
    /// Time that they took together.
    pub run_time: Duration,
}

/// The most that each ring held when it was emptied.
///
/// The kernel tells the positions of a ring to programs and to who maps its pages only; but the
/// reader takes all there is, so what it took is what was there, and what came meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill([usize; RINGS]);

impl Fill {
    /// So many bytes were taken out of a ring, until it was empty.
    pub fn note(&mut self, ring: Ring, taken: usize) {
        let most = &mut self.0[ring as usize];
        *most = taken.max(*most);
    }

    /// Name, bytes and capacity of each ring; begins anew.
    #[must_use]
    pub fn take(&mut self) -> Vec<(&'static str, u64, u64)> {
        let most = std::mem::take(&mut self.0);
        let rings = CAPACITIES.into_iter().zip(most);
        rings
            .map(|((name, capacity), most)| {
                let capacity = u64::from(capacity);
                // With what came while it was emptied it may be more than there is room for.
                (name, capacity.min(most as u64), capacity)
            })
            .collect()
    }
}

/// Bytes that a record of this length takes of its ring.
#[must_use]
pub fn room(length: usize) -> usize {
    (RECORD_HEAD_BYTES + length).next_multiple_of(RECORD_HEAD_BYTES)
}

impl Kernel {
    /// Asks the kernel. Counting entries takes a call for each: once a minute is often enough.
    #[must_use]
    pub fn figures(&mut self, host: &HostRoot) -> Figures {
        let programs = super::programs().filter_map(|(name, ..)| {
            let (object_name, _) = self.in_object(name)?;
            let info = self.ebpf.program(object_name)?.info().ok()?;
            Some(ProgramFigures {
                name,
                runs: info.run_count(),
                run_time: info.run_time(),
            })
        });
        let mut maps = vec![(
            "watched",
            self.watched.keys().count() as u64,
            u64::from(WATCHED_MAX),
        )];
        if let Some(entries) = self.budgets() {
            maps.push(("budgets", entries, u64::from(BUDGETS_MAX)));
        }
        Figures {
            measured: host.measures_programs(),
            programs: programs.collect(),
            maps,
            rings: self.fill.take(),
        }
    }

    fn budgets(&self) -> Option<u64> {
        let map = self.ebpf.map("BUDGETS")?;
        let map: HashMap<&MapData, [u8; 16], [u8; 32]> = map.try_into().ok()?;
        Some(map.keys().count() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fill_of_a_ring_is_the_most_since_it_was_told() {
        let mut fill = Fill::default();
        fill.note(Ring::Detail, room(1) + room(8));
        fill.note(Ring::Detail, 8);
        fill.note(Ring::Payload, usize::MAX);
        let rings = [
            ("control", 0, 4 << 20),
            ("detail", 32, 2 << 20),
            ("payload", 1 << 20, 1 << 20),
        ];
        assert_eq!(fill.take(), rings);
        assert!(fill.take().iter().all(|(_, most, _)| *most == 0));
    }
}
