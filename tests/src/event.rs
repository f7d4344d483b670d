//! One line of the event log.
//!
//! In: NDJSON in ECS names, as nested objects. Out: fields by their dotted name.

use serde_json::Value;

/// An event of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Event(pub Value);

impl Event {
    /// Parses a whole log. The last line may still be being written: it counts once it is ended.
    ///
    /// # Panics
    ///
    /// If an ended line is not JSON.
    #[must_use]
    pub fn parse_log(text: &str) -> Vec<Event> {
        let ended = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |line| match serde_json::from_str(line) {
            Ok(value) => Event(value),
            Err(error) => panic!("event log: {error} in {line:?}"),
        };
        ended.lines().map(parse).collect()
    }

    /// A field, as `process.parent.pid`; null if it is not there.
    #[must_use]
    pub fn get(&self, field: &str) -> &Value {
        field.split('.').fold(&self.0, |value, key| &value[key])
    }

    /// A text field; empty if it is not there.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.get(field).as_str().unwrap_or_default()
    }

    /// A field with a list of texts.
    #[must_use]
    pub fn texts(&self, field: &str) -> Vec<&str> {
        let list = self.get(field).as_array();
        list.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    /// `event.action`.
    #[must_use]
    pub fn action(&self) -> &str {
        self.text("event.action")
    }

    /// `process.pid`.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.get("process.pid")
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok())
    }

    /// Fails the test unless each field has this text.
    ///
    /// # Panics
    ///
    /// If one does not; the message shows the whole event.
    #[track_caller]
    pub fn expect(&self, fields: &[(&str, &str)]) {
        for (field, expect) in fields {
            let found = match self.get(field) {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(found, *expect, "{field} of {:#}", self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_by_dotted_name_and_only_ended_lines() {
        let log = "{\"event\":{\"action\":\"alert\"},\"process\":{\"pid\":7}}\n{\"event\":{\"act";
        let events = Event::parse_log(log);
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].action(), events[0].pid()), ("alert", Some(7)));
        assert!(events[0].get("process.parent.pid").is_null());
        events[0].expect(&[("process.pid", "7"), ("event.action", "alert")]);
    }
}
