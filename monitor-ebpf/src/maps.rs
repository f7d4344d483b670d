//! Every map of the kernel side: key, value, who writes, who deletes.
//!
//! In: the hooks. Out: the rings, the flow map and the counters that the collector reads.

use aya_ebpf::{
    bindings::{
        BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE,
        bpf_map_type::BPF_MAP_TYPE_SK_STORAGE, bpf_sock,
    },
    helpers::generated::bpf_sk_storage_get,
    macros::{btf_map, map},
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use monitor_common::{
    counter::COUNTERS as COUNTER_COUNT,
    flow::{FlowCounters, FlowKey, ProcessKey, Remote},
    limits,
    record::{EXEC_PATH_ROOM, ProcessExecuted},
    resume::Checkpoint,
};

/// Process events and first sightings. Written by all hooks, read by the collector.
#[map]
pub static CONTROL: RingBuf = RingBuf::with_byte_size(limits::CONTROL_RING_BYTES, 0);

/// Repeated opens and ends of flows. Written by `connect` and `sock_end`.
#[map]
pub static DETAIL: RingBuf = RingBuf::with_byte_size(limits::DETAIL_RING_BYTES, 0);

/// Samples. Written by `sample`.
#[map]
pub static PAYLOAD: RingBuf = RingBuf::with_byte_size(limits::PAYLOAD_RING_BYTES, 0);

/// The books. Index: `monitor_common::counter`. Written by all hooks, never reset.
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_COUNT, 0);

/// Who talks to whom, and how often. Written by `connect` and `sock_end`; the collector deletes
/// the entries of processes that are gone. A HASH, never an LRU: evidence is not evicted.
#[map]
pub static FLOWS: HashMap<FlowKey, FlowCounters> = HashMap::with_max_entries(limits::FLOWS_MAX, 0);

/// What of [`FLOWS`] was told. Written and deleted by the collector, for the one after it.
#[map]
pub static TOLD: HashMap<FlowKey, FlowCounters> =
    HashMap::with_max_entries(limits::FLOWS_MAX, BPF_F_NO_PREALLOC);

/// How far the collector came. Written by it, for the one after it.
#[map]
pub static CHECKPOINT: Array<Checkpoint> = Array::with_max_entries(1, 0);

/// The number of the copy of these programs that works. Written by the loader.
#[map]
pub static GENERATION: Array<u32> = Array::with_max_entries(1, 0);

/// Processes whose every flow is wanted as a record. Key: the process with `exec_id` 0.
/// Written by the collector and, for children, by the fork hook; deleted by the exit hook.
#[map]
pub static WATCHED: HashMap<ProcessKey, u32> = HashMap::with_max_entries(limits::WATCHED_MAX, 0);

/// Room to put an exec record together. Slot 0: the exec hook, which runs with preemption off;
/// slot 1: the task iterator.
#[map]
pub static SCRATCH: PerCpuArray<ExecScratch> = PerCpuArray::with_max_entries(2, 0);

/// How many new flows each process may still open. Key: the process with `exec_id` 0. Written by
/// `budget`; deleted by the exit hook.
#[map]
pub static BUDGETS: HashMap<ProcessKey, Budget> = HashMap::with_max_entries(limits::BUDGETS_MAX, 0);

/// Pairs of processes of which one is the other's client, that were told. Written by `join`. An LRU:
/// it holds no evidence, a pair that it forgets is told again.
#[map]
pub static JOINED: LruHashMap<Join, u32> = LruHashMap::with_max_entries(limits::JOINED_MAX, 0);

/// Key of [`JOINED`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Join {
    /// Who connected.
    pub client: ProcessKey,
    /// Who listens.
    pub server: ProcessKey,
}

/// Who opened an MPTCP socket, by its cookie. Its connections are other sockets, and the kernel
/// opens those beyond the first by itself. Written and deleted by `socket`.
#[map]
pub static MPTCP_OPENERS: HashMap<u64, ProcessKey> =
    HashMap::with_max_entries(limits::MPTCP_MAX, NO_PREALLOC);

/// For maps that are mostly empty.
const NO_PREALLOC: u32 = BPF_F_NO_PREALLOC;

/// Value of [`BUDGETS`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Budget {
    /// When `tokens` was last topped up, ns of `CLOCK_BOOTTIME`.
    pub filled_ns: u64,
    /// When the overrun was last told; 0 if never.
    pub told_ns: u64,
    /// New flows that found no token.
    pub refused: u64,
    /// New flows that are still free.
    pub tokens: u64,
}

/// What the monitor knows of a socket, kept with the socket and freed with it by the kernel.
/// An accepted socket starts with a copy of its listener's.
#[btf_map]
pub static SOCKETS: SocketStorage = SocketStorage::new();

/// `BPF_MAP_TYPE_SK_STORAGE` with `BPF_F_CLONE`, which `aya_ebpf::btf_maps::SkStorage` lacks.
/// The loader reads the definition from the types of the fields.
#[repr(C)]
pub struct SocketStorage {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const Socket,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

impl SocketStorage {
    const fn new() -> Self {
        use core::ptr::null;
        SocketStorage {
            r#type: null(),
            key: null(),
            value: null(),
            max_entries: null(),
            map_flags: null(),
        }
    }
}

// SAFETY: the pointers are never followed; they only carry types.
unsafe impl Sync for SocketStorage {}

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
    /// Who opened the socket or, once it asked for one, the flow; and to whom.
    pub flow: FlowKey,
    /// Where packets were last seen to go, if not to `flow.remote`.
    pub wire: Remote,
    /// Opened at, ns of `CLOCK_BOOTTIME`.
    pub opened_ns: u64,
    /// TCP: established at; 0 if not.
    pub established_ns: u64,
    /// Socket cookie, once the socket asked for the flow; else 0.
    pub cookie: u64,
    /// Not TCP: payload bytes sent since the socket was connected.
    pub bytes_sent: u64,
    /// Not TCP: payload bytes received since the socket was connected.
    pub bytes_received: u64,
    /// `SOCKET_` flags.
    pub flags: u64,
    /// What was sampled of what it sent since it was connected.
    pub sent: Sampled,
    /// The same of what it received.
    pub received: Sampled,
    /// TCP: answers of the server after which the client may still name its target.
    pub answers_left: u32,
    /// TCP: bytes sampled of what it sent when the server last answered.
    pub answered_bytes: u32,
}

/// How much of one direction of a flow was sampled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sampled {
    /// TCP: sequence number of the first byte of payload.
    pub first_sequence: u32,
    /// 1 if `first_sequence` is known.
    pub started: u32,
    /// Bytes handed over.
    pub bytes: u32,
    /// Packets looked at.
    pub packets: u32,
}

impl Sampled {
    /// Nothing yet.
    pub const NOTHING: Sampled = Sampled {
        first_sequence: 0,
        started: 0,
        bytes: 0,
        packets: 0,
    };
}

impl Socket {
    /// A socket of which nothing else is known yet.
    #[inline(always)]
    pub fn new(flow: FlowKey, opened_ns: u64) -> Self {
        Socket {
            flow,
            wire: Remote {
                addr: [0; 4],
                port: 0,
                protocol: 0,
                reserved: 0,
            },
            opened_ns,
            established_ns: 0,
            cookie: 0,
            bytes_sent: 0,
            bytes_received: 0,
            flags: 0,
            sent: Sampled::NOTHING,
            received: Sampled::NOTHING,
            answers_left: 0,
            answered_bytes: 0,
        }
    }
}

/// The opening was delivered as a record, so the end is wanted too.
pub const SOCKET_REPORTED: u64 = 1 << 0;
/// TCP: the kernel got as far as sending a SYN.
pub const SOCKET_SYN_SENT: u64 = 1 << 1;
/// The end was told.
pub const SOCKET_ENDED: u64 = 1 << 2;
/// The flow is one of `connect()`.
pub const SOCKET_CONNECTED: u64 = 1 << 3;
/// TCP: packets were seen to go where they should; they cannot change their way later.
pub const SOCKET_CHECKED: u64 = 1 << 4;
/// Older than the monitor: the owner is who had it open.
pub const SOCKET_FOUND: u64 = 1 << 5;
/// TCP: a look was taken whether the peer of this accepted connection is on this host.
pub const SOCKET_JOINED: u64 = 1 << 6;
/// Its packets are sampled.
pub const SOCKET_SAMPLED: u64 = 1 << 7;
/// TCP: the remote is a resolver, so both directions are sampled.
pub const SOCKET_DNS: u64 = 1 << 8;

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
    const CREATE: u64 = BPF_SK_STORAGE_GET_F_CREATE as u64;
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
