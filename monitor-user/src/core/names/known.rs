//! Names by address, each with an owner: bounded, and shared out fairly.
//!
//! In: what a process learned or claimed of an address. Out: the names of an address, the owner's
//! own or everybody's, the newest first. Who floods it displaces only their own.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use monitor_common::flow::ProcessKey;

use super::NameSource;
use crate::core::event::BootNs;
use crate::core::fair::{Entry, FairTable, Owner, Removed};

/// Entries that a lookup of shared names looks at, newest first: more than one process can have
/// for one address, so that it takes many of them to hide what the rest of the host learned.
pub(super) const SHARED_SCAN_MAX: usize = 256;

/// Names of addresses.
#[derive(Debug)]
pub(super) struct Known {
    per_address: usize,
    entries: FairTable<NameKey, Learned>,
    /// Where to find the names of an address that may be shared, by order of learning.
    shared: BTreeMap<(IpAddr, u64), (Owner, Arc<str>)>,
    /// How many of `shared` have this name.
    places: BTreeMap<Arc<str>, usize>,
}

/// A name of an address; the address is first, so that its names are neighbours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NameKey {
    ip: IpAddr,
    name: Arc<str>,
}

/// The circumstances in which a process learned a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Learned {
    /// How.
    pub source: NameSource,
    /// When for the first time.
    pub first: BootNs,
    /// When for the last time.
    pub learned: BootNs,
    /// Until when it counts.
    pub expires: BootNs,
    /// By which of its programs.
    pub by: ProcessKey,
}

impl Known {
    /// At most `total` names, `per_process` of one process, `per_address` of those at one address.
    pub(super) fn new(per_process: usize, per_address: usize, total: usize) -> Self {
        Known {
            per_address: per_address.max(1),
            entries: FairTable::new(per_process, total),
            shared: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn owners(&self) -> usize {
        self.entries.owners()
    }

    /// Ties a name to an address; returns how many entries had to go.
    pub(super) fn learn(&mut self, ip: IpAddr, name: &Arc<str>, mut known: Learned) -> usize {
        let owner = Owner::from(known.by);
        let key = NameKey::new(ip, name);
        let mut evicted = Vec::new();
        if let Some(before) = self.entries.remove(owner, &key) {
            known.expires = known.expires.max(before.entry.value.expires);
            known.first = before.entry.value.first;
            self.unshare(&before);
        } else {
            evicted.extend(self.make_room_at(owner, ip));
        }
        let (order, displaced) = self.entries.insert(owner, key, known);
        evicted.extend(displaced);
        for removed in &evicted {
            self.unshare(removed);
        }
        if may_be_shared(ip) {
            self.shared.insert((ip, order), (owner, Arc::clone(name)));
            *self.places.entry(Arc::clone(name)).or_default() += 1;
        }
        evicted.len()
    }

    /// The owner's names of an address, newest first.
    pub(super) fn own(&self, owner: Owner, ip: IpAddr) -> Vec<(&Arc<str>, &Learned)> {
        let mut own: Vec<_> = self.names_at(owner, ip).collect();
        own.sort_by_key(|(_, entry)| Reverse(entry.order));
        let found = own.into_iter().map(|(name, entry)| (name, &entry.value));
        found.collect()
    }

    /// Everybody's names of an address, newest first, if they may be shared.
    pub(super) fn shared(&self, ip: IpAddr) -> impl Iterator<Item = (&Arc<str>, &Learned)> {
        let newest = self.shared.range((ip, 0)..=(ip, u64::MAX)).rev();
        newest
            .take(SHARED_SCAN_MAX)
            .filter_map(move |(_, (owner, name))| {
                let entry = self.entries.get(*owner, &NameKey::new(ip, name))?;
                Some((name, &entry.value))
            })
    }

    /// Whether some address that may be shared has this name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Lets a name live until `expires` at least.
    pub(super) fn keep(&mut self, owner: Owner, ip: IpAddr, name: &Arc<str>, expires: BootNs) {
        let key = NameKey::new(ip, name);
        self.entries.change(owner, &key, |known| {
            known.expires = known.expires.max(expires);
        });
    }

    /// Lets the names of a process live until `latest` at most.
    pub(super) fn gone(&mut self, owner: Owner, latest: BootNs) {
        self.entries.update(owner, |known| {
            known.expires = known.expires.min(latest);
        });
    }

    /// Drops what has expired.
    pub(super) fn sweep(&mut self, now: BootNs) {
        for removed in self.entries.prune(|known| known.expires <= now) {
            self.unshare(&removed);
        }
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
        self.entries.remove(owner, &key)
    }

    fn names_at(
        &self,
        owner: Owner,
        ip: IpAddr,
    ) -> impl Iterator<Item = (&Arc<str>, &Entry<Learned>)> {
        let first = NameKey::new(ip, &Arc::default());
        let from_first = self.entries.range(owner, first);
        from_first
            .take_while(move |(key, _)| key.ip == ip)
            .map(|(key, entry)| (&key.name, entry))
    }

    fn unshare(&mut self, removed: &Removed<NameKey, Learned>) {
        let place = (removed.key.ip, removed.entry.order);
        if self.shared.remove(&place).is_none() {
            return;
        }
        if let Some(count) = self.places.get_mut(&removed.key.name) {
            *count -= 1;
            if *count == 0 {
                self.places.remove(&removed.key.name);
            }
        }
    }

    /// That the indices are those of the entries; all addresses may be shared.
    #[cfg(test)]
    #[track_caller]
    pub(super) fn check_books(&self) {
        assert_eq!(self.shared.len(), self.entries.len());
        assert_eq!(self.places.values().sum::<usize>(), self.entries.len());
        for ((ip, order), (owner, name)) in &self.shared {
            let key = NameKey::new(*ip, name);
            let entry = self.entries.get(*owner, &key);
            assert_eq!(entry.map(|entry| entry.order), Some(*order));
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
