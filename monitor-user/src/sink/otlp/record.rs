//! A line of the event log as a log record of OpenTelemetry.
//!
//! In: a line in ECS. Out: a record whose attributes are the fields, in dotted names.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use serde_json::Value;

use crate::host::clock::unix_ns;
use crate::sink::HostInfo;

/// Fields that the record, or its resource, says otherwise.
const ELSEWHERE: [&str; 4] = ["@timestamp", "ecs", "host", "observer"];

/// Who tells.
pub fn resource(host: &HostInfo) -> Resource {
    let attributes = [
        ("service.name", "telltale"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", &host.session),
        ("host.name", &host.name),
    ];
    let attributes = attributes.map(|(key, text)| pair(key, Any::StringValue(text.to_owned())));
    Resource {
        attributes: attributes.into(),
        ..Resource::default()
    }
}

/// The record of a line, in protobuf.
pub fn encode(line: &Value) -> Vec<u8> {
    of(line).encode_to_vec()
}

fn of(line: &Value) -> LogRecord {
    let mut attributes = Vec::new();
    for (key, value) in line.as_object().into_iter().flatten() {
        if !ELSEWHERE.contains(&&**key) {
            flatten(key, value, &mut attributes);
        }
    }
    let action = line["event"]["action"].as_str().unwrap_or_default();
    let severity = severity(line);
    LogRecord {
        time_unix_nano: time_ns(line).unwrap_or_default(),
        observed_time_unix_nano: unix_ns(),
        severity_number: severity.into(),
        severity_text: severity.as_str_name().replace("SEVERITY_NUMBER_", ""),
        body: Some(any(Any::StringValue(body(line, action)))),
        attributes,
        event_name: format!("telltale.{action}"),
        ..LogRecord::default()
    }
}

fn time_ns(line: &Value) -> Option<u64> {
    let time = humantime::parse_rfc3339(line["@timestamp"].as_str()?).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

fn severity(line: &Value) -> SeverityNumber {
    let own = &line["telltale"];
    match (own["alert"]["severity"].as_str(), own["verdict"].as_str()) {
        (Some("critical"), _) => SeverityNumber::Error,
        (Some("warning"), _) | (None, Some("denied")) => SeverityNumber::Warn,
        _ => SeverityNumber::Info,
    }
}

/// A sentence for a person.
fn body(line: &Value, action: &str) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let reason = text(&line["event"]["reason"]);
    if line["event"]["kind"] == "alert" {
        return reason;
    }
    let process = text(&line["process"]["executable"]);
    let destination = &line["destination"];
    let remote = match destination["domain"].as_str() {
        Some(name) => name.to_owned(),
        None => text(&destination["ip"]),
    };
    let parts = [action.to_owned(), process, remote, reason];
    let said = parts.into_iter().filter(|part| !part.is_empty());
    said.collect::<Vec<_>>().join(" ")
}

fn flatten(name: &str, value: &Value, into: &mut Vec<KeyValue>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(&format!("{name}.{key}"), value, into);
            }
        }
        value => into.extend(converted(value).map(|value| pair(name, value))),
    }
}

fn converted(value: &Value) -> Option<Any> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => Any::BoolValue(*value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Any::IntValue(number),
            None => Any::DoubleValue(number.as_f64()?),
        },
        Value::String(text) => Any::StringValue(text.clone()),
        Value::Array(values) => Any::ArrayValue(ArrayValue {
            values: values.iter().filter_map(converted).map(any).collect(),
        }),
        Value::Object(fields) => Any::KvlistValue(KeyValueList {
            values: fields
                .iter()
                .filter_map(|(key, value)| Some(pair(key, converted(value)?)))
                .collect(),
        }),
    })
}

fn any(value: Any) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn pair(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(any(value)),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::report::AlertState;
    use crate::sink::ecs::Lines;
    use crate::sink::fixture::{self, CLOCK};

    fn record(effect: &crate::core::report::Effect) -> LogRecord {
        let line = Lines::new(&fixture::host()).value(effect, &CLOCK);
        LogRecord::decode(&*encode(&line.unwrap().unwrap())).unwrap()
    }

    #[test]
    fn a_connection_is_a_record_with_its_fields() {
        let record = record(&fixture::flow(fixture::opened(fixture::process(42))));
        assert_eq!(record.event_name, "telltale.connection-opened");
        assert_eq!(record.severity_text, "INFO");
        assert_eq!(record.time_unix_nano, 1_795_167_123_000_000_000);
        let expect = "connection-opened /home/u/.local/share/claude/versions/2.1.328 \
                      api.anthropic.com";
        assert_eq!(record.body, Some(any(Any::StringValue(expect.to_owned()))));
        let value = |key: &str| {
            let found = record.attributes.iter().find(|it| it.key == key);
            found.and_then(|it| it.value.clone()?.value)
        };
        assert_eq!(value("process.pid"), Some(Any::IntValue(42)));
        assert_eq!(
            value("destination.ip"),
            Some(Any::StringValue("192.0.2.10".to_owned()))
        );
        assert_eq!(value("telltale.flow.first"), Some(Any::BoolValue(true)));
        assert!(matches!(value("process.args"), Some(Any::ArrayValue(_))));
        assert_eq!(value("host.name"), None);
    }

    #[test]
    fn an_alert_is_as_severe_as_it_is() {
        let record = record(&fixture::alert(AlertState::Fired));
        assert_eq!(record.severity_number(), SeverityNumber::Error);
        let expect = "Claude Code is banned and runs".to_owned();
        assert_eq!(record.body, Some(any(Any::StringValue(expect))));
    }
}
