//! Lines of the event log in the Open Cybersecurity Schema Framework, version 1.8.
//!
//! In: an effect, and its line in ECS. Out: one JSON object. What OCSF has an attribute for stands
//! there; all that Telltale knows beyond it is under `unmapped`, in the same words as under
//! `telltale` in ECS.
//!
//! | event | class |
//! |---|---|
//! | a process started or ended | 1007 Process Activity |
//! | a connection opened, closed or failed | 4001 Network Activity |
//! | an alert | 2004 Detection Finding |
//! | all others | 0 Base Event |

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use super::ecs::Line;
use super::ecs::known::{Frame, KnownProcesses};
use super::{HostInfo, file_name, plain};
use crate::clock::WallClock;
use crate::core::event::{BootNs, Hook, Outcome, Protocol};
use crate::core::place::Place;
use crate::core::policy::judgement::{Severity, Verdict};
use crate::core::report::{
    AlertNotice, AlertState, Effect, FlowAction, FlowReport, Origin, ParentView, ProcessView,
};
use crate::metrics::traffic::failure_reason;

/// The schema that the attributes follow.
const OCSF_VERSION: &str = "1.8.0";

/// A class of events, and what happened in its terms.
struct Kind {
    category: u32,
    class: u32,
    activity: u32,
}

const BASE: Kind = Kind {
    category: 0,
    class: 0,
    activity: 99,
};

const fn process_activity(activity: u32) -> Kind {
    Kind {
        category: 1,
        class: 1007,
        activity,
    }
}

const fn finding(activity: u32) -> Kind {
    Kind {
        category: 2,
        class: 2004,
        activity,
    }
}

const fn network_activity(activity: u32) -> Kind {
    Kind {
        category: 4,
        class: 4001,
        activity,
    }
}

/// `severity_id`.
const INFORMATIONAL: u32 = 1;

/// Writes lines of one host.
pub struct Ocsf {
    device: Value,
}

impl Ocsf {
    /// Lines of this host.
    #[must_use]
    pub fn new(host: &HostInfo) -> Self {
        Ocsf {
            device: json!({
                "hostname": host.name,
                "boot_uid": host.boot_id,
                "type_id": 1, // Server.
                "os": { "name": "Linux", "type_id": 200 },
            }),
        }
    }

    /// The line of an effect; `None` if the log does not show it.
    #[must_use]
    pub fn line(
        &self,
        effect: &Effect,
        clock: &WallClock,
        frame: &Frame,
        processes: &mut KnownProcesses,
    ) -> Option<Value> {
        let line = Line::of(effect, clock, frame, processes)?;
        let (kind, own) = of(effect, clock);
        let mut fields = self.common(&kind, &line);
        fields.insert("time".into(), milliseconds(time_of(effect), clock));
        fields.extend(own);
        Some(Value::Object(fields))
    }

    fn common(&self, kind: &Kind, line: &Line) -> Map<String, Value> {
        let head = line.head();
        let mut fields = object(json!({
            "activity_id": kind.activity,
            "category_uid": kind.category,
            "class_uid": kind.class,
            "type_uid": kind.class * 100 + kind.activity,
            "severity_id": INFORMATIONAL,
            "metadata": {
                "version": OCSF_VERSION,
                "product": {
                    "name": "telltale",
                    "vendor_name": "telltale",
                    "version": env!("CARGO_PKG_VERSION"),
                },
                "profiles": ["host"],
                "uid": head.id,
                "sequence": head.sequence,
                "event_code": head.action,
                "log_name": head.dataset,
            },
            "device": self.device,
            // The types rule out what cannot be written.
            "unmapped": serde_json::to_value(line.own()).unwrap_or_default(),
        }));
        if kind.class == BASE.class {
            fields.insert("activity_name".into(), head.action.into());
        }
        fields
    }
}

/// Class, activity, and the attributes that not all events have.
fn of(effect: &Effect, clock: &WallClock) -> (Kind, Map<String, Value>) {
    let actor = |process: &ProcessView| json!({ "process": process_of(process, clock) });
    match effect {
        Effect::ProcessStarted(event) => {
            let fields = json!({
                "actor": { "process": parent_or_self(&event.process, clock) },
                "process": process_of(&event.process, clock),
                "launch_type_id": if event.process.origin == Origin::Executed { 3 } else { 0 },
            });
            (process_activity(1), object(fields))
        }
        Effect::ProcessEnded(event) => {
            let mut process = process_of(&event.process, clock);
            process.insert("terminated_time".into(), milliseconds(event.time, clock));
            let fields = json!({
                "actor": { "process": process },
                "process": process,
                "exit_code": event.exit_code >> 8 & 0xff,
            });
            (process_activity(2), object(fields))
        }
        Effect::Flow(report) => flow(report, clock),
        Effect::Alert(notice) => alert(notice, clock),
        Effect::SocketOpened(report) => (BASE, object(json!({ "actor": actor(&report.process) }))),
        Effect::OverBudget(report) => (BASE, object(json!({ "actor": actor(&report.process) }))),
        _ => (BASE, Map::new()),
    }
}

fn time_of(effect: &Effect) -> BootNs {
    match effect {
        Effect::ProcessStarted(event) => event.time,
        Effect::ProcessEnded(event) => event.time,
        Effect::Flow(report) => report.time,
        Effect::SocketOpened(report) => report.time,
        Effect::OverBudget(report) => report.time,
        Effect::Alert(notice) => notice.time,
        Effect::Resumed(report) => report.time,
        _ => BootNs(0), // They have no line.
    }
}

fn flow(report: &FlowReport, clock: &WallClock) -> (Kind, Map<String, Value>) {
    let activity = match &report.action {
        FlowAction::Opened { .. } => 1,
        FlowAction::Redirected { .. } => 6,
        FlowAction::Ended(end) => match failure_reason(end.outcome) {
            None => 2,
            Some("refused") => 5,
            Some("reset") => 3,
            Some(_) => 4,
        },
    };
    let inbound = report.action
        == FlowAction::Opened {
            hook: Hook::Accepted,
        };
    let remote = remote(report);
    let (end, direction, observed_at) = match inbound {
        true => ("src_endpoint", 1, 2),
        false => ("dst_endpoint", 2, 1),
    };
    let mut fields = object(json!({
        end: remote,
        "actor": { "process": process_of(&report.process, clock) },
        "observation_point_id": observed_at,
        "connection_info": {
            "direction_id": direction,
            "protocol_name": report.remote.protocol.name(),
            "protocol_num": match report.remote.protocol {
                Protocol::Tcp => 6,
                Protocol::Udp => 17,
                Protocol::Other(number) => number,
            },
            "protocol_ver_id": if report.ip().is_ipv4() { 4 } else { 6 },
            "uid": report.cookie.0.to_string(),
        },
    }));
    if report.judgement.verdict == Verdict::Denied {
        fields.insert("severity_id".into(), 4.into());
    }
    if let FlowAction::Ended(ended) = &report.action {
        let duration = report.time.since(ended.opened).as_millis();
        fields.extend(object(json!({
            "start_time": milliseconds(ended.opened, clock),
            "end_time": milliseconds(report.time, clock),
            "duration": u64::try_from(duration).unwrap_or(u64::MAX),
            "status_id": if ended.outcome == Outcome::Closed { 1 } else { 2 },
            "traffic": {
                "bytes_out": ended.bytes_sent,
                "bytes_in": ended.bytes_received,
                "bytes": ended.bytes_sent.saturating_add(ended.bytes_received),
            },
        })));
        let reason = failure_reason(ended.outcome);
        fields.extend(reason.map(|reason| ("status_detail".to_owned(), reason.into())));
    }
    (network_activity(activity), fields)
}

/// The other end, by the name that it goes by.
fn remote(report: &FlowReport) -> Map<String, Value> {
    let mut endpoint = object(json!({ "ip": report.ip() }));
    let port = report.remote.addr.port();
    if port != 0 {
        endpoint.insert("port".into(), port.into());
    }
    let target = report.target.as_ref().map(|target| &*target.host);
    if let Some(name) = target.or_else(|| report.name()) {
        endpoint.insert("hostname".into(), name.into());
    }
    if let Some(number) = report.address.asn {
        endpoint.insert("autonomous_system".into(), json!({ "number": number }));
    }
    if let Some(country) = &report.address.country {
        let country = country.as_str();
        endpoint.insert("location".into(), json!({ "country": country }));
    }
    endpoint
}

fn alert(notice: &AlertNotice, clock: &WallClock) -> (Kind, Map<String, Value>) {
    let alert = &notice.alert;
    let started = milliseconds(alert.started, clock);
    let labels: Vec<String> = alert
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let annotation = |name| alert.annotations.get(name).map(|text| &**text);
    let title = annotation("summary").unwrap_or(&alert.rule);
    let resolved = notice.state == AlertState::Resolved;
    let mut fields = object(json!({
        "severity_id": match alert.severity {
            Severity::Info => INFORMATIONAL,
            Severity::Warning => 3,
            Severity::Critical => 5,
        },
        "message": title,
        "is_alert": !resolved,
        "status_id": if resolved { 4 } else { 1 },
        "count": alert.occurrences,
        "start_time": started,
        "finding_info": {
            // The same for all that is told of one alert.
            "uid": format!("{}:{}:{started}", alert.rule, labels.join(",")),
            "title": title,
            "desc": annotation("why").unwrap_or(title),
            "types": [&*alert.rule],
            "analytic": { "name": &*alert.rule, "type_id": 1 }, // Rule.
            "first_seen_time": started,
            "last_seen_time": milliseconds(alert.last_seen, clock),
        },
        "evidences": [{ "data": plain(&alert.annotations) }],
    }));
    if resolved {
        fields.insert("end_time".into(), milliseconds(notice.time, clock));
    }
    (finding(if resolved { 3 } else { 1 }), fields)
}

fn process_of(view: &ProcessView, clock: &WallClock) -> Map<String, Value> {
    let mut fields = program(view.key.tgid, &view.entity_id, &view.exe);
    fields.insert("user".into(), json!({ "uid": view.uid.to_string() }));
    if !view.args.is_empty() {
        fields.insert("cmd_line".into(), view.args.join(" ").into());
    }
    if view.key.start_ns != 0 {
        let started = milliseconds(BootNs(view.key.start_ns), clock);
        fields.insert("created_time".into(), started);
    }
    if let Some(parent) = &view.parent {
        fields.insert("parent_process".into(), parent_of(parent).into());
        let ancestry = view.ancestors().map(|it| {
            let mut fields = object(json!({ "pid": it.key.tgid, "uid": &*it.entity_id }));
            if !it.exe.is_empty() {
                fields.insert("name".into(), file_name(&it.exe).into());
                fields.insert("path".into(), (*it.exe).into());
            }
            Value::from(fields)
        });
        fields.insert("ancestry".into(), ancestry.collect());
    }
    if let Some(container) = view.place.as_deref().and_then(container) {
        fields.insert("container".into(), container);
    }
    fields
}

fn parent_or_self(view: &ProcessView, clock: &WallClock) -> Map<String, Value> {
    match &view.parent {
        Some(parent) => parent_of(parent),
        None => process_of(view, clock),
    }
}

fn parent_of(view: &ParentView) -> Map<String, Value> {
    program(view.key.tgid, &view.entity_id, &view.exe)
}

fn program(pid: u32, uid: &str, exe: &str) -> Map<String, Value> {
    let mut fields = object(json!({ "pid": pid, "uid": uid }));
    if !exe.is_empty() {
        let name = file_name(exe);
        fields.insert("name".into(), name.into());
        let file = json!({ "name": name, "path": exe, "type_id": 1 }); // Regular file.
        fields.insert("file".into(), file);
    }
    fields
}

fn container(place: &Place) -> Option<Value> {
    let container = place.container.as_ref()?;
    let mut fields = object(json!({ "uid": &*container.id }));
    let texts = [("name", &container.name), ("runtime", &container.runtime)];
    for (key, text) in texts {
        fields.extend(text.as_deref().map(|text| (key.to_owned(), text.into())));
    }
    Some(fields.into())
}

/// `timestamp_t`: unix time in milliseconds.
fn milliseconds(time: BootNs, clock: &WallClock) -> Value {
    (clock.unix_ns(time) / 1_000_000).into()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
