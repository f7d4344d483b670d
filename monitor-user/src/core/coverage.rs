//! Whether the monitor sees everything, and if not, what it may have missed and why.
//!
//! In: the kernel's books, what the shell found out about the kernel side ([`SelfChecked`]), bounds
//! that were reached, records that could not be decoded, and the time. Out: the [`Gap`]s.
//!
//! A gap is told for [`WINDOW`] after it was last there, so that whoever looks every minute sees
//! it. Without any the coverage is complete: everything since the window began, or since the
//! first successful check if that is later, was seen and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use monitor_common::counter;

use super::event::{BootNs, KernelCounters, Resumed, SelfChecked};
use super::report::Limit;

/// How long a gap is told after it was last there: the interval at which Prometheus scrapes by
/// default.
pub const WINDOW: Duration = Duration::from_secs(60);

/// A canary flow that was not seen for this long is missing. It is sent every few seconds.
pub const CANARY_PATIENCE: Duration = Duration::from_secs(10);

/// Where the books tell of the rings between the hooks and the monitor; a hook of no other name.
pub const RINGS: &str = "rings";

/// Something that the monitor may have missed. Names come from this program, so their number is
/// bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gap {
    /// No self-check has succeeded since the start.
    NotYetVerified,
    /// A kernel program was never attached.
    HookNotAttached(&'static str),
    /// A kernel program was attached, and is or was not any more.
    HookLost(&'static str),
    /// Operations of a hook that are in no outcome, or in two; of [`RINGS`], records that were
    /// delivered and did not come, or came and were not delivered.
    BooksUnbalanced(&'static str),
    /// Records of a hook that were dropped, for one of [`counter::OUTCOME_NAMES`].
    Dropped(&'static str, &'static str),
    /// The kernel side could not keep what it needed: one of [`counter::GAP_NAMES`].
    NotKept(&'static str),
    /// Records that could not be decoded.
    DecodeErrors,
    /// A table of the collector was full.
    TableFull(Limit),
    /// The canary flow was not seen for [`CANARY_PATIENCE`].
    CanaryMissing,
    /// This kernel lacks something.
    FeatureMissing(&'static str),
    /// The monitor took over from one that ran before it, and something in between was dropped or
    /// may not have been told.
    Restart,
    /// The kernel side was to outlive the monitor, and cannot.
    NotPinned,
}

/// The name in metrics and alerts: `hook_lost:connect4`. Stable.
impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gap::NotYetVerified => f.write_str("not_yet_verified"),
            Gap::HookNotAttached(program) => write!(f, "hook_not_attached:{program}"),
            Gap::HookLost(program) => write!(f, "hook_lost:{program}"),
            Gap::BooksUnbalanced(hook) => write!(f, "books_unbalanced:{hook}"),
            Gap::Dropped(hook, reason) => write!(f, "dropped:{hook}:{reason}"),
            Gap::NotKept(reason) => f.write_str(reason),
            Gap::DecodeErrors => f.write_str("decode_errors"),
            Gap::TableFull(limit) => write!(f, "table_full:{}", limit.name()),
            Gap::CanaryMissing => f.write_str("canary_missing"),
            Gap::FeatureMissing(feature) => write!(f, "feature_missing:{feature}"),
            Gap::Restart => f.write_str("restart"),
            Gap::NotPinned => f.write_str("not_pinned"),
        }
    }
}

impl Gap {
    /// What may have been missed, in one sentence for a person.
    #[must_use]
    pub fn why(self) -> String {
        match self {
            Gap::NotYetVerified => "no self-check has succeeded since the start".to_owned(),
            Gap::HookNotAttached(program) => {
                format!("the kernel program {program} is not attached, and what it sees is missed")
            }
            Gap::HookLost(program) => format!(
                "the kernel program {program} was detached by someone else, and what it sees was \
                 missed until it was attached again"
            ),
            Gap::BooksUnbalanced(hook) => format!(
                "the books of {hook} do not balance: operations were lost that nobody counted"
            ),
            Gap::Dropped(hook, reason) => format!("records of {hook} were dropped: {reason}"),
            Gap::NotKept(reason) => {
                format!("the kernel side could not keep what it needed: {reason}")
            }
            Gap::DecodeErrors => "records of the kernel side could not be decoded".to_owned(),
            Gap::TableFull(limit) => format!(
                "the table {} was full, and entries were evicted or refused",
                limit.name()
            ),
            Gap::CanaryMissing => format!(
                "the monitor's own test flow has not come back for {} seconds",
                CANARY_PATIENCE.as_secs()
            ),
            Gap::FeatureMissing(program) => {
                format!("this kernel does not allow {program}, and what only that sees is missed")
            }
            Gap::Restart => "the monitor was restarted, and part of what happened in between was \
                             counted and not told"
                .to_owned(),
            Gap::NotPinned => "the kernel side is not pinned: what happens between an end of the \
                               monitor and its next start will be missed"
                .to_owned(),
        }
    }
}

/// What is known about what is not seen.
#[derive(Debug, Default)]
pub struct Coverage {
    /// When each gap was last there.
    seen: BTreeMap<Gap, BootNs>,
    /// The last reading of the books.
    books: Option<[u64; counter::COUNTERS as usize]>,
    /// The books were compared with an earlier reading.
    compared: bool,
    /// What the last self-check said.
    last: SelfChecked,
    /// When the books were first read, or the first self-check was made.
    began: Option<BootNs>,
    /// Programs that were attached at some time.
    attached_once: BTreeSet<&'static str>,
    /// Once, books and canary were in order.
    verified: bool,
}

impl Coverage {
    /// Takes a reading of the books.
    pub fn books(&mut self, books: &KernelCounters, now: BootNs) {
        self.began.get_or_insert(now);
        let before = self.books.replace(books.values);
        self.compared = before.is_some();
        if books.astray != 0 {
            self.seen.insert(Gap::BooksUnbalanced(RINGS), now);
        }
        let before = before.unwrap_or([0; _]);
        let gaps = unbalanced(&before, &books.values).chain(dropped(&before, &books.values));
        self.seen.extend(gaps.map(|gap| (gap, now)));
    }

    /// Takes a self-check. Out: the programs that were attached at some time and are not now.
    pub fn self_check(&mut self, check: SelfChecked, now: BootNs) -> Vec<&'static str> {
        let attached = check.attached.iter().filter(|(_, attached)| *attached);
        self.attached_once
            .extend(attached.map(|(program, _)| *program));
        self.began.get_or_insert(now);
        self.last = SelfChecked {
            canary: check.canary.max(self.last.canary),
            ..check
        };
        self.see_standing(now); // The next check may find it otherwise before anyone looks.
        self.detached()
            .filter(|program| self.attached_once.contains(program))
            .collect()
    }

    /// The monitor took over: the books go on from where the monitor before had read them.
    pub fn resumed(&mut self, event: &Resumed, is_gap: bool, now: BootNs) {
        if event.from != BootNs(0) {
            self.books = Some(event.before);
        }
        if is_gap {
            self.seen.insert(Gap::Restart, now);
        }
    }

    /// A record could not be decoded.
    pub fn undecodable(&mut self, now: BootNs) {
        self.seen.insert(Gap::DecodeErrors, now);
    }

    /// A bound of the collector was reached.
    pub fn limited(&mut self, limit: Limit, now: BootNs) {
        // What is forgotten is looked for again; and a host too many to count is told all the same.
        if matches!(limit, Limit::Places | Limit::Contacts) {
            return;
        }
        self.seen.insert(Gap::TableFull(limit), now);
    }

    /// The gaps of the last [`WINDOW`]; none: the coverage is complete.
    pub fn gaps(&mut self, now: BootNs) -> BTreeSet<Gap> {
        self.see_standing(now);
        self.seen.retain(|_, seen| now.since(*seen) < WINDOW);
        self.verified |= self.compared && self.last.canary.is_some();
        let unverified = (!self.verified).then_some(Gap::NotYetVerified);
        self.seen.keys().copied().chain(unverified).collect()
    }

    fn see_standing(&mut self, now: BootNs) {
        let gaps = self.standing(now).into_iter();
        self.seen.extend(gaps.map(|gap| (gap, now)));
    }

    /// What the last self-check found and has not been found otherwise since.
    fn standing(&self, now: BootNs) -> Vec<Gap> {
        let unattached = self.detached().map(|program| {
            if self.attached_once.contains(program) {
                Gap::HookLost(program)
            } else {
                Gap::HookNotAttached(program)
            }
        });
        let missing = self.last.missing.iter().copied().map(Gap::FeatureMissing);
        let unpinned = self.last.unpinned.then_some(Gap::NotPinned);
        let silent = self.last.canary.or(self.began).is_some_and(|last| {
            now.since(last) >= CANARY_PATIENCE // Also where no self-check comes any more.
        });
        unattached
            .chain(missing)
            .chain(unpinned)
            .chain(silent.then_some(Gap::CanaryMissing))
            .collect()
    }

    fn detached(&self) -> impl Iterator<Item = &'static str> {
        let hooks = self.last.attached.iter();
        hooks
            .filter(|(_, attached)| !attached)
            .map(|(program, _)| *program)
    }
}

/// The hooks whose books do not balance.
///
/// The counters are read one after another while they change, so a remainder may be of operations
/// that are under way. Those began after the reading before: what was attempted by then must have
/// an outcome now, and what had an outcome then must be attempted now. Anything else is certain.
fn unbalanced(before: &[u64], now: &[u64]) -> impl Iterator<Item = Gap> {
    let rows = rows(before).zip(rows(now));
    let hooks = counter::HOOK_NAMES.into_iter().zip(rows);
    hooks.filter_map(|(hook, (before, now))| {
        let (attempted_before, outcomes_before) = summed(before);
        let (attempted, outcomes) = summed(now);
        let reloaded = attempted < attempted_before;
        let lost = outcomes < attempted_before;
        let surplus = outcomes_before > attempted;
        (!reloaded && (lost || surplus)).then_some(Gap::BooksUnbalanced(hook))
    })
}

/// What was dropped and not kept between two readings.
fn dropped(before: &[u64], now: &[u64]) -> Vec<Gap> {
    // A counter that shrank was loaded anew, at 0.
    let grew = |(before, now): (&u64, &u64)| now > before || (now < before && *now > 0);
    let mut gaps = Vec::new();
    let rows = rows(before).zip(rows(now));
    for (hook, (before, now)) in counter::HOOK_NAMES.into_iter().zip(rows) {
        let cells = before.iter().zip(now);
        let reasons = counter::OUTCOME_NAMES.into_iter().zip(cells);
        let drops = reasons.skip(counter::DROPPED_RING_FULL as usize);
        let grown = drops.filter(|(_, cell)| grew(*cell));
        gaps.extend(grown.map(|(reason, _)| Gap::Dropped(hook, reason)));
    }
    let kept = (counter::HOOKS * counter::OUTCOMES) as usize;
    let cells = before.iter().zip(now).skip(kept);
    let reasons = counter::GAP_NAMES.into_iter().zip(cells);
    let grown = reasons.filter(|(_, cell)| grew(*cell));
    gaps.extend(grown.map(|(reason, _)| Gap::NotKept(reason)));
    gaps
}

/// What all hooks saw between two readings, by what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Operations seen.
    pub attempted: u64,
    /// Handed over as records.
    pub delivered: u64,
    /// Counted without a record.
    pub aggregated: u64,
    /// Dropped, for whatever reason.
    pub dropped: u64,
}

/// Sums up all hooks. Counters that shrank were loaded anew, and count in full.
#[must_use]
pub fn outcomes_between(before: &[u64], now: &[u64]) -> Outcomes {
    let mut sums = Outcomes::default();
    for (before, now) in rows(before).zip(rows(now)) {
        for ((outcome, before), now) in (0u32..).zip(before).zip(now) {
            let sum = match outcome {
                counter::ATTEMPTED => &mut sums.attempted,
                counter::DELIVERED => &mut sums.delivered,
                counter::AGGREGATED => &mut sums.aggregated,
                _ => &mut sums.dropped,
            };
            *sum = sum.saturating_add(now.checked_sub(*before).unwrap_or(*now));
        }
    }
    sums
}

/// The books of each hook.
fn rows(counters: &[u64]) -> impl Iterator<Item = &[u64]> {
    let rows = counters.chunks_exact(counter::OUTCOMES as usize);
    rows.take(counter::HOOKS as usize)
}

/// What was attempted, and the sum of all outcomes.
fn summed(row: &[u64]) -> (u64, u64) {
    let sum = |cells: &[u64]| cells.iter().fold(0u64, |sum, it| sum.saturating_add(*it));
    let (attempted, outcomes) = row.split_at(counter::DELIVERED as usize);
    (sum(attempted), sum(outcomes))
}

#[cfg(test)]
mod tests {
    use monitor_common::counter::{
        AGGREGATED, ATTEMPTED, DELIVERED, DROPPED_OVER_BUDGET, DROPPED_RING_FULL, GAP_FLOWS_FULL,
        HOOK_CONNECT4, HOOK_WIRE, index,
    };

    use super::*;
    use crate::core::fixture::at;

    /// A reading in which these cells are not 0.
    fn reading(cells: &[(u32, u64)]) -> KernelCounters {
        let mut values = [0; _];
        for (index, value) in cells {
            values[*index as usize] = *value;
        }
        KernelCounters {
            time: at(0),
            values,
            astray: 0,
        }
    }

    /// A reading of the books of `connect4`: attempted, delivered.
    fn connects(attempted: u64, delivered: u64) -> KernelCounters {
        reading(&[
            (index(HOOK_CONNECT4, ATTEMPTED), attempted),
            (index(HOOK_CONNECT4, DELIVERED), delivered),
        ])
    }

    fn attached(programs: &[(&'static str, bool)], canary: u64) -> SelfChecked {
        SelfChecked {
            attached: programs.to_vec(),
            canary: Some(at(canary)),
            ..SelfChecked::default()
        }
    }

    /// Coverage that is complete at second 100.
    fn complete() -> Coverage {
        let mut coverage = Coverage::default();
        for second in [99, 100] {
            coverage.books(&reading(&[]), at(second));
            coverage.self_check(attached(&[("connect4", true)], second), at(second));
        }
        check(&mut coverage, 100, &[]);
        coverage
    }

    #[track_caller]
    fn check(coverage: &mut Coverage, second: u64, expect: &[&str]) {
        let gaps = coverage.gaps(at(second));
        let names: Vec<_> = gaps.iter().map(ToString::to_string).collect();
        assert_eq!(names, expect);
    }

    /// The canary comes back every second until `to`, with nothing else to tell.
    fn sing(coverage: &mut Coverage, to: u64) {
        coverage.self_check(attached(&[("connect4", true)], to), at(to));
    }

    #[test]
    fn nothing_is_complete_before_books_and_canary_were_seen() {
        let mut coverage = Coverage::default();
        check(&mut coverage, 0, &["not_yet_verified"]);
        coverage.books(&reading(&[]), at(1));
        coverage.self_check(SelfChecked::default(), at(1));
        check(&mut coverage, 1, &["not_yet_verified"]);
        sing(&mut coverage, 2);
        check(&mut coverage, 2, &["not_yet_verified"]);
        coverage.books(&reading(&[]), at(2));
        check(&mut coverage, 2, &[]);
    }

    #[test]
    fn a_canary_that_does_not_come_back_is_missed_and_missing_for_a_window() {
        let mut coverage = Coverage::default();
        coverage.self_check(SelfChecked::default(), at(1));
        check(&mut coverage, 10, &["not_yet_verified"]);
        check(&mut coverage, 11, &["not_yet_verified", "canary_missing"]);

        // A monitor that cannot even check itself has books.
        let mut coverage = Coverage::default();
        coverage.books(&reading(&[]), at(1));
        check(&mut coverage, 11, &["not_yet_verified", "canary_missing"]);

        let mut coverage = complete();
        check(&mut coverage, 109, &[]);
        check(&mut coverage, 110, &["canary_missing"]);
        // An older sighting does not take back a newer one, nor does none.
        sing(&mut coverage, 165);
        coverage.self_check(attached(&[], 3), at(166));
        coverage.self_check(SelfChecked::default(), at(167));
        check(&mut coverage, 169, &["canary_missing"]);
        check(&mut coverage, 170, &[]);
    }

    #[test]
    fn a_hook_is_never_attached_or_lost_and_told_apart() {
        let mut coverage = complete();
        let hooks = [("connect4", false), ("file_iter", false)];
        let lost = coverage.self_check(attached(&hooks, 101), at(101));
        assert_eq!(lost, ["connect4"]);
        let gaps = ["hook_not_attached:file_iter", "hook_lost:connect4"];
        check(&mut coverage, 101, &gaps);
        let lost = coverage.self_check(attached(&[("connect4", true)], 102), at(102));
        assert_eq!(lost, [""; 0]);
        sing(&mut coverage, 160);
        check(&mut coverage, 160, &gaps);
        check(&mut coverage, 161, &[]);
    }

    #[track_caller]
    fn check_balance(readings: [(u64, u64); 2], balanced: bool) {
        let mut coverage = complete();
        for (attempted, delivered) in readings {
            coverage.books(&connects(attempted, delivered), at(101));
        }
        let expect: &[&str] = if balanced {
            &[]
        } else {
            &["books_unbalanced:connect4"]
        };
        check(&mut coverage, 101, expect);
    }

    #[test]
    fn a_remainder_counts_when_it_is_not_of_operations_under_way() {
        check_balance([(10, 10), (20, 20)], true);
        check_balance([(10, 7), (10, 10)], true);
        check_balance([(10, 7), (10, 7)], false);
        check_balance([(10, 9), (10, 9)], false);
        // Read while they change: the remainder is of what began since.
        check_balance([(10, 7), (20, 17)], true);
        check_balance([(10, 12), (12, 14)], true);
        // More is missing than began since.
        check_balance([(10, 7), (12, 9)], false);
        // More came out than went in.
        check_balance([(4, 5), (4, 5)], false);
        // The kernel side was loaded anew.
        check_balance([(10, 10), (3, 2)], true);
        check_balance([(u64::MAX, u64::MAX), (u64::MAX, u64::MAX)], true);
    }

    #[test]
    fn books_stay_unbalanced_until_they_are_not() {
        let mut coverage = complete();
        for second in 101..300 {
            coverage.books(&connects(10, 7), at(second));
            sing(&mut coverage, second);
        }
        check(&mut coverage, 300, &["books_unbalanced:connect4"]);
        coverage.books(&connects(10, 10), at(300));
        sing(&mut coverage, 358);
        check(&mut coverage, 358, &["books_unbalanced:connect4"]);
        check(&mut coverage, 359, &[]);
    }

    #[test]
    fn every_outcome_is_part_of_the_balance() {
        for outcome in DELIVERED..counter::OUTCOMES {
            let mut coverage = Coverage::default();
            let cells = [
                (index(HOOK_WIRE, ATTEMPTED), 2),
                (index(HOOK_WIRE, AGGREGATED), 1),
                (
                    index(HOOK_WIRE, outcome),
                    2 - u64::from(outcome != AGGREGATED),
                ),
            ];
            coverage.books(&reading(&cells), at(1));
            coverage.books(&reading(&cells), at(2));
            let gaps = coverage.gaps(at(2));
            assert!(!gaps.contains(&Gap::BooksUnbalanced("wire")), "{outcome}");
        }
    }

    #[test]
    fn drops_are_gaps_while_they_increase() {
        let ring = index(HOOK_CONNECT4, DROPPED_RING_FULL);
        let budget = index(HOOK_WIRE, DROPPED_OVER_BUDGET);
        let mut coverage = complete();
        // Attempts that fit, so that the books balance.
        let dropped = |ring_full: u64, over_budget: u64, flows_full: u64| {
            reading(&[
                (index(HOOK_CONNECT4, ATTEMPTED), ring_full),
                (ring, ring_full),
                (index(HOOK_WIRE, ATTEMPTED), over_budget),
                (budget, over_budget),
                (GAP_FLOWS_FULL, flows_full),
            ])
        };
        coverage.books(&dropped(1, 0, 2), at(101));
        coverage.books(&dropped(1, 3, 2), at(102));
        coverage.books(&dropped(1, 3, 2), at(103));
        sing(&mut coverage, 160);
        let (ring, wire) = ("dropped:connect4:ring_full", "dropped:wire:over_budget");
        check(&mut coverage, 160, &[ring, wire, "flows_full"]);
        check(&mut coverage, 161, &[wire]);
        check(&mut coverage, 162, &[]);
        // Loaded anew, and dropping again.
        coverage.books(&dropped(1, 1, 0), at(163));
        check(&mut coverage, 163, &[wire]);
    }

    #[test]
    fn what_was_dropped_before_the_first_reading_counts() {
        let mut coverage = Coverage::default();
        coverage.books(&reading(&[(GAP_FLOWS_FULL, 1)]), at(1));
        check(&mut coverage, 1, &["not_yet_verified", "flows_full"]);
    }

    #[test]
    fn what_the_line_tells_of_itself_is_a_gap_for_a_window() {
        let mut coverage = complete();
        coverage.undecodable(at(101));
        coverage.limited(Limit::Names, at(102));
        sing(&mut coverage, 160);
        check(&mut coverage, 160, &["decode_errors", "table_full:names"]);
        check(&mut coverage, 161, &["table_full:names"]);
        check(&mut coverage, 162, &[]);
    }

    #[test]
    fn what_this_kernel_lacks_is_a_gap_as_long_as_it_is_so() {
        let mut coverage = complete();
        let check_with = |missing: &[&'static str], second| SelfChecked {
            missing: missing.to_vec(),
            ..attached(&[("connect4", true)], second)
        };
        coverage.self_check(check_with(&["file_iter"], 101), at(101));
        check(&mut coverage, 109, &["feature_missing:file_iter"]);
        coverage.self_check(check_with(&[], 168), at(168));
        check(&mut coverage, 168, &["feature_missing:file_iter"]);
        check(&mut coverage, 169, &[]);
    }

    #[test]
    fn a_restart_goes_on_with_the_books_and_is_a_gap_if_something_is_missing() {
        let full = |drops| {
            reading(&[
                (index(HOOK_WIRE, ATTEMPTED), drops),
                (index(HOOK_WIRE, DROPPED_RING_FULL), drops),
            ])
        };
        let resumed = |drops| Resumed {
            time: at(101),
            from: at(99),
            recovered: 0,
            unread: 0,
            untold: 0,
            discarded: 0,
            before: full(drops).values,
            after: full(3).values,
        };
        for (before, is_gap, expect) in [
            (3, false, &[][..]),
            (3, true, &["restart"]),
            (2, true, &["dropped:wire:ring_full", "restart"]),
        ] {
            let mut coverage = complete();
            coverage.resumed(&resumed(before), is_gap, at(101));
            coverage.books(&full(3), at(101));
            check(&mut coverage, 101, expect);
        }
    }

    #[test]
    fn what_will_not_outlive_the_monitor_is_a_gap_as_long_as_it_is_so() {
        let mut coverage = complete();
        let unpinned = SelfChecked {
            unpinned: true,
            ..attached(&[("connect4", true)], 101)
        };
        coverage.self_check(unpinned, at(101));
        check(&mut coverage, 109, &["not_pinned"]);
    }

    #[test]
    fn every_gap_has_a_reason_for_a_person() {
        for gap in [
            Gap::NotYetVerified,
            Gap::HookNotAttached("connect4"),
            Gap::HookLost("connect4"),
            Gap::BooksUnbalanced("wire"),
            Gap::Dropped("wire", "ring_full"),
            Gap::NotKept("flows_full"),
            Gap::DecodeErrors,
            Gap::TableFull(Limit::Names),
            Gap::CanaryMissing,
            Gap::FeatureMissing("file_iter"),
            Gap::Restart,
            Gap::NotPinned,
        ] {
            let (reason, why) = (gap.to_string(), gap.why());
            let subject = reason.split(':').next_back().unwrap();
            assert!(!why.ends_with('.') && why.len() > 20, "{why}");
            assert!(!reason.contains(':') || why.contains(subject), "{why}");
        }
    }
}
