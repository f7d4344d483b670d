//! Which of thousands of intervals hold a point, and which of thousands of globs fit a text, without
//! looking at each.
//!
//! In: intervals over whatever has an order, or globs. Out: those that hold, or may fit.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::rule::matches_glob;

/// Intervals, each with what it stands for.
///
/// The ends of all part the line into pieces. An interval is some pieces in a row, and is kept at a
/// few blocks of them, whose sizes are powers of two and which begin at multiples of their size. A
/// point lies in one piece, and so in one block of each size.
#[derive(Clone, Debug)]
pub struct Intervals<K, V> {
    ends: Vec<K>,
    /// By size, as a power of two, and number among those of its size.
    blocks: HashMap<(u32, usize), Vec<V>>,
    sizes: BTreeSet<u32>,
}

impl<K: Ord + Clone, V: Clone> Intervals<K, V> {
    /// Each interval from its first point, or from everywhere, to before its end, or to everywhere.
    #[must_use]
    pub fn new(intervals: &[(Option<K>, Option<K>, V)]) -> Self {
        let ends = |(from, until, _): &(Option<K>, Option<K>, V)| [from.clone(), until.clone()];
        let mut ends: Vec<K> = intervals.iter().flat_map(ends).flatten().collect();
        ends.sort();
        ends.dedup();
        let pieces = ends.len() + 1;
        let mut all = Intervals {
            ends,
            blocks: HashMap::new(),
            sizes: BTreeSet::new(),
        };
        for (from, until, item) in intervals {
            let first = from.as_ref().map_or(0, |from| all.piece(from));
            let end = until.as_ref().map_or(pieces, |until| all.piece(until));
            all.insert(first, end, item);
        }
        all
    }

    /// Those that hold this point; one may come more than once if it was given more than once.
    pub fn at(&self, point: &K) -> impl Iterator<Item = &V> + use<'_, K, V> {
        let piece = self.piece(point);
        let block = move |size: &u32| self.blocks.get(&(*size, piece >> *size));
        self.sizes.iter().filter_map(block).flatten()
    }

    /// The number of the piece that a point lies in.
    fn piece(&self, point: &K) -> usize {
        self.ends.partition_point(|end| end <= point)
    }

    fn insert(&mut self, mut first: usize, end: usize, item: &V) {
        while first < end {
            let size = first.trailing_zeros().min((end - first).ilog2());
            let block = self.blocks.entry((size, first >> size)).or_default();
            block.push(item.clone());
            self.sizes.insert(size);
            first += 1 << size;
        }
    }
}

/// Globs, found by what stands before their first `*` and after their last.
#[derive(Clone, Debug, Default)]
pub struct Globs {
    heads: HashMap<Box<str>, Tails>,
    lengths: BTreeSet<usize>,
}

/// Globs that begin alike, by how they end.
#[derive(Clone, Debug, Default)]
struct Tails {
    globs: HashMap<Box<str>, Vec<Arc<str>>>,
    lengths: BTreeSet<usize>,
}

impl Globs {
    /// Texts without a `*` are no globs, and are left out.
    #[must_use]
    pub fn new<'a>(globs: impl Iterator<Item = &'a Arc<str>>) -> Globs {
        let mut all = Globs::default();
        for glob in globs {
            let (Some((head, _)), Some((_, tail))) = (glob.split_once('*'), glob.rsplit_once('*'))
            else {
                continue;
            };
            all.lengths.insert(head.len());
            let tails = all.heads.entry(head.into()).or_default();
            tails.lengths.insert(tail.len());
            let alike = tails.globs.entry(tail.into()).or_default();
            alike.push(Arc::clone(glob));
        }
        all
    }

    /// Those that fit a text.
    pub fn fitting<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a Arc<str>> {
        let heads = self.lengths.iter().filter_map(|length| text.get(..*length));
        let tails = heads.filter_map(|head| self.heads.get(head));
        let alike = tails.flat_map(move |tails| {
            let ends = tails.lengths.iter().filter_map(move |length| {
                let start = text.len().checked_sub(*length)?;
                text.get(start..)
            });
            ends.filter_map(|end| tails.globs.get(end))
        });
        alike.flatten().filter(move |glob| matches_glob(glob, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_what_lies_between_their_ends() {
        let ends = [None, Some(3), Some(5), Some(8), Some(13), Some(21)];
        let mut intervals = Vec::new();
        for from in ends {
            for until in ends {
                intervals.push((from, until, intervals.len()));
            }
        }
        let all = Intervals::new(&intervals);
        for point in 0..30 {
            let mut found: Vec<_> = all.at(&point).copied().collect();
            found.sort_unstable();
            let holds = |(from, until, _): &&(Option<i32>, Option<i32>, usize)| {
                from.is_none_or(|from| from <= point) && until.is_none_or(|until| point < until)
            };
            let expect = intervals.iter().filter(holds).map(|(.., item)| *item);
            assert_eq!(found, expect.collect::<Vec<_>>(), "{point}");
        }
    }

    /// The promise: a point is looked up, however many intervals there are.
    #[test]
    fn many_intervals_cost_few_blocks() {
        let intervals: Vec<_> = (0..10_000).map(|n| (Some(n), Some(n + 2), n)).collect();
        let all = Intervals::new(&intervals);
        assert!(all.sizes.len() <= 2, "{:?}", all.sizes);
        assert_eq!(all.at(&5_000).count(), 2);
    }

    #[test]
    fn globs_are_found_by_their_ends() {
        let globs = ["a*", "*z", "a*z", "ab*yz", "*", "a*m*z", "é*", "abc*bcz"];
        let globs = globs.map(Arc::<str>::from);
        let all = Globs::new(globs.iter());
        for text in [
            "", "a", "z", "az", "abyz", "amz", "éz", "xyz", "abcz", "abcbcz",
        ] {
            let mut found: Vec<_> = all.fitting(text).cloned().collect();
            found.sort();
            let fits = globs.iter().filter(|glob| matches_glob(glob, text));
            let mut expect: Vec<_> = fits.cloned().collect();
            expect.sort();
            assert_eq!(found, expect, "{text}");
        }
    }
}
