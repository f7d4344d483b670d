//! Names that systemd-resolved tells of.
//!
//! In: its answers, beside DNS messages. Out: names without an asker, which back and explain.

use super::super::NameSource::Resolved;
use super::*;

fn tell(table: &mut NameTable, seconds: u64, name: &str, address: &str) -> usize {
    table.resolved(&name.into(), ip(address), at(seconds))
}

#[test]
fn they_are_everybodys_and_back_a_claim() {
    let mut table = table();
    tell(&mut table, 1, "a.example", SHARED_IP);
    check(&table, 1, SHARED_IP, 2, &[("a.example", Resolved)]);
    check_claim(&table, 2, "a.example", &[("a.example", Resolved)]);
    check(&table, 1, SHARED_IP, 1 + 10 * MINUTE, &[]);
    // Flows of no process have no names of their own either.
    let nobody = table.lookup(ProcessKey::default(), ip(SHARED_IP), None, at(2));
    assert_eq!(nobody.len(), 1);
    assert_eq!(nobody[0].source, Resolved);
}

#[test]
fn what_a_process_asked_itself_goes_first() {
    let mut table = table();
    learn(&mut table, 1, 1, "a.example", SHARED_IP);
    tell(&mut table, 2, "b.example", SHARED_IP);
    let expect = [("a.example", DnsOwn), ("b.example", Resolved)];
    check(&table, 1, SHARED_IP, 3, &expect);
    let expect = [("b.example", Resolved), ("a.example", DnsShared)];
    check(&table, 2, SHARED_IP, 3, &expect);
}

/// systemd-resolved asks its own resolver first, and its packets are seen as well.
#[test]
fn the_same_name_from_the_resolvers_own_question_is_told_once() {
    let mut table = table();
    tell(&mut table, 1, "a.example", SHARED_IP);
    learn(&mut table, 9, 2, "a.example", SHARED_IP);
    check(&table, 1, SHARED_IP, 3, &[("a.example", Resolved)]);
    // What systemd-resolved told expires before what it asked, whose TTL is longer.
    let asked = table.lookup(process(9), ip(SHARED_IP), None, at(3));
    table.keep(ip(SHARED_IP), &asked[0], at(MINUTE));
    let later = 1 + 10 * MINUTE;
    check(&table, 1, SHARED_IP, later, &[("a.example", DnsShared)]);
}

#[test]
fn a_flood_of_them_displaces_none_that_a_process_asked_for() {
    let mut table = NameTable::new(TIGHT, resolvers());
    learn(&mut table, 1, 0, "a.example", "198.51.100.1");
    let evicted: usize = (0..500)
        .map(|number| {
            let address = format!("203.0.113.{}", number % 250);
            tell(&mut table, 1, &format!("n{number}.example"), &address)
        })
        .sum();
    assert_eq!(evicted, 500 - TIGHT.per_process);
    check(&table, 1, "198.51.100.1", 2, &[("a.example", DnsOwn)]);
    table.backed.check_books();
}
