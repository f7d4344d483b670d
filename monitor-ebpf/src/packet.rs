//! Packets: where flows really go, how much they carry, and DNS messages.
//!
//! In: `cgroup_skb/egress` and `ingress` at the cgroup-v2 root, per packet of a full socket, in
//! any context (net/core/filter.c `__cgroup_bpf_run_filter_skb`; since 4.10). Egress runs in
//! `ip_finish_output`, after address translation. Who sends or receives comes from the socket's
//! own record. Out: [`FlowOpened`] for flows that no call announced (raw, ping, SCTP, accepted,
//! unowned), [`FlowRedirected`], byte counts of all but TCP, and what `sample` hands over.
//! Nothing is parsed here beyond IP and transport headers.
//!
//! A TCP connection is checked once, and sampled until its server answers: after that a packet
//! costs one look-up in its socket.
//!
//! Missed: packets without a full socket: forwarded ones, packet sockets, TIME_WAIT answers.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{
        bpf_get_socket_cookie, bpf_get_socket_uid, bpf_sk_fullsock, bpf_skb_cgroup_id,
        bpf_skb_load_bytes,
    },
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use monitor_common::{
    counter::{HOOK_DNS_EGRESS, HOOK_DNS_INGRESS, HOOK_WIRE},
    flow::{FlowKey, ProcessKey, Remote},
    limits::IPV6_EXTENSIONS,
    record::{self, FLOW_ACCEPTED, FLOW_FOUND, FLOW_UNOWNED, FlowOpened, FlowRedirected},
};

use crate::{
    emit,
    flows::{self, has_ports},
    generation, join,
    maps::{
        CONTROL, SOCKET_CHECKED, SOCKET_CONNECTED, SOCKET_FOUND, SOCKET_JOINED, SOCKET_SAMPLED,
        Socket, socket,
    },
    sample,
};

/// `IPPROTO_TCP`.
pub const TCP: u16 = 6;
/// `IPPROTO_UDP`.
pub const UDP: u16 = 17;
/// `TCP_LISTEN` of `enum tcp_state`, include/net/tcp_states.h.
const LISTEN: u32 = 10;
/// Length of an IPv6 header without extensions.
const IPV6_HEADER: u32 = 40;
/// Length of a UDP header.
const UDP_HEADER: u32 = 8;
/// Let the packet go on: this program only watches.
const PASS: i32 = 1;

/// See the module's documentation.
#[cgroup_skb]
pub fn packet_egress(ctx: SkBuffContext) -> i32 {
    if !generation::is_current() {
        return PASS;
    }
    let skb = ctx.skb.skb;
    let socket = owner(skb);
    if let Some(socket) = &socket
        && socket.flags & (SOCKET_CHECKED | SOCKET_SAMPLED) == SOCKET_CHECKED
    {
        return PASS;
    }
    if let Some(packet) = parse(skb, Direction::Egress) {
        leaves(skb, &packet, socket);
    }
    PASS
}

/// See the module's documentation.
#[cgroup_skb]
pub fn packet_ingress(ctx: SkBuffContext) -> i32 {
    if !generation::is_current() {
        return PASS;
    }
    let skb = ctx.skb.skb;
    let Some(socket) = owner(skb) else {
        return PASS;
    };
    if socket.flow.remote.protocol == TCP {
        // Bytes are counted by the kernel itself, exactly.
        if socket.flags & (SOCKET_CONNECTED | SOCKET_JOINED) == 0 {
            first_arrives(skb, socket);
        } else if socket.flags & SOCKET_SAMPLED != 0
            && let Some(packet) = parse(skb, Direction::Ingress)
            && packet.remote.protocol == TCP
        {
            sample::received(skb, &packet, socket);
        }
        return PASS;
    }
    if let Some(packet) = parse(skb, Direction::Ingress) {
        arrives(skb, &packet, socket);
    }
    PASS
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Egress,
    Ingress,
}

/// What is known of a packet.
pub struct Packet {
    /// The other end, as in the headers.
    pub remote: Remote,
    /// Where the transport header starts.
    pub transport: u32,
    /// Bytes after the IP headers.
    pub length: u32,
}

/// The record of the packet's socket.
#[inline(always)]
fn owner<'a>(skb: *mut __sk_buff) -> Option<&'a mut Socket> {
    socket(full_socket(skb)?)
}

#[inline(always)]
fn full_socket(skb: *mut __sk_buff) -> Option<*mut bpf_sock> {
    // SAFETY: the context is valid; the verifier insists on the null checks.
    unsafe {
        let sk = core::ptr::read_volatile(&raw const (*skb).__bindgen_anon_2.sk);
        if sk.is_null() {
            return None;
        }
        let full = bpf_sk_fullsock(sk);
        if full.is_null() { None } else { Some(full) }
    }
}

/// Reads plain data out of a packet, as it lies there.
#[inline(always)]
pub fn load<T: Copy + Default>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = T::default();
    let bytes = size_of::<T>() as u32;
    // SAFETY: the helper checks the bounds of the packet; `value` has as many bytes.
    let result = unsafe { bpf_skb_load_bytes(skb.cast(), offset, (&raw mut value).cast(), bytes) };
    if result == 0 { Some(value) } else { None }
}

#[inline(always)]
fn packet_length(skb: *mut __sk_buff) -> u32 {
    // SAFETY: the context is valid for the program's run.
    unsafe { core::ptr::read_volatile(&raw const (*skb).len) }
}

/// The IP headers. The packet decides the version: an IPv6 socket may carry IPv4.
#[inline(always)]
fn parse(skb: *mut __sk_buff, direction: Direction) -> Option<Packet> {
    let first = load::<u8>(skb, 0)?;
    let (transport, protocol, addr) = if first >> 4 == 4 {
        let protocol = load::<u8>(skb, 9)?;
        let at = if direction == Direction::Egress {
            16
        } else {
            12
        };
        let addr = Remote::v4_mapped(load::<u32>(skb, at)?);
        (u32::from(first & 0xf) * 4, protocol, addr)
    } else {
        let (transport, protocol) = skip_extensions(skb)?;
        let at = if direction == Direction::Egress {
            24
        } else {
            8
        };
        (transport, protocol, load::<[u32; 4]>(skb, at)?)
    };
    let port = if has_ports(u16::from(protocol)) {
        let at = if direction == Direction::Egress {
            transport + 2
        } else {
            transport
        };
        u16::from_be(load::<u16>(skb, at).unwrap_or_default())
    } else {
        0
    };
    let protocol = u16::from(protocol);
    let remote = Remote {
        addr,
        port,
        protocol,
        reserved: 0,
    };
    Some(Packet {
        remote,
        transport,
        length: packet_length(skb).saturating_sub(transport),
    })
}

/// Where the transport header of an IPv6 packet starts, and which it is.
#[inline(always)]
fn skip_extensions(skb: *mut __sk_buff) -> Option<(u32, u8)> {
    let mut next = load::<u8>(skb, 6)?;
    let mut at = IPV6_HEADER;
    for _ in 0..IPV6_EXTENSIONS {
        // Hop-by-hop, routing, fragment, destination options: RFC 8200 section 4.
        if !matches!(next, 0 | 43 | 44 | 60) {
            break;
        }
        let [following, length] = load::<[u8; 2]>(skb, at)?;
        at += if next == 44 {
            8
        } else {
            (u32::from(length) + 1) * 8
        };
        next = following;
    }
    Some((at, next))
}

#[inline(always)]
fn leaves(skb: *mut __sk_buff, packet: &Packet, socket: Option<&mut Socket>) {
    let process = socket
        .as_ref()
        .map(|socket| socket.flow.process)
        .unwrap_or_default();
    let message = packet.remote.protocol == UDP && sample::is_dns(packet.remote.port);
    if message {
        sample::dns(skb, HOOK_DNS_EGRESS, packet, &process);
    }
    let Some(socket) = socket else {
        // Bare acknowledgements and resets answer for sockets that are gone.
        let contact = packet.remote.protocol != TCP
            || tcp(skb, packet).is_some_and(|segment| segment.is_contact());
        if contact {
            first_seen(skb, process, packet.remote, FLOW_UNOWNED);
        }
        return;
    };
    let same_protocol = packet.remote.protocol == socket.flow.remote.protocol;
    if socket.flags & SOCKET_SAMPLED != 0 && same_protocol && !message {
        sample::sent(skb, packet, socket);
        if socket.flags & SOCKET_CHECKED != 0 {
            return;
        }
    }
    let connected = socket.flags & SOCKET_CONNECTED != 0;
    if packet.remote.protocol == TCP && socket.flow.remote.protocol == TCP {
        if !connected && tcp(skb, packet).is_some_and(|segment| segment.answers_a_call()) {
            return; // A SYN-ACK, sent for the listener; the connection has its own socket later.
        }
        socket.flags |= SOCKET_CHECKED;
        if !connected {
            return accepted(skb, packet, socket);
        }
    }
    let asked_nothing = is_zero(&socket.flow.remote) && !connected;
    if !asked_nothing && same_way(&socket.flow.remote, &packet.remote) {
        return count_sent(packet, socket, connected);
    }
    elsewhere(skb, packet, socket, asked_nothing);
}

/// What matters of a TCP header: RFC 9293 section 3.1.
pub struct Segment {
    /// Sequence number of the segment's first byte.
    pub sequence: u32,
    /// `TH_` flags.
    pub flags: u8,
    /// Bytes of payload.
    pub payload: u32,
}

impl Segment {
    /// SYN and ACK.
    #[inline(always)]
    fn answers_a_call(&self) -> bool {
        self.flags & 0x12 == 0x12
    }

    /// A SYN alone, or payload.
    #[inline(always)]
    fn is_contact(&self) -> bool {
        self.flags & 0x12 == 0x02 || self.payload > 0
    }
}

#[inline(always)]
pub fn tcp(skb: *mut __sk_buff, packet: &Packet) -> Option<Segment> {
    let sequence = u32::from_be(load::<u32>(skb, packet.transport + 4)?);
    let [offset, flags] = load::<[u8; 2]>(skb, packet.transport + 12)?;
    let header = u32::from(offset >> 4) * 4;
    Some(Segment {
        sequence,
        flags,
        payload: packet.length.saturating_sub(header),
    })
}

#[inline(always)]
fn is_zero(remote: &Remote) -> bool {
    let a = &remote.addr;
    a[0] | a[1] | a[2] | a[3] | u32::from(remote.port) == 0
}

/// The process answers a peer that connected to it.
#[inline(always)]
fn accepted(skb: *mut __sk_buff, packet: &Packet, socket: &Socket) {
    let remote = Remote {
        port: 0,
        ..packet.remote
    };
    first_seen(
        skb,
        socket.flow.process,
        remote,
        FLOW_ACCEPTED | found(socket),
    );
}

#[inline(always)]
fn found(socket: &Socket) -> u32 {
    if socket.flags & SOCKET_FOUND != 0 {
        FLOW_FOUND
    } else {
        0
    }
}

/// Whether a packet goes where its process asked. "Any address" means this host.
///
/// Without branches: with one per word, the verifier would follow every combination.
#[inline(always)]
fn same_way(asked: &Remote, wire: &Remote) -> bool {
    let (a, w) = (&asked.addr, &wire.addr);
    let differs = (a[0] ^ w[0]) | (a[1] ^ w[1]) | (a[2] ^ w[2]) | (a[3] ^ w[3]);
    let mapped = a[2] ^ 0xffff_u32.to_be();
    let specified = a[0] | a[1] | a[3] | (a[2] & mapped);
    asked.port == wire.port && (differs == 0 || specified == 0)
}

#[inline(always)]
fn count_sent(packet: &Packet, socket: &mut Socket, connected: bool) {
    let bytes = payload(packet);
    if connected {
        socket.bytes_sent += bytes;
    } else {
        flows::add_bytes(&socket.flow, bytes, 0);
    }
}

/// Bytes that the application sent or received.
#[inline(always)]
fn payload(packet: &Packet) -> u64 {
    let header = if packet.remote.protocol == UDP {
        UDP_HEADER
    } else {
        0
    };
    u64::from(packet.length.saturating_sub(header))
}

/// The packet does not go where the socket's process last asked.
#[inline(always)]
fn elsewhere(skb: *mut __sk_buff, packet: &Packet, socket: &mut Socket, asked_nothing: bool) {
    let key = FlowKey {
        process: socket.flow.process,
        remote: packet.remote,
    };
    if flows::add_bytes(&key, payload(packet), 0) {
        return; // The process asked for it as well, or it was told before.
    }
    if !asked_nothing {
        redirected(skb, packet, socket);
    }
    first_seen(skb, socket.flow.process, packet.remote, found(socket));
    flows::add_bytes(&key, payload(packet), 0);
}

/// Tells a redirection, once per socket and way.
// A call of its own: inlined, it would not fit on the 512 bytes of stack.
#[inline(never)]
fn redirected(skb: *mut __sk_buff, packet: &Packet, socket: &mut Socket) {
    socket.wire = packet.remote;
    let record = FlowRedirected {
        header: emit::header::<FlowRedirected>(record::KIND_FLOW_REDIRECTED),
        process: socket.flow.process,
        asked: socket.flow.remote,
        wire: packet.remote,
        cookie: cookie(skb),
    };
    emit::aside(&CONTROL, &record);
}

/// Reports a flow that no call announced.
// A call of its own: inlined, it would not fit on the 512 bytes of stack.
#[inline(never)]
fn first_seen(skb: *mut __sk_buff, process: ProcessKey, remote: Remote, flags: u32) {
    emit::attempted(HOOK_WIRE);
    let mut record = FlowOpened {
        header: emit::header::<FlowOpened>(record::KIND_FLOW_OPENED),
        process,
        remote,
        cookie: cookie(skb),
        // SAFETY: a valid context of a type that this helper takes.
        cgroup_id: unsafe { bpf_skb_cgroup_id(skb) },
        netns_cookie: 0,
        tid: 0,
        // SAFETY: a valid context of a type that this helper takes.
        uid: unsafe { bpf_get_socket_uid(skb) },
        hook: HOOK_WIRE,
        flags,
    };
    flows::seen(&mut record);
}

/// A packet for a listener, or the first for a connection that was accepted.
#[inline(always)]
fn first_arrives(skb: *mut __sk_buff, socket: &mut Socket) {
    if full_socket(skb).is_none_or(|sk| state(sk) == LISTEN) {
        return;
    }
    socket.flags |= SOCKET_JOINED;
    if let Some(packet) = parse(skb, Direction::Ingress) {
        join::join(skb, packet.transport, socket);
    }
}

#[inline(always)]
fn state(sk: *mut bpf_sock) -> u32 {
    // SAFETY: a valid socket; the verifier rewrites the access.
    unsafe { core::ptr::read_volatile(&raw const (*sk).state) }
}

#[inline(always)]
fn arrives(skb: *mut __sk_buff, packet: &Packet, socket: &mut Socket) {
    if socket.flags & SOCKET_CONNECTED != 0 {
        socket.bytes_received += payload(packet);
    } else {
        let key = FlowKey {
            process: socket.flow.process,
            remote: packet.remote,
        };
        flows::add_bytes(&key, 0, payload(packet));
    }
    if packet.remote.protocol == UDP && sample::is_dns(packet.remote.port) {
        sample::dns(skb, HOOK_DNS_INGRESS, packet, &socket.flow.process);
    }
}

#[inline(always)]
fn cookie(skb: *mut __sk_buff) -> u64 {
    // SAFETY: a valid context of a type that this helper takes.
    unsafe { bpf_get_socket_cookie(skb.cast()) }
}
