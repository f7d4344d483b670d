//! What the kernel counted without a record each: the flow map, read as differences.
//!
//! In: the kernel's flow map. Out: one `FlowCounted` record per flow that changed. Entries of
//! processes that are gone are deleted after they were read, never before; so are, where the map
//! becomes full, those that nothing was added to for a while and no socket is open of.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use monitor_common::flow::{FlowCounters, FlowKey, ProcessKey};
use monitor_common::limits::FLOWS_MAX;
use monitor_common::record::{
    FlowCounted, Header, KIND_FLOW_COUNTED, KIND_PROCESS_EXITED, ProcessExited,
};
use zerocopy::{FromBytes, IntoBytes};

use super::bpf::Kernel;
use super::bpf::handover::Handover;
use crate::core::event::BootNs;
use crate::host::clock;

/// Least time between two drains: how stale an aggregated count may be on a quiet host.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// A drain may take at most this share of the time: the interval grows with its duration.
const INTERVAL_PER_DURATION: u32 = 100;
/// How long the entry of a process that is gone is kept for late additions of its sockets.
const LINGER: Duration = Duration::from_secs(5);

/// From so many flows on, idle ones of living processes are taken out. The rest of the room is
/// for what comes until they are idle.
const CROWDED: usize = FLOWS_MAX as usize / 4 * 3;
/// How long a flow is unchanged that counts as idle: an answer comes sooner.
const IDLE: Duration = Duration::from_secs(60);

/// Flows whose changes are noted for the next monitor before they are told: what is lost at most
/// of a batch, if this one is killed in the middle of it, is then known.
const BATCH: usize = 256;

/// What was read of each flow before.
#[derive(Default)]
pub struct Drain {
    seen: HashMap<FlowKey, Seen>,
    gone: HashMap<(u64, u32), BootNs>,
    next: BootNs,
    evicted: u64,
}

/// What was told of a flow, and when it was found changed.
struct Seen {
    value: FlowCounters,
    changed: BootNs,
}

impl Seen {
    /// Whether nothing will be added to the flow: it is unchanged for a while, and as many
    /// sockets as connected have ended. Who contacts the remote again is a new flow.
    fn is_over(&self, now: BootNs) -> bool {
        let open = self.value.connects.saturating_sub(self.value.closed);
        open == 0 && now.since(self.changed) >= IDLE
    }
}

impl Drain {
    /// Goes on where the monitor before left off. `flows` were in the map before `alive`, the
    /// processes that run now, were listed: those of others will not be added to.
    pub fn resume(
        &mut self,
        kernel: &mut Kernel,
        flows: &HashSet<FlowKey>,
        alive: &HashSet<(u64, u32)>,
        now: BootNs,
    ) {
        for key in flows {
            let process = (key.process.start_ns, key.process.tgid);
            if !alive.contains(&process) {
                self.gone.insert(process, now);
            }
        }
        for (key, value) in kernel.handover.told() {
            if flows.contains(&key) {
                let changed = now;
                self.seen.insert(key, Seen { value, changed });
            } else {
                kernel.handover.forget(&key);
            }
        }
    }

    /// Notes the end of a process if `record` tells one.
    pub fn notice(&mut self, record: &[u8]) {
        let Ok((header, _)) = Header::read_from_prefix(record) else {
            return;
        };
        if header.kind != KIND_PROCESS_EXITED {
            return;
        }
        if let Ok((exited, _)) = ProcessExited::read_from_prefix(record) {
            let ProcessKey { start_ns, tgid, .. } = exited.process;
            self.gone.insert((start_ns, tgid), BootNs(header.time_ns));
        }
    }

    /// Whether the next drain is due.
    #[must_use]
    pub fn due(&self, now: BootNs) -> bool {
        now >= self.next
    }

    /// Reads the whole flow map and hands out what changed since the last time.
    pub fn run(&mut self, kernel: &mut Kernel, now: BootNs, mut each: impl FnMut(&[u8])) {
        let mut finished = Vec::new();
        let mut changed = Vec::new();
        let crowded = self.seen.len() >= CROWDED;
        let (flows, handover) = kernel.flows_and_handover();
        for entry in flows.iter() {
            let Ok((key, value)) = entry else { continue };
            let (Ok(key), Ok(value)) = (
                FlowKey::read_from_bytes(&key),
                FlowCounters::read_from_bytes(&value),
            ) else {
                continue;
            };
            let seen = self.seen.get(&key).filter(|seen| seen.value == value);
            let is_idle = seen.is_some_and(|seen| crowded && seen.is_over(now));
            if seen.is_none() {
                changed.push((key, value));
            }
            if changed.len() >= BATCH {
                self.tell(&mut changed, handover, now, &mut each);
            }
            let process = (key.process.start_ns, key.process.tgid);
            let gone = self
                .gone
                .get(&process)
                .is_some_and(|end| now.since(*end) > LINGER);
            if gone && now.since(BootNs(value.last_seen_ns)) > LINGER {
                finished.push(key);
            } else if is_idle {
                self.evicted += 1;
                finished.push(key);
            }
        }
        self.tell(&mut changed, handover, now, &mut each);
        for key in finished {
            if let Ok(bytes) = key.as_bytes().try_into() {
                let _: Result<(), _> = kernel.flows.remove(bytes); // Gone already: as wanted.
            }
            kernel.handover.forget(&key);
            self.seen.remove(&key);
        }
        // A process leaves the list when its entries had two chances to be deleted.
        self.gone
            .retain(|_, end| now.since(*end) <= LINGER * 2 + INTERVAL_MIN);
        let took = clock::now().since(now);
        let pause = INTERVAL_MIN.max(took * INTERVAL_PER_DURATION);
        let pause_ns = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        self.next = BootNs(now.0.saturating_add(pause_ns));
    }

    /// Number of flows in the map at the last drain.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.seen.len()
    }

    /// Flows of living processes that were taken out of the map for being idle.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Hands out what changed of these flows, after it is noted for the next monitor.
    fn tell(
        &mut self,
        changed: &mut Vec<(FlowKey, FlowCounters)>,
        handover: &mut Handover,
        now: BootNs,
        each: &mut impl FnMut(&[u8]),
    ) {
        let before = |flow| self.seen.get(flow).map(|it| it.value).unwrap_or_default();
        let deltas: Vec<_> = changed
            .iter()
            .map(|(flow, value)| difference(&before(flow), value))
            .collect();
        handover.taking(deltas.iter().map(without_record).sum(), changed);
        for ((flow, value), delta) in changed.drain(..).zip(deltas) {
            let header = Header {
                time_ns: now.0,
                kind: KIND_FLOW_COUNTED,
                bytes: u32::try_from(size_of::<FlowCounted>()).unwrap_or_default(),
            };
            let record = FlowCounted {
                header,
                flow,
                delta,
            };
            let changed = now;
            self.seen.insert(flow, Seen { value, changed });
            each(record.as_bytes());
        }
    }
}

/// Calls of which the flow map is the only witness.
fn without_record(delta: &FlowCounters) -> u64 {
    delta.connects_unreported + delta.datagrams
}

fn difference(before: &FlowCounters, after: &FlowCounters) -> FlowCounters {
    FlowCounters {
        connects: after.connects.saturating_sub(before.connects),
        datagrams: after.datagrams.saturating_sub(before.datagrams),
        connects_unreported: after
            .connects_unreported
            .saturating_sub(before.connects_unreported),
        established: after.established.saturating_sub(before.established),
        failed: after.failed.saturating_sub(before.failed),
        closed: after.closed.saturating_sub(before.closed),
        bytes_sent: after.bytes_sent.saturating_sub(before.bytes_sent),
        bytes_received: after.bytes_received.saturating_sub(before.bytes_received),
        last_seen_ns: after.last_seen_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_over(connects: u64, closed: u64, unchanged_s: u64, expect: bool) {
        let value = FlowCounters {
            connects,
            closed,
            datagrams: 7,
            ..FlowCounters::default()
        };
        let second = |second: u64| BootNs(second * 1_000_000_000);
        let changed = second(100);
        let seen = Seen { value, changed };
        assert_eq!(seen.is_over(second(100 + unchanged_s)), expect);
    }

    #[test]
    fn a_flow_is_over_when_nothing_is_open_and_nothing_happens() {
        check_over(0, 0, 60, true);
        check_over(3, 3, 60, true);
        check_over(3, 3, 59, false);
        check_over(3, 2, 1000, false);
    }
}
