//! The event log, read as it grows.
//!
//! In: the file that the monitor writes. Out: its events, by destination.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use monitor_tests::event::Event;

/// The events so far. Starts and ends of processes are left out: a host has too many.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    read: u64,
    by_destination: BTreeMap<IpAddr, Vec<Event>>,
    others: Vec<Event>,
}

impl Log {
    /// Of a monitor that writes to this file.
    #[must_use]
    pub fn of(path: &Path) -> Log {
        Log {
            path: path.to_owned(),
            read: 0,
            by_destination: BTreeMap::new(),
            others: Vec::new(),
        }
    }

    /// Reads what is new.
    ///
    /// # Panics
    ///
    /// If the log is not what a log has to be: lines of JSON, in UTF-8, without control characters.
    pub fn update(&mut self) {
        let mut file = File::open(&self.path).expect("event log");
        file.seek(SeekFrom::Start(self.read)).expect("event log");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("event log");
        // The last line may still be being written.
        let last = bytes.iter().rposition(|byte| *byte == b'\n');
        let ended = last.map_or(0, |at| at + 1);
        let text = std::str::from_utf8(&bytes[..ended]).expect("the log is UTF-8");
        let is_control = |char: char| char.is_control() && char != '\n';
        assert!(!text.contains(is_control), "control characters in the log");
        for event in Event::parse_log(text) {
            assert_ne!(
                event.action(),
                "forged",
                "a name has made a line of its own"
            );
            if let Ok(address) = event.text("destination.ip").parse() {
                self.by_destination.entry(address).or_default().push(event);
            } else if !event.action().starts_with("process-") {
                self.others.push(event);
            }
        }
        self.read += ended as u64;
    }

    /// Events about a destination.
    #[must_use]
    pub fn about(&self, address: IpAddr) -> &[Event] {
        self.by_destination
            .get(&address)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// Events about no destination: sockets, overruns, alerts.
    #[must_use]
    pub fn others(&self) -> &[Event] {
        &self.others
    }

    /// Whether an alert by this rule was raised.
    #[must_use]
    pub fn has_alert(&self, rule: &str) -> bool {
        let is_it = |event: &Event| event.action() == "alert" && event.text("rule.name") == rule;
        self.others.iter().any(is_it)
    }
}
