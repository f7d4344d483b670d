//! The lines of the event log against OCSF 1.8.
//!
//! In: the golden lines, and `tests/schema/ocsf-1.8.txt`: class or object, attribute, type, whether
//! it is required, and the values allowed, of every attribute that lines use or must have, as the
//! schema's files give them; rows `at_least_one` are constraints. Out: a failure for an attribute
//! that is not in the table, is missing, or has a value that its type does not allow.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

struct Attribute {
    kind: &'static str,
    required: bool,
    allowed: Vec<&'static str>,
}

#[derive(Default)]
struct Object {
    attributes: BTreeMap<&'static str, Attribute>,
    at_least_one: Vec<&'static str>,
}

fn schema() -> BTreeMap<&'static str, Object> {
    let mut objects: BTreeMap<&str, Object> = BTreeMap::new();
    for row in include_str!("../../../tests/schema/ocsf-1.8.txt").lines() {
        let [object, name, kind, required, allowed] = row.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{row}");
        };
        let object = objects.entry(object).or_default();
        if required == "constraint" {
            object.at_least_one = kind.split(',').collect();
            continue;
        }
        let attribute = Attribute {
            kind,
            required: required == "required",
            allowed: allowed.split(',').filter(|value| *value != "-").collect(),
        };
        object.attributes.insert(name, attribute);
    }
    objects
}

type Schema = BTreeMap<&'static str, Object>;

#[track_caller]
fn check(schema: &Schema, place: &str, object: &str, value: &Value) {
    let rules = schema
        .get(object)
        .unwrap_or_else(|| panic!("no object {object}"));
    let fields = value.as_object();
    let fields = fields.unwrap_or_else(|| panic!("{place} is {value}, and no object"));
    for (name, attribute) in &rules.attributes {
        let there = fields.contains_key(*name);
        assert!(there || !attribute.required, "{place} lacks {name}");
    }
    let one = rules
        .at_least_one
        .iter()
        .any(|name| fields.contains_key(*name));
    assert!(one || rules.at_least_one.is_empty(), "{place}: {value}");
    for (name, value) in fields {
        let place = format!("{place}.{name}");
        let attribute = rules.attributes.get(name.as_str());
        let attribute = attribute.unwrap_or_else(|| panic!("OCSF has no {place}"));
        match attribute.kind.strip_suffix("[]") {
            Some(kind) => {
                let values = value
                    .as_array()
                    .unwrap_or_else(|| panic!("{place}: {value}"));
                values
                    .iter()
                    .for_each(|value| check_value(schema, &place, kind, value));
            }
            None => check_value(schema, &place, attribute.kind, value),
        }
        let allowed = &attribute.allowed;
        assert!(
            allowed.is_empty() || allowed.contains(&value.to_string().as_str()),
            "{place}: {value}"
        );
    }
}

#[track_caller]
fn check_value(schema: &Schema, place: &str, kind: &str, value: &Value) {
    let fits = match kind {
        "integer_t" | "long_t" => value.is_i64() || value.is_u64(),
        "port_t" => value.as_u64().is_some_and(|port| port < 1 << 16),
        // Milliseconds: some time after 2001.
        "timestamp_t" => value.as_u64().is_some_and(|time| time > 1_000_000_000_000),
        "boolean_t" => value.is_boolean(),
        "json_t" => true,
        "object" => value.is_object(),
        "ip_t" => value
            .as_str()
            .is_some_and(|ip| ip.parse::<IpAddr>().is_ok()),
        text if text.ends_with("_t") => value.is_string(),
        object => {
            check(schema, place, object, value);
            true
        }
    };
    assert!(fits, "{place} is {value}, and not of type {kind}");
}

#[test]
fn lines_are_valid_ocsf() {
    let schema = schema();
    for line in include_str!("golden.ndjson").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let class = line["class_uid"].as_u64().unwrap();
        let name = match class {
            0 => "base_event",
            1007 => "process_activity",
            2004 => "detection_finding",
            4001 => "network_activity",
            _ => panic!("{class}"),
        };
        check(&schema, name, name, &line);
        assert_eq!(line["category_uid"], class / 1000);
        let activity = line["activity_id"].as_u64().unwrap();
        assert_eq!(line["type_uid"], class * 100 + activity);
    }
}

#[test]
#[should_panic(expected = "OCSF has no finding_info.verdict")]
fn an_invented_attribute_is_found() {
    let finding = serde_json::json!({ "uid": "1", "verdict": "denied" });
    check(&schema(), "finding_info", "finding_info", &finding);
}
