//! What was told of each process before, so that it is told, and counted, once.
//!
//! In: overruns, which come with their running total; sockets and devices, which every look at
//! the host finds again; the ends of processes. Out: what is new in them.

use std::collections::{BTreeMap, BTreeSet};

use monitor_common::flow::ProcessKey;

use super::event::{OverBudget, SocketKind, SocketOpened};
use super::report::Limit;

/// Processes whose overruns are remembered, and sockets, each: as many as the kernel side budgets
/// at one time. A process leaves when it ends, so only lost records of ends fill the table.
pub const TOLD_MAX: usize = monitor_common::limits::BUDGETS_MAX as usize;

/// Overruns and sockets of the processes that run.
#[derive(Debug)]
pub struct Told {
    capacity: usize,
    /// New flows refused so far, by process (`exec_id` 0: the kernel budgets processes, not
    /// images).
    refused: BTreeMap<ProcessKey, u64>,
    /// What image was found with which kind of socket for which protocol.
    sockets: BTreeSet<(ProcessKey, SocketKind, u32)>,
}

/// What is new, and the bound that was met when it was remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News<T> {
    /// What is new.
    pub new: T,
    /// [`Limit::Told`] if the oldest process was forgotten for it.
    pub limited: Option<Limit>,
}

impl Told {
    /// Remembers at most `capacity` processes, and as many sockets.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Told {
            capacity,
            refused: BTreeMap::new(),
            sockets: BTreeSet::new(),
        }
    }

    /// How many flows were refused since the last overrun of the process was told.
    pub fn refused(&mut self, event: &OverBudget) -> News<u64> {
        let process = ProcessKey {
            exec_id: 0,
            ..event.process
        };
        let full = self.refused.len() >= self.capacity && !self.refused.contains_key(&process);
        if full {
            self.refused.pop_first();
        }
        let before = self.refused.insert(process, event.refused);
        // A total that shrank was started anew, together with the kernel side.
        let grown = event.refused.checked_sub(before.unwrap_or_default());
        News {
            new: grown.unwrap_or(event.refused),
            limited: full.then_some(Limit::Told),
        }
    }

    /// Whether a socket was not told before: one that was seen being opened, or the first of its
    /// kind (and protocol, if it is raw) that the image was found with.
    pub fn socket(&mut self, event: &SocketOpened) -> News<bool> {
        // Only of a raw socket do all who tell of it know the protocol.
        let protocol = if event.kind == SocketKind::Raw {
            event.protocol
        } else {
            0
        };
        let socket = (event.process, event.kind, protocol);
        let new = !event.found || !self.sockets.contains(&socket);
        let full = !self.sockets.contains(&socket) && self.sockets.len() >= self.capacity;
        if full {
            self.sockets.pop_first();
        }
        self.sockets.insert(socket);
        News {
            new,
            limited: full.then_some(Limit::Told),
        }
    }

    /// Forgets a process that ended.
    pub fn process_gone(&mut self, process: ProcessKey) {
        let image = |exec_id| ProcessKey { exec_id, ..process };
        self.refused.remove(&image(0));
        let first = (image(0), SocketKind::Raw, 0);
        let last = (image(u32::MAX), SocketKind::Other(u32::MAX), u32::MAX);
        let gone: Vec<_> = self.sockets.range(first..=last).copied().collect();
        for socket in gone {
            self.sockets.remove(&socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture::{found_socket, image, next, over_budget};

    #[track_caller]
    fn check_refused(told: &mut Told, process: ProcessKey, total: u64, new: u64) {
        let limited = None;
        let event = over_budget(process, total);
        assert_eq!(told.refused(&event), News { new, limited });
    }

    #[track_caller]
    fn check_socket(told: &mut Told, event: &SocketOpened, new: bool) {
        let limited = None;
        assert_eq!(told.socket(event), News { new, limited });
    }

    #[test]
    fn an_overrun_counts_what_was_not_counted_before() {
        let mut told = Told::new(10);
        check_refused(&mut told, image(1), 5, 5);
        check_refused(&mut told, image(1), 7, 2);
        check_refused(&mut told, image(2), 1, 1);
        // The budget is the process's, whatever program it runs.
        check_refused(&mut told, next(image(1)), 9, 2);
        // The kernel side was loaded anew.
        check_refused(&mut told, image(1), 3, 3);
        told.process_gone(next(image(1)));
        check_refused(&mut told, image(1), 4, 4);
        check_refused(&mut told, image(2), 1, 0);
    }

    #[test]
    fn a_socket_that_is_found_again_is_not_new() {
        let mut told = Told::new(10);
        let tun = found_socket(image(1), SocketKind::Tun);
        check_socket(&mut told, &tun, true);
        check_socket(&mut told, &tun, false);
        check_socket(&mut told, &found_socket(image(1), SocketKind::Packet), true);
        check_socket(&mut told, &found_socket(image(2), SocketKind::Tun), true);
        // A new program that holds it is news.
        check_socket(
            &mut told,
            &found_socket(next(image(1)), SocketKind::Tun),
            true,
        );
        told.process_gone(next(image(1)));
        check_socket(&mut told, &tun, true);
        check_socket(&mut told, &found_socket(image(2), SocketKind::Tun), false);
    }

    #[test]
    fn a_socket_that_was_seen_being_opened_is_not_found_later() {
        let mut told = Told::new(10);
        let found = SocketOpened {
            protocol: 0,
            ..found_socket(image(1), SocketKind::Packet)
        };
        let opened = SocketOpened {
            found: false,
            protocol: 3,
            ..found.clone()
        };
        check_socket(&mut told, &opened, true);
        check_socket(&mut told, &found, false);
        check_socket(&mut told, &opened, true);
    }

    #[test]
    fn a_socket_that_was_seen_being_opened_is_always_new() {
        let mut told = Told::new(10);
        let raw = SocketOpened {
            found: false,
            ..found_socket(image(1), SocketKind::Raw)
        };
        check_socket(&mut told, &raw, true);
        check_socket(&mut told, &raw, true);
    }

    #[test]
    fn a_full_table_forgets_the_process_that_started_first_and_says_so() {
        let mut told = Told::new(1);
        let (old, young) = (image(1), image(2));
        check_refused(&mut told, old, 5, 5);
        let limited = Some(Limit::Told);
        let news = told.refused(&over_budget(young, 1));
        assert_eq!(news, News { new: 1, limited });
        check_refused(&mut told, young, 2, 1);

        check_socket(&mut told, &found_socket(old, SocketKind::Tun), true);
        let news = told.socket(&found_socket(young, SocketKind::Tun));
        assert_eq!(news, News { new: true, limited });
        check_socket(&mut told, &found_socket(young, SocketKind::Tun), false);
    }
}
