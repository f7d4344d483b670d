//! The event log, read as it grows.
//!
//! In: the file that the monitor writes. Out: the events that matter to the suite, by destination.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use monitor_tests::event::Event;

use crate::network;

/// A host that is this busy is no place for the suite: the log is of everything on it.
const LOG_BYTES_MAX: u64 = 2 << 30;

/// What every event of a process's start or end says; a host has too many of them.
const PROCESS: &str = "\"dataset\":\"telltale.process\"";
/// What every event about a connection says.
const FLOW: &str = "\"dataset\":\"telltale.flow\"";

/// The events so far: of connections only those to the suite's addresses.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    read: u64,
    by_destination: BTreeMap<IpAddr, Vec<Event>>,
    others: Vec<Event>,
}

/// Whether a line is about destinations, and none of them is the suite's. What else stands in it
/// does not count: a program's arguments name addresses, too.
fn is_of_others(line: &str) -> bool {
    let mut ips = line.split("\"ip\":").skip(1).peekable();
    let is_of_suite = |ip: &str| network::PREFIXES.iter().any(|it| ip.starts_with(it));
    ips.peek().is_some() && !ips.any(is_of_suite)
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
    /// If the log is not what a log has to be: lines of JSON, in UTF-8, without control
    /// characters; or if it is far too long.
    pub fn update(&mut self) {
        let mut file = File::open(&self.path).expect("event log");
        file.seek(SeekFrom::Start(self.read)).expect("event log");
        let mut reader = BufReader::new(file);
        let mut line = String::new();
        loop {
            line.clear();
            let bytes = reader.read_line(&mut line).expect("the log is UTF-8");
            if !line.ends_with('\n') {
                break; // The end, or a line that is still being written.
            }
            self.read += bytes as u64;
            self.add(&line);
        }
        assert!(
            self.read < LOG_BYTES_MAX,
            "{}: too much happens on this host",
            self.path.display()
        );
    }

    fn add(&mut self, line: &str) {
        let is_control = |char: char| char.is_control() && char != '\n';
        assert!(!line.contains(is_control), "control characters in {line:?}");
        if line.contains(PROCESS) || line.contains(FLOW) && is_of_others(line) {
            return;
        }
        for event in Event::parse_log(line) {
            assert_ne!(
                event.action(),
                "forged",
                "a name has made a line of its own"
            );
            match event.text("destination.ip").parse() {
                Ok(address) => self.by_destination.entry(address).or_default().push(event),
                Err(_) => self.others.push(event),
            }
        }
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
