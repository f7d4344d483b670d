//! Flows that are not told yet, because their client has still to say whom it speaks to.
//!
//! In: openings, and what clients say. Out: the openings again, each once: with what was said, or
//! when there is nothing more to wait for.
//!
//! A connection without a backed name would be told as nameless, and a hundredth of a second later
//! its hello would name it. So it waits for that, and an alarm is not raised that the next packet
//! would take back. What is good or bad whatever the client says does not come here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{BootNs, Endpoint, FlowOpened, SocketCookie};
use super::wire::opening::WAIT_MAX;

/// Openings that wait at one time. One more is told at once, and counted.
pub const WAITING_MAX: usize = 8192;

/// How long an opening waits: for the parsers to give up, with the time that records take.
pub const PATIENCE: Duration = WAIT_MAX.saturating_add(Duration::from_millis(500));

/// See the top of this file.
#[derive(Debug)]
pub struct Waiting {
    capacity: usize,
    opened: BTreeMap<(SocketCookie, Endpoint), (BootNs, FlowOpened)>,
}

impl Waiting {
    /// At most `capacity` openings wait.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Waiting {
            capacity,
            opened: BTreeMap::new(),
        }
    }

    /// Lets an opening wait, of whose socket and remote none waits. Returns whether there was room.
    pub fn push(&mut self, event: &FlowOpened, now: BootNs) -> bool {
        if self.opened.len() >= self.capacity {
            return false;
        }
        let key = (event.cookie, event.remote);
        self.opened.insert(key, (now, event.clone()));
        true
    }

    /// The opening of this socket to this remote.
    pub fn take(&mut self, cookie: SocketCookie, remote: Endpoint) -> Option<FlowOpened> {
        self.opened
            .remove(&(cookie, remote))
            .map(|(_, event)| event)
    }

    /// All openings of this socket: it ended, or goes elsewhere.
    pub fn take_socket(&mut self, cookie: SocketCookie) -> Vec<FlowOpened> {
        let of_socket = self.opened.range((cookie, Endpoint::MIN)..);
        let keys: Vec<_> = of_socket
            .map(|(key, _)| *key)
            .take_while(|(other, _)| *other == cookie)
            .collect();
        let events = keys.iter().filter_map(|key| self.opened.remove(key));
        events.map(|(_, event)| event).collect()
    }

    /// What has waited long enough, oldest first.
    pub fn overdue(&mut self, now: BootNs) -> Vec<FlowOpened> {
        self.take_if(|since| now.since(since) >= PATIENCE)
    }

    /// Everything: nothing more will be said.
    pub fn take_all(&mut self) -> Vec<FlowOpened> {
        self.take_if(|_| true)
    }

    /// Openings that are not told yet.
    #[must_use]
    pub fn count(&self) -> usize {
        self.opened.len()
    }

    fn take_if(&mut self, is_due: impl Fn(BootNs) -> bool) -> Vec<FlowOpened> {
        let due: Vec<_> = self
            .opened
            .extract_if(.., |_, (since, _)| is_due(*since))
            .collect();
        let mut events: Vec<_> = due.into_iter().map(|(_, (_, event))| event).collect();
        events.sort_by_key(|event| event.time);
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture::{at, image, opened, tcp};

    fn opening(cookie: u64, addr: &str, seconds: u64) -> FlowOpened {
        FlowOpened {
            time: at(seconds),
            ..opened(image(1), addr, cookie)
        }
    }

    #[track_caller]
    fn check(events: &[FlowOpened], expect: &[u64]) {
        let cookies: Vec<_> = events.iter().map(|event| event.cookie.0).collect();
        assert_eq!(cookies, expect);
    }

    #[test]
    fn each_is_told_once() {
        let mut waiting = Waiting::new(10);
        for (cookie, addr) in [(1, "192.0.2.1:1"), (1, "192.0.2.2:1"), (2, "192.0.2.1:1")] {
            assert!(waiting.push(&opening(cookie, addr, 1), at(1)));
        }
        assert!(waiting.take(SocketCookie(2), tcp("192.0.2.9:1")).is_none());
        assert!(waiting.take(SocketCookie(2), tcp("192.0.2.1:1")).is_some());
        assert!(waiting.take(SocketCookie(2), tcp("192.0.2.1:1")).is_none());
        check(&waiting.take_socket(SocketCookie(1)), &[1, 1]);
        check(&waiting.take_all(), &[]);
    }

    #[test]
    fn patience_ends() {
        let mut waiting = Waiting::new(2);
        waiting.push(&opening(5, "192.0.2.1:1", 2), at(10));
        waiting.push(&opening(9, "192.0.2.1:1", 1), at(10));
        assert_eq!(waiting.count(), 2);
        assert!(!waiting.push(&opening(6, "192.0.2.1:1", 1), at(10)));
        check(&waiting.overdue(at(12)), &[]);
        check(&waiting.overdue(at(13)), &[9, 5]);
        check(&waiting.overdue(at(14)), &[]);
    }
}
