//! The lines of the event log against the schema that they name.
//!
//! In: the golden lines, and `tests/schema/ecs-9.4.txt`: name, type, whether it is an array, and
//! the values allowed (for categories, with the event types that go with each) of every field of
//! ECS 9.4 that lines use, as its generated `ecs_flat.yml` has them. Out: a failure for a field
//! that is not in the table, or has a value that its type does not allow.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

/// A row of the table.
struct Field {
    kind: &'static str,
    array: bool,
    allowed: Vec<&'static str>,
}

fn schema() -> BTreeMap<&'static str, Field> {
    let row = |row: &'static str| {
        let [name, kind, array, allowed] = row.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{row}");
        };
        let allowed = allowed.split(',').filter(|value| *value != "-").collect();
        let array = array == "array";
        let field = Field {
            kind,
            array,
            allowed,
        };
        (name, field)
    };
    let table = include_str!("../../../tests/schema/ecs-9.4.txt");
    table.lines().map(row).collect()
}

#[track_caller]
fn check(schema: &BTreeMap<&str, Field>, name: &str, value: &Value) {
    if let Value::Object(fields) = value {
        for (key, value) in fields {
            let name = match name {
                "" => key.clone(),
                _ => format!("{name}.{key}"),
            };
            if name != "telltale" {
                check(schema, &name, value);
            }
        }
        return;
    }
    let field = schema.get(name);
    let field = field.unwrap_or_else(|| panic!("ECS has no {name}, or the table lacks it"));
    let values = match value {
        Value::Array(values) if field.array => &values[..],
        _ => std::slice::from_ref(value),
    };
    assert_eq!(value.is_array(), field.array, "{name}: {value}");
    for value in values {
        let fits = match field.kind {
            "keyword" => value.is_string(),
            "long" => value.is_i64() || value.is_u64(),
            "ip" => value
                .as_str()
                .is_some_and(|ip| ip.parse::<IpAddr>().is_ok()),
            "date" => value
                .as_str()
                .is_some_and(|date| humantime::parse_rfc3339(date).is_ok()),
            other => panic!("{name} is of type {other}, which this test does not know"),
        };
        assert!(fits, "{name} is {value}, and not of type {}", field.kind);
        let names = || {
            let names = field.allowed.iter();
            names.map(|allowed| allowed.split_once(':').map_or(*allowed, |(name, _)| name))
        };
        let allowed = field.allowed.is_empty() || names().any(|name| *value == name);
        assert!(allowed, "{name} must not be {value}");
    }
}

/// Each event type must go with one of the categories.
#[track_caller]
fn check_types(schema: &BTreeMap<&str, Field>, event: &Value) {
    let texts = |key: &str| -> Vec<String> {
        let values = event[key].as_array().cloned().unwrap_or_default();
        values
            .iter()
            .map(|value| value.as_str().unwrap().to_owned())
            .collect()
    };
    let expected: Vec<&str> = texts("category")
        .iter()
        .flat_map(|category| {
            let of = schema["event.category"].allowed.iter();
            let types = of.filter_map(|row| row.strip_prefix(category.as_str()));
            types.flat_map(|types| types.trim_start_matches(':').split('|'))
        })
        .collect();
    for kind in texts("type") {
        assert!(expected.contains(&kind.as_str()), "{event}");
    }
}

#[test]
fn lines_are_valid_ecs() {
    let schema = schema();
    for line in include_str!("golden.ndjson").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        check(&schema, "", &line);
        check_types(&schema, &line["event"]);
        assert_eq!(line["ecs"]["version"], super::ECS_VERSION);
    }
}

#[test]
#[should_panic(expected = "ECS has no event.verdict")]
fn an_invented_field_is_found() {
    let line = serde_json::json!({ "event": { "verdict": "denied" } });
    check(&schema(), "", &line);
}
