//! Samples of payload → records of what is named in them. Behind this, no payload exists.
//!
//! In: raw records, samples among them. Out: the same records, but in place of the samples those
//! of [`DnsMessage`](super::event::DnsMessage)s and of what clients claim
//! ([`NameClaimed`](super::event::NameClaimed)), with the sample's time and owner.
//!
//! It stands before the recorder, so that a recording holds names and nothing else of what was
//! sent, and a replay does not need it. Bytes of a flow are kept until its name is found, for
//! [`WAIT_MAX`] at most.

use std::time::Duration;

use monitor_common::counter::{HOOK_DNS_EGRESS, HOOK_DNS_INGRESS};
use monitor_common::limits::DNS_BYTES;
use monitor_common::record::{DnsHead, Header, KIND_DNS_MESSAGE, KIND_SAMPLE, SampleHead};
use zerocopy::{FromBytes, IntoBytes};

use super::claim::{self, Claim};
use super::event::{BootNs, Endpoint, Protocol, SocketCookie};
use super::fair::{FairTable, Owner};
use super::wire::dns_stream::DnsStream;
use super::wire::found::{Found, Incomplete};
use super::wire::opening::{TcpOpening, WAIT_MAX};
use super::wire::quic::QuicOpening;
use super::wire::{self, dns};

/// Flows looked at at one time. Most say all in their first packet and are done at once; each of
/// the others takes up to 16 KiB.
const FLOWS_MAX: usize = 2048;
/// The same of one process, so that none can push out those of others.
const FLOWS_PER_PROCESS_MAX: usize = 512;
/// How long a conversation with a resolver is remembered after its last message.
const RESOLVER_WAIT: Duration = Duration::from_secs(30);

/// The flows whose names are still looked for.
#[derive(Debug)]
pub struct Samples {
    flows: FairTable<FlowKey, Flow>,
    swept: BootNs,
}

/// One direction of a flow. A UDP socket may have several, so the remote belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FlowKey {
    cookie: SocketCookie,
    remote: Endpoint,
    hook: u32,
}

#[derive(Debug)]
struct Flow {
    head: SampleHead,
    expires: BootNs,
    opening: Opening,
}

#[derive(Debug)]
enum Opening {
    Tcp(TcpOpening),
    Udp(QuicOpening),
    Dns(DnsStream),
}

impl Default for Samples {
    fn default() -> Self {
        Samples {
            flows: FairTable::new(FLOWS_PER_PROCESS_MAX, FLOWS_MAX),
            swept: BootNs(0),
        }
    }
}

impl Samples {
    /// Hands on a record, or what is found in it if it is a sample.
    pub fn pass(&mut self, record: &[u8], each: &mut impl FnMut(&[u8])) {
        let kind = Header::read_from_prefix(record).map(|(header, _)| header.kind);
        if kind != Ok(KIND_SAMPLE) {
            return each(record);
        }
        let Ok((head, tail)) = SampleHead::read_from_prefix(record) else {
            // Cut off: decoding will count it.
            return each(record.get(..size_of::<Header>()).unwrap_or_default());
        };
        let said = usize::try_from(head.sample_bytes).unwrap_or(usize::MAX);
        let bytes = tail.get(..said).unwrap_or(tail);
        self.sample(head, bytes, each);
    }

    /// Gives up on flows that have had their time. Cheap enough for every poll.
    pub fn sweep(&mut self, now: BootNs, each: &mut impl FnMut(&[u8])) {
        const PAUSE: Duration = Duration::from_millis(250);
        if now.since(self.swept) < PAUSE {
            return;
        }
        self.swept = now;
        for mut gone in self.flows.prune(|flow| flow.expires <= now) {
            let mut head = gone.entry.value.head;
            head.header.time_ns = now.0;
            if let Some(found) = gone.entry.value.opening.close() {
                each(&claim::encode(&head, &Claim::from(&found)));
            }
        }
    }

    fn sample(&mut self, head: SampleHead, bytes: &[u8], each: &mut impl FnMut(&[u8])) {
        let remote = Endpoint::from(head.remote);
        let dns = head.hook == HOOK_DNS_EGRESS || head.hook == HOOK_DNS_INGRESS;
        if dns && remote.protocol == Protocol::Udp {
            return each(&dns_record(&head, bytes, head.wire_bytes));
        }
        let key = FlowKey {
            cookie: SocketCookie(head.cookie),
            remote,
            hook: head.hook,
        };
        let owner = Owner::from(head.process);
        let begins = head.offset == 0;
        let mut flow = match self.flows.remove(owner, &key) {
            Some(known) => known.entry.value,
            // What is not the beginning belongs to a flow that is done.
            None if begins || dns => Flow::new(head, remote.protocol, dns),
            None => return,
        };
        let found = flow.take(&head, bytes, each);
        for found in &found {
            each(&claim::encode(&head, &Claim::from(found)));
        }
        if flow.is_done() {
            return;
        }
        let (_, evicted) = self.flows.insert(owner, key, flow);
        if let Some(mut gone) = evicted {
            let mut gone_head = gone.entry.value.head;
            gone_head.header.time_ns = head.header.time_ns;
            if gone.entry.value.opening.close().is_some() {
                each(&claim::encode(&gone_head, &Claim::Evicted));
            }
        }
    }
}

impl Flow {
    fn new(head: SampleHead, protocol: Protocol, dns: bool) -> Self {
        let (opening, wait) = match protocol {
            _ if dns => (Opening::Dns(DnsStream::default()), RESOLVER_WAIT),
            Protocol::Tcp => (Opening::Tcp(TcpOpening::default()), WAIT_MAX),
            _ => (Opening::Udp(QuicOpening::default()), WAIT_MAX),
        };
        Flow {
            head,
            expires: after(BootNs(head.header.time_ns), wait),
            opening,
        }
    }

    fn take(
        &mut self,
        head: &SampleHead,
        bytes: &[u8],
        each: &mut impl FnMut(&[u8]),
    ) -> Vec<Found> {
        match &mut self.opening {
            Opening::Tcp(opening) => opening.segment(head.offset, bytes),
            Opening::Udp(opening) => opening.datagram(bytes),
            Opening::Dns(stream) => {
                self.expires = after(BootNs(head.header.time_ns), RESOLVER_WAIT);
                for message in stream.segment(head.offset, bytes) {
                    let wire_bytes = u32::try_from(message.len()).unwrap_or(u32::MAX);
                    let kept = message.get(..DNS_BYTES).unwrap_or(&message);
                    each(&dns_record(head, kept, wire_bytes));
                }
                Vec::new()
            }
        }
    }

    /// Nothing more will be found. A UDP flow that is done is kept until its time is over: each of
    /// its datagrams could be a beginning.
    fn is_done(&self) -> bool {
        match &self.opening {
            Opening::Tcp(opening) => opening.is_done(),
            Opening::Dns(stream) => stream.is_lost(),
            Opening::Udp(_) => false,
        }
    }
}

impl Opening {
    /// What there is to tell of a flow that is given up.
    fn close(&mut self) -> Option<Found> {
        match self {
            Opening::Tcp(opening) => opening.close(Incomplete::TimedOut),
            Opening::Udp(opening) => opening.close(Incomplete::TimedOut),
            Opening::Dns(_) => None,
        }
    }
}

/// A record of a DNS message. Of what is none, nothing is kept but that it was there.
fn dns_record(head: &SampleHead, message: &[u8], wire_bytes: u32) -> Vec<u8> {
    let kept = match dns::parse(message) {
        Ok(_) | Err(wire::Error::NameInvalid) => message,
        Err(wire::Error::Malformed) => &[],
    };
    let raw = DnsHead {
        header: Header {
            time_ns: head.header.time_ns,
            kind: KIND_DNS_MESSAGE,
            bytes: u32::try_from(size_of::<DnsHead>() + kept.len()).unwrap_or(u32::MAX),
        },
        process: head.process,
        remote: head.remote,
        cookie: head.cookie,
        hook: head.hook,
        payload_bytes: u16::try_from(kept.len()).unwrap_or(u16::MAX),
        message_bytes: u16::try_from(wire_bytes).unwrap_or(u16::MAX),
    };
    [raw.as_bytes(), kept].concat()
}

fn after(time: BootNs, wait: Duration) -> BootNs {
    let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
    BootNs(time.0.saturating_add(wait_ns))
}

#[cfg(test)]
mod tests {
    use monitor_common::counter::HOOK_SAMPLE;
    use monitor_common::flow::{ProcessKey, Remote};

    use super::super::claim::By;
    use super::super::event::Event;
    use super::*;

    const REQUEST: &[u8] = b"GET /secret HTTP/1.1\r\nHost: a.example\r\n\r\n";

    fn head(cookie: u64, hook: u32, remote: (u16, u16), seconds: u64) -> SampleHead {
        let (port, protocol) = remote;
        SampleHead {
            header: Header {
                time_ns: seconds * 1_000_000_000,
                kind: KIND_SAMPLE,
                bytes: 0,
            },
            process: ProcessKey {
                start_ns: cookie >> 32,
                ..ProcessKey::default()
            },
            remote: Remote {
                addr: Remote::v4_mapped(0x0100_007f),
                port,
                protocol,
                reserved: 0,
            },
            cookie,
            hook,
            ..SampleHead::default()
        }
    }

    fn http(cookie: u64, seconds: u64) -> SampleHead {
        head(cookie, HOOK_SAMPLE, (80, 6), seconds)
    }

    /// What comes of bytes at an offset.
    fn pass(samples: &mut Samples, head: SampleHead, offset: usize, bytes: &[u8]) -> Vec<Event> {
        let raw = SampleHead {
            offset: u32::try_from(offset).unwrap(),
            sample_bytes: u32::try_from(bytes.len()).unwrap(),
            wire_bytes: u32::try_from(bytes.len()).unwrap(),
            ..head
        };
        let mut events = Vec::new();
        let record = [raw.as_bytes(), bytes].concat();
        samples.pass(&record, &mut |record| {
            let secret = record.windows(6).any(|window| window == b"secret");
            assert!(!secret, "payload in a record");
            events.push(Event::decode(record).unwrap());
        });
        events
    }

    #[track_caller]
    fn check_claims(events: &[Event], expect: &[&str]) {
        let claims = events.iter().map(|event| match event {
            Event::NameClaimed(event) => match &event.claim {
                Claim::Named(named) => named.text().to_string(),
                other => format!("{other:?}"),
            },
            other => panic!("{other:?}"),
        });
        assert_eq!(claims.collect::<Vec<_>>(), expect);
    }

    #[test]
    fn a_name_comes_out_and_the_request_does_not() {
        let mut samples = Samples::default();
        let events = pass(&mut samples, http(1, 1), 0, REQUEST);
        check_claims(&events, &["a.example"]);
        // What follows is nobody's beginning.
        check_claims(&pass(&mut samples, http(1, 1), REQUEST.len(), REQUEST), &[]);
        assert_eq!(samples.flows.len(), 0);
    }

    #[test]
    fn a_name_may_come_in_parts() {
        let mut samples = Samples::default();
        let (first, second) = REQUEST.split_at(30);
        check_claims(&pass(&mut samples, http(1, 1), 0, first), &[]);
        check_claims(&pass(&mut samples, http(2, 1), 0, first), &[]);
        let events = pass(&mut samples, http(1, 1), 30, second);
        check_claims(&events, &["a.example"]);
    }

    #[test]
    fn a_flow_that_never_says_it_is_told_as_that() {
        let mut samples = Samples::default();
        pass(&mut samples, http(1, 10), 0, b"GET /secret");
        let mut events = Vec::new();
        for seconds in [11, 12] {
            samples.sweep(BootNs(seconds * 1_000_000_000), &mut |record| {
                events.push(Event::decode(record).unwrap());
            });
        }
        let [Event::NameClaimed(event)] = &*events else {
            panic!("{events:?}");
        };
        assert_eq!(
            event.claim,
            Claim::Incomplete(By::Http, Incomplete::TimedOut)
        );
        assert_eq!(event.cookie, SocketCookie(1));
    }

    #[test]
    fn who_opens_many_loses_their_own() {
        let mut samples = Samples::default();
        pass(&mut samples, http(1, 1), 0, &REQUEST[..30]);
        let mut evicted = 0;
        for cookie in 0..2 * FLOWS_PER_PROCESS_MAX as u64 {
            let events = pass(&mut samples, http(1 << 32 | cookie, 1), 0, b"GET /secret");
            evicted += events.len();
        }
        assert_eq!(evicted, FLOWS_PER_PROCESS_MAX);
        let events = pass(&mut samples, http(1, 1), 30, &REQUEST[30..]);
        check_claims(&events, &["a.example"]);
    }

    /// A question for `telltale.test`: RFC 1035 section 4.
    const QUERY: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x08telltale\x04test\x00\x00\x01\x00\x01";

    #[track_caller]
    fn check_messages(events: &[Event], expect: &[&[u8]]) {
        let messages = events.iter().map(|event| match event {
            Event::DnsMessage(message) => &*message.payload,
            other => panic!("{other:?}"),
        });
        assert_eq!(messages.collect::<Vec<_>>(), expect);
    }

    #[test]
    fn dns_comes_in_datagrams_and_in_streams() {
        let mut samples = Samples::default();
        let udp = head(1, HOOK_DNS_EGRESS, (53, 17), 1);
        check_messages(&pass(&mut samples, udp, 0, QUERY), &[QUERY]);
        let tcp = head(2, HOOK_DNS_INGRESS, (53, 6), 1);
        let length = u8::try_from(QUERY.len()).unwrap();
        let stream = [&[0, length], QUERY, &[0, length], QUERY].concat();
        let (first, second) = stream.split_at(50);
        check_messages(&pass(&mut samples, tcp, 50, second), &[]);
        check_messages(&pass(&mut samples, tcp, 0, first), &[QUERY, QUERY]);
    }

    #[test]
    fn of_what_is_no_dns_nothing_is_kept() {
        let mut samples = Samples::default();
        let udp = head(1, HOOK_DNS_EGRESS, (53, 17), 1);
        check_messages(
            &pass(&mut samples, udp, 0, b"this is a secret of mine"),
            &[&[]],
        );
    }

    #[test]
    fn other_records_pass() {
        let mut samples = Samples::default();
        let header = Header {
            time_ns: 1,
            kind: 99,
            bytes: 16,
        };
        let mut passed = Vec::new();
        samples.pass(header.as_bytes(), &mut |record| {
            passed.push(record.to_vec())
        });
        assert_eq!(passed, [header.as_bytes()]);
        // A sample that is cut off leaves no more than its header.
        let cut = Header {
            kind: KIND_SAMPLE,
            ..header
        };
        let record = [cut.as_bytes(), b"secret"].concat();
        samples.pass(&record, &mut |record| passed.push(record.to_vec()));
        assert_eq!(passed[1], cut.as_bytes());
    }
}
