//! Who talks to whom, how much, and under which names.
//!
//! In: reports of flows. Out: the metrics of the sections Connections and Names.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use super::define::{Counter, Definer, Gauge, Histogram, Mirror};
use super::exemplars::Exemplar;
use super::labels::*;
use crate::core::claim::{By, Claim, INCOMPLETES, INVALIDS};
use crate::core::event::{Outcome, Protocol, SocketCookie};
use crate::core::names::{NameEvidence, NameSource};
use crate::core::policy::judgement::Judgement;
use crate::core::report::{FlowEnd, FlowReport, ResolvedState, ResolvedStatus};
use crate::core::wire::NameInvalid;

/// Connections of tools that are counted as open at one time: as many as the kernel side counts.
/// Beyond it the gauge is too low, and the bound is counted.
const ACTIVE_MAX: usize = 65_536;

/// From the same rack to a satellite.
const RTT_BUCKETS: [f64; 9] = [0.0005, 0.002, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 2.0];

/// From a refused retry to a session that a person keeps open all day.
const DURATION_BUCKETS: [f64; 9] = [0.01, 0.1, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0, 28_800.0];

/// The `purpose` label.
pub(super) fn purpose_label(purpose: Option<&str>) -> &'static str {
    match purpose {
        None => NONE,
        Some(purpose) => PURPOSES
            .into_iter()
            .find(|known| *known == purpose)
            .unwrap_or(OTHER),
    }
}

/// Why a flow failed, in one word; `None` if it did not.
#[must_use]
pub fn failure_reason(outcome: Outcome) -> Option<&'static str> {
    let errno = match outcome {
        Outcome::Closed => return None,
        Outcome::NeverSent => return Some("never_sent"),
        Outcome::Failed(None) => return Some("abandoned"),
        Outcome::Failed(Some(errno)) => errno,
    };
    Some(match io::Error::from_raw_os_error(errno).kind() {
        io::ErrorKind::ConnectionRefused => "refused",
        io::ErrorKind::TimedOut => "timed_out",
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkDown => "unreachable",
        io::ErrorKind::ConnectionReset => "reset",
        _ => OTHER,
    })
}

/// Who talks to whom, and how much.
pub(super) struct Traffic {
    pub(super) connections: Counter<5>,
    pub(super) failures: Counter<2>,
    pub(super) transmit_bytes: Counter<1>,
    pub(super) receive_bytes: Counter<1>,
    pub(super) duration: Histogram<1>,
    pub(super) rtt: Histogram<1>,
    pub(super) unexpected: Counter<2>,
    active: Gauge<1>,
    /// Tool of each connection that is open. At most [`ACTIVE_MAX`].
    open: Mutex<HashMap<SocketCookie, String>>,
    pub(super) datagrams: Counter<1>,
    pub(super) unannounced: Unannounced,
}

/// What went, or may go, otherwise than by a connection that was asked for.
pub(super) struct Unannounced {
    pub(super) redirected: Counter<1>,
    pub(super) sockets: Counter<2>,
    pub(super) over_budget: Counter<1>,
}

impl Unannounced {
    fn define(define: &mut Definer) -> prometheus::Result<Self> {
        Ok(Unannounced {
            redirected: define.counter(
                "telltale_flows_redirected_total",
                "Flows whose packets go elsewhere than their process asked, once for each \
                 destination of a program image.",
                [TOOL],
            )?,
            sockets: define.counter(
                "telltale_sockets_opened_total",
                "Sockets and devices that can send without asking for a destination. Those that \
                 are found open count once for each program image and kind.",
                [TOOL, SOCKET_KIND],
            )?,
            over_budget: define.counter(
                "telltale_flows_over_budget_total",
                "New flows without a record of their own, of processes that opened too many.",
                [TOOL],
            )?,
        })
    }
}

impl Traffic {
    pub(super) fn define(define: &mut Definer) -> prometheus::Result<Self> {
        define.section("Connections", "");
        Ok(Traffic {
            connections: define.counter(
                "telltale_connections_total",
                "Flows: connect() calls, first datagrams to an address given with the send, first \
                 packets that no call announced, and first answers to each address that connected \
                 to the process (of tools, verdict `served`).",
                [TOOL, ROLE, PURPOSE, VERDICT, TRANSPORT],
            )?,
            failures: define.counter(
                "telltale_connection_failures_total",
                "Flows that did not reach their remote, of those whose end was reported.",
                [TOOL, FAILURE],
            )?,
            transmit_bytes: define.counter(
                "telltale_transmit_bytes_total",
                "Payload bytes of flows that processes opened: of TCP, what remotes acknowledged; \
                 else what was sent. Those of a connected socket count when it is closed.",
                [TOOL],
            )?,
            receive_bytes: define.counter(
                "telltale_receive_bytes_total",
                "Payload bytes received in flows that processes opened. Those of a connected \
                 socket count when it is closed.",
                [TOOL],
            )?,
            duration: define.histogram(
                "telltale_connection_duration_seconds",
                "Time from opening to closing, of flows that reached their remote.",
                [TOOL],
                &DURATION_BUCKETS,
            )?,
            rtt: define.histogram(
                "telltale_connection_rtt_seconds",
                "Smoothed round-trip time of TCP connections, as it was when they were closed.",
                [TOOL],
                &RTT_BUCKETS,
            )?,
            unexpected: define.counter(
                "telltale_unexpected_connections_total",
                "Flows of tools and unidentified programs that are not as expected, by the rule \
                 that says so. A tool's series exist from its first process or flow on.",
                [TOOL, SURPRISE],
            )?,
            active: define.gauge(
                "telltale_active_connections",
                "TCP connections of tools that were opened and have not ended.",
                [TOOL],
            )?,
            open: Mutex::default(),
            datagrams: define.counter(
                "telltale_datagrams_total",
                "Datagrams sent to an address given with the send.",
                [TOOL],
            )?,
            unannounced: Unannounced::define(define)?,
        })
    }

    /// Makes a tool's series of surprises exist, so that the first is an increase.
    pub(super) fn prepare(&self, tool: &str) {
        for rule in SURPRISES {
            self.unexpected.add([tool, rule], 0);
        }
    }

    /// Counts flows that are not as expected.
    pub(super) fn surprise(&self, tool: &str, judgement: &Judgement, count: u64) {
        if judgement.verdict.is_unexpected() {
            let known = match judgement.action {
                Some(_) => Some(POLICY),
                None => SURPRISES.into_iter().find(|rule| **rule == *judgement.rule),
            };
            self.unexpected.add([tool, known.unwrap_or(OTHER)], count);
        }
    }

    /// Notes that a connection is open; false if there is no room to.
    pub(super) fn enter(&self, tool: &str, report: &FlowReport) -> bool {
        if report.remote.protocol != Protocol::Tcp || tool == NONE {
            return true;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= ACTIVE_MAX {
            return false;
        }
        if open.insert(report.cookie, tool.to_owned()).is_none() {
            self.active.add([tool], 1);
        }
        true
    }

    pub(super) fn ended(
        &self,
        tool: &str,
        report: &FlowReport,
        end: &FlowEnd,
        exemplar: Option<Exemplar>,
    ) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tool) = open.remove(&report.cookie) {
            self.active.add([&tool], -1);
        }
        drop(open);
        if let Some(srtt_us) = end.srtt_us {
            let seconds = f64::from(srtt_us) / 1_000_000.0;
            self.rtt.observe_with([tool], seconds, exemplar);
        }
        match failure_reason(end.outcome) {
            Some(reason) => self.failures.increment_with([tool, reason], exemplar),
            None => {
                let seconds = report.time.since(end.opened).as_secs_f64();
                self.duration.observe_with([tool], seconds, exemplar);
            }
        }
    }
}

/// How remotes get their names.
pub(super) struct Names {
    pub(super) dns_messages: Counter<1>,
    flow_names: Counter<1>,
    byte_names: Counter<1>,
    nameless: Counter<1>,
    resolved_state: Gauge<1>,
    resolved_messages: Mirror<1>,
    claims: Counter<2>,
    incomplete: Counter<1>,
    invalid: Counter<1>,
}

impl Names {
    pub(super) fn define(define: &mut Definer) -> prometheus::Result<Self> {
        define.section("Names", "");
        let names = Names {
            dns_messages: define.counter(
                "telltale_dns_messages_total",
                "DNS messages seen, by what became of them.",
                [DNS_OUTCOME],
            )?,
            flow_names: define.counter(
                "telltale_flow_names_total",
                "Flows opened, by where the best name of the remote came from.",
                [NAME_SOURCE],
            )?,
            byte_names: define.counter(
                "telltale_name_bytes_total",
                "Payload bytes sent and received in flows, by where the best name of the remote \
                 came from when they were counted.",
                [NAME_SOURCE],
            )?,
            nameless: define.counter(
                "telltale_nameless_connections_total",
                "Flows opened to a remote without a name.",
                [TOOL],
            )?,
            resolved_state: define.gauge(
                "telltale_resolved_state",
                "1 for what became of listening to systemd-resolved, 0 for what did not.",
                [RESOLVED_STATE],
            )?,
            resolved_messages: define.mirror(
                "telltale_resolved_messages_total",
                "What systemd-resolved told: answers with a name and an address, messages without, \
                 messages that were no answer or too long, and names for which there was no room.",
                [RESOLVED_OUTCOME],
            )?,
            claims: define.counter(
                "telltale_name_claims_total",
                "Flows whose first bytes were looked at for the name that their client gives, by \
                 protocol and by what was found. A flow through a proxy may count twice.",
                [CLAIM_PROTOCOL, CLAIM_OUTCOME],
            )?,
            incomplete: define.counter(
                "telltale_name_incomplete_total",
                "Clients that began a protocol and did not get to a name, by why.",
                [INCOMPLETE_REASON],
            )?,
            invalid: define.counter(
                "telltale_name_invalid_total",
                "Names given by clients that are no host names, by what is wrong with them.",
                [INVALID_REASON],
            )?,
        };
        for why in INCOMPLETES {
            names.incomplete.add([why.name()], 0);
        }
        for why in INVALIDS {
            names.invalid.add([invalid_name(why)], 0);
        }
        let sources = NameSource::ALL.map(NameSource::name);
        for source in sources.into_iter().chain([NONE]) {
            names.flow_names.add([source], 0);
            names.byte_names.add([source], 0);
        }
        names.set_resolved(&ResolvedStatus::default());
        for outcome in DNS_OUTCOMES {
            names.dns_messages.add([outcome.name()], 0);
        }
        Ok(names)
    }

    /// Counts flows to a remote of these names, the best first.
    pub(super) fn flows(&self, tool: &str, names: &[NameEvidence], count: u64) {
        self.flow_names.add([source_of(names)], count);
        if names.is_empty() {
            self.nameless.add([tool], count);
        }
    }

    /// Counts what such flows carried.
    pub(super) fn bytes(&self, names: &[NameEvidence], count: u64) {
        self.byte_names.add([source_of(names)], count);
    }

    pub(super) fn set_resolved(&self, status: &ResolvedStatus) {
        for state in ResolvedState::ALL {
            let is_so = i64::from(state == status.state);
            self.resolved_state.set([state.name()], is_so);
        }
        let counts = [
            status.answers,
            status.nameless,
            status.malformed,
            status.oversized,
            status.dropped,
        ];
        for (outcome, count) in RESOLVED_OUTCOMES.into_iter().zip(counts) {
            self.resolved_messages.follow([outcome], count);
        }
    }

    pub(super) fn claimed(&self, claim: &Claim) {
        let (by, outcome) = match claim {
            Claim::Named(named) => (named.by, "named"),
            Claim::Unnamed(by) => (*by, "unnamed"),
            Claim::NotRecognised => (By::Unknown, "not_recognised"),
            Claim::Contradicted => (By::Unknown, "contradicted"),
            Claim::Evicted => (By::Unknown, "evicted"),
            Claim::Incomplete(by, why) => {
                self.incomplete.increment([why.name()]);
                (*by, "incomplete")
            }
            Claim::Invalid(by, why) => {
                self.invalid.increment([invalid_name(*why)]);
                (*by, "invalid")
            }
        };
        self.claims.increment([by.name(), outcome]);
    }
}

fn source_of(names: &[NameEvidence]) -> &'static str {
    names.first().map_or(NONE, |name| name.source.name())
}

fn invalid_name(why: NameInvalid) -> &'static str {
    match why {
        NameInvalid::Empty => "empty",
        NameInvalid::Length => "length",
        NameInvalid::Character => "character",
        NameInvalid::NotAscii => "not-ascii",
        NameInvalid::Address => "address",
        NameInvalid::Several => "several",
        NameInvalid::Port => "port",
    }
}

#[cfg(test)]
mod tests {
    use monitor_common::flow::FlowCounters;

    use super::*;
    use crate::core::attribute::Role;
    use crate::core::event::{Protocol, SocketKind};
    use crate::metrics::encode::Format;
    use crate::metrics::fixture::{check, datagrams, metrics, of_tool, socket};
    use crate::sink::fixture::{self, CLOCK};

    #[test]
    fn flows_count_once_whether_reported_or_only_counted() {
        let metrics = metrics();
        metrics.record(
            &fixture::flow(fixture::opened(fixture::process(42))),
            &CLOCK,
        );
        let delta = FlowCounters {
            connects: 11,
            connects_unreported: 10,
            bytes_sent: 5,
            bytes_received: 6,
            ..FlowCounters::default()
        };
        metrics.record(&fixture::counted(fixture::process(42), delta), &CLOCK);
        let closed = fixture::closed(fixture::process(42), Outcome::Closed);
        metrics.record(&fixture::flow(closed), &CLOCK);
        check(
            &metrics,
            &[
                (
                    "telltale_connections_total{purpose=\"api\",role=\"main\",tool=\"claude-code\",\
                 transport=\"tcp\",verdict=\"expected\"}",
                    11.0,
                ),
                ("telltale_transmit_bytes_total{tool=\"claude-code\"}", 5.0),
                ("telltale_receive_bytes_total{tool=\"claude-code\"}", 6.0),
                (
                    "telltale_connection_duration_seconds_sum{tool=\"claude-code\"}",
                    2.0,
                ),
                ("telltale_flow_names_total{source=\"dns-own\"}", 11.0),
                ("telltale_name_bytes_total{source=\"dns-own\"}", 11.0),
                (
                    "telltale_tool_last_seen_timestamp_seconds{tool=\"claude-code\"}",
                    1_795_167_125.0,
                ),
            ],
        );
    }

    #[track_caller]
    fn check_failure(outcome: Outcome, reason: &str) {
        let metrics = metrics();
        metrics.record(
            &fixture::flow(fixture::closed(of_tool(1, "codex", Role::Main), outcome)),
            &CLOCK,
        );
        let series =
            format!("telltale_connection_failures_total{{reason=\"{reason}\",tool=\"codex\"}}");
        check(&metrics, &[(&series, 1.0)]);
    }

    #[test]
    fn failures_have_a_bounded_reason() {
        check_failure(Outcome::Failed(Some(111)), "refused");
        check_failure(Outcome::Failed(Some(110)), "timed_out");
        check_failure(Outcome::Failed(Some(113)), "unreachable");
        check_failure(Outcome::Failed(Some(101)), "unreachable");
        check_failure(Outcome::Failed(Some(104)), "reset");
        check_failure(Outcome::Failed(None), "abandoned");
        check_failure(Outcome::NeverSent, "never_sent");
        check_failure(Outcome::Failed(Some(i32::MIN)), "other");
    }

    #[test]
    fn what_no_call_announced_is_counted() {
        let metrics = metrics();
        let effects = [
            fixture::flow(fixture::redirected(fixture::process(1))),
            fixture::flow(fixture::redirected(fixture::stranger(2))),
            fixture::flow(fixture::accepted(fixture::process(1))),
            socket(fixture::socket(fixture::process(1), SocketKind::Raw, false)),
            socket(fixture::socket(fixture::process(1), SocketKind::Tun, true)),
            fixture::over_budget(fixture::stranger(2), 5, 5),
            fixture::over_budget(fixture::stranger(2), 2, 7),
        ];
        for effect in &effects {
            metrics.record(effect, &CLOCK);
        }
        let served = "telltale_connections_total{purpose=\"none\",role=\"main\",\
                      tool=\"claude-code\",transport=\"tcp\",verdict=\"served\"}";
        check(
            &metrics,
            &[
                ("telltale_flows_redirected_total{tool=\"claude-code\"}", 1.0),
                (
                    "telltale_flows_redirected_total{tool=\"unidentified\"}",
                    1.0,
                ),
                (
                    "telltale_sockets_opened_total{kind=\"raw\",tool=\"claude-code\"}",
                    1.0,
                ),
                (
                    "telltale_sockets_opened_total{kind=\"tun\",tool=\"claude-code\"}",
                    1.0,
                ),
                ("telltale_flows_over_budget_total{tool=\"none\"}", 7.0),
                (served, 1.0),
            ],
        );
        // A redirection is no flow of its own.
        let text = metrics.encode(Format::Text);
        assert_eq!(text.matches("telltale_connections_total{").count(), 1);
    }

    #[test]
    fn peers_that_connect_are_no_datagrams() {
        let metrics = metrics();
        metrics.record(&datagrams(Protocol::Tcp, 5), &CLOCK);
        metrics.record(&datagrams(Protocol::Udp, 7), &CLOCK);
        let series = "telltale_datagrams_total{tool=\"claude-code\"}";
        check(&metrics, &[(series, 7.0)]);
    }
}
