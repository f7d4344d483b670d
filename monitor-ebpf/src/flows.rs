//! The flow map: who talks to whom, how often, and whether that is new.
//!
//! In: a call or a packet of a process to a remote. Out: counts in the flow map, and a
//! [`FlowOpened`] record when the contact is new or wanted. Every way through here books exactly
//! one outcome for the hook, so the books balance.

use monitor_common::{
    counter::{
        AGGREGATED, DROPPED_FLOWS_FULL, DROPPED_OVER_BUDGET, GAP_FLOWS_FULL, HOOK_CONNECT4,
        HOOK_CONNECT6,
    },
    flow::{FlowCounters, FlowKey, ProcessKey},
    record::{FLOW_FIRST, FlowOpened},
};

use crate::{
    budget, emit,
    kernel::{self, Setting},
    maps::{CONTROL, DETAIL, FLOWS, watched},
};

/// 1 if every flow of every process is wanted as a record. Written by the loader.
#[unsafe(no_mangle)]
static REPORT_ALL: Setting = Setting::new(0);

/// Whether this is the first time that the image goes to the remote.
#[derive(Clone, Copy, PartialEq)]
enum First {
    Yes,
    No,
    /// The process has no budget left for new flows.
    OverBudget,
    /// The flow map is full, so nobody knows.
    Unknown,
}

/// Whether a protocol has ports in its first four bytes: TCP, UDP, DCCP, SCTP, UDP-Lite, MPTCP.
#[inline(always)]
pub fn has_ports(protocol: u16) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132 | 136 | 262)
}

/// Counts one call or packet, and reports it if it is new or wanted. `record` is complete but for
/// the flag that says "first". Returns whether a record was delivered.
#[inline(always)]
pub fn seen(record: &mut FlowOpened) -> bool {
    let key = FlowKey {
        process: record.process,
        remote: record.remote,
    };
    let connect = record.hook == HOOK_CONNECT4 || record.hook == HOOK_CONNECT6;
    let first = enter(&key, connect, record.header.time_ns);
    let delivered = match first {
        First::Yes | First::Unknown => {
            if first == First::Yes {
                record.flags |= FLOW_FIRST;
            }
            // If the map and the ring are full, nothing else has counted it: say both.
            let otherwise = if first == First::Yes {
                None
            } else {
                Some(DROPPED_FLOWS_FULL)
            };
            // First sightings travel with the process records: repeats cannot crowd them out.
            emit::record_or(&CONTROL, record.hook, &*record, otherwise)
        }
        First::No if connect && is_wanted(&record.process) => {
            emit::record(&DETAIL, record.hook, &*record)
        }
        // A datagram beyond the first is no new contact, and a process can send a million a second.
        First::No => {
            emit::outcome(record.hook, AGGREGATED);
            false
        }
        First::OverBudget => {
            emit::outcome(record.hook, DROPPED_OVER_BUDGET);
            false
        }
    };
    if connect && !delivered {
        add_unreported(&key);
    }
    delivered
}

/// Whether every flow of a process is wanted as a record.
#[inline(always)]
pub fn is_wanted(process: &ProcessKey) -> bool {
    REPORT_ALL.load() != 0 || watched(process)
}

/// Counts the call in the flow map.
#[inline(always)]
fn enter(key: &FlowKey, connect: bool, now: u64) -> First {
    if add_call(key, connect, now) {
        return First::No;
    }
    if !budget::take(&key.process, now) {
        return First::OverBudget;
    }
    let fresh = FlowCounters {
        connects: u64::from(connect),
        datagrams: u64::from(!connect),
        last_seen_ns: now,
        ..FlowCounters::default()
    };
    const NO_EXIST: u64 = aya_ebpf::bindings::BPF_NOEXIST as u64;
    if FLOWS.insert(key, &fresh, NO_EXIST).is_ok() {
        return First::Yes;
    }
    // Either another CPU was first, or the map is full.
    if add_call(key, connect, now) {
        return First::No;
    }
    emit::count(GAP_FLOWS_FULL);
    First::Unknown
}

/// Adds a call to a flow that is there. Returns whether it is.
#[inline(always)]
fn add_call(key: &FlowKey, connect: bool, now: u64) -> bool {
    let Some(flow) = FLOWS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a map value; other CPUs write it too, hence the atomic additions.
    unsafe {
        if connect {
            kernel::add(&raw mut (*flow).connects, 1);
        } else {
            kernel::add(&raw mut (*flow).datagrams, 1);
        }
        (*flow).last_seen_ns = now;
    }
    true
}

/// Notes that a connect of this flow has no record of its own.
#[inline(always)]
fn add_unreported(key: &FlowKey) {
    if let Some(flow) = FLOWS.get_ptr_mut(key) {
        // SAFETY: as in `add_call`.
        unsafe { kernel::add(&raw mut (*flow).connects_unreported, 1) };
    }
}

/// Adds payload bytes to a flow. Returns whether the flow is there.
#[inline(always)]
pub fn add_bytes(key: &FlowKey, sent: u64, received: u64) -> bool {
    let Some(flow) = FLOWS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: as in `add_call`.
    unsafe {
        kernel::add(&raw mut (*flow).bytes_sent, sent);
        kernel::add(&raw mut (*flow).bytes_received, received);
    }
    true
}

/// Adds how a flow ended.
#[inline(always)]
pub fn add_end(key: &FlowKey, established: bool, failed: bool, sent: u64, received: u64) {
    let Some(flow) = FLOWS.get_ptr_mut(key) else {
        return; // Over budget when it opened, or drained since its process ended.
    };
    // SAFETY: as in `add_call`.
    unsafe {
        kernel::add(&raw mut (*flow).established, u64::from(established));
        kernel::add(&raw mut (*flow).failed, u64::from(failed));
        kernel::add(&raw mut (*flow).closed, 1);
        kernel::add(&raw mut (*flow).bytes_sent, sent);
        kernel::add(&raw mut (*flow).bytes_received, received);
    }
}
