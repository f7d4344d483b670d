//! Names of remote addresses, as evidence: each with a source, an age, and whose it is.
//!
//! In: DNS messages with the process that sent or received them, and what clients claim in their
//! first bytes. Out: for an address and a process, the names that may be meant, best first;
//! whether a claim contradicts what resolvers said.
//!
//! A name is *backed* by a trusted resolver's answer to a query that was seen leaving the same
//! socket, and it is always the name that was asked: what aliases lead from it to the address does
//! not matter. What a process learned is its own ([`NameSource::DnsOwn`]); others see the same
//! entries as [`NameSource::DnsShared`]. There is no second copy that one process could overwrite
//! for another. A *claimed* name is what a client says itself; it is kept apart, and others never
//! see it. The rule that puts them in order is in docs/names.md.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use monitor_common::flow::ProcessKey;

use self::known::{Known, Learned};
use self::queries::{Answered, Queries, addresses};
use super::claim::By;
use super::event::{BootNs, Direction, DnsMessage};
use super::fair::Owner;
use super::report::{DnsOutcome, Limit};
use super::wire;
use super::wire::dns::{self, Message};

mod known;
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

/// One name of one address.
#[derive(Clone, Debug, PartialEq)]
pub struct NameEvidence {
    /// Canonical: lower case, no trailing dot, A-labels.
    pub name: Arc<str>,
    /// Where it comes from.
    pub source: NameSource,
    /// When it was first learned.
    pub first: BootNs,
    /// When it was last learned.
    pub learned: BootNs,
    /// The process that asked, or claims it.
    pub asked_by: ProcessKey,
}

/// Where a name comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameSource {
    /// A trusted resolver's answer to this process's own query.
    DnsOwn,
    /// A trusted resolver's answer to another process of this host.
    DnsShared,
    /// An answer that this host's resolver told of; whose question it was is not known.
    Resolved,
    /// An answer to this process's own query, of a resolver that nobody vouches for.
    DnsUntrusted,
    /// The client's TLS hello names it.
    Sni,
    /// The client's QUIC hello names it.
    QuicSni,
    /// The client's HTTP request names it.
    HttpHost,
    /// The client asks an HTTP proxy for it.
    HttpConnect,
    /// The client asks a SOCKS proxy for it.
    Socks,
    /// The catalog lists the address itself.
    ManifestIp,
}

impl NameSource {
    /// All sources, for metrics that must exist at zero.
    pub const ALL: [NameSource; 10] = [
        NameSource::DnsOwn,
        NameSource::DnsShared,
        NameSource::Resolved,
        NameSource::DnsUntrusted,
        NameSource::Sni,
        NameSource::QuicSni,
        NameSource::HttpHost,
        NameSource::HttpConnect,
        NameSource::Socks,
        NameSource::ManifestIp,
    ];

    /// Name in events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            NameSource::DnsOwn => "dns-own",
            NameSource::DnsShared => "dns-shared",
            NameSource::Resolved => "resolved",
            NameSource::DnsUntrusted => "dns-untrusted",
            NameSource::Sni => "sni",
            NameSource::QuicSni => "quic-sni",
            NameSource::HttpHost => "http-host",
            NameSource::HttpConnect => "http-connect",
            NameSource::Socks => "socks",
            NameSource::ManifestIp => "manifest-ip",
        }
    }

    /// Someone other than the process itself ties the name to the address. Only such a name can
    /// make a flow expected.
    #[must_use]
    pub fn is_backed(self) -> bool {
        matches!(
            self,
            NameSource::DnsOwn
                | NameSource::DnsShared
                | NameSource::Resolved
                | NameSource::ManifestIp
        )
    }
}

impl From<By> for NameSource {
    fn from(by: By) -> Self {
        match by {
            By::Unknown | By::Tls => NameSource::Sni,
            By::Quic => NameSource::QuicSni,
            By::Http => NameSource::HttpHost,
            By::HttpConnect | By::HttpForward => NameSource::HttpConnect,
            By::Socks => NameSource::Socks,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What became of it.
    pub outcome: DnsOutcome,
    /// The name of a forged answer.
    pub forged: Option<Arc<str>>,
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

/// The names that processes of this host learned and claim.
#[derive(Debug)]
pub struct NameTable {
    /// Whose answers back a name.
    resolvers: Vec<SocketAddr>,
    /// Outstanding queries.
    queries: Queries,
    /// What resolvers said.
    backed: Known,
    /// What processes say themselves.
    claimed: Known,
}

impl NameTable {
    /// An empty table. Answers of `resolvers` back names.
    #[must_use]
    pub fn new(limits: NameLimits, resolvers: Vec<SocketAddr>) -> Self {
        let NameLimits {
            per_process,
            per_address,
            total,
            queries,
        } = limits;
        NameTable {
            resolvers,
            queries: Queries::new(queries),
            backed: Known::new(per_process, per_address, total),
            // Claims are of the flows at hand; resolvers' answers are of all that may come.
            claimed: Known::new(per_process / 8, per_address, total / 4),
        }
    }

    /// Takes one DNS message that a process sent or received.
    ///
    /// A query is remembered until its answer. An answer is used once, if it matches an
    /// outstanding query of the same process: socket, id, name, type, class, and the resolver's
    /// address and port. An answer to a question that this socket waits for, with another id or from
    /// elsewhere, is [`DnsOutcome::Forged`]. Every other answer, a second copy included, is
    /// [`DnsOutcome::Unsolicited`]; both leave the query outstanding. So are queries that arrive
    /// and answers that leave, which are those of a resolver on this host. The answers of resolvers
    /// that are not trusted are claims of who asked them: [`DnsOutcome::Untrusted`].
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

    /// Takes what a process says of an address in a flow: `learned`, `asked_by`, `source` and name
    /// of `claim`. Returns how many other claims had to go.
    pub fn claim(&mut self, ip: IpAddr, claim: &NameEvidence) -> usize {
        let known = Learned {
            source: claim.source,
            first: claim.learned,
            learned: claim.learned,
            expires: later(claim.learned, NAME_KEEP_SECONDS_MIN),
            by: claim.asked_by,
        };
        self.claimed.learn(ip, &claim.name, known)
    }

    /// An answer that systemd-resolved tells of: nobody knows whose question it was. Returns how
    /// many other names had to go: the oldest of those that it told.
    pub fn resolved(&mut self, name: &Arc<str>, ip: IpAddr, time: BootNs) -> usize {
        let known = Learned {
            source: NameSource::Resolved,
            first: time,
            learned: time,
            expires: later(time, NAME_KEEP_SECONDS_MIN),
            by: ProcessKey::default(),
        };
        self.backed.learn(ip, name, known)
    }

    /// Names of `ip` as this process may mean them, best first: what it asked for itself under any
    /// of its programs, then what others asked for, then what it claimed before; the newest first
    /// in each. No name twice.
    ///
    /// `claim` is what the process says of the very flow in question. It goes first, with the
    /// source that backs it for this address, if one does.
    ///
    /// `ip` is canonical, as in an [`Endpoint`](super::event::Endpoint). Of all entries the newest
    /// 256 are looked at.
    #[must_use]
    pub fn lookup(
        &self,
        process: ProcessKey,
        ip: IpAddr,
        claim: Option<&NameEvidence>,
        now: BootNs,
    ) -> Vec<NameEvidence> {
        let owner = Owner::from(process);
        // systemd-resolved's names have no owner, and neither have flows of no process.
        let mut own = self.backed.own(owner, ip);
        own.retain(|(_, known)| known.source != NameSource::Resolved);
        let own = own.into_iter();
        let own = own.map(|(name, known)| (name, NameSource::DnsOwn, known));
        // This process's own entries are among them, but their names will be there already.
        let is_resolved = |known: &Learned| known.source == NameSource::Resolved;
        let resolved: BTreeSet<_> = self
            .backed
            .shared(ip)
            .filter(|(_, known)| is_resolved(known) && known.expires > now)
            .map(|(name, _)| name)
            .collect();
        let shared = self.backed.shared(ip).filter_map(|(name, known)| {
            match (is_resolved(known), resolved.contains(name)) {
                (true, _) => Some((name, NameSource::Resolved, known)),
                (false, false) => Some((name, NameSource::DnsShared, known)),
                // systemd-resolved's own question to its resolver says the same.
                (false, true) => None,
            }
        });
        let claimed = self.claimed.own(owner, ip).into_iter();
        let claimed = claimed.map(|(name, known)| (name, known.source, known));
        let mut seen = BTreeSet::new();
        let mut names: Vec<NameEvidence> = own
            .chain(shared)
            .chain(claimed)
            .filter(|(_, _, known)| known.expires > now)
            .filter(|(name, ..)| seen.insert(*name))
            .map(|(name, source, known)| NameEvidence {
                name: Arc::clone(name),
                source,
                first: known.first,
                learned: known.learned,
                asked_by: known.by,
            })
            .collect();
        if let Some(claim) = claim {
            let same = |name: &NameEvidence| name.name == claim.name;
            let backed = |name: &NameEvidence| same(name) && name.source.is_backed();
            if let Some(place) = names.iter().position(backed) {
                names[..=place].rotate_right(1);
            } else {
                names.retain(|name| !same(name));
                names.insert(0, claim.clone());
            }
        }
        names
    }

    /// The backed name of `ip` that a claim of `name` contradicts, if it contradicts any: resolvers
    /// know `name` at other addresses only, and this address under other names only.
    ///
    /// Nothing contradicts a name that no resolver was seen to know: its client may have asked one
    /// that is not seen, and many sites share an address.
    #[must_use]
    pub fn contradicted(
        &self,
        process: ProcessKey,
        ip: IpAddr,
        name: &str,
        now: BootNs,
    ) -> Option<NameEvidence> {
        let mut names = self.lookup(process, ip, None, now);
        names.retain(|known| known.source.is_backed());
        let is_backed_here = names.iter().any(|known| &*known.name == name);
        if is_backed_here || !self.backed.knows(name) {
            return None;
        }
        names.into_iter().next()
    }

    /// Whether the answers of a resolver back names.
    #[must_use]
    pub fn trusts(&self, resolver: SocketAddr) -> bool {
        self.resolvers.contains(&resolver)
    }

    /// A flow to `ip` is open that is told under `name`: it lives on.
    pub fn keep(&mut self, ip: IpAddr, name: &NameEvidence, now: BootNs) {
        let table = if name.source.is_backed() {
            &mut self.backed
        } else {
            &mut self.claimed
        };
        let expires = later(now, NAME_KEEP_SECONDS_MIN);
        table.keep(name.asked_by.into(), ip, &name.name, expires);
    }

    /// A process ended: what it learned is kept for five minutes at most.
    pub fn process_gone(&mut self, process: ProcessKey, now: BootNs) {
        let latest = later(now, GONE_KEEP_SECONDS);
        self.backed.gone(process.into(), latest);
        self.claimed.gone(process.into(), latest);
    }

    /// Drops what has expired. Looks at every entry: call it every few seconds, not per event.
    pub fn sweep(&mut self, now: BootNs) {
        self.queries.sweep(now);
        self.backed.sweep(now);
        self.claimed.sweep(now);
    }

    /// Sizes, what has expired but was not swept included.
    #[must_use]
    pub fn counts(&self) -> NameCounts {
        NameCounts {
            names: self.backed.len() + self.claimed.len(),
            processes: self.backed.owners().max(self.claimed.owners()),
            queries: self.queries.len(),
        }
    }

    fn learn(&mut self, message: &DnsMessage, answer: &Message) -> Observed {
        match self.queries.answered(message, answer) {
            Answered::Asked => {}
            Answered::Unsolicited => return Observed::unlimited(DnsOutcome::Unsolicited),
            Answered::Forged => {
                return Observed {
                    forged: Some(answer.question.name.clone().into()),
                    ..Observed::unlimited(DnsOutcome::Forged)
                };
            }
        }
        let trusted = self.trusts(message.resolver.addr);
        let (table, source) = if trusted {
            (&mut self.backed, NameSource::DnsOwn)
        } else {
            (&mut self.claimed, NameSource::DnsUntrusted)
        };
        let name = Arc::from(answer.question.name.clone());
        let mut evicted = 0;
        for (ip, ttl) in addresses(answer) {
            let keep = u64::from(ttl).clamp(NAME_KEEP_SECONDS_MIN, NAME_KEEP_SECONDS_MAX);
            let known = Learned {
                source,
                first: message.time,
                learned: message.time,
                expires: later(message.time, keep),
                by: message.process,
            };
            evicted += table.learn(ip, &name, known);
        }
        let outcome = match (answer.name_invalid, trusted) {
            (true, _) => DnsOutcome::NameInvalid,
            (false, true) => DnsOutcome::Answer,
            (false, false) => DnsOutcome::Untrusted,
        };
        Observed::new(outcome, Limit::Names, evicted)
    }
}

impl Observed {
    fn new(outcome: DnsOutcome, limit: Limit, evicted: usize) -> Self {
        Observed {
            outcome,
            forged: None,
            limited: (evicted > 0).then_some(limit),
            evicted,
        }
    }

    fn unlimited(outcome: DnsOutcome) -> Self {
        Observed {
            outcome,
            forged: None,
            limited: None,
            evicted: 0,
        }
    }
}

fn later(time: BootNs, seconds: u64) -> BootNs {
    BootNs(time.0.saturating_add(seconds.saturating_mul(1_000_000_000)))
}
