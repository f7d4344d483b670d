//! Whether everything was seen: coverage, the kernel's books, the line in user space.
//!
//! In: coverage reports and the kernel's counters. Out: the metrics of the sections Coverage,
//! Kernel and Collector.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use monitor_common::counter;

use super::define::{Counter, Definer, Gauge, Mirror, Stopwatch};
use super::labels::*;
use super::signed;
use crate::core::coverage::{Gap, RINGS};
use crate::core::event::BootNs;
use crate::core::report::{CoverageReport, Limit, ResumedReport};

/// Whether everything was seen.
pub(super) struct Coverage {
    pub(super) complete: Gauge<0>,
    pub(super) gaps: Gauge<1>,
    pub(super) restart: Gauge<1>,
    pub(super) restart_seconds: Gauge<0>,
    /// Gaps that have a series.
    pub(super) shown: Mutex<BTreeSet<Gap>>,
}

impl Coverage {
    pub(super) fn define(define: &mut Definer) -> prometheus::Result<Self> {
        let text = "No unexpected contact is claimed only for times at which coverage is complete.";
        define.section("Coverage", text);
        let coverage = Coverage {
            complete: define.gauge(
                "telltale_coverage_complete",
                "1 if everything was seen in the last minute: all hooks are attached and proved \
                 to see, the books balance, and nothing was dropped; else 0.",
                [],
            )?,
            gaps: define.gauge(
                "telltale_coverage_gap_info",
                "1 for each reason why something may have been missed; no series for others.",
                [GAP_REASON],
            )?,
            restart: define.gauge(
                "telltale_restart_operations",
                "What became of the operations between the last words of the monitor before and \
                 the start of this one; no series if none was before.",
                [RESTART_OUTCOME],
            )?,
            restart_seconds: define.gauge(
                "telltale_restart_gap_seconds",
                "How long no monitor read what the kernel side saw, before this one started; 0 \
                 if none was before.",
                [],
            )?,
            shown: Mutex::default(),
        };
        coverage.show(&BTreeSet::from([Gap::NotYetVerified]));
        Ok(coverage)
    }

    pub(super) fn record(&self, report: &CoverageReport) {
        // A scrape in between must not find it complete with a gap.
        self.complete.set([], 0);
        self.show(&report.gaps);
        self.complete.set([], i64::from(report.complete()));
    }

    pub(super) fn resumed(&self, report: &ResumedReport) {
        for (outcome, count) in [
            ("attempted", report.attempted),
            ("delivered", report.delivered),
            ("aggregated", report.aggregated),
            ("dropped", report.dropped),
            ("recovered", report.recovered),
            ("lost", report.lost),
        ] {
            self.restart.set([outcome], signed(count));
        }
        if report.from != BootNs(0) {
            let seconds = report.time.since(report.from).as_secs();
            self.restart_seconds.set([], signed(seconds));
        }
    }

    pub(super) fn show(&self, gaps: &BTreeSet<Gap>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for gap in shown.difference(gaps) {
            self.gaps.remove([&gap.to_string()]);
        }
        for gap in gaps {
            self.gaps.set([&gap.to_string()], 1);
        }
        shown.clone_from(gaps);
    }
}

/// What the kernel side counts about itself.
pub(super) struct Kernel {
    pub(super) operations: Mirror<2>,
    pub(super) gaps: Mirror<1>,
    pub(super) remainder: Gauge<1>,
    pub(super) hook_attached: Gauge<1>,
    pub(super) measured: Gauge<0>,
    pub(super) program_runs: Mirror<1>,
    pub(super) program_seconds: Stopwatch<1>,
    pub(super) map_entries: Gauge<1>,
    pub(super) map_capacity: Gauge<1>,
    pub(super) flows_evicted: Mirror<0>,
    pub(super) ring_peak: Gauge<1>,
    pub(super) ring_capacity: Gauge<1>,
}

impl Kernel {
    pub(super) fn define(define: &mut Definer) -> prometheus::Result<Self> {
        let text = "`attempted` is what a hook saw; the other outcomes say what became of it and \
                    add up to it.\nLeave `attempted` out of sums over outcomes.";
        define.section("Kernel", text);
        let kernel = Kernel {
            operations: define.mirror(
                "telltale_kernel_operations_total",
                "Operations that a kernel hook saw, by what became of their records.",
                [HOOK, HOOK_OUTCOME],
            )?,
            gaps: define.mirror(
                "telltale_kernel_gap_total",
                "Times that the kernel side could not keep what it needed.",
                [GAP],
            )?,
            remainder: define.gauge(
                "telltale_books_remainder",
                "Operations attempted less all outcomes; of `rings`, records that hooks delivered \
                 less those that came: anything but 0 at rest is a loss that nobody counted.",
                [BOOK],
            )?,
            hook_attached: define.gauge(
                "telltale_hook_attached",
                "1 if the kernel program is attached to its hook, else 0.",
                [PROGRAM],
            )?,
            measured: define.gauge(
                "telltale_kernel_programs_measured",
                "1 if the kernel measures what its programs cost (sysctl \
                 kernel.bpf_stats_enabled=1, which itself costs some 20 ns a run); at 0 the two \
                 counters below stand still.",
                [],
            )?,
            program_runs: define.mirror(
                "telltale_kernel_program_runs_total",
                "Runs of a kernel program, while the kernel measured; read once a minute.",
                [PROGRAM],
            )?,
            program_seconds: define.stopwatch(
                "telltale_kernel_program_run_seconds_total",
                "Time that those runs took.",
                [PROGRAM],
            )?,
            map_entries: define.gauge("telltale_map_entries", "Entries in a kernel map.", [MAP])?,
            map_capacity: define.gauge(
                "telltale_map_capacity",
                "Entries that a kernel map can hold.",
                [MAP],
            )?,
            flows_evicted: define.mirror(
                "telltale_kernel_flows_evicted_total",
                "Flows of living processes that were taken out of the kernel's flow map, because \
                 it was three quarters full and they were idle; all they counted was told before.",
                [],
            )?,
            ring_peak: define.gauge(
                "telltale_ring_peak_bytes",
                "The most that was in a ring when it was emptied (every 20 ms), within a minute; \
                 a record that finds no room is dropped, and counted as `ring_full`.",
                [RING],
            )?,
            ring_capacity: define.gauge(
                "telltale_ring_capacity_bytes",
                "What a ring can hold.",
                [RING],
            )?,
        };
        // A rate needs a zero to start from, and the first scrape may come before the books.
        kernel.record(&[0; _], 0);
        Ok(kernel)
    }

    pub(super) fn record(&self, books: &[u64; counter::COUNTERS as usize], astray: i64) {
        self.remainder.set([RINGS], astray);
        let (rows, gaps) = books.split_at((counter::HOOKS * counter::OUTCOMES) as usize);
        let rows = rows.chunks_exact(counter::OUTCOMES as usize);
        for (hook, row) in counter::HOOK_NAMES.into_iter().zip(rows) {
            for (outcome, value) in counter::OUTCOME_NAMES.into_iter().zip(row) {
                self.operations.follow([hook, outcome], *value);
            }
            if let [attempted, outcomes @ ..] = row {
                let accounted = outcomes
                    .iter()
                    .fold(0u64, |sum, value| sum.saturating_add(*value));
                self.remainder
                    .set([hook], signed(*attempted) - signed(accounted));
            }
        }
        for (reason, value) in counter::GAP_NAMES.into_iter().zip(gaps) {
            self.gaps.follow([reason], *value);
        }
    }
}

/// What the line in user space counts about itself.
pub(super) struct Line {
    pub(super) events: Counter<1>,
    pub(super) decode_errors: Counter<1>,
    pub(super) limited: Counter<1>,
    pub(super) host_facts: Counter<1>,
    pub(super) table_entries: Gauge<1>,
    pub(super) table_capacity: Gauge<1>,
}

impl Line {
    pub(super) fn define(define: &mut Definer) -> prometheus::Result<Self> {
        define.section("Collector", "");
        let line = Line {
            events: define.counter(
                "telltale_events_total",
                "Records decoded, by kind.",
                [EVENT_KIND],
            )?,
            decode_errors: define.counter(
                "telltale_decode_errors_total",
                "Records that could not be decoded.",
                [DECODE_REASON],
            )?,
            limited: define.counter(
                "telltale_table_limited_total",
                "Times that a table was full: an entry was evicted or refused.",
                [LIMITED_TABLE],
            )?,
            host_facts: define.counter(
                "telltale_host_facts_total",
                "Questions to the host about cgroups, containers and build jobs: answered, nothing \
                 known, a file was not as it should be, or not asked as the host was slow.",
                [FACT_OUTCOME],
            )?,
            table_entries: define.gauge(
                "telltale_table_entries",
                "Entries in a table of the collector.",
                [TABLE],
            )?,
            table_capacity: define.gauge(
                "telltale_table_capacity",
                "Entries that a table of the collector can hold.",
                [TABLE],
            )?,
        };
        for outcome in FACT_OUTCOMES {
            line.host_facts.add([outcome], 0);
        }
        for reason in DECODE_ERRORS {
            line.decode_errors.add([reason], 0);
        }
        for table in LIMITS
            .map(Limit::name)
            .into_iter()
            .chain([ACTIVE_TABLE, RUNNING_TABLE])
        {
            line.limited.add([table], 0);
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::metrics::encode::Format;
    use crate::metrics::fixture::{books, check, coverage, metrics};
    use crate::sink::fixture::CLOCK;

    #[track_caller]
    fn check_coverage(metrics: &Metrics, complete: f64, reasons: &[&str]) {
        check(metrics, &[("telltale_coverage_complete", complete)]);
        let text = metrics.encode(Format::Text);
        let series = text
            .lines()
            .filter_map(|line| line.strip_prefix("telltale_coverage_gap_info{reason=\""));
        let series: Vec<_> = series.collect();
        let expect: Vec<_> = reasons
            .iter()
            .map(|reason| format!("{reason}\"}} 1"))
            .collect();
        assert_eq!(series, expect);
    }

    #[test]
    fn coverage_is_incomplete_until_it_is_told_otherwise_and_its_gaps_come_and_go() {
        let metrics = metrics();
        check_coverage(&metrics, 0.0, &["not_yet_verified"]);
        metrics.record(&coverage(&[]), &CLOCK);
        check_coverage(&metrics, 1.0, &[]);
        let (lost, dropped) = (Gap::HookLost("connect4"), Gap::Dropped("exec", "ring_full"));
        metrics.record(&coverage(&[lost, dropped]), &CLOCK);
        check_coverage(
            &metrics,
            0.0,
            &["dropped:exec:ring_full", "hook_lost:connect4"],
        );
        metrics.record(&coverage(&[dropped]), &CLOCK);
        check_coverage(&metrics, 0.0, &["dropped:exec:ring_full"]);
        metrics.record(&coverage(&[]), &CLOCK);
        check_coverage(&metrics, 1.0, &[]);
    }

    #[test]
    fn the_books_are_followed_across_a_restart_of_the_kernel_side() {
        let metrics = metrics();
        let at = |outcome| counter::index(counter::HOOK_CONNECT6, outcome);
        let series = |outcome: &str| {
            format!("telltale_kernel_operations_total{{hook=\"connect6\",outcome=\"{outcome}\"}}")
        };
        let (attempted, delivered) = (series("attempted"), series("delivered"));
        let remainder = "telltale_books_remainder{hook=\"connect6\"}";
        let gap = "telltale_kernel_gap_total{reason=\"watched_full\"}";
        let (a, d) = (at(counter::ATTEMPTED), at(counter::DELIVERED));
        check(
            &metrics,
            &[
                (&attempted, 0.0),
                (&delivered, 0.0),
                (remainder, 0.0),
                (gap, 0.0),
            ],
        );
        metrics.record(
            &books(&[(a, 10), (d, 7), (counter::GAP_WATCHED_FULL, 1)]),
            &CLOCK,
        );
        check(
            &metrics,
            &[
                (&attempted, 10.0),
                (&delivered, 7.0),
                (remainder, 3.0),
                (gap, 1.0),
            ],
        );
        metrics.record(&books(&[(a, 12), (d, 12)]), &CLOCK);
        check(
            &metrics,
            &[(&attempted, 12.0), (&delivered, 12.0), (remainder, 0.0)],
        );
        metrics.record(&books(&[(a, 4), (d, 5)]), &CLOCK);
        check(
            &metrics,
            &[
                (&attempted, 16.0),
                (&delivered, 17.0),
                (remainder, -1.0),
                (gap, 1.0),
            ],
        );
        metrics.record(&books(&[(a, u64::MAX), (d, u64::MAX), (d + 1, 9)]), &CLOCK);
        check(&metrics, &[(remainder, 0.0)]);
    }
}
