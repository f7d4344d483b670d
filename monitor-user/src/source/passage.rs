//! Whether every record that a hook booked came out of a ring, and none that was not booked.
//!
//! In: both counts, read about once a second. Out: how far they contradict each other.
//!
//! A record is put into its ring and then booked, while the counts are being read, so their
//! difference of one moment says nothing. But what was booked by one reading is taken by the next,
//! and what was taken by one is booked by the next: two readings say how small and how large the
//! difference can be. It is what was booked before this monitor took its first record, and never
//! changes, unless records go astray.

/// Follows the difference: records booked less records taken.
pub struct Passage {
    /// The last reading.
    booked: u64,
    taken: u64,
    /// What the difference was at first.
    first: Bounds,
    /// What it is now.
    now: Bounds,
}

#[derive(Clone, Copy)]
struct Bounds {
    least: i64,
    most: i64,
}

impl Passage {
    /// Of rings that nobody has read before.
    #[must_use]
    pub fn fresh() -> Passage {
        Passage::from(Bounds { least: 0, most: 0 })
    }

    /// Of rings that another monitor has read: how many records it took is not known exactly.
    #[must_use]
    pub fn taken_over() -> Passage {
        Passage::from(Bounds {
            least: i64::MIN,
            most: i64::MAX,
        })
    }

    fn from(first: Bounds) -> Passage {
        Passage {
            booked: 0,
            taken: 0,
            first,
            now: first,
        }
    }

    /// Takes a reading: records booked by all hooks, and records taken out of the rings, which were
    /// emptied since the reading before. Out: records that were booked and never came; below zero,
    /// records that came and were never booked. At least so many: it is exact after a second
    /// without records.
    pub fn read(&mut self, booked: u64, taken: u64) -> i64 {
        let bounds = Bounds {
            least: less(self.booked, taken),
            most: less(booked, self.taken),
        };
        (self.booked, self.taken) = (booked, taken);
        self.first = self.first.and(bounds).unwrap_or(self.first);
        self.now = self.now.and(bounds).unwrap_or(bounds);
        let (missing, surplus) = (
            self.now.least.saturating_sub(self.first.most),
            self.first.least.saturating_sub(self.now.most),
        );
        missing.max(0) - surplus.max(0)
    }
}

impl Bounds {
    /// What both allow.
    fn and(self, other: Bounds) -> Option<Bounds> {
        let both = Bounds {
            least: self.least.max(other.least),
            most: self.most.min(other.most),
        };
        (both.least <= both.most).then_some(both)
    }
}

fn less(left: u64, right: u64) -> i64 {
    let signed = |count| i64::try_from(count).unwrap_or(i64::MAX);
    signed(left).saturating_sub(signed(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mut passage: Passage, readings: &[(u64, u64, i64)]) {
        for (number, (booked, taken, expect)) in readings.iter().enumerate() {
            assert_eq!(passage.read(*booked, *taken), *expect, "reading {number}");
        }
    }

    #[test]
    fn records_under_way_are_not_astray() {
        // Booked after the rings were emptied; taken before they were booked.
        check(Passage::fresh(), &[(7, 5, 0), (20, 21, 0), (21, 21, 0)]);
        check(
            Passage::taken_over(),
            &[(107, 5, 0), (120, 20, 0), (120, 20, 0)],
        );
    }

    #[test]
    fn what_never_comes_is_missing_until_it_does() {
        check(
            Passage::fresh(),
            &[
                (10, 10, 0),
                (20, 19, 0),
                (20, 19, 1),
                (99, 60, 1),
                (99, 98, 1),
                (99, 99, 1),
                (99, 99, 0),
            ],
        );
    }

    #[test]
    fn what_was_not_booked_is_a_surplus() {
        check(Passage::fresh(), &[(10, 12, 0), (10, 12, -2), (15, 17, -2)]);
    }

    #[test]
    fn one_that_took_over_learns_the_difference_first() {
        let learned = [(1_000, 0, 0), (1_000, 10, 0), (1_000, 10, 0)];
        for (reading, expect) in [((1_003, 10), 3), ((1_003, 15), -2), ((1_003, 13), 0)] {
            let mut passage = Passage::taken_over();
            for (booked, taken, none) in learned {
                assert_eq!(passage.read(booked, taken), none);
            }
            passage.read(reading.0, reading.1);
            assert_eq!(passage.read(reading.0, reading.1), expect);
        }
    }
}
