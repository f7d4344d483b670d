//! The bounds of the name table, and who pays for reaching them.
//!
//! In: more messages than there is room for. Out: the names of those that did not send them.

use super::super::known::SHARED_SCAN_MAX;
use super::*;

#[test]
fn a_flood_of_names_displaces_only_the_flooders_own() {
    let mut table = NameTable::new(TIGHT, resolvers());
    learn(&mut table, 1, 0, "a.example", "198.51.100.1");
    learn(&mut table, 1, 0, "b.example", SHARED_IP);
    let mut evicted = 0;
    for index in 0..500_u32 {
        // Many names of one address, then many addresses.
        let last = if index < 100 { 7 } else { index % 256 };
        let ip = format!("198.51.{}.{last}", 100 + index / 256);
        let observed = learn(&mut table, 2, 1, &format!("n{index}.example"), &ip);
        assert_eq!(
            observed.limited,
            (observed.evicted > 0).then_some(Limit::Names)
        );
        evicted += observed.evicted;
        let of_address = table.backed.own(process(2).into(), ip.parse().unwrap());
        assert!(of_address.len() <= TIGHT.per_address);
    }
    // Each of them was learned once, and 50 are left.
    assert_eq!(evicted, 450);
    assert_eq!((table.counts().names, table.backed.len()), (52, 52));
    check(&table, 1, "198.51.100.1", 2, &[("a.example", DnsOwn)]);
    assert_eq!(
        &*table.lookup(process(1), ip(SHARED_IP), None, at(2))[0].name,
        "b.example"
    );
}

#[test]
fn the_newest_names_of_an_address_stay() {
    let mut table = NameTable::new(
        NameLimits {
            per_address: 2,
            ..fixture::LIMITS.names
        },
        resolvers(),
    );
    for (name, evicted) in [
        ("a.example", 0),
        ("b.example", 0),
        ("a.example", 0),
        ("c.example", 1),
    ] {
        assert_eq!(learn(&mut table, 1, 0, name, SHARED_IP).evicted, evicted);
    }
    check(
        &table,
        1,
        SHARED_IP,
        0,
        &[("c.example", DnsOwn), ("a.example", DnsOwn)],
    );
}

#[test]
fn a_flood_by_many_processes_takes_from_the_largest_first() {
    let limits = NameLimits {
        per_process: 50,
        per_address: 16,
        total: 60,
        queries: 10,
    };
    let mut table = NameTable::new(limits, resolvers());
    learn(&mut table, 1, 0, "a.example", SHARED_IP);
    for index in 0..200_u32 {
        let ip = format!("203.0.113.{index}");
        learn(&mut table, 2 + index % 5, 1, "n.example", &ip);
    }
    assert_eq!((table.counts().names, table.backed.len()), (60, 60));
    check(&table, 1, SHARED_IP, 2, &[("a.example", DnsOwn)]);
}

#[test]
fn a_flood_of_queries_leaves_the_queries_of_others() {
    let mut table = NameTable::new(
        NameLimits {
            queries: 10,
            ..fixture::LIMITS.names
        },
        resolvers(),
    );
    table.observe(&sent(1, 1, query(7, "a.example", TYPE::A)));
    for id in 0..100 {
        let observed = table.observe(&sent(2, 1, query(id, "n.example", TYPE::A)));
        assert_eq!(observed.limited, (id >= 9).then_some(Limit::Queries));
    }
    assert_eq!(table.counts().queries, 10);
    let records = [("a.example", 60, address(SHARED_IP))];
    let answer = received(1, 2, reply(7, "a.example", TYPE::A, &records));
    assert_eq!(table.observe(&answer).outcome, DnsOutcome::Answer);
}

#[test]
fn one_process_cannot_hide_what_others_learned_of_an_address() {
    let mut table = table();
    learn(&mut table, 1, 0, "a.example", SHARED_IP);
    for index in 0..1000 {
        learn(&mut table, 2, 1, &format!("n{index}.example"), SHARED_IP);
    }
    let found = table.lookup(process(3), ip(SHARED_IP), None, at(2));
    assert_eq!(found.len(), fixture::LIMITS.names.per_address + 1);
    assert_eq!(found.last().map(|name| &*name.name), Some("a.example"));
    // Many can, and then a lookup is bounded still.
    for tgid in 10..30 {
        for index in 0..16 {
            learn(
                &mut table,
                tgid,
                2,
                &format!("p{tgid}-{index}.example"),
                SHARED_IP,
            );
        }
    }
    assert_eq!(
        table.lookup(process(3), ip(SHARED_IP), None, at(3)).len(),
        SHARED_SCAN_MAX
    );
    check(&table, 1, "203.0.113.1", 3, &[]);
    assert_eq!(
        table.lookup(process(1), ip(SHARED_IP), None, at(3))[0].source,
        DnsOwn
    );
}

/// xorshift64: the same numbers in every run.
fn next_random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 32).unwrap()
}

#[track_caller]
fn check_books(table: &NameTable, limits: NameLimits) {
    let counts = table.counts();
    assert!(
        counts.names <= limits.total && counts.queries <= limits.queries,
        "{counts:?}"
    );
    table.backed.check_books();
}

#[test]
fn any_sequence_of_messages_keeps_the_books_and_the_bounds() {
    let limits = NameLimits {
        per_process: 9,
        per_address: 3,
        total: 20,
        queries: 8,
    };
    let mut table = NameTable::new(limits, resolvers());
    let payloads: Vec<_> = (0..6_u16)
        .flat_map(|index| {
            let (name, id) = (format!("n{index}.example"), index % 3);
            let ips = [
                format!("203.0.113.{}", index % 2),
                format!("203.0.113.{index}"),
            ];
            let records = ips.each_ref().map(|ip| (&*name, 60, address(ip)));
            [
                query(id, &name, TYPE::A),
                reply(id, &name, TYPE::A, &records),
            ]
        })
        .collect();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut answers = 0;
    for round in 0..200_000 {
        let mut random = |below: usize| next_random(&mut state) % below;
        let mut payload = payloads[random(payloads.len())].clone();
        if random(4) == 0 {
            let at = 12 + random(payload.len() - 12);
            // One bit, which makes no address here one that is not shared.
            payload[at] ^= 1 << random(8);
        }
        let leaving = payload[2] & 0x80 == 0;
        let direction = if leaving {
            Direction::Egress
        } else {
            Direction::Ingress
        };
        let (tgid, seconds) = (1 + u32::try_from(random(5)).unwrap(), round / 100);
        let observed = table.observe(&message(direction, tgid, seconds, payload));
        answers += u32::from(observed.outcome == DnsOutcome::Answer);
        match random(1000) {
            0 => table.process_gone(process(tgid), at(seconds)),
            1 => table.sweep(at(seconds)),
            2..100 => check_books(&table, limits),
            _ => {}
        }
    }
    assert!(answers > 10_000, "{answers} answers");
    table.sweep(at(1_000_000));
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
