//! Which alerts there are, and what receivers are told of each: the state machine of alerts.
//!
//! In: causes, and the time. Out: who is told what.
//!
//! ```text
//! raise ─► pending ─ held for its rule's time ─► due ─ its rule has told few lately ─► firing ─► resolved
//!             └─ not seen for that time: forgotten  └─ else withheld, and told in its turn
//! ```
//!
//! A rule that is to hold for no time has no pending alerts. What is withheld is told later, oldest
//! first, however long ago its cause was seen: no alert is lost to the bound.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use super::{Alert, Cause};
use crate::core::event::BootNs;
use crate::core::report::{AlertState, Limit};

/// The time over which new alerts of a rule are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// When alerts are told, told again, and over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertTiming {
    /// A firing alert is told again after this.
    pub resend: Duration,
    /// An alert is resolved when its cause has not been seen for this long.
    pub resolve_after: Duration,
    /// The pace of all rules that have none of their own.
    pub pace: Pace,
    /// The pace of these rules.
    pub paces: BTreeMap<Arc<str>, Pace>,
}

/// How soon, and how often, new alerts of a rule are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The cause must have been seen over this long, without a pause of this length.
    pub hold: Duration,
    /// New alerts that are told within a minute; others wait.
    pub new_per_minute: u32,
}

/// What a cause made of its alert.
#[derive(Clone, Debug, PartialEq)]
pub enum Raised {
    /// It fires from now on.
    Fires(Arc<Alert>),
    /// It fires, and is told later: its rule, which has told so many others lately.
    Withheld(Arc<str>),
    /// It is pending, or was told before.
    Known,
}

/// What time made of alerts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Swept {
    /// What receivers are told.
    pub told: Vec<(AlertState, Arc<Alert>)>,
    /// The rule of each alert that is told later.
    pub withheld: Vec<Arc<str>>,
}

/// The alerts that there are now.
#[derive(Debug)]
pub struct AlertBook {
    timing: AlertTiming,
    capacity: usize,
    alerts: BTreeMap<Cause, Kept>,
    /// What each rule told lately.
    told: BTreeMap<Arc<str>, Window>,
}

#[derive(Debug)]
struct Kept {
    alert: Alert,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has not held for its rule's time yet.
    Pending,
    /// It is to be told in its turn.
    Withheld,
    /// Receivers were told last at this time.
    Firing(BootNs),
}

/// New alerts that a rule told since a time.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: BootNs,
    count: u32,
}

impl AlertBook {
    /// A book without alerts that holds at most `capacity`.
    #[must_use]
    pub fn new(timing: AlertTiming, capacity: usize) -> Self {
        AlertBook {
            timing,
            capacity,
            alerts: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Number of alerts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.alerts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty()
    }

    /// A cause was seen. `details` is asked for if it has no alert yet.
    ///
    /// # Errors
    ///
    /// [`Limit::Alerts`] if there are so many alerts that there is no room for another.
    pub fn raise(
        &mut self,
        cause: Cause,
        now: BootNs,
        details: impl FnOnce() -> BTreeMap<&'static str, Arc<str>>,
    ) -> Result<Raised, Limit> {
        let full = self.alerts.len() >= self.capacity;
        let kept = match self.alerts.entry(cause) {
            Entry::Occupied(known) => {
                let kept = known.into_mut();
                kept.alert.occurrences += 1;
                kept.alert.last_seen = now;
                kept
            }
            Entry::Vacant(_) if full => return Err(Limit::Alerts),
            Entry::Vacant(new) => {
                let alert = Alert::new(new.key().clone(), details(), now);
                new.insert(Kept {
                    alert,
                    stage: Stage::Pending,
                })
            }
        };
        if kept.stage != Stage::Pending {
            return Ok(Raised::Known);
        }
        let pace = self.timing.pace_of(&kept.alert.rule);
        Ok(kept.advance(pace, &mut self.told, now))
    }

    /// A cause goes on without being seen anew: its alert, if there is one, is not resolved.
    /// Whether there is one.
    pub fn keep(&mut self, cause: &Cause, now: BootNs) -> bool {
        let kept = self.alerts.get_mut(cause);
        kept.is_some_and(|kept| {
            kept.alert.last_seen = now;
            true
        })
    }

    /// What is over, what is due to be told, and what to be told again, in the order of rules and
    /// labels; what was withheld first, oldest first. And the rules of alerts that are withheld
    /// from now on.
    pub fn sweep(&mut self, now: BootNs) -> Swept {
        let (mut told, mut withheld) = (Vec::new(), Vec::new());
        let mut waiting: Vec<(BootNs, Cause)> = self
            .alerts
            .iter()
            .filter(|(_, kept)| !matches!(kept.stage, Stage::Firing(_)))
            .map(|(cause, kept)| (kept.alert.started, cause.clone()))
            .collect();
        waiting.sort();
        for (_, cause) in waiting {
            let Some(kept) = self.alerts.get_mut(&cause) else {
                continue;
            };
            let pace = self.timing.pace_of(&kept.alert.rule);
            if kept.stage == Stage::Pending && now.since(kept.alert.last_seen) > pace.hold {
                self.alerts.remove(&cause);
                continue;
            }
            match kept.advance(pace, &mut self.told, now) {
                Raised::Fires(alert) => told.push((AlertState::Fired, alert)),
                Raised::Withheld(rule) => withheld.push(rule),
                Raised::Known => {}
            }
        }
        let timing = &self.timing;
        self.alerts.retain(|_, kept| {
            let Stage::Firing(last) = &mut kept.stage else {
                return true;
            };
            let over = now.since(kept.alert.last_seen) >= timing.resolve_after;
            // What was withheld so long that it is over is told, and resolved by the next sweep.
            if over && *last != now {
                told.push((AlertState::Resolved, Arc::new(kept.alert.clone())));
                return false;
            }
            if now.since(*last) >= timing.resend {
                *last = now;
                told.push((AlertState::StillFiring, Arc::new(kept.alert.clone())));
            }
            true
        });
        Swept { told, withheld }
    }

    /// What is told when nobody will look any more: all that fires once more, and what was
    /// withheld.
    pub fn last_words(&mut self, now: BootNs) -> Vec<(AlertState, Arc<Alert>)> {
        let mut told = Vec::new();
        for kept in self.alerts.values_mut() {
            let state = match kept.stage {
                Stage::Pending => continue,
                Stage::Withheld => AlertState::Fired,
                Stage::Firing(_) => AlertState::StillFiring,
            };
            kept.stage = Stage::Firing(now);
            told.push((state, Arc::new(kept.alert.clone())));
        }
        told
    }

    /// Alerts that wait: those that are pending, and those that are withheld.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        let count = |stage| {
            let of_stage = self.alerts.values().filter(|kept| kept.stage == stage);
            of_stage.count()
        };
        (count(Stage::Pending), count(Stage::Withheld))
    }
}

impl AlertTiming {
    fn pace_of(&self, rule: &str) -> Pace {
        self.paces.get(rule).copied().unwrap_or(self.pace)
    }
}

impl Kept {
    /// Goes on from pending, or withheld, as far as it may.
    fn advance(
        &mut self,
        pace: Pace,
        told: &mut BTreeMap<Arc<str>, Window>,
        now: BootNs,
    ) -> Raised {
        let Alert {
            rule,
            started,
            last_seen,
            ..
        } = &self.alert;
        if self.stage == Stage::Pending && last_seen.since(*started) < pace.hold {
            return Raised::Known;
        }
        let window = told.entry(Arc::clone(rule)).or_insert(Window {
            since: now,
            count: 0,
        });
        if now.since(window.since) >= WINDOW {
            *window = Window {
                since: now,
                count: 0,
            };
        }
        if window.count < pace.new_per_minute {
            window.count += 1;
            self.stage = Stage::Firing(now);
            return Raised::Fires(Arc::new(self.alert.clone()));
        }
        if self.stage == Stage::Withheld {
            return Raised::Known;
        }
        self.stage = Stage::Withheld;
        Raised::Withheld(Arc::clone(rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture::{self, at};
    use crate::core::policy::judgement::Severity;

    fn cause(tool: &str) -> Cause {
        let labels = [("tool", tool.into()), ("verdict", "denied".into())];
        Cause {
            rule: "banned-tool".into(),
            severity: Severity::Critical,
            labels: labels.into(),
        }
    }

    fn book(capacity: usize) -> AlertBook {
        AlertBook::new(fixture::timing(), capacity)
    }

    /// A book whose rule `banned-tool` has another pace than all others.
    fn paced(hold: u64, new_per_minute: u32) -> AlertBook {
        let pace = Pace {
            hold: Duration::from_secs(hold),
            new_per_minute,
        };
        let timing = AlertTiming {
            paces: BTreeMap::from([("banned-tool".into(), pace)]),
            ..fixture::timing()
        };
        AlertBook::new(timing, 10)
    }

    /// Raises `tool`'s alert; whether it fires anew.
    fn raise(book: &mut AlertBook, tool: &str, now: u64) -> Result<bool, Limit> {
        book.raise(cause(tool), at(now), BTreeMap::new)
            .map(|raised| matches!(raised, Raised::Fires(_)))
    }

    /// What a sweep tells: `state tool occurrences`, or the rule that is withheld.
    fn swept(book: &mut AlertBook, now: u64) -> Vec<String> {
        let Swept { told, withheld } = book.sweep(at(now));
        let told = told.into_iter().map(|(state, alert)| {
            format!("{state:?} {} {}", alert.labels["tool"], alert.occurrences)
        });
        told.chain(withheld.iter().map(ToString::to_string))
            .collect()
    }

    #[test]
    fn an_alert_fires_once_is_told_again_and_is_resolved() {
        let mut book = book(10);
        assert_eq!(raise(&mut book, "a", 0), Ok(true));
        assert_eq!(raise(&mut book, "a", 10), Ok(false));
        assert_eq!(swept(&mut book, 59), [""; 0]);
        assert_eq!(swept(&mut book, 60), ["StillFiring a 2"]);
        assert_eq!(swept(&mut book, 119), [""; 0]);
        assert_eq!(swept(&mut book, 120), ["StillFiring a 2"]);
        assert_eq!(swept(&mut book, 310), ["Resolved a 2"]);
        assert_eq!(swept(&mut book, 400), [""; 0]);
        assert!(book.is_empty());
        assert_eq!(raise(&mut book, "a", 500), Ok(true));
    }

    #[test]
    fn an_alert_that_is_kept_is_not_resolved_and_one_that_is_not_there_is_not_made() {
        let mut book = book(10);
        raise(&mut book, "a", 0).unwrap();
        assert!(book.keep(&cause("a"), at(299)));
        assert!(!book.keep(&cause("b"), at(299)));
        assert_eq!(swept(&mut book, 300), ["StillFiring a 1"]);
        assert_eq!(swept(&mut book, 599), ["Resolved a 1"]);
    }

    #[test]
    fn a_full_book_refuses_new_alerts_and_keeps_counting_old_ones() {
        let mut book = book(2);
        for tool in ["b", "a"] {
            assert_eq!(raise(&mut book, tool, 0), Ok(true));
        }
        assert_eq!(raise(&mut book, "c", 0), Err(Limit::Alerts));
        assert_eq!(raise(&mut book, "b", 1), Ok(false));
        assert_eq!(swept(&mut book, 60), ["StillFiring a 1", "StillFiring b 2"]);
        assert_eq!(book.len(), 2);
    }

    #[test]
    fn details_are_those_of_the_first_occurrence() {
        let mut book = book(2);
        let details = || BTreeMap::from([("pid", "1".into())]);
        let Ok(Raised::Fires(fired)) = book.raise(cause("a"), at(1), details) else {
            panic!("it does not fire");
        };
        assert_eq!(
            (fired.started, fired.last_seen, fired.occurrences),
            (at(1), at(1), 1)
        );
        let unwanted = || unreachable!("an alert that there is already needs no details");
        let again = book.raise(cause("a"), at(2), unwanted);
        assert_eq!(again, Ok(Raised::Known));
        let (state, alert) = book.last_words(at(3)).remove(0);
        assert_eq!(state, AlertState::StillFiring);
        assert_eq!(
            (alert.started, alert.last_seen, alert.occurrences),
            (at(1), at(2), 2)
        );
        assert_eq!(&*alert.annotations["pid"], "1");
    }

    #[test]
    fn a_cause_must_hold_for_its_rules_time() {
        let mut book = paced(30, 10);
        assert_eq!(raise(&mut book, "a", 0), Ok(false));
        assert_eq!(raise(&mut book, "a", 29), Ok(false));
        assert_eq!(swept(&mut book, 29), [""; 0]);
        assert_eq!(book.waiting(), (1, 0));
        assert_eq!(raise(&mut book, "a", 30), Ok(true));
        assert_eq!(book.waiting(), (0, 0));
        // What is kept holds as well, and a pause as long as the time begins it anew.
        raise(&mut book, "b", 100).unwrap();
        book.keep(&cause("b"), at(130));
        assert_eq!(swept(&mut book, 130), ["Fired b 1", "StillFiring a 3"]);
        raise(&mut book, "c", 200).unwrap();
        assert_eq!(
            swept(&mut book, 231),
            ["StillFiring a 3", "StillFiring b 1"]
        );
        assert_eq!(raise(&mut book, "c", 231), Ok(false));
        assert!(
            book.last_words(at(232))
                .iter()
                .all(|(_, it)| it.labels["tool"] != "c".into())
        );
    }

    #[test]
    fn a_rule_that_tells_too_much_tells_the_rest_later() {
        let mut book = paced(0, 2);
        for (tool, fires) in [("d", true), ("c", true), ("b", false)] {
            assert_eq!(raise(&mut book, tool, 0), Ok(fires));
        }
        assert_eq!(
            book.raise(cause("a"), at(1), BTreeMap::new),
            Ok(Raised::Withheld("banned-tool".into()))
        );
        assert_eq!(raise(&mut book, "a", 2), Ok(false));
        assert_eq!(book.waiting(), (0, 2));
        assert_eq!(swept(&mut book, 59), [""; 0]);
        // Oldest first.
        let later = [
            "Fired b 1",
            "Fired a 2",
            "StillFiring c 1",
            "StillFiring d 1",
        ];
        assert_eq!(swept(&mut book, 60), later);
        // Other rules have a pace of their own.
        let other = Cause {
            rule: "raw-socket".into(),
            ..cause("a")
        };
        let raised = book.raise(other, at(60), BTreeMap::new);
        assert!(matches!(raised, Ok(Raised::Fires(_))));
    }

    #[test]
    fn what_is_withheld_is_told_even_if_it_is_over_or_nobody_looks_any_more() {
        let mut book = paced(0, 1);
        raise(&mut book, "a", 0).unwrap();
        for tool in ["b", "c"] {
            assert_eq!(raise(&mut book, tool, 1), Ok(false));
        }
        assert_eq!(swept(&mut book, 400), ["Fired b 1", "Resolved a 1"]);
        assert_eq!(swept(&mut book, 401), ["Resolved b 1"]);
        let last = book.last_words(at(402));
        assert_eq!(last.len(), 1);
        assert_eq!(
            (last[0].0, &*last[0].1.labels["tool"]),
            (AlertState::Fired, "c")
        );
    }
}
