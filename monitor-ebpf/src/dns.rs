//! DNS messages over UDP, so that addresses get names.
//!
//! In: `cgroup_skb/egress` and `ingress` at the cgroup-v2 root, per packet, in any context
//! (net/core/filter.c `__cgroup_bpf_run_filter_skb`; since 4.10). Who sent or awaits the packet
//! comes from the socket's record. Out: [`DnsMessage`] records in the payload ring. Nothing is
//! parsed here beyond IP and UDP headers.
//!
//! Missed: IPv6 with extension headers before UDP, IP fragments beyond the first, DNS over TCP.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_get_socket_cookie, bpf_sk_fullsock, bpf_skb_load_bytes},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use monitor_common::{
    counter::{
        DELIVERED, DROPPED_RING_FULL, DROPPED_UNREADABLE, HOOK_DNS_EGRESS, HOOK_DNS_INGRESS,
    },
    flow::Remote,
    limits::DNS_BYTES,
    record::{self, DnsHead, DnsMessage},
};

use crate::{
    emit, kernel,
    maps::{PAYLOAD, socket},
};

/// `AF_INET`.
const IPV4: u32 = 2;
/// `AF_INET6`.
const IPV6: u32 = 10;
/// `IPPROTO_UDP`.
const UDP: u8 = 17;
/// The DNS port.
const DNS_PORT: u16 = 53;
/// Length of an IPv6 header.
const IPV6_HEADER: u32 = 40;
/// Length of a UDP header.
const UDP_HEADER: u32 = 8;
/// Length of a DNS header: nothing shorter is DNS.
const DNS_HEADER: u32 = 12;
/// Let the packet go on: this program only watches.
const PASS: i32 = 1;

/// See the module's documentation.
#[cgroup_skb]
pub fn dns_egress(ctx: SkBuffContext) -> i32 {
    sampled(ctx.skb.skb, HOOK_DNS_EGRESS);
    PASS
}

/// See the module's documentation.
#[cgroup_skb]
pub fn dns_ingress(ctx: SkBuffContext) -> i32 {
    sampled(ctx.skb.skb, HOOK_DNS_INGRESS);
    PASS
}

/// Where the UDP header starts, and the remote end.
struct Datagram {
    udp: u32,
    remote: Remote,
}

#[inline(always)]
fn sampled(skb: *mut __sk_buff, hook: u32) {
    let Some(datagram) = datagram(skb, hook) else {
        return; // Not UDP with port 53 at the far end.
    };
    emit::attempted(hook);
    let result = copy(skb, hook, &datagram);
    emit::outcome(hook, result);
}

/// Reads `N` bytes of a packet.
#[inline(always)]
fn load<const N: usize>(skb: *mut __sk_buff, offset: u32) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    // SAFETY: the helper checks the bounds of the packet; `bytes` has N bytes.
    let result =
        unsafe { bpf_skb_load_bytes(skb.cast(), offset, bytes.as_mut_ptr().cast(), N as u32) };
    (result == 0).then_some(bytes)
}

#[inline(always)]
fn datagram(skb: *mut __sk_buff, hook: u32) -> Option<Datagram> {
    // SAFETY: the context is valid for the program's run.
    let family = unsafe { core::ptr::read_volatile(&raw const (*skb).family) };
    let (udp, protocol) = match family {
        // The packet, not the socket, decides: an IPv6 socket may carry IPv4.
        IPV4 | IPV6 => {
            let [first] = load::<1>(skb, 0)?;
            if first >> 4 == 4 {
                (u32::from(first & 0xf) * 4, load::<1>(skb, 9)?[0])
            } else {
                (IPV6_HEADER, load::<1>(skb, 6)?[0])
            }
        }
        _ => return None,
    };
    if protocol != UDP {
        return None;
    }
    let egress = hook == HOOK_DNS_EGRESS;
    let port = u16::from_be_bytes(load::<2>(skb, if egress { udp + 2 } else { udp })?);
    if port != DNS_PORT {
        return None;
    }
    let mut remote = Remote {
        addr: [0; 16],
        port,
        protocol: u16::from(protocol),
        reserved: 0,
    };
    if udp == IPV6_HEADER && load::<1>(skb, 0)?[0] >> 4 == 6 {
        remote.addr = load::<16>(skb, if egress { 24 } else { 8 })?;
    } else {
        let ip4 = load::<4>(skb, if egress { 16 } else { 12 })?;
        remote.addr[10] = 0xff;
        remote.addr[11] = 0xff;
        remote.addr[12] = ip4[0];
        remote.addr[13] = ip4[1];
        remote.addr[14] = ip4[2];
        remote.addr[15] = ip4[3];
    }
    Some(Datagram { udp, remote })
}

/// Hands the message over. Returns the outcome to book.
#[inline(always)]
fn copy(skb: *mut __sk_buff, hook: u32, datagram: &Datagram) -> u32 {
    let start = datagram.udp + UDP_HEADER;
    // SAFETY: the context is valid for the program's run.
    let length = unsafe { core::ptr::read_volatile(&raw const (*skb).len) };
    if length < start + DNS_HEADER {
        return DROPPED_UNREADABLE;
    }
    let message_bytes = length - start;
    let payload_bytes = message_bytes.min(DNS_BYTES as u32);
    let Some(mut entry) = PAYLOAD.reserve::<DnsMessage>(0) else {
        return DROPPED_RING_FULL;
    };
    let message = entry.as_mut_ptr();
    // SAFETY: `entry` is memory of a `DnsMessage`, written before it is submitted.
    unsafe {
        (*message).head = DnsHead {
            header: emit::header::<DnsMessage>(record::KIND_DNS_MESSAGE),
            process: owner(skb),
            remote: datagram.remote,
            cookie: bpf_get_socket_cookie(skb.cast()),
            hook,
            payload_bytes: payload_bytes as u16,
            message_bytes: message_bytes as u16,
        };
    }
    let (least, most) = (u64::from(DNS_HEADER), DNS_BYTES as u64);
    let Some(copied) = kernel::within(u64::from(payload_bytes), least, most) else {
        entry.discard(emit::NO_WAKEUP);
        return DROPPED_UNREADABLE; // Cannot be, but the verifier wants to see it.
    };
    // SAFETY: `copied` is at most the payload's size; the helper checks the packet.
    let result = unsafe {
        let payload = (&raw mut (*message).payload).cast();
        bpf_skb_load_bytes(skb.cast(), start, payload, copied as u32)
    };
    if result != 0 {
        entry.discard(emit::NO_WAKEUP);
        return DROPPED_UNREADABLE;
    }
    entry.submit(emit::NO_WAKEUP);
    DELIVERED
}

/// Who opened the packet's socket; all zero if the socket has no record.
#[inline(always)]
fn owner(skb: *mut __sk_buff) -> monitor_common::flow::ProcessKey {
    // SAFETY: the context is valid; the verifier insists on the null checks.
    unsafe {
        let sk = core::ptr::read_volatile(&raw const (*skb).__bindgen_anon_2.sk);
        if sk.is_null() {
            return Default::default();
        }
        let full = bpf_sk_fullsock(sk);
        if full.is_null() {
            return Default::default();
        }
        socket(full)
            .map(|socket| socket.flow.process)
            .unwrap_or_default()
    }
}
