//! For the tests of this folder: metrics, effects to record, and a look at what is served.

use std::sync::Arc;

use monitor_common::counter;
use monitor_common::flow::FlowCounters;

use super::encode::Format;
use super::outputs::{EventLogStats, SinkStats};
use super::{BuildInfo, Metrics};
use crate::core::attribute::Role;
use crate::core::claim::Claim;
use crate::core::coverage::Gap;
use crate::core::event::decode::DecodeError;
use crate::core::event::{BootNs, KernelCounters, Outcome, Protocol, SocketKind};
use crate::core::report::{
    AlertState, ContactsReport, CoverageReport, DnsOutcome, Effect, FlowsCounted, Limit,
    ProcessView, SocketReport,
};
use crate::sink::fixture::{self, CLOCK, SECOND};

pub fn metrics() -> Metrics {
    let build = BuildInfo {
        version: "0.1.0".into(),
        revision: None,
        object_digest: "00ff".into(),
    };
    Metrics::new(["claude-code", "codex"].into_iter(), &build, "5f3c").unwrap()
}

/// The series named must have these values; 0 may also mean that it is not there.
#[track_caller]
pub fn check(metrics: &Metrics, expect: &[(&str, f64)]) {
    let text = metrics.encode(Format::Text);
    for (series, value) in expect {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let found: f64 = line
            .unwrap_or_else(|| panic!("no {series} in\n{text}"))
            .parse()
            .unwrap();
        assert!(
            (found - value).abs() < 1e-9,
            "{series}: {found}, wanted {value}"
        );
    }
}

pub fn of_tool(pid: u32, id: &str, role: Role) -> ProcessView {
    ProcessView {
        tool: Some(Arc::new(fixture::attribution(id, role))),
        ..fixture::process(pid)
    }
}

pub fn socket(report: SocketReport) -> Effect {
    Effect::SocketOpened(Box::new(report))
}

pub fn datagrams(protocol: Protocol, datagrams: u64) -> Effect {
    let delta = FlowCounters {
        datagrams,
        ..FlowCounters::default()
    };
    let Effect::FlowsCounted(counted) = fixture::counted(fixture::process(1), delta) else {
        unreachable!()
    };
    let remote = fixture::remote("192.0.2.99:0", protocol);
    Effect::FlowsCounted(Box::new(FlowsCounted { remote, ..*counted }))
}

pub fn coverage(gaps: &[Gap]) -> Effect {
    let (time, gaps) = (BootNs(SECOND), gaps.iter().copied().collect());
    Effect::Coverage(Box::new(CoverageReport { time, gaps }))
}

pub fn books(set: &[(u32, u64)]) -> Effect {
    let mut values = [0; counter::COUNTERS as usize];
    for (index, value) in set {
        values[*index as usize] = *value;
    }
    let time = BootNs(SECOND);
    Effect::Books(Box::new(KernelCounters {
        time,
        values,
        astray: 0,
    }))
}

/// Everything that can be recorded, once.
pub fn everything() -> Metrics {
    let metrics = metrics();
    metrics.set_policy(&fixture::policy(), "11ee");
    let moved = FlowCounters {
        bytes_sent: 1,
        ..FlowCounters::default()
    };
    let effects = [
        fixture::started(fixture::process(1)),
        fixture::ended(fixture::process(2), 0),
        fixture::flow(fixture::opened(fixture::process(1))),
        fixture::flow(fixture::accepted(fixture::process(1))),
        fixture::flow(fixture::closed(fixture::process(1), Outcome::Closed)),
        fixture::flow(fixture::closed(fixture::process(1), Outcome::NeverSent)),
        datagrams(Protocol::Udp, 0),
        fixture::counted(fixture::process(1), moved),
        fixture::flow(fixture::redirected(fixture::process(1))),
        socket(fixture::socket(fixture::process(1), SocketKind::Raw, false)),
        fixture::over_budget(fixture::process(1), 1, 1),
        fixture::alert(AlertState::Fired),
        coverage(&[Gap::BooksUnbalanced("wire")]),
        books(&[]),
        fixture::resumed(),
        Effect::Limited(Limit::Flows),
        Effect::Dns(DnsOutcome::Answer),
        Effect::Claimed(Box::new(Claim::NotRecognised)),
        Effect::Contacts(Box::new(ContactsReport {
            tool: fixture::attribution("claude-code", Role::Main).tool,
            version: None,
            seen: 1,
            unseen: 2,
            undeclared: 3,
        })),
    ];
    effects
        .iter()
        .for_each(|effect| metrics.record(effect, &CLOCK));
    metrics.record_event("flow_opened");
    metrics.record_decode_error(&DecodeError::UnknownKind(9));
    metrics.set_hook_attached("connect4", true);
    metrics.set_map("FLOWS", 1, 65_536);
    metrics.set_ring("control", 64, 4 << 20);
    metrics.set_program("connect4", 1, std::time::Duration::from_micros(1));
    metrics.set_table("names", 2, 65_536);
    metrics.set_event_log(&EventLogStats {
        lines_written: 1,
        ..EventLogStats::default()
    });
    metrics.set_sink(
        "webhook",
        &SinkStats {
            dropped_rejected: 1,
            ..SinkStats::default()
        },
    );
    metrics
}
