//! A bounded table whose every entry has an owner: who floods it displaces only their own.
//!
//! In: entries by (owner, key). Out: the same, and what had to go to make room: the owner's own
//! oldest entry if the owner is at its bound, else the oldest entry of the owner with the most.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use monitor_common::flow::ProcessKey;

/// A process, whatever program it runs at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    start_ns: u64,
    tgid: u32,
}

impl From<ProcessKey> for Owner {
    fn from(process: ProcessKey) -> Self {
        Owner {
            start_ns: process.start_ns,
            tgid: process.tgid,
        }
    }
}

/// An entry, and its place in the order of insertion.
#[derive(Debug)]
pub struct Entry<V> {
    /// Unique in the table; a later insertion has a greater one.
    pub order: u64,
    /// What was put in.
    pub value: V,
}

/// An entry that is no longer in the table.
#[derive(Debug)]
pub struct Removed<K, V> {
    /// Its key.
    pub key: K,
    /// The rest.
    pub entry: Entry<V>,
}

/// See the top of this file.
#[derive(Debug)]
pub struct FairTable<K, V> {
    per_owner: usize,
    total: usize,
    entries: BTreeMap<(Owner, K), Entry<V>>,
    /// Keys of each owner, oldest first.
    ages: BTreeMap<(Owner, u64), K>,
    /// Number of entries of each owner that has any.
    sizes: BTreeMap<Owner, usize>,
    /// The same, smallest first; among equals the process that started last is first, so that
    /// a new process can enter a table that is full of processes like it.
    ranking: BTreeSet<(usize, Reverse<Owner>)>,
    next_order: u64,
}

impl<K: Ord + Clone, V> FairTable<K, V> {
    /// An empty table with at least room for one entry, whatever the bounds say.
    pub fn new(per_owner: usize, total: usize) -> Self {
        FairTable {
            per_owner: per_owner.max(1),
            total: total.max(1),
            entries: BTreeMap::new(),
            ages: BTreeMap::new(),
            sizes: BTreeMap::new(),
            ranking: BTreeSet::new(),
            next_order: 0,
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Number of owners that have an entry.
    pub fn owners(&self) -> usize {
        self.sizes.len()
    }

    /// The entry of this key.
    pub fn get(&self, owner: Owner, key: &K) -> Option<&Entry<V>> {
        self.entries.get(&(owner, key.clone()))
    }

    /// The owner's entries from `key` on, in the order of keys.
    pub fn range(&self, owner: Owner, key: K) -> impl Iterator<Item = (&K, &Entry<V>)> {
        let from_key = self.entries.range((owner, key)..);
        from_key
            .take_while(move |((other, _), _)| *other == owner)
            .map(|((_, key), entry)| (key, entry))
    }

    /// Puts in an entry, over the one that has this key. Returns its order, and what was evicted.
    pub fn insert(&mut self, owner: Owner, key: K, value: V) -> (u64, Option<Removed<K, V>>) {
        self.remove(owner, &key);
        let evicted = self.make_room(owner);
        let order = self.next_order;
        self.next_order += 1;
        self.ages.insert((owner, order), key.clone());
        self.entries.insert((owner, key), Entry { order, value });
        self.resize(owner, self.size(owner) + 1);
        (order, evicted)
    }

    /// Takes an entry out.
    pub fn remove(&mut self, owner: Owner, key: &K) -> Option<Removed<K, V>> {
        let ((_, key), entry) = self.entries.remove_entry(&(owner, key.clone()))?;
        self.ages.remove(&(owner, entry.order));
        self.resize(owner, self.size(owner).saturating_sub(1));
        Some(Removed { key, entry })
    }

    /// Changes an entry, if it is there.
    pub fn change(&mut self, owner: Owner, key: &K, change: impl FnOnce(&mut V)) {
        if let Some(entry) = self.entries.get_mut(&(owner, key.clone())) {
            change(&mut entry.value);
        }
    }

    /// Changes all entries of an owner.
    pub fn update(&mut self, owner: Owner, mut change: impl FnMut(&mut V)) {
        for (_, key) in self.ages.range((owner, 0)..=(owner, u64::MAX)) {
            if let Some(entry) = self.entries.get_mut(&(owner, key.clone())) {
                change(&mut entry.value);
            }
        }
    }

    /// Removes the entries that are `unwanted`. Looks at all of them.
    pub fn prune(&mut self, unwanted: impl Fn(&V) -> bool) -> Vec<Removed<K, V>> {
        let found = self
            .entries
            .iter()
            .filter(|(_, entry)| unwanted(&entry.value));
        let keys: Vec<_> = found.map(|(key, _)| key.clone()).collect();
        keys.iter()
            .filter_map(|(owner, key)| self.remove(*owner, key))
            .collect()
    }

    fn make_room(&mut self, owner: Owner) -> Option<Removed<K, V>> {
        let loser = if self.size(owner) >= self.per_owner {
            owner
        } else if self.len() >= self.total {
            self.ranking.last()?.1.0
        } else {
            return None;
        };
        let (_, oldest) = self.ages.range((loser, 0)..=(loser, u64::MAX)).next()?;
        let oldest = oldest.clone();
        self.remove(loser, &oldest)
    }

    fn size(&self, owner: Owner) -> usize {
        self.sizes.get(&owner).copied().unwrap_or(0)
    }

    fn resize(&mut self, owner: Owner, size: usize) {
        let before = if size == 0 {
            self.sizes.remove(&owner)
        } else {
            self.sizes.insert(owner, size)
        };
        if let Some(before) = before {
            self.ranking.remove(&(before, Reverse(owner)));
        }
        if size > 0 {
            self.ranking.insert((size, Reverse(owner)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(start_ns: u64) -> Owner {
        Owner { start_ns, tgid: 1 }
    }

    fn keys(table: &FairTable<u32, ()>, start_ns: u64) -> Vec<u32> {
        table
            .range(owner(start_ns), 0)
            .map(|(key, _)| *key)
            .collect()
    }

    /// Inserts (owner, key) pairs into a table of 3 per owner and 5 in all, and checks what was
    /// evicted on the way and what two owners have in the end.
    #[track_caller]
    fn check(pairs: &[(u64, u32)], evicted: &[u32], first: &[u32], second: &[u32]) {
        let mut table = FairTable::new(3, 5);
        let insert = |&(start_ns, key)| table.insert(owner(start_ns), key, ()).1;
        let gone: Vec<_> = pairs
            .iter()
            .filter_map(insert)
            .map(|removed| removed.key)
            .collect();
        assert_eq!(gone, evicted);
        assert_eq!(
            (keys(&table, 1), keys(&table, 2)),
            (first.to_vec(), second.to_vec())
        );
        assert_eq!(table.ages.len(), table.len());
        assert_eq!(table.sizes.values().sum::<usize>(), table.len());
        assert_eq!(table.ranking.len(), table.owners());
    }

    #[test]
    fn an_owner_at_its_bound_loses_its_own_oldest() {
        check(
            &[(1, 9), (2, 1), (1, 5), (1, 7), (1, 6)],
            &[9],
            &[5, 6, 7],
            &[1],
        );
    }

    #[test]
    fn a_full_table_takes_from_the_largest_owner() {
        check(
            &[(1, 1), (1, 2), (1, 3), (2, 1), (3, 1), (2, 2)],
            &[1],
            &[2, 3],
            &[1, 2],
        );
        // Among equals from the one that started first, so that the newcomer stays.
        check(
            &[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)],
            &[1],
            &[],
            &[2],
        );
    }

    #[test]
    fn an_entry_put_in_again_is_young_again() {
        check(
            &[(1, 1), (1, 2), (1, 3), (1, 1), (1, 4)],
            &[2],
            &[1, 3, 4],
            &[],
        );
    }

    #[test]
    fn prune_and_update_reach_what_they_should() {
        let mut table = FairTable::new(3, 5);
        for (start_ns, key) in [(1, 1), (1, 2), (2, 1)] {
            table.insert(owner(start_ns), key, key);
        }
        table.update(owner(1), |value| *value += 10);
        let pruned: Vec<_> = table
            .prune(|value| *value > 11)
            .iter()
            .map(|gone| gone.key)
            .collect();
        assert_eq!(pruned, [2]);
        assert_eq!((table.len(), table.owners()), (2, 2));
        assert_eq!(table.get(owner(1), &1).map(|entry| entry.value), Some(11));
        assert_eq!(table.get(owner(2), &1).map(|entry| entry.value), Some(1));
    }
}
