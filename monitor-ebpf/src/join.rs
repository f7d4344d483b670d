//! Connections of which both ends are on this host: who is whose client.
//!
//! In: packets that reach accepted TCP sockets, from `cgroup_skb/ingress` (see `packet.rs`; before
//! the process can read them). The first one of each connection is looked at: the kernel's own
//! socket table knows the socket that sent it, and that has a record.
//! Out: [`FlowJoined`] for the first connection of each (client, server), and for all of clients
//! whose every flow is wanted.
//!
//! Missed: clients in another network namespace, UDP, Unix sockets, connections older than the
//! monitor.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_CURRENT_NETNS, BPF_NOEXIST},
    helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_release},
};
use monitor_common::{
    counter::{AGGREGATED, HOOK_JOIN},
    flow::ProcessKey,
    record::{self, FlowJoined},
};

use crate::{
    emit, flows,
    maps::{CONTROL, DETAIL, JOINED, Join, SOCKET_CONNECTED, Socket, socket},
    packet,
};

/// The first packet of a connection that `server` accepted, with its transport header at
/// `transport`.
// A call of its own: inlined, it would not fit on the 512 bytes of stack.
#[inline(never)]
pub fn join(skb: *mut __sk_buff, transport: u32, server: &Socket) {
    let client = match packet::load::<u8>(skb, 0) {
        // Source and destination follow each other: RFC 791 section 3.1, RFC 8200 section 3.
        Some(first) if first >> 4 == 4 => client::<[u32; 1]>(skb, 12, transport),
        _ => client::<[u32; 4]>(skb, 8, transport),
    };
    let Some(client) = client else {
        return;
    };
    emit::attempted(HOOK_JOIN);
    let pair = Join {
        client: client.process,
        server: server.flow.process,
    };
    let record = FlowJoined {
        header: emit::header::<FlowJoined>(record::KIND_FLOW_JOINED),
        client: pair.client,
        server: pair.server,
        cookie: client.cookie,
    };
    if JOINED.insert(pair, &1, u64::from(BPF_NOEXIST)).is_ok() {
        emit::record(&CONTROL, HOOK_JOIN, &record);
    } else if flows::is_wanted(&pair.client) {
        emit::record(&DETAIL, HOOK_JOIN, &record);
    } else {
        emit::outcome(HOOK_JOIN, AGGREGATED);
    }
}

/// The addresses and ports of a packet, turned round: as `struct bpf_sock_tuple` has them.
#[repr(C)]
struct Tuple<Address> {
    source: Address,
    destination: Address,
    source_port: u16,
    destination_port: u16,
}

/// Who a process of this host is to a server.
struct Client {
    process: ProcessKey,
    cookie: u64,
}

/// Whose socket the packet comes from, if it is one of this host that connected.
#[inline(always)]
fn client<Address: Copy + Default>(
    skb: *mut __sk_buff,
    addresses: u32,
    transport: u32,
) -> Option<Client> {
    let [source, destination] = packet::load::<[Address; 2]>(skb, addresses)?;
    let [source_port, destination_port] = packet::load::<[u16; 2]>(skb, transport)?;
    let mut answer = Tuple {
        source: destination,
        destination: source,
        source_port: destination_port,
        destination_port: source_port,
    };
    let bytes = size_of::<Tuple<Address>>() as u32;
    let here = i64::from(BPF_F_CURRENT_NETNS) as u64;
    // SAFETY: `answer` has `bytes` bytes. What is found is released below, on every way.
    unsafe {
        let tuple = (&raw mut answer).cast();
        let sk = bpf_sk_lookup_tcp(skb.cast(), tuple, bytes, here, 0);
        if sk.is_null() {
            return None;
        }
        let found = socket(sk).map(|socket| (socket.flags, socket.flow.process, socket.cookie));
        bpf_sk_release(sk.cast());
        let (flags, process, cookie) = found?;
        // Anything else is a listener on the client's port.
        (flags & SOCKET_CONNECTED != 0).then_some(Client { process, cookie })
    }
}
