//! What AI tools contact: by name, the one label that holds names off the wire, on a budget; and by
//! who runs it.
//!
//! In: flows of tools. Out: the metrics of the section Endpoints. Each tool has series for the
//! first names that it contacts; the rest is `other`, and counted. What has no name is `unnamed`:
//! an address is never a label.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::define::{Counter, Definer, Gauge};
use super::labels::*;
use crate::core::policy::judgement::{Judgement, Verdict};

/// Endpoints with series of their own, per tool: several times what any manifest lists.
pub const ENDPOINTS_PER_TOOL_MAX: usize = 200;

/// Longest name with series of its own: that of DNS, in presentation format.
const NAME_BYTES_MAX: usize = 253;

/// Who runs a remote of which the catalog does not know it, and the home of those: as in the
/// catalog, that may also be several.
const UNKNOWN_OPERATOR: [&str; 2] = ["unknown", "XX"];

/// Label value for endpoints without a name.
const UNNAMED: &str = "unnamed";

/// Who contacts which name.
pub(super) struct Endpoints {
    connections: Counter<3>,
    transmit_bytes: Counter<2>,
    receive_bytes: Counter<2>,
    overflow: Counter<1>,
    operator_connections: Counter<3>,
    operator_transmit_bytes: Counter<3>,
    operator_receive_bytes: Counter<3>,
    /// Names with series of their own, by tool. The tools are those of the catalog.
    known: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl Endpoints {
    pub(super) fn define(define: &mut Definer) -> prometheus::Result<Self> {
        let text = "The names that tools contact, of which each has a budget.\nSum over `endpoint` \
                    where it does not matter: names come and go with what tools do.";
        define.section("Endpoints", text);
        let budget: Gauge<0> = define.gauge(
            "telltale_endpoint_budget",
            "Names with series of their own, per tool.",
            [],
        )?;
        budget.set([], super::signed(ENDPOINTS_PER_TOOL_MAX as u64));
        Ok(Endpoints {
            connections: define.counter(
                "telltale_endpoint_connections_total",
                "Flows of tools, by the name of the remote.",
                [TOOL, ENDPOINT, VERDICT],
            )?,
            transmit_bytes: define.counter(
                "telltale_endpoint_transmit_bytes_total",
                "Payload bytes that tools sent, by the name of the remote; as \
                 telltale_transmit_bytes_total.",
                [TOOL, ENDPOINT],
            )?,
            receive_bytes: define.counter(
                "telltale_endpoint_receive_bytes_total",
                "Payload bytes that tools received, by the name of the remote; as \
                 telltale_receive_bytes_total.",
                [TOOL, ENDPOINT],
            )?,
            overflow: define.counter(
                "telltale_endpoint_overflow_total",
                "Times that a name found no room in the budget and was counted as `other`.",
                [TOOL],
            )?,
            operator_connections: define.counter(
                "telltale_operator_connections_total",
                "Flows of tools that leave the host, by who runs the remote and where that is at \
                 home, as the catalog says.",
                [TOOL, OPERATOR, HOME],
            )?,
            operator_transmit_bytes: define.counter(
                "telltale_operator_transmit_bytes_total",
                "Payload bytes that tools sent in such flows; as telltale_transmit_bytes_total.",
                [TOOL, OPERATOR, HOME],
            )?,
            operator_receive_bytes: define.counter(
                "telltale_operator_receive_bytes_total",
                "Payload bytes that tools received in such flows; as telltale_receive_bytes_total.",
                [TOOL, OPERATOR, HOME],
            )?,
            known: Mutex::default(),
        })
    }

    /// Counts flows of a tool.
    pub(super) fn connected(
        &self,
        tool: &str,
        name: Option<&str>,
        judgement: &Judgement,
        count: u64,
    ) {
        self.labelled(tool, name, |endpoint| {
            let verdict = judgement.verdict.name();
            self.connections.add([tool, endpoint, verdict], count);
        });
        if let Some([operator, home]) = run_by(judgement) {
            self.operator_connections.add([tool, operator, home], count);
        }
    }

    /// Counts bytes of a tool.
    pub(super) fn moved(
        &self,
        tool: &str,
        name: Option<&str>,
        judgement: &Judgement,
        sent: u64,
        received: u64,
    ) {
        self.labelled(tool, name, |endpoint| {
            self.transmit_bytes.add([tool, endpoint], sent);
            self.receive_bytes.add([tool, endpoint], received);
        });
        if let Some([operator, home]) = run_by(judgement) {
            let labels = [tool, operator, home];
            self.operator_transmit_bytes.add(labels, sent);
            self.operator_receive_bytes.add(labels, received);
        }
    }

    /// Calls `count` with the `endpoint` label of a name.
    fn labelled(&self, tool: &str, name: Option<&str>, count: impl FnOnce(&str)) {
        let Some(name) = name else {
            return count(UNNAMED);
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains_key(tool) {
            known.insert(tool.to_owned(), BTreeSet::new());
        }
        let Some(names) = known.get_mut(tool) else {
            return;
        };
        if names.contains(name) {
            return count(name);
        }
        if names.len() >= ENDPOINTS_PER_TOOL_MAX || name.len() > NAME_BYTES_MAX {
            self.overflow.increment([tool]);
            return count(OTHER);
        }
        names.insert(name.to_owned());
        self.overflow.add([tool], 0);
        count(name);
    }
}

/// Who runs the remote of a flow, and the home of that; `None` for what stays here.
fn run_by(judgement: &Judgement) -> Option<[&str; 2]> {
    let stays = matches!(judgement.verdict, Verdict::Local | Verdict::Served);
    let operator = judgement.operator.as_ref();
    (!stays).then(|| operator.map_or(UNKNOWN_OPERATOR, |it| [&*it.vendor, &*it.jurisdiction]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use monitor_common::flow::FlowCounters;

    use super::*;
    use crate::core::event::BootNs;
    use crate::core::names::{NameEvidence, NameSource};
    use crate::core::report::{Effect, FlowReport};
    use crate::metrics::encode::Format;
    use crate::metrics::fixture::{check, metrics};
    use crate::sink::fixture::{self, CLOCK};

    fn to(name: &str) -> FlowReport {
        let opened = fixture::opened(fixture::process(1));
        let evidence = NameEvidence {
            name: Arc::from(name),
            source: NameSource::DnsOwn,
            first: BootNs(0),
            learned: BootNs(0),
            asked_by: opened.process.key,
        };
        FlowReport {
            names: vec![evidence],
            ..opened
        }
    }

    /// Whatever a tool contacts, and however often, there are no more series than these.
    #[test]
    fn a_million_endpoints_take_no_more_series_than_the_budget() {
        const ENDPOINTS: usize = 1_000_000;
        let metrics = metrics();
        let mut effect = fixture::flow(to("x"));
        for number in 0..ENDPOINTS {
            if let Effect::Flow(flow) = &mut effect {
                flow.names[0].name = format!("h{number}.example.net").into();
            }
            metrics.record(&effect, &CLOCK);
        }
        let text = metrics.encode(Format::Text);
        let series = |name: &str| text.matches(&format!("\n{name}{{")).count();
        let expect = ENDPOINTS_PER_TOOL_MAX + 1;
        assert_eq!(series("telltale_endpoint_connections_total"), expect);
        assert_eq!(series("telltale_endpoint_overflow_total"), 1);
        let all = text.lines().filter(|line| !line.starts_with('#')).count();
        assert!(all < 600, "{all} series");
        let tool = "tool=\"claude-code\"";
        let over = (ENDPOINTS - ENDPOINTS_PER_TOOL_MAX) as f64;
        check(
            &metrics,
            &[
                (
                    &format!(
                        "telltale_endpoint_connections_total{{endpoint=\"other\",{tool},\
                         verdict=\"expected\"}}"
                    ),
                    over,
                ),
                (&format!("telltale_endpoint_overflow_total{{{tool}}}"), over),
                ("telltale_endpoint_budget", ENDPOINTS_PER_TOOL_MAX as f64),
            ],
        );
    }

    #[test]
    fn flows_count_for_who_runs_the_remote_and_local_ones_for_nobody() {
        let metrics = metrics();
        let judged = |verdict, operator| {
            let judgement = Judgement {
                operator,
                ..fixture::judgement(verdict)
            };
            fixture::flow(FlowReport {
                judgement,
                ..to("x")
            })
        };
        metrics.record(&fixture::flow(to("x")), &CLOCK);
        metrics.record(&judged(Verdict::Undeclared, None), &CLOCK);
        metrics.record(&judged(Verdict::Local, None), &CLOCK);
        let delta = FlowCounters {
            bytes_sent: 5,
            bytes_received: 6,
            ..FlowCounters::default()
        };
        metrics.record(&fixture::counted(fixture::process(1), delta), &CLOCK);
        let of_vendor = "{jurisdiction=\"US\",operator=\"Anthropic\",tool=\"claude-code\"}";
        let unknown = "{jurisdiction=\"XX\",operator=\"unknown\",tool=\"claude-code\"}";
        let connections = "telltale_operator_connections_total";
        check(
            &metrics,
            &[
                (&format!("{connections}{of_vendor}"), 1.0),
                (&format!("{connections}{unknown}"), 1.0),
                (
                    &format!("telltale_operator_transmit_bytes_total{of_vendor}"),
                    5.0,
                ),
                (
                    &format!("telltale_operator_receive_bytes_total{of_vendor}"),
                    6.0,
                ),
            ],
        );
        let text = metrics.encode(Format::Text);
        assert_eq!(text.matches(&format!("\n{connections}{{")).count(), 2);
    }

    #[test]
    fn an_endpoint_without_a_name_is_no_address() {
        let metrics = metrics();
        let flow = FlowReport {
            names: Vec::new(),
            ..to("x")
        };
        metrics.record(&fixture::flow(flow), &CLOCK);
        metrics.record(&fixture::flow(to(&"x".repeat(NAME_BYTES_MAX + 1))), &CLOCK);
        metrics.record(
            &fixture::flow(fixture::opened(fixture::stranger(2))),
            &CLOCK,
        );
        let series = |tool: &str, endpoint: &str| {
            format!(
                "telltale_endpoint_connections_total{{endpoint=\"{endpoint}\",tool=\"{tool}\",\
                 verdict=\"expected\"}}"
            )
        };
        check(
            &metrics,
            &[
                (&series("claude-code", "unnamed"), 1.0),
                (&series("claude-code", "other"), 1.0),
                (&series("unidentified", "api.anthropic.com"), 1.0),
            ],
        );
    }
}
