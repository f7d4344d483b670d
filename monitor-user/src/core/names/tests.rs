//! What the names of an address are, message by message.
//!
//! In: DNS messages as real resolvers send them. Out: names, told in order.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use simple_dns::rdata::{A, AAAA, CNAME, HTTPS, RData, SVCB};
use simple_dns::{CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord, TYPE};

use super::super::event::{Endpoint, Protocol, SocketCookie};
use super::super::fixture;
use super::NameSource::{DnsOwn, DnsShared, DnsUntrusted, Sni};
use super::*;

mod floods;
mod resolved;

const SHARED_IP: &str = "198.51.100.7";
const RESOLVER: &str = "192.0.2.53:53";
const MINUTE: u64 = 60;
/// Bounds that a flood soon reaches.
const TIGHT: NameLimits = NameLimits {
    per_process: 50,
    per_address: 16,
    total: 60,
    queries: 10,
};

fn process(tgid: u32) -> ProcessKey {
    ProcessKey {
        start_ns: u64::from(tgid) * 1000,
        tgid,
        exec_id: 1,
    }
}

fn at(seconds: u64) -> BootNs {
    later(BootNs(0), seconds)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A message on the only socket of a process, to or from the usual resolver.
fn message(direction: Direction, tgid: u32, seconds: u64, payload: Vec<u8>) -> DnsMessage {
    DnsMessage {
        time: at(seconds),
        process: process(tgid),
        resolver: endpoint(RESOLVER),
        cookie: SocketCookie(tgid.into()),
        direction,
        payload,
        truncated: false,
    }
}

fn endpoint(addr: &str) -> Endpoint {
    Endpoint {
        addr: addr.parse::<SocketAddr>().unwrap(),
        protocol: Protocol::Udp,
    }
}

fn sent(tgid: u32, seconds: u64, payload: Vec<u8>) -> DnsMessage {
    message(Direction::Egress, tgid, seconds, payload)
}

fn received(tgid: u32, seconds: u64, payload: Vec<u8>) -> DnsMessage {
    message(Direction::Ingress, tgid, seconds, payload)
}

fn packet(mut packet: Packet, name: &str, qtype: TYPE) -> Vec<u8> {
    let name = Name::new_unchecked(name);
    let question =
        simple_dns::Question::new(name, qtype.into(), CLASS::IN.into(), false).into_owned();
    packet.questions.push(question);
    packet.build_bytes_vec_compressed().unwrap()
}

fn query(id: u16, name: &str, qtype: TYPE) -> Vec<u8> {
    let mut query = Packet::new_query(id);
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    packet(query, name, qtype)
}

type Records<'a> = &'a [(&'a str, u32, RData<'a>)];

fn reply(id: u16, name: &str, qtype: TYPE, records: Records) -> Vec<u8> {
    let mut reply = Packet::new_reply(id);
    for (owner, ttl, data) in records {
        let owner = Name::new_unchecked(owner);
        reply
            .answers
            .push(ResourceRecord::new(owner, CLASS::IN, *ttl, data.clone()));
    }
    packet(reply, name, qtype)
}

fn address(text: &str) -> RData<'static> {
    match ip(text) {
        IpAddr::V4(ip) => RData::A(A::from(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA::from(ip)),
    }
}

fn cname(target: &str) -> RData<'_> {
    RData::CNAME(CNAME(Name::new_unchecked(target)))
}

/// A process asks for the addresses of a name and is given `records`.
#[track_caller]
fn resolve(
    table: &mut NameTable,
    tgid: u32,
    seconds: u64,
    name: &str,
    records: Records,
) -> Observed {
    let asked = table.observe(&sent(tgid, seconds, query(7, name, TYPE::A)));
    assert_eq!(asked.outcome, DnsOutcome::Query);
    table.observe(&received(tgid, seconds, reply(7, name, TYPE::A, records)))
}

/// A process learns that a name has an address, from an answer with a TTL of five minutes.
#[track_caller]
fn learn(table: &mut NameTable, tgid: u32, seconds: u64, name: &str, ip: &str) -> Observed {
    let observed = resolve(table, tgid, seconds, name, &[(name, 300, address(ip))]);
    assert_eq!(observed.outcome, DnsOutcome::Answer);
    observed
}

/// Whom the tests trust.
fn resolvers() -> Vec<SocketAddr> {
    let trusted = [
        RESOLVER,
        "192.0.2.54:53",
        "[2001:db8::53]:53",
        "127.0.0.1:53",
    ];
    trusted.map(|at| at.parse().unwrap()).into()
}

fn table() -> NameTable {
    NameTable::new(fixture::LIMITS.names, resolvers())
}

/// What a process is told of an address.
#[track_caller]
fn check(table: &NameTable, tgid: u32, address: &str, seconds: u64, expect: &[(&str, NameSource)]) {
    let found = table.lookup(process(tgid), ip(address), None, at(seconds));
    let found: Vec<_> = found
        .iter()
        .map(|name| (&*name.name, name.source))
        .collect();
    assert_eq!(found, expect);
}

#[test]
fn each_process_sees_its_own_names_first_and_the_newest_first() {
    let mut table = table();
    for (tgid, seconds, name) in [
        (1, 1, "a.example"),
        (2, 2, "b.example"),
        (1, 3, "c.example"),
        (3, 4, "b.example"),
    ] {
        learn(&mut table, tgid, seconds, name, SHARED_IP);
    }
    let (a, b, c) = ("a.example", "b.example", "c.example");
    check(
        &table,
        1,
        SHARED_IP,
        5,
        &[(c, DnsOwn), (a, DnsOwn), (b, DnsShared)],
    );
    check(
        &table,
        2,
        SHARED_IP,
        5,
        &[(b, DnsOwn), (c, DnsShared), (a, DnsShared)],
    );
    check(
        &table,
        4,
        SHARED_IP,
        5,
        &[(b, DnsShared), (c, DnsShared), (a, DnsShared)],
    );
    check(&table, 1, "198.51.100.8", 5, &[]);

    let found = table.lookup(process(2), ip(SHARED_IP), None, at(5));
    assert_eq!((found[0].learned, found[0].asked_by), (at(2), process(2)));
    assert_eq!((found[1].learned, found[1].asked_by), (at(3), process(1)));
}

#[test]
fn a_process_keeps_its_names_over_exec() {
    let mut table = table();
    learn(&mut table, 1, 1, "a.example", SHARED_IP);
    let next_image = ProcessKey {
        exec_id: 2,
        ..process(1)
    };
    let found = table.lookup(next_image, ip(SHARED_IP), None, at(2));
    assert_eq!((found[0].source, found[0].asked_by), (DnsOwn, process(1)));
    let other_life = ProcessKey {
        start_ns: 9,
        ..process(1)
    };
    assert_eq!(
        table.lookup(other_life, ip(SHARED_IP), None, at(2))[0].source,
        DnsShared
    );
}

/// glibc: A and AAAA from one socket with two ids, answered in any order.
#[test]
fn two_queries_of_one_socket_are_both_answered() {
    let mut table = table();
    let name = "api.example";
    table.observe(&sent(1, 1, query(10, name, TYPE::A)));
    table.observe(&sent(1, 1, query(11, name, TYPE::AAAA)));
    let v6 = reply(11, name, TYPE::AAAA, &[(name, 60, address("2001:db8::1"))]);
    let v4 = reply(10, name, TYPE::A, &[(name, 60, address(SHARED_IP))]);
    assert_eq!(
        table.observe(&received(1, 2, v6)).outcome,
        DnsOutcome::Answer
    );
    assert_eq!(
        table.observe(&received(1, 2, v4)).outcome,
        DnsOutcome::Answer
    );
    check(&table, 1, "2001:db8::1", 2, &[(name, DnsOwn)]);
    check(&table, 1, SHARED_IP, 2, &[(name, DnsOwn)]);
    assert_eq!(
        table.counts(),
        NameCounts {
            names: 2,
            processes: 1,
            queries: 0
        }
    );
}

/// musl: the same query from one socket to all resolvers, the first answer wins.
#[test]
fn one_query_to_several_resolvers_is_answered_by_any() {
    let mut table = table();
    let name = "api.example";
    let resolvers = ["192.0.2.53:53", "192.0.2.54:53", "[2001:db8::53]:53"].map(endpoint);
    for resolver in resolvers {
        table.observe(&DnsMessage {
            resolver,
            ..sent(1, 1, query(7, name, TYPE::A))
        });
    }
    let answer = reply(7, name, TYPE::A, &[(name, 60, address(SHARED_IP))]);
    for resolver in resolvers {
        let answer = DnsMessage {
            resolver,
            ..received(1, 2, answer.clone())
        };
        assert_eq!(table.observe(&answer).outcome, DnsOutcome::Answer);
    }
    check(&table, 1, SHARED_IP, 2, &[(name, DnsOwn)]);
}

#[test]
fn addresses_at_the_end_of_aliases_have_the_name_asked() {
    let mut table = table();
    let (asked, other) = ("api.example.com", "other.example");
    let records = [
        ("c.example.net", 60, address(SHARED_IP)),
        ("b.example.net", 60, cname("C.example.net")),
        (other, 60, address("203.0.113.1")),
        ("API.example.com", 60, cname("b.example.net")),
    ];
    resolve(&mut table, 1, 1, asked, &records);
    check(&table, 1, SHARED_IP, 1, &[(asked, DnsOwn)]);
    check(&table, 1, "203.0.113.1", 1, &[]);
}

#[test]
fn aliases_in_circles_end() {
    let mut table = table();
    let records = [
        ("a.example", 60, cname("b.example")),
        ("b.example", 60, cname("a.example")),
        ("b.example", 60, address(SHARED_IP)),
    ];
    resolve(&mut table, 1, 1, "a.example", &records);
    check(&table, 1, SHARED_IP, 1, &[("a.example", DnsOwn)]);
}

#[test]
fn more_aliases_than_fit_lead_nowhere() {
    let mut table = table();
    let names: Vec<_> = (0..=1000)
        .map(|index| format!("n{index}.example"))
        .collect();
    let links = names
        .windows(2)
        .map(|pair| (&*pair[0], 60, cname(&pair[1])));
    let end = (&*names[1000], 60, address(SHARED_IP));
    let records: Vec<_> = links.chain([end]).collect();
    let observed = resolve(&mut table, 1, 1, "n0.example", &records);
    assert_eq!(observed.outcome, DnsOutcome::Answer);
    assert_eq!(table.counts().names, 0);
}

#[test]
fn hints_of_services_have_the_name_asked() {
    let mut table = table();
    let mut service = SVCB::new(1, Name::new_unchecked("edge.example"));
    service.set_ipv4hint(&[Ipv4Addr::new(198, 51, 100, 7).into()]);
    service.set_ipv6hint(&[Ipv6Addr::LOCALHOST.into()]);
    let records = [("a.example", 60, RData::HTTPS(HTTPS(service)))];
    table.observe(&sent(1, 1, query(7, "a.example", TYPE::HTTPS)));
    table.observe(&received(
        1,
        1,
        reply(7, "a.example", TYPE::HTTPS, &records),
    ));
    check(&table, 1, SHARED_IP, 1, &[("a.example", DnsOwn)]);
    check(&table, 1, "::1", 1, &[("a.example", DnsOwn)]);
}

#[test]
fn a_failure_teaches_nothing() {
    let mut table = table();
    table.observe(&sent(1, 1, query(7, "a.example", TYPE::A)));
    let mut failure = Packet::new_reply(7);
    *failure.rcode_mut() = RCODE::NameError;
    let owner = Name::new_unchecked("a.example");
    failure.answers.push(ResourceRecord::new(
        owner,
        CLASS::IN,
        60,
        address(SHARED_IP),
    ));
    let observed = table.observe(&received(1, 1, packet(failure, "a.example", TYPE::A)));
    assert_eq!(observed.outcome, DnsOutcome::Answer);
    assert_eq!(
        table.counts(),
        NameCounts {
            names: 0,
            processes: 0,
            queries: 0
        }
    );
}

/// Every way in which an answer can fail to match leaves the query for the right one.
#[test]
fn only_the_answer_to_the_query_is_used_and_only_once() {
    let mut table = table();
    let name = "a.example";
    let records = [(name, 60, address(SHARED_IP))];
    let good = received(1, 2, reply(7, name, TYPE::A, &records));
    let with_payload = |payload| DnsMessage {
        payload,
        ..good.clone()
    };
    let wrong = [
        with_payload(reply(8, name, TYPE::A, &records)),
        with_payload(reply(7, "b.example", TYPE::A, &records)),
        with_payload(reply(7, name, TYPE::AAAA, &records)),
        with_payload(query(7, name, TYPE::A)),
        DnsMessage {
            resolver: endpoint("192.0.2.54:53"),
            ..good.clone()
        },
        DnsMessage {
            resolver: endpoint("192.0.2.53:54"),
            ..good.clone()
        },
        DnsMessage {
            cookie: SocketCookie(2),
            ..good.clone()
        },
        DnsMessage {
            process: process(2),
            ..good.clone()
        },
        DnsMessage {
            direction: Direction::Egress,
            ..good.clone()
        },
        DnsMessage {
            time: at(31),
            ..good.clone()
        },
    ];
    let unsolicited = Observed::unlimited(DnsOutcome::Unsolicited);
    // It answers what is waited for, but not as who was asked would.
    let forged = Observed {
        forged: Some(name.into()),
        ..Observed::unlimited(DnsOutcome::Forged)
    };
    let is_forged = |at: usize| [0, 4, 5].contains(&at);
    assert_eq!(table.observe(&good), unsolicited);
    table.observe(&sent(1, 1, query(7, name, TYPE::A)));
    for (at, answer) in wrong.iter().enumerate() {
        let expect = if is_forged(at) { &forged } else { &unsolicited };
        assert_eq!(table.observe(answer), *expect, "{answer:?}");
        assert_eq!(
            table.counts(),
            NameCounts {
                names: 0,
                processes: 0,
                queries: 1
            }
        );
    }
    assert_eq!(table.observe(&good).outcome, DnsOutcome::Answer);
    assert_eq!(table.observe(&good), unsolicited);
    check(&table, 1, SHARED_IP, 2, &[(name, DnsOwn)]);
}

#[test]
fn a_query_sent_again_is_answered_once_and_a_reused_id_asks_anew() {
    let mut table = table();
    table.observe(&sent(1, 1, query(7, "a.example", TYPE::A)));
    table.observe(&sent(1, 6, query(7, "A.example", TYPE::A)));
    let records = [("a.example", 60, address(SHARED_IP))];
    let late = received(1, 35, reply(7, "a.example", TYPE::A, &records));
    table.observe(&sent(2, 6, query(7, "a.example", TYPE::A)));
    table.observe(&sent(2, 7, query(7, "b.example", TYPE::A)));
    let stale = received(2, 7, reply(7, "a.example", TYPE::A, &records));
    assert_eq!(table.counts().queries, 2);
    assert_eq!(table.observe(&late).outcome, DnsOutcome::Answer);
    assert_eq!(table.observe(&stale).outcome, DnsOutcome::Unsolicited);
}

#[test]
fn letter_case_does_not_matter() {
    let mut table = table();
    table.observe(&sent(1, 1, query(7, "aPi.ExAmPlE.CoM", TYPE::A)));
    let records = [("api.example.com", 60, address(SHARED_IP))];
    let answer = received(1, 1, reply(7, "API.example.com", TYPE::A, &records));
    assert_eq!(table.observe(&answer).outcome, DnsOutcome::Answer);
    check(&table, 1, SHARED_IP, 1, &[("api.example.com", DnsOwn)]);
}

#[test]
fn bad_messages_are_told_apart() {
    let mut table = table();
    let garbage = table.observe(&sent(1, 1, vec![0xff; 40]));
    assert_eq!(garbage, Observed::unlimited(DnsOutcome::Malformed));
    let spaced = table.observe(&sent(1, 1, query(7, "a b.example", TYPE::A)));
    assert_eq!(spaced, Observed::unlimited(DnsOutcome::NameInvalid));
    let records = [
        ("a.example", 60, cname("*.example")),
        ("a.example", 60, address(SHARED_IP)),
    ];
    let observed = resolve(&mut table, 1, 1, "a.example", &records);
    assert_eq!(observed.outcome, DnsOutcome::NameInvalid);
    check(&table, 1, SHARED_IP, 1, &[("a.example", DnsOwn)]);
}

#[test]
fn an_answer_cut_by_the_capture_is_used_and_one_that_lies_is_not() {
    let mut table = table();
    let name = "a.example";
    table.observe(&sent(1, 1, query(7, name, TYPE::A)));
    let records = [
        (name, 60, address(SHARED_IP)),
        (name, 60, address("198.51.100.8")),
    ];
    let mut payload = reply(7, name, TYPE::A, &records);
    payload.pop();
    let answer = received(1, 1, payload);
    assert_eq!(table.observe(&answer).outcome, DnsOutcome::Malformed);
    let answer = DnsMessage {
        truncated: true,
        ..answer
    };
    assert_eq!(table.observe(&answer).outcome, DnsOutcome::Answer);
    check(&table, 1, SHARED_IP, 1, &[(name, DnsOwn)]);
    check(&table, 1, "198.51.100.8", 1, &[]);
}

#[test]
fn local_addresses_are_not_shared_and_private_ones_are() {
    let mut table = table();
    let name = "a.example";
    let local = [
        "127.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "::1",
        "::",
        "fe80::1",
    ];
    for ip in local {
        learn(&mut table, 1, 1, name, ip);
        check(&table, 1, ip, 1, &[(name, DnsOwn)]);
        check(&table, 2, ip, 1, &[]);
    }
    for ip in ["10.0.0.1", "192.168.1.1", "fd00::1"] {
        learn(&mut table, 1, 1, name, ip);
        check(&table, 2, ip, 1, &[(name, DnsShared)]);
    }
    // The address a flow shows is IPv4 where the answer's is IPv4-mapped.
    learn(&mut table, 1, 1, name, "::ffff:203.0.113.1");
    check(&table, 2, "203.0.113.1", 1, &[(name, DnsShared)]);
    learn(&mut table, 1, 1, name, "::ffff:127.0.0.2");
    check(&table, 2, "127.0.0.2", 1, &[]);
}

/// A process that answers its own queries from port 53 names things for itself first of all.
#[test]
fn a_resolver_on_this_host_cannot_override_what_others_learned() {
    let mut table = table();
    learn(&mut table, 1, 1, "real.example", SHARED_IP);
    let resolver = endpoint("127.0.0.1:53");
    let fake = reply(
        7,
        "fake.example",
        TYPE::A,
        &[("fake.example", 60, address(SHARED_IP))],
    );
    let asked = sent(2, 2, query(7, "fake.example", TYPE::A));
    table.observe(&DnsMessage { resolver, ..asked });
    // The resolver's own side of the conversation.
    let leaving = message(Direction::Egress, 3, 2, fake.clone());
    assert_eq!(table.observe(&leaving).outcome, DnsOutcome::Unsolicited);
    table.observe(&DnsMessage {
        resolver,
        ..received(2, 2, fake)
    });
    let (real, fake) = ("real.example", "fake.example");
    check(
        &table,
        1,
        SHARED_IP,
        3,
        &[(real, DnsOwn), (fake, DnsShared)],
    );
    check(
        &table,
        2,
        SHARED_IP,
        3,
        &[(fake, DnsOwn), (real, DnsShared)],
    );
}

#[test]
fn names_live_ten_minutes_to_an_hour() {
    let mut table = table();
    for (name, ttl) in [
        ("short.example", 0),
        ("long.example", 86_400),
        ("half.example", 1800),
    ] {
        resolve(&mut table, 1, 0, name, &[(name, ttl, address(SHARED_IP))]);
    }
    let (short, half, long) = ("short.example", "half.example", "long.example");
    let all = [(half, DnsOwn), (long, DnsOwn), (short, DnsOwn)];
    check(&table, 1, SHARED_IP, 10 * MINUTE - 1, &all);
    check(&table, 1, SHARED_IP, 10 * MINUTE, &all[..2]);
    check(&table, 1, SHARED_IP, 30 * MINUTE, &all[1..2]);
    check(&table, 1, SHARED_IP, 60 * MINUTE, &[]);
    check(&table, 2, SHARED_IP, 60 * MINUTE, &[]);

    table.observe(&sent(2, 10 * MINUTE, query(7, "a.example", TYPE::A)));
    table.sweep(at(10 * MINUTE));
    assert_eq!(
        table.counts(),
        NameCounts {
            names: 2,
            processes: 1,
            queries: 1
        }
    );
    table.sweep(at(60 * MINUTE));
    assert_eq!(
        table.counts(),
        NameCounts {
            names: 0,
            processes: 0,
            queries: 0
        }
    );
    table.backed.check_books();
}

#[test]
fn a_name_learned_again_lives_on() {
    let mut table = table();
    let name = "a.example";
    resolve(&mut table, 1, 0, name, &[(name, 1800, address(SHARED_IP))]);
    resolve(
        &mut table,
        1,
        25 * MINUTE,
        name,
        &[(name, 1, address(SHARED_IP))],
    );
    check(&table, 1, SHARED_IP, 34 * MINUTE, &[(name, DnsOwn)]);
    check(&table, 2, SHARED_IP, 34 * MINUTE, &[(name, DnsShared)]);
    check(&table, 1, SHARED_IP, 35 * MINUTE, &[]);
    // A shorter TTL takes nothing away from a longer one.
    resolve(
        &mut table,
        1,
        40 * MINUTE,
        name,
        &[(name, 1800, address(SHARED_IP))],
    );
    resolve(
        &mut table,
        1,
        41 * MINUTE,
        name,
        &[(name, 1, address(SHARED_IP))],
    );
    check(&table, 1, SHARED_IP, 69 * MINUTE, &[(name, DnsOwn)]);
    assert_eq!(table.counts().names, 1);
    table.backed.check_books();
}

#[test]
fn names_outlive_their_process_for_five_minutes() {
    let mut table = table();
    learn(&mut table, 1, 0, "a.example", SHARED_IP);
    learn(&mut table, 2, 0, "b.example", SHARED_IP);
    table.process_gone(process(1), at(1));
    let (a, b) = ("a.example", "b.example");
    check(&table, 1, SHARED_IP, 300, &[(a, DnsOwn), (b, DnsShared)]);
    check(&table, 2, SHARED_IP, 300, &[(b, DnsOwn), (a, DnsShared)]);
    check(&table, 2, SHARED_IP, 301, &[(b, DnsOwn)]);
    // What would expire sooner does.
    table.process_gone(process(2), at(9 * MINUTE));
    check(&table, 3, SHARED_IP, 10 * MINUTE, &[]);
}

/// What a process claims of an address in a flow.
fn claim(tgid: u32, seconds: u64, name: &str) -> NameEvidence {
    NameEvidence {
        name: name.into(),
        source: Sni,
        first: at(seconds),
        learned: at(seconds),
        asked_by: process(tgid),
    }
}

/// What a process is told of an address in whose flow it claims a name.
#[track_caller]
fn check_claim(table: &NameTable, tgid: u32, name: &str, expect: &[(&str, NameSource)]) {
    let claim = claim(tgid, 2, name);
    let found = table.lookup(process(tgid), ip(SHARED_IP), Some(&claim), at(2));
    let found: Vec<_> = found
        .iter()
        .map(|name| (&*name.name, name.source))
        .collect();
    assert_eq!(found, expect);
}

#[test]
fn a_claim_goes_first_under_the_source_that_backs_it() {
    let mut table = table();
    let (own, others) = ("own.example", "others.example");
    learn(&mut table, 1, 1, own, SHARED_IP);
    learn(&mut table, 2, 1, others, SHARED_IP);
    check_claim(&table, 1, own, &[(own, DnsOwn), (others, DnsShared)]);
    check_claim(&table, 1, others, &[(others, DnsShared), (own, DnsOwn)]);
    let claimed = "claimed.example";
    let all = [(claimed, Sni), (own, DnsOwn), (others, DnsShared)];
    check_claim(&table, 1, claimed, &all);
}

#[test]
fn a_claim_is_remembered_for_who_made_it_and_nobody_else() {
    let mut table = table();
    table.claim(ip(SHARED_IP), &claim(1, 1, "claimed.example"));
    check(&table, 1, SHARED_IP, 2, &[("claimed.example", Sni)]);
    check(&table, 2, SHARED_IP, 2, &[]);
    learn(&mut table, 2, 2, "a.example", SHARED_IP);
    let both = [("a.example", DnsShared), ("claimed.example", Sni)];
    check(&table, 1, SHARED_IP, 2, &both);
    check(
        &table,
        1,
        SHARED_IP,
        10 * MINUTE + 1,
        &[("a.example", DnsShared)],
    );
}

/// Both names of an address are true, or nobody knows: that is how sites share addresses.
#[test]
fn a_claim_contradicts_what_is_known_elsewhere_only() {
    let mut table = table();
    let check = |table: &NameTable, name: &str, expect: Option<&str>| {
        let found = table.contradicted(process(3), ip(SHARED_IP), name, at(2));
        assert_eq!(found.as_ref().map(|name| &*name.name), expect, "{name}");
    };
    learn(&mut table, 1, 1, "known.example", "198.51.100.8");
    check(&table, "known.example", None);
    learn(&mut table, 1, 1, "here.example", SHARED_IP);
    check(&table, "known.example", Some("here.example"));
    check(&table, "unknown.example", None);
    check(&table, "here.example", None);
    learn(&mut table, 2, 1, "known.example", SHARED_IP);
    check(&table, "known.example", None);
}

#[test]
fn who_asks_a_resolver_of_its_own_only_claims() {
    let mut table = table();
    let stranger = endpoint("203.0.113.53:53");
    let name = "api.example";
    table.observe(&DnsMessage {
        resolver: stranger,
        ..sent(1, 1, query(7, name, TYPE::A))
    });
    let answer = reply(7, name, TYPE::A, &[(name, 60, address(SHARED_IP))]);
    let observed = table.observe(&DnsMessage {
        resolver: stranger,
        ..received(1, 1, answer)
    });
    assert_eq!(observed.outcome, DnsOutcome::Untrusted);
    check(&table, 1, SHARED_IP, 1, &[(name, DnsUntrusted)]);
    check(&table, 2, SHARED_IP, 1, &[]);
}

#[test]
fn a_flood_of_claims_takes_no_resolved_name() {
    let mut table = table();
    learn(&mut table, 1, 1, "a.example", SHARED_IP);
    for index in 0..100_000 {
        let name = format!("n{index}.example");
        table.claim(ip(SHARED_IP), &claim(1, 1, &name));
        table.claim(
            ip(&format!("198.51.{}.1", index % 200)),
            &claim(2, 1, &name),
        );
    }
    let found = table.lookup(process(1), ip(SHARED_IP), None, at(2));
    assert_eq!((&*found[0].name, found[0].source), ("a.example", DnsOwn));
    assert_eq!(found.len(), 1 + fixture::LIMITS.names.per_address);
    let most = fixture::LIMITS.names.per_process / 8 + fixture::LIMITS.names.per_address + 1;
    assert!(table.counts().names <= most, "{:?}", table.counts());
}
