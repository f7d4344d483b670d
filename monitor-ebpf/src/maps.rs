//! Every map of the kernel side: key, value, who writes, who deletes.
//!
//! In: the hooks. Out: the rings, the flow map and the counters that the collector reads.

use aya_ebpf::{
    bindings::bpf_sock,
    btf_maps::SkStorage,
    helpers::generated::bpf_sk_storage_get,
    macros::{btf_map, map},
    maps::{HashMap, PerCpuArray, RingBuf},
};
use monitor_common::{
    counter::COUNTERS as COUNTER_COUNT,
    flow::{FlowCounters, FlowKey, ProcessKey, Remote},
    limits,
    record::{EXEC_PATH_ROOM, ProcessExecuted},
};

/// Process events and first sightings. Written by all hooks, read by the collector.
#[map]
pub static CONTROL: RingBuf = RingBuf::with_byte_size(limits::CONTROL_RING_BYTES, 0);

/// Repeated opens and ends of flows. Written by `connect` and `sock_end`.
#[map]
pub static DETAIL: RingBuf = RingBuf::with_byte_size(limits::DETAIL_RING_BYTES, 0);

/// DNS messages. Written by `dns`.
#[map]
pub static PAYLOAD: RingBuf = RingBuf::with_byte_size(limits::PAYLOAD_RING_BYTES, 0);

/// The books. Index: `monitor_common::counter`. Written by all hooks, never reset.
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_COUNT, 0);

/// Who talks to whom, and how often. Written by `connect` and `sock_end`; the collector deletes
/// the entries of processes that are gone. A HASH, never an LRU: evidence is not evicted.
#[map]
pub static FLOWS: HashMap<FlowKey, FlowCounters> = HashMap::with_max_entries(limits::FLOWS_MAX, 0);

/// Processes whose every flow is wanted as a record. Key: the process with `exec_id` 0.
/// Written by the collector and, for children, by the fork hook; deleted by the exit hook.
#[map]
pub static WATCHED: HashMap<ProcessKey, u32> = HashMap::with_max_entries(limits::WATCHED_MAX, 0);

/// Room to put an exec record together. Slot 0: the exec hook, which runs with preemption off;
/// slot 1: the task iterator.
#[map]
pub static SCRATCH: PerCpuArray<ExecScratch> = PerCpuArray::with_max_entries(2, 0);

/// What the monitor knows of a socket, kept with the socket and freed with it by the kernel.
#[btf_map]
pub static SOCKETS: SkStorage<Socket> = SkStorage::new();

/// An exec record with all the tail it may need.
#[repr(C)]
pub struct ExecScratch {
    /// Fixed fields.
    pub record: ProcessExecuted,
    /// Path components, then argv moved up against them.
    pub tail: [u8; EXEC_PATH_ROOM + limits::ARGS_BYTES],
}

/// Value of [`SOCKETS`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Socket {
    /// Who opened the flow, to whom.
    pub flow: FlowKey,
    /// Socket cookie.
    pub cookie: u64,
    /// Opened at, ns of `CLOCK_BOOTTIME`.
    pub opened_ns: u64,
    /// TCP: established at; 0 if not.
    pub established_ns: u64,
    /// `SOCKET_` flags.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}

/// The opening was delivered as a record, so the end is wanted too.
pub const SOCKET_REPORTED: u32 = 1 << 0;
/// TCP: the kernel got as far as sending a SYN.
pub const SOCKET_SYN_SENT: u32 = 1 << 1;
/// The end was told.
pub const SOCKET_ENDED: u32 = 1 << 2;
/// The flow is one of `connect()`, not of a datagram with an address.
pub const SOCKET_CONNECTED: u32 = 1 << 3;

/// The monitor's record of a socket, if it has one.
#[inline(always)]
pub fn socket<'a>(sk: *mut bpf_sock) -> Option<&'a mut Socket> {
    let map = (&raw const SOCKETS).cast_mut().cast();
    // SAFETY: the verifier checks that `sk` is a socket; null for the initial value means
    // "do not create"; the result is null or a valid value that lives as long as the socket.
    let value = unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), 0) };
    // SAFETY: as above; the verifier insists on the null check that `as_mut` makes.
    unsafe { value.cast::<Socket>().as_mut() }
}

/// The monitor's record of a socket, made from `initial` if there was none.
/// `None` if the kernel is out of memory for it.
#[inline(always)]
pub fn socket_or_insert<'a>(sk: *mut bpf_sock, initial: &mut Socket) -> Option<&'a mut Socket> {
    const CREATE: u64 = aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE as u64;
    let map = (&raw const SOCKETS).cast_mut().cast();
    let initial = core::ptr::from_mut(initial).cast();
    // SAFETY: the verifier checks that `sk` is a socket and that `initial` is a whole value.
    let value = unsafe { bpf_sk_storage_get(map, sk.cast(), initial, CREATE) };
    // SAFETY: null or a valid value that lives as long as the socket.
    unsafe { value.cast::<Socket>().as_mut() }
}

/// Whether the collector wants every flow of this process as a record.
#[inline(always)]
pub fn watched(process: &ProcessKey) -> bool {
    let key = ProcessKey {
        exec_id: 0,
        ..*process
    };
    // SAFETY: the value is read before anything can delete it; a stale read is harmless.
    unsafe { WATCHED.get(&key) }.is_some()
}

/// The key of a flow.
#[inline(always)]
pub fn flow_key(process: ProcessKey, remote: Remote) -> FlowKey {
    FlowKey { process, remote }
}
