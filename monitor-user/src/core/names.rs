//! Names of remote addresses, as evidence: each with a source, an age, and whose query it was.
//!
//! In: DNS messages with the process that sent or received them. Out: for an address and a
//! process, the names that may be meant, best first.
//!
//! A name is learned only from an answer to a query that was seen leaving the same socket, and it
//! is always the name that was *asked*: what aliases lead from it to the address does not matter.
//! What a process learned is its own ([`NameSource::DnsOwn`]); others see the same entries as
//! [`NameSource::DnsShared`]. There is no second copy that one process could overwrite for another.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::slice;
use std::sync::Arc;

use monitor_common::flow::ProcessKey;

use super::event::{BootNs, Direction, DnsMessage, Endpoint, SocketCookie};
use super::fair::{Entry, FairTable, Owner, Removed};
use super::report::{DnsOutcome, Limit};
use super::wire::dns::{self, AnswerData, Message, Question};
use super::wire::{self, HostName};

/// A query is answered within this, or not at all: resolvers give up after 5 to 30 seconds.
const QUERY_KEEP_SECONDS: u64 = 30;

/// Shortest life of a name after it was last learned, whatever its TTL says. A process goes
/// through all addresses of one answer, and giving up a silent one takes the kernel two minutes.
const NAME_KEEP_SECONDS_MIN: u64 = 10 * 60;

/// Longest life of a name after it was last learned. Addresses of cloud services change hands.
const NAME_KEEP_SECONDS_MAX: u64 = 60 * 60;

/// Longest life of a name after its process ended: records of its last flows may come late, and
/// a script may hand the address to another process.
const GONE_KEEP_SECONDS: u64 = 5 * 60;

/// Entries that a lookup of shared names looks at, newest first: more than one process can have
/// for one address, so that it takes many of them to hide what the rest of the host learned.
const SHARED_SCAN_MAX: usize = 256;

/// One name of one address.
#[derive(Clone, Debug, PartialEq)]
pub struct NameEvidence {
    /// Canonical: lower case, no trailing dot, A-labels.
    pub name: Arc<str>,
    /// Where it comes from.
    pub source: NameSource,
    /// When it was last learned.
    pub learned: BootNs,
    /// The process that asked.
    pub asked_by: ProcessKey,
}

/// Where a name comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameSource {
    /// A resolver's answer to this process's own query.
    DnsOwn,
    /// A resolver's answer to another process of this host.
    DnsShared,
    /// The catalog lists the address itself.
    ManifestIp,
}

impl NameSource {
    /// All sources.
    pub const ALL: [NameSource; 3] = [
        NameSource::DnsOwn,
        NameSource::DnsShared,
        NameSource::ManifestIp,
    ];

    /// A resolver's answer, or a published network, ties the name to the address. Else the client
    /// alone says so: that may explain or alarm, and never allows.
    #[must_use]
    pub fn is_backed(self) -> bool {
        match self {
            NameSource::DnsOwn | NameSource::DnsShared | NameSource::ManifestIp => true,
        }
    }

    /// Name in events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            NameSource::DnsOwn => "dns-own",
            NameSource::DnsShared => "dns-shared",
            NameSource::ManifestIp => "manifest-ip",
        }
    }
}

/// Bounds of a [`NameTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameLimits {
    /// (Address, name) pairs of one process.
    pub per_process: usize,
    /// Names of one address in one process.
    pub per_address: usize,
    /// (Process, address, name) triples in all, about 600 bytes each.
    pub total: usize,
    /// Outstanding queries in all.
    pub queries: usize,
}

impl NameLimits {
    /// At most `total` triples, shared out fairly.
    #[must_use]
    pub const fn of(total: usize) -> NameLimits {
        NameLimits {
            per_process: 4096, // A resolver daemon asks for everybody.
            per_address: 16,   // Object stores have a name per bucket.
            total,
            queries: 4096, // 136 a second, if not one of them is answered.
        }
    }
}

/// What became of a DNS message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What became of it.
    pub outcome: DnsOutcome,
    /// The bound that made it evict entries.
    pub limited: Option<Limit>,
    /// How many entries it evicted.
    pub evicted: usize,
}

/// Sizes of a [`NameTable`], for gauges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameCounts {
    /// (Process, address, name) triples.
    pub names: usize,
    /// Processes with at least one name.
    pub processes: usize,
    /// Outstanding queries.
    pub queries: usize,
}

/// The names that processes of this host learned from DNS.
#[derive(Debug)]
pub struct NameTable {
    per_address: usize,
    /// Outstanding queries.
    queries: FairTable<QueryKey, Query>,
    /// What each process learned.
    names: FairTable<NameKey, Learned>,
    /// Where to find the names of an address that may be shared, by order of learning.
    shared: BTreeMap<(IpAddr, u64), (Owner, Arc<str>)>,
}

/// A query is told from others by its socket, its id, and whom it asks: musl sends the same query
/// from one socket to all its resolvers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct QueryKey {
    cookie: SocketCookie,
    id: u16,
    resolver: Endpoint,
}

#[derive(Debug)]
struct Query {
    question: Question,
    expires: BootNs,
}

/// A name of an address; the address is first, so that its names are neighbours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NameKey {
    ip: IpAddr,
    name: Arc<str>,
}

/// The circumstances in which a process learned a name.
#[derive(Debug)]
struct Learned {
    learned: BootNs,
    expires: BootNs,
    asked_by: ProcessKey,
}

impl NameTable {
    /// An empty table.
    #[must_use]
    pub fn new(limits: NameLimits) -> Self {
        NameTable {
            per_address: limits.per_address.max(1),
            queries: FairTable::new(limits.queries, limits.queries),
            names: FairTable::new(limits.per_process, limits.total),
            shared: BTreeMap::new(),
        }
    }

    /// Takes one DNS message that a process sent or received.
    ///
    /// A query is remembered until its answer. An answer is used once, if it matches an
    /// outstanding query of the same process: socket, id, name, type, class, and the resolver's
    /// address and port. Every other answer, a second copy included, is
    /// [`DnsOutcome::Unsolicited`] and leaves the query outstanding. So are queries that arrive
    /// and answers that leave, which are those of a resolver on this host.
    pub fn observe(&mut self, message: &DnsMessage) -> Observed {
        let parsed = match dns::parse(&message.payload) {
            // All of it is there, so it is the message that lies about its length.
            Ok(parsed) if parsed.cut_short && !message.truncated => {
                return Observed::unlimited(DnsOutcome::Malformed);
            }
            Ok(parsed) => parsed,
            Err(wire::Error::Malformed) => return Observed::unlimited(DnsOutcome::Malformed),
            Err(wire::Error::NameInvalid) => return Observed::unlimited(DnsOutcome::NameInvalid),
        };
        match (message.direction, parsed.response) {
            (Direction::Egress, false) => self.remember(message, parsed),
            (Direction::Ingress, true) => self.learn(message, &parsed),
            _ => Observed::unlimited(DnsOutcome::Unsolicited),
        }
    }

    /// Names of `ip` as this process may mean them, best first: what it asked for itself under any
    /// of its programs, then what others asked for; the newest first in both. No name twice.
    ///
    /// `ip` is canonical, as in an [`Endpoint`]. Of all entries the newest 256 are looked at.
    #[must_use]
    pub fn lookup(&self, process: ProcessKey, ip: IpAddr, now: BootNs) -> Vec<NameEvidence> {
        let owner = Owner::from(process);
        let mut own: Vec<_> = self.names_at(owner, ip).collect();
        own.sort_by_key(|(_, entry)| Reverse(entry.order));
        // This process's own entries are among them, but their names will be there already.
        let newest = self
            .shared
            .range((ip, 0)..=(ip, u64::MAX))
            .rev()
            .take(SHARED_SCAN_MAX);
        let shared = newest.filter_map(|(_, (owner, name))| {
            let key = NameKey::new(ip, name);
            Some((name, self.names.get(*owner, &key)?))
        });
        let own = own.into_iter().map(|found| (NameSource::DnsOwn, found));
        let shared = shared.map(|found| (NameSource::DnsShared, found));
        let mut seen = BTreeSet::new();
        own.chain(shared)
            .filter(|(_, (_, entry))| entry.value.expires > now)
            .filter(|(_, (name, _))| seen.insert(*name))
            .map(|(source, (name, entry))| NameEvidence {
                name: Arc::clone(name),
                source,
                learned: entry.value.learned,
                asked_by: entry.value.asked_by,
            })
            .collect()
    }

    /// A process ended: what it learned is kept for five minutes at most.
    pub fn process_gone(&mut self, process: ProcessKey, now: BootNs) {
        let latest = later(now, GONE_KEEP_SECONDS);
        self.names.update(process.into(), |known| {
            known.expires = known.expires.min(latest)
        });
    }

    /// Drops what has expired. Looks at every entry: call it every few seconds, not per event.
    pub fn sweep(&mut self, now: BootNs) {
        self.queries.prune(|query| query.expires <= now);
        for removed in self.names.prune(|known| known.expires <= now) {
            self.unshare(&removed);
        }
    }

    /// Sizes, what has expired but was not swept included.
    #[must_use]
    pub fn counts(&self) -> NameCounts {
        NameCounts {
            names: self.names.len(),
            processes: self.names.owners(),
            queries: self.queries.len(),
        }
    }

    fn remember(&mut self, message: &DnsMessage, parsed: Message) -> Observed {
        let query = Query {
            question: parsed.question,
            expires: later(message.time, QUERY_KEEP_SECONDS),
        };
        let key = QueryKey::new(message, parsed.id);
        let (_, evicted) = self.queries.insert(message.process.into(), key, query);
        Observed::new(DnsOutcome::Query, Limit::Queries, evicted.iter().count())
    }

    fn learn(&mut self, message: &DnsMessage, answer: &Message) -> Observed {
        let owner = Owner::from(message.process);
        let key = QueryKey::new(message, answer.id);
        let asked = self
            .queries
            .get(owner, &key)
            .is_some_and(|Entry { value: query, .. }| {
                query.question == answer.question && query.expires > message.time
            });
        if !asked {
            return Observed::unlimited(DnsOutcome::Unsolicited);
        }
        self.queries.remove(owner, &key);
        let name = Arc::from(answer.question.name.clone());
        let learn_one = |(ip, ttl)| self.learn_one(message, ip, &name, ttl);
        let evicted = addresses(answer).into_iter().map(learn_one).sum();
        let outcome = if answer.name_invalid {
            DnsOutcome::NameInvalid
        } else {
            DnsOutcome::Answer
        };
        Observed::new(outcome, Limit::Names, evicted)
    }

    /// Ties a name to an address for the process that asked; returns how many entries had to go.
    fn learn_one(&mut self, message: &DnsMessage, ip: IpAddr, name: &Arc<str>, ttl: u32) -> usize {
        let owner = Owner::from(message.process);
        let keep = u64::from(ttl).clamp(NAME_KEEP_SECONDS_MIN, NAME_KEEP_SECONDS_MAX);
        let mut known = Learned {
            learned: message.time,
            expires: later(message.time, keep),
            asked_by: message.process,
        };
        let key = NameKey::new(ip, name);
        let mut evicted = Vec::new();
        if let Some(before) = self.names.remove(owner, &key) {
            known.expires = known.expires.max(before.entry.value.expires);
            self.unshare(&before);
        } else {
            evicted.extend(self.make_room_at(owner, ip));
        }
        let (order, displaced) = self.names.insert(owner, key, known);
        evicted.extend(displaced);
        for removed in &evicted {
            self.unshare(removed);
        }
        if may_be_shared(ip) {
            self.shared.insert((ip, order), (owner, Arc::clone(name)));
        }
        evicted.len()
    }

    /// Takes out the owner's oldest name of an address that has as many as it may have.
    fn make_room_at(&mut self, owner: Owner, ip: IpAddr) -> Option<Removed<NameKey, Learned>> {
        if self.names_at(owner, ip).count() < self.per_address {
            return None;
        }
        let (name, _) = self
            .names_at(owner, ip)
            .min_by_key(|(_, entry)| entry.order)?;
        let key = NameKey::new(ip, name);
        self.names.remove(owner, &key)
    }

    fn names_at(
        &self,
        owner: Owner,
        ip: IpAddr,
    ) -> impl Iterator<Item = (&Arc<str>, &Entry<Learned>)> {
        let first = NameKey::new(ip, &Arc::default());
        let from_first = self.names.range(owner, first);
        from_first
            .take_while(move |(key, _)| key.ip == ip)
            .map(|(key, entry)| (&key.name, entry))
    }

    fn unshare(&mut self, removed: &Removed<NameKey, Learned>) {
        self.shared.remove(&(removed.key.ip, removed.entry.order));
    }
}

impl Observed {
    fn new(outcome: DnsOutcome, limit: Limit, evicted: usize) -> Self {
        Observed {
            outcome,
            limited: (evicted > 0).then_some(limit),
            evicted,
        }
    }

    fn unlimited(outcome: DnsOutcome) -> Self {
        Observed {
            outcome,
            limited: None,
            evicted: 0,
        }
    }
}

impl NameKey {
    fn new(ip: IpAddr, name: &Arc<str>) -> Self {
        NameKey {
            ip,
            name: Arc::clone(name),
        }
    }
}

impl QueryKey {
    fn new(message: &DnsMessage, id: u16) -> Self {
        QueryKey {
            cookie: message.cookie,
            id,
            resolver: message.resolver,
        }
    }
}

/// The addresses that an answer ties to the name asked, each with its TTL: those of the name and
/// of its aliases, address hints of service records included, since clients connect to them, too.
fn addresses(answer: &Message) -> Vec<(IpAddr, u32)> {
    if answer.rcode != 0 {
        return Vec::new();
    }
    let names = aliases(answer);
    let meant = answer
        .answers
        .iter()
        .filter(|record| names.contains(&record.owner));
    let ips = meant.flat_map(|record| {
        let ips = match &record.data {
            AnswerData::Address(ip) => slice::from_ref(ip),
            AnswerData::Service(service) => &service.hints,
            AnswerData::Cname(_) => &[],
        };
        ips.iter().map(|ip| (ip.to_canonical(), record.ttl))
    });
    ips.collect()
}

/// The name asked and what CNAME records make of it, in whatever order and circles they come.
fn aliases(answer: &Message) -> BTreeSet<&HostName> {
    let mut targets = BTreeMap::new();
    for record in &answer.answers {
        if let AnswerData::Cname(target) = &record.data {
            targets.entry(&record.owner).or_insert(target);
        }
    }
    let mut name = &answer.question.name;
    let mut names = BTreeSet::from([name]);
    while let Some(target) = targets.remove(name) {
        names.insert(target);
        name = target;
    }
    names
}

/// Whether a name of this address means anything to other processes. Loopback, unspecified and
/// link-local addresses mean something else in every network namespace or on every link, and a
/// name that anybody may give them must not explain other processes' local connections.
fn may_be_shared(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || link_local)
}

fn later(time: BootNs, seconds: u64) -> BootNs {
    BootNs(time.0.saturating_add(seconds.saturating_mul(1_000_000_000)))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    use simple_dns::rdata::{A, AAAA, CNAME, HTTPS, RData, SVCB};
    use simple_dns::{CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord, TYPE};

    use super::super::event::Protocol;
    use super::super::fixture;
    use super::NameSource::{DnsOwn, DnsShared};
    use super::*;

    const SHARED_IP: &str = "198.51.100.7";
    const RESOLVER: &str = "192.0.2.53:53";
    const MINUTE: u64 = 60;

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

    fn table() -> NameTable {
        NameTable::new(fixture::LIMITS.names)
    }

    /// What a process is told of an address.
    #[track_caller]
    fn check(
        table: &NameTable,
        tgid: u32,
        address: &str,
        seconds: u64,
        expect: &[(&str, NameSource)],
    ) {
        let found = table.lookup(process(tgid), ip(address), at(seconds));
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

        let found = table.lookup(process(2), ip(SHARED_IP), at(5));
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
        let found = table.lookup(next_image, ip(SHARED_IP), at(2));
        assert_eq!((found[0].source, found[0].asked_by), (DnsOwn, process(1)));
        let other_life = ProcessKey {
            start_ns: 9,
            ..process(1)
        };
        assert_eq!(
            table.lookup(other_life, ip(SHARED_IP), at(2))[0].source,
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
        assert_eq!(table.observe(&good), unsolicited);
        table.observe(&sent(1, 1, query(7, name, TYPE::A)));
        for answer in &wrong {
            assert_eq!(table.observe(answer), unsolicited, "{answer:?}");
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
        assert!(table.shared.is_empty());
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
        assert_eq!((table.counts().names, table.shared.len()), (1, 1));
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

    #[test]
    fn a_flood_of_names_displaces_only_the_flooders_own() {
        let limits = NameLimits {
            per_process: 50,
            per_address: 16,
            total: 60,
            queries: 10,
        };
        let mut table = NameTable::new(limits);
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
            let of_address = table
                .names_at(process(2).into(), ip.parse().unwrap())
                .count();
            assert!(of_address <= limits.per_address);
        }
        // Each of them was learned once, and 50 are left.
        assert_eq!(evicted, 450);
        assert_eq!((table.counts().names, table.shared.len()), (52, 52));
        check(&table, 1, "198.51.100.1", 2, &[("a.example", DnsOwn)]);
        assert_eq!(
            &*table.lookup(process(1), ip(SHARED_IP), at(2))[0].name,
            "b.example"
        );
    }

    #[test]
    fn the_newest_names_of_an_address_stay() {
        let mut table = NameTable::new(NameLimits {
            per_address: 2,
            ..fixture::LIMITS.names
        });
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
        let mut table = NameTable::new(limits);
        learn(&mut table, 1, 0, "a.example", SHARED_IP);
        for index in 0..200_u32 {
            let ip = format!("203.0.113.{index}");
            learn(&mut table, 2 + index % 5, 1, "n.example", &ip);
        }
        assert_eq!((table.counts().names, table.shared.len()), (60, 60));
        check(&table, 1, SHARED_IP, 2, &[("a.example", DnsOwn)]);
    }

    #[test]
    fn a_flood_of_queries_leaves_the_queries_of_others() {
        let mut table = NameTable::new(NameLimits {
            queries: 10,
            ..fixture::LIMITS.names
        });
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
        let found = table.lookup(process(3), ip(SHARED_IP), at(2));
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
            table.lookup(process(3), ip(SHARED_IP), at(3)).len(),
            SHARED_SCAN_MAX
        );
        check(&table, 1, "203.0.113.1", 3, &[]);
        assert_eq!(
            table.lookup(process(1), ip(SHARED_IP), at(3))[0].source,
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
        assert_eq!(
            table.shared.len(),
            counts.names,
            "all addresses in this test may be shared"
        );
        for ((ip, order), (owner, name)) in &table.shared {
            let key = NameKey::new(*ip, name);
            assert_eq!(
                table.names.get(*owner, &key).map(|entry| entry.order),
                Some(*order)
            );
        }
    }

    #[test]
    fn any_sequence_of_messages_keeps_the_books_and_the_bounds() {
        let limits = NameLimits {
            per_process: 9,
            per_address: 3,
            total: 20,
            queries: 8,
        };
        let mut table = NameTable::new(limits);
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
        assert!(table.shared.is_empty());
    }
}
