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
use std::sync::Arc;

use monitor_common::flow::ProcessKey;

use self::queries::{Queries, addresses};
use super::event::{BootNs, Direction, DnsMessage};
use super::fair::{Entry, FairTable, Owner, Removed};
use super::report::{DnsOutcome, Limit};
use super::wire;
use super::wire::dns::{self, Message};

mod queries;
#[cfg(test)]
mod tests;

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
    queries: Queries,
    /// What each process learned.
    names: FairTable<NameKey, Learned>,
    /// Where to find the names of an address that may be shared, by order of learning.
    shared: BTreeMap<(IpAddr, u64), (Owner, Arc<str>)>,
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
            queries: Queries::new(limits.queries),
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
            (Direction::Egress, false) => {
                let evicted = self.queries.asked(message, parsed);
                Observed::new(DnsOutcome::Query, Limit::Queries, evicted)
            }
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
        self.queries.sweep(now);
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

    fn learn(&mut self, message: &DnsMessage, answer: &Message) -> Observed {
        if !self.queries.answered(message, answer) {
            return Observed::unlimited(DnsOutcome::Unsolicited);
        }
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
