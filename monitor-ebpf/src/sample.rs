//! Samples: the first bytes of a flow, which name its other end, and DNS messages.
//!
//! In: packets of sockets that [`wanted`] marked, from the packet hooks. Out: sample records in
//! the payload ring, booked by `HOOK_SAMPLE`, `HOOK_DNS_EGRESS` and `HOOK_DNS_INGRESS`. Nothing is
//! parsed here but lengths; user space looks for names in the samples and keeps nothing else.
//!
//! Of TCP, the client's first flight is sampled: what it sends until the server answers it. After
//! that a packet costs one look-up in its socket again. Of UDP, the first datagrams are sampled.
//! Of conversations with a resolver, both directions are.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_get_socket_cookie, bpf_skb_load_bytes},
};
use monitor_common::{
    counter::{
        DELIVERED, DROPPED_RING_FULL, DROPPED_UNREADABLE, HOOK_DNS_EGRESS, HOOK_DNS_INGRESS,
        HOOK_SAMPLE,
    },
    flow::{ProcessKey, Remote},
    limits::{
        SAMPLE_BYTES, SAMPLE_FLOW_BYTES, SAMPLE_LONG_BYTES, SAMPLE_SHORT_BYTES, SAMPLE_TCP_PACKETS,
        SAMPLE_UDP_PACKETS,
    },
    record::{self, Sample, SampleHead, SampleLong, SampleShort},
};

use crate::{
    emit,
    kernel::{self, Setting},
    maps::{PAYLOAD, SOCKET_DNS, SOCKET_SAMPLED, Sampled, Socket},
    packet::{Packet, Segment, TCP, UDP, load, tcp},
};

/// 0 if no flow is to be sampled; DNS is looked at all the same. Written by the loader.
#[unsafe(no_mangle)]
static SAMPLE_FLOWS: Setting = Setting::new(1);

/// Two ports of resolvers, one in each half. Written by the loader.
#[unsafe(no_mangle)]
static DNS_PORTS_A: Setting = Setting::new(53);
/// Two more. 0: none.
#[unsafe(no_mangle)]
static DNS_PORTS_B: Setting = Setting::new(0);

/// Length of a UDP header.
const UDP_HEADER: u32 = 8;
/// Length of a DNS header: nothing shorter is DNS.
const DNS_HEADER: u32 = 12;
/// Bytes of a long sample record.
const SAMPLE_LONG: u32 = SAMPLE_LONG_BYTES as u32;
/// Datagrams of one packet (`UDP_SEGMENT`) that are looked at: a QUIC hello has no more.
const DATAGRAMS: u32 = 3;

/// Whether a port is one that resolvers are asked at.
#[inline(always)]
pub fn is_dns(port: u16) -> bool {
    let (port, a, b) = (u32::from(port), DNS_PORTS_A.load(), DNS_PORTS_B.load());
    port != 0 && (port == a & 0xffff || port == a >> 16 || port == b & 0xffff || port == b >> 16)
}

/// The flags of a socket whose flow to `remote` is told (`told`) or not: every flow that is told
/// one by one is sampled, and every TCP connection to a resolver.
#[inline(always)]
pub fn wanted(remote: &Remote, told: bool) -> u64 {
    if is_dns(remote.port) {
        return if remote.protocol == TCP {
            SOCKET_SAMPLED | SOCKET_DNS
        } else {
            0 // Each message is sampled as it passes.
        };
    }
    let carries_names = remote.protocol == TCP || remote.protocol == UDP;
    if told && carries_names && SAMPLE_FLOWS.load() != 0 {
        SOCKET_SAMPLED
    } else {
        0
    }
}

/// A packet leaves a socket that is being sampled.
// A call of its own: inlined, it would not fit on the 512 bytes of stack.
#[inline(never)]
pub fn sent(skb: *mut __sk_buff, packet: &Packet, socket: &mut Socket) {
    if packet.remote.protocol == UDP {
        return datagrams(skb, packet, socket);
    }
    let Some(segment) = tcp(skb, packet) else {
        return;
    };
    let hook = if socket.flags & SOCKET_DNS != 0 {
        HOOK_DNS_EGRESS
    } else {
        HOOK_SAMPLE
    };
    let flow = Flow {
        process: socket.flow.process,
        remote: socket.flow.remote,
        hook,
    };
    let Some(piece) = next_piece(&mut socket.sent, packet, &segment) else {
        return;
    };
    if piece.offset == 0 && hook == HOOK_SAMPLE {
        socket.answers_left = answers(load::<u8>(skb, piece.at).unwrap_or_default());
    }
    if !hand_over(skb, &flow, piece) {
        socket.flags &= !SOCKET_SAMPLED;
    }
}

/// A TCP segment reaches a socket that is being sampled.
// A call of its own: inlined, it would not fit on the 512 bytes of stack.
#[inline(never)]
pub fn received(skb: *mut __sk_buff, packet: &Packet, socket: &mut Socket) {
    let Some(segment) = tcp(skb, packet) else {
        return;
    };
    if socket.flags & SOCKET_DNS != 0 {
        let flow = Flow {
            process: socket.flow.process,
            remote: socket.flow.remote,
            hook: HOOK_DNS_INGRESS,
        };
        if let Some(piece) = next_piece(&mut socket.received, packet, &segment)
            && !hand_over(skb, &flow, piece)
        {
            socket.flags &= !SOCKET_SAMPLED;
        }
    } else if segment.payload > 0 && socket.sent.bytes > socket.answered_bytes {
        // An answer: what comes before the client spoke, or after it was answered, is none.
        socket.answered_bytes = socket.sent.bytes;
        if socket.answers_left == 0 {
            socket.flags &= !SOCKET_SAMPLED;
        }
        socket.answers_left = socket.answers_left.saturating_sub(1);
    }
}

/// How many answers of a server leave the client's next words worth a look: a client that first
/// talks to a proxy names its target later. By the first byte: SOCKS 5 asks for authentication,
/// its result and the target before the client's own protocol starts, SOCKS 4 asks once, and an
/// HTTP proxy may ask for a password first.
#[inline(always)]
fn answers(first_byte: u8) -> u32 {
    match first_byte {
        5 => 3,
        4 => 1,
        b'C' => 2,
        _ => 0,
    }
}

/// Whose bytes they are.
struct Flow {
    process: ProcessKey,
    remote: Remote,
    hook: u32,
}

/// Bytes of a packet.
#[derive(Clone, Copy)]
struct Piece {
    /// Where in the packet they start.
    at: u32,
    bytes: u32,
    /// TCP: their place in the stream.
    offset: u32,
}

/// What of a segment is to be sampled, if anything. Notes where the stream starts.
#[inline(always)]
fn next_piece(sampled: &mut Sampled, packet: &Packet, segment: &Segment) -> Option<Piece> {
    // SYN takes a sequence number; data may follow it at once (TCP Fast Open): RFC 9293 section 3.4.
    let syn = u32::from(segment.flags >> 1 & 1);
    let sequence = segment.sequence.wrapping_add(syn);
    if syn != 0 || sampled.started == 0 {
        sampled.first_sequence = sequence;
        sampled.started = 1;
    }
    if segment.payload == 0 {
        return None;
    }
    let offset = sequence.wrapping_sub(sampled.first_sequence);
    if offset >= SAMPLE_FLOW_BYTES
        || sampled.bytes >= SAMPLE_FLOW_BYTES
        || sampled.packets >= SAMPLE_TCP_PACKETS
    {
        // `bytes: 0` makes the caller stop.
        return Some(Piece {
            at: 0,
            bytes: 0,
            offset: 1,
        });
    }
    let room = SAMPLE_FLOW_BYTES - sampled.bytes;
    let bytes = segment.payload.min(room);
    sampled.bytes += bytes;
    sampled.packets += 1;
    Some(Piece {
        at: packet.transport + packet.length - segment.payload,
        bytes,
        offset,
    })
}

/// Datagrams leave, several at once if the kernel is to split them (`UDP_SEGMENT`).
#[inline(always)]
fn datagrams(skb: *mut __sk_buff, packet: &Packet, socket: &mut Socket) {
    let bytes = packet.length.saturating_sub(UDP_HEADER);
    let flow = Flow {
        process: socket.flow.process,
        remote: packet.remote,
        hook: HOOK_SAMPLE,
    };
    if bytes == 0 {
        return;
    }
    let piece = Piece {
        at: packet.transport + UDP_HEADER,
        bytes,
        offset: 0,
    };
    // SAFETY: the context is valid for the program's run.
    let segment_bytes = unsafe { core::ptr::read_volatile(&raw const (*skb).gso_size) };
    let step = if segment_bytes == 0 {
        bytes
    } else {
        segment_bytes
    };
    let mut outcome = DELIVERED;
    for index in 0..DATAGRAMS {
        let done = index * step;
        if done >= bytes || outcome != DELIVERED {
            break;
        }
        let part = Piece {
            at: piece.at + done,
            bytes: step.min(bytes - done),
            offset: 0,
        };
        outcome = one(skb, &flow, part);
        socket.sent.packets += 1;
    }
    if socket.sent.packets >= SAMPLE_UDP_PACKETS {
        socket.flags &= !SOCKET_SAMPLED;
    }
}

/// A DNS message over UDP passes. What is too short for one is none.
// A call of its own: inlined, it would not fit on the 512 bytes of stack.
#[inline(never)]
pub fn dns(skb: *mut __sk_buff, hook: u32, packet: &Packet, process: &ProcessKey) {
    if packet.length < UDP_HEADER + DNS_HEADER {
        return;
    }
    let flow = Flow {
        process: *process,
        remote: packet.remote,
        hook,
    };
    let piece = Piece {
        at: packet.transport + UDP_HEADER,
        bytes: packet.length - UDP_HEADER,
        offset: 0,
    };
    one(skb, &flow, piece);
}

/// Hands over and books what is to be sampled of a segment. Returns whether the flow is to be
/// sampled on: there was something, and nothing of it was lost.
#[inline(always)]
fn hand_over(skb: *mut __sk_buff, flow: &Flow, piece: Piece) -> bool {
    if piece.bytes == 0 {
        return false;
    }
    let mut outcome = one(skb, flow, piece);
    // Two at most: a loop would multiply what the verifier has to look at.
    if outcome == DELIVERED && piece.bytes > SAMPLE_LONG {
        let rest = Piece {
            at: piece.at + SAMPLE_LONG,
            bytes: piece.bytes - SAMPLE_LONG,
            offset: piece.offset + SAMPLE_LONG,
        };
        outcome = one(skb, flow, rest);
    }
    outcome == DELIVERED
}

/// Hands over one record, of the least size that holds the piece, and books it: a segment may take
/// several, and the next monitor counts what this one lost by comparing records with the books.
// A call of its own: inlined, it would not fit on the 512 bytes of stack.
#[inline(never)]
fn one(skb: *mut __sk_buff, flow: &Flow, piece: Piece) -> u32 {
    emit::attempted(flow.hook);
    let outcome = if piece.bytes <= SAMPLE_SHORT_BYTES as u32 {
        copy_short(skb, flow, piece)
    } else if piece.bytes <= SAMPLE_BYTES as u32 {
        copy_usual(skb, flow, piece)
    } else {
        copy_long(skb, flow, piece)
    };
    emit::outcome(flow.hook, outcome);
    outcome
}

/// Reserves a record of the given type, fills it and hands it over. A macro, since a function
/// would have to be generic over a field.
macro_rules! copy {
    ($name:ident, $record:ty, $room:expr) => {
        #[inline(always)]
        fn $name(skb: *mut __sk_buff, flow: &Flow, piece: Piece) -> u32 {
            let bytes = piece.bytes.min($room as u32);
            let Some(mut entry) = PAYLOAD.reserve::<$record>(0) else {
                return DROPPED_RING_FULL;
            };
            let sample = entry.as_mut_ptr();
            // SAFETY: `entry` is memory of a `$record`, written before it is submitted.
            unsafe { (*sample).head = head(skb, flow, piece, bytes) };
            let Some(copied) = kernel::within(u64::from(bytes), 1, $room as u64) else {
                entry.discard(emit::NO_WAKEUP);
                return DROPPED_UNREADABLE; // Cannot be, but the verifier wants to see it.
            };
            // SAFETY: `copied` is at most the payload's size; the helper checks the packet.
            let result = unsafe {
                let payload = (&raw mut (*sample).payload).cast();
                bpf_skb_load_bytes(skb.cast(), piece.at, payload, copied as u32)
            };
            if result != 0 {
                entry.discard(emit::NO_WAKEUP);
                return DROPPED_UNREADABLE;
            }
            entry.submit(emit::NO_WAKEUP);
            DELIVERED
        }
    };
}

copy!(copy_short, SampleShort, SAMPLE_SHORT_BYTES);
copy!(copy_usual, Sample, SAMPLE_BYTES);
copy!(copy_long, SampleLong, SAMPLE_LONG_BYTES);

#[inline(always)]
fn head(skb: *mut __sk_buff, flow: &Flow, piece: Piece, bytes: u32) -> SampleHead {
    let mut header = emit::header::<SampleHead>(record::KIND_SAMPLE);
    header.bytes += bytes;
    SampleHead {
        header,
        process: flow.process,
        remote: flow.remote,
        // SAFETY: a valid context of a type that this helper takes.
        cookie: unsafe { bpf_get_socket_cookie(skb.cast()) },
        hook: flow.hook,
        offset: piece.offset,
        sample_bytes: bytes,
        wire_bytes: piece.bytes,
    }
}
