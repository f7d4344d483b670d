//! What one monitor leaves for the next in the kernel, so that everything is told once.
//!
//! In: how far this monitor came. Out: the maps `TOLD` (what of each flow was told) and
//! `CHECKPOINT`, which outlive it where the kernel side is pinned, and what the monitor before
//! left there.
//!
//! Records leave their ring when they are taken, but may be told only when the outputs have
//! written them; a kill in between loses them. So the hooks' own count of delivered records is
//! compared with what is known to be told: the difference that is not in the rings any more is
//! what the killed monitor had in its hands. Counts of flows are noted as taken before they are
//! told, so a kill in between loses at most a batch, of which the number of operations is known.

use aya::maps::{Array, HashMap as BpfHashMap, MapData, MapError};
use monitor_common::counter::COUNTERS;
use monitor_common::flow::{FlowCounters, FlowKey};
use monitor_common::resume::Checkpoint;
use zerocopy::{FromBytes, IntoBytes};

use crate::core::event::BootNs;

/// Bytes of the one value of the map `CHECKPOINT`.
pub const CHECKPOINT_BYTES: usize = size_of::<Checkpoint>();

/// How far a monitor came at some time.
pub struct Mark(Checkpoint);

/// The maps, and the last checkpoint.
pub struct Handover {
    told: BpfHashMap<MapData, [u8; 40], [u8; 72]>,
    checkpoints: Array<MapData, [u8; CHECKPOINT_BYTES]>,
    checkpoint: Checkpoint,
    /// There will be a next monitor that can read it.
    kept: bool,
}

impl Handover {
    /// With what the monitor before left, if there was one.
    #[must_use]
    pub fn new(
        told: BpfHashMap<MapData, [u8; 40], [u8; 72]>,
        checkpoints: Array<MapData, [u8; CHECKPOINT_BYTES]>,
        kept: bool,
    ) -> Self {
        let found = checkpoints.get(&0, 0).ok();
        let checkpoint = found.and_then(|bytes| Checkpoint::read_from_bytes(&bytes).ok());
        Handover {
            told,
            checkpoints,
            checkpoint: checkpoint.unwrap_or_default(),
            kept,
        }
    }

    /// How far this monitor came, or else the one before; zero if there was none.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// What of each flow was told.
    #[must_use]
    pub fn told(&self) -> Vec<(FlowKey, FlowCounters)> {
        let entries = self.told.iter().filter_map(Result::ok);
        let decode = |(key, value): ([u8; 40], [u8; 72])| {
            let key = FlowKey::read_from_bytes(&key).ok()?;
            Some((key, FlowCounters::read_from_bytes(&value).ok()?))
        };
        entries.filter_map(decode).collect()
    }

    /// Notes what is about to be told: so many operations, after which the flows are at these
    /// values.
    pub fn taking(&mut self, operations: u64, flows: &[(FlowKey, FlowCounters)]) {
        if !self.kept || flows.is_empty() {
            return;
        }
        self.checkpoint.taken += operations;
        self.save();
        for (key, value) in flows {
            let (Ok(key), Ok(value)) = (key.as_bytes().try_into(), value.as_bytes().try_into())
            else {
                continue; // Their sizes are those of the map.
            };
            let key: [u8; 40] = key;
            let value: [u8; 72] = value;
            if let Err(error) = self.told.insert(key, value, 0) {
                tracing::warn!("a flow may be told twice after a restart: {error}");
            }
        }
    }

    /// Removes a flow that is over.
    pub fn forget(&mut self, key: &FlowKey) {
        if let Ok(key) = key.as_bytes().try_into() {
            let _: Result<(), MapError> = self.told.remove(key); // Not there: as wanted.
        }
    }

    /// How far this monitor came: `settled` records of the rings were taken, and all that was
    /// read of the flow map. `books` are the kernel's counters as they were at `read`.
    #[must_use]
    pub fn mark(&self, settled: u64, books: &[u64; COUNTERS as usize], read: BootNs) -> Mark {
        Mark(Checkpoint {
            time_ns: read.0,
            settled,
            taken: self.checkpoint.taken,
            told: self.checkpoint.taken,
            books: *books,
        })
    }

    /// Notes that everything up to a mark was told, except so many records that still wait.
    pub fn settle(&mut self, mark: &Mark, waiting: u64) {
        let checkpoint = Checkpoint {
            settled: mark.0.settled.saturating_sub(waiting),
            taken: self.checkpoint.taken,
            ..mark.0
        };
        if self.checkpoint != checkpoint {
            self.checkpoint = checkpoint;
            self.save();
        }
    }

    fn save(&mut self) {
        let bytes: Result<[u8; CHECKPOINT_BYTES], _> = self.checkpoint.as_bytes().try_into();
        if let Ok(bytes) = bytes
            && self.kept
            && let Err(error) = self.checkpoints.set(0, bytes, 0)
        {
            tracing::warn!("the next start will not know how far this one came: {error}");
        }
    }
}
