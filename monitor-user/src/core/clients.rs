//! Who is connected to whom on this host: the clients of a process that serves.
//!
//! In: connections of which both ends are here, their ends, the ends of processes. Out: for a
//! process, the clients on whose behalf it may act. A proxy's own connections are thereby told
//! with whom they may be for.
//!
//! May be: a server with several clients does not tell which of them it works for, so all are
//! named, and nothing is judged by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use monitor_common::flow::ProcessKey;

use super::event::{BootNs, FlowJoined, SocketCookie};
use super::report::{Limit, ProcessView};

/// Connections remembered: as many as the kernel side has pairs of processes.
pub const CLIENTS_MAX: usize = monitor_common::limits::JOINED_MAX as usize;

/// How long a connection that ended counts: a client may ask, close, and leave the server working.
pub const LINGER: Duration = Duration::from_secs(2);

/// Clients named of one server. The rest would explain nothing.
pub const NAMED_MAX: usize = 8;

/// Connections by server (`exec_id` 0), and by cookie within a server.
#[derive(Debug)]
pub struct ClientTable {
    capacity: usize,
    clients: BTreeMap<(ProcessKey, SocketCookie), Client>,
    /// The server of each connection, oldest first: the kernel numbers sockets upwards.
    servers: BTreeMap<SocketCookie, ProcessKey>,
}

#[derive(Debug)]
struct Client {
    process: Arc<ProcessView>,
    /// Every connection of the client is told. If not, this one stands for all that follow, and
    /// lasts as long as the client.
    every: bool,
    joined: BootNs,
    ended: Option<BootNs>,
}

impl ClientTable {
    /// An empty table that holds at most `capacity` connections.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        ClientTable {
            capacity,
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
        }
    }

    /// Remembers a connection of `client`, of which `every` one is told or only the first to each
    /// server. Where the table is full the oldest gives way.
    pub fn joined(
        &mut self,
        event: &FlowJoined,
        client: Arc<ProcessView>,
        every: bool,
    ) -> Option<Limit> {
        let full = self.servers.len() >= self.capacity && !self.servers.contains_key(&event.cookie);
        if full && let Some((cookie, server)) = self.servers.pop_first() {
            self.clients.remove(&(server, cookie));
        }
        let server = of_process(event.server);
        self.servers.insert(event.cookie, server);
        let client = Client {
            process: client,
            every,
            joined: event.time,
            ended: None,
        };
        self.clients.insert((server, event.cookie), client);
        full.then_some(Limit::Clients)
    }

    /// A connection ended.
    pub fn ended(&mut self, cookie: SocketCookie, now: BootNs) {
        let Some(server) = self.servers.get(&cookie) else {
            return;
        };
        if let Some(client) = self.clients.get_mut(&(*server, cookie)) {
            client.ended = client.every.then_some(now);
        }
    }

    /// Forgets what ended longer than [`LINGER`] ago, with its client if not by itself, and whose
    /// server is gone.
    pub fn sweep(&mut self, now: BootNs, is_gone: impl Fn(ProcessKey) -> bool) {
        let servers = &mut self.servers;
        self.clients.retain(|(server, cookie), client| {
            if client.ended.is_none() && is_gone(client.process.key) {
                client.ended = Some(now);
            }
            let keep = client.lasts(now) && !is_gone(*server);
            if !keep {
                servers.remove(cookie);
            }
            keep
        });
    }

    /// Number of connections remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether no connection is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// The clients of `server` at `now`, those that connected last first.
    fn of(&self, server: ProcessKey, now: BootNs) -> Vec<&Arc<ProcessView>> {
        let server = of_process(server);
        let range = (server, SocketCookie(0))..=(server, SocketCookie(u64::MAX));
        let here = self.clients.range(range).map(|(_, client)| client);
        let mut here: Vec<&Client> = here.filter(|client| client.lasts(now)).collect();
        here.sort_by_key(|client| std::cmp::Reverse(client.joined));
        here.iter().map(|client| &client.process).collect()
    }

    /// For whom a process may act: the clients of `servers`, which are itself and those it works
    /// for, then the clients' own clients, and so on. Each once, members of AI tools first.
    #[must_use]
    pub fn behind(&self, servers: &[ProcessKey], now: BootNs) -> Vec<Arc<ProcessView>> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut known: Vec<ProcessKey> = servers.iter().copied().map(of_process).collect();
        let mut found: Vec<Arc<ProcessView>> = Vec::new();
        let mut next = 0;
        while let Some(server) = known.get(next).copied() {
            next += 1;
            for client in self.of(server, now) {
                let key = of_process(client.key);
                if known.len() < KNOWN_MAX && !known.contains(&key) {
                    known.push(key);
                    found.push(Arc::clone(client));
                }
            }
        }
        found.sort_by_key(|client| client.tool.is_none());
        found.truncate(NAMED_MAX);
        found
    }
}

/// Processes looked at to find the clients of one: chains of proxies are short.
const KNOWN_MAX: usize = 64;

impl Client {
    fn lasts(&self, now: BootNs) -> bool {
        self.ended.is_none_or(|ended| now.since(ended) < LINGER)
    }
}

/// A process whatever program it runs: what connected before an exec is connected after it.
fn of_process(key: ProcessKey) -> ProcessKey {
    ProcessKey { exec_id: 0, ..key }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture::{at, image, next, stranger};

    /// The process `client` connects to `server` on the socket `cookie`.
    fn join(table: &mut ClientTable, client: u32, server: u32, cookie: u64, every: bool) {
        let event = FlowJoined {
            time: at(cookie),
            client: image(client),
            server: next(image(server)),
            cookie: SocketCookie(cookie),
        };
        let view = ProcessView {
            key: image(client),
            ..stranger("/bin/curl")
        };
        table.joined(&event, Arc::new(view), every);
    }

    #[track_caller]
    fn check_behind(table: &ClientTable, server: u32, now: u64, expect: &[u32]) {
        let found = table.behind(&[image(server)], at(now));
        let pids: Vec<u32> = found.iter().map(|client| client.key.tgid).collect();
        assert_eq!(pids, expect);
    }

    #[test]
    fn the_last_client_comes_first_and_each_once() {
        let mut table = ClientTable::new(10);
        check_behind(&table, 9, 1, &[]);
        join(&mut table, 1, 9, 1, true);
        join(&mut table, 2, 9, 2, true);
        join(&mut table, 1, 9, 3, true);
        check_behind(&table, 9, 4, &[1, 2]);
        check_behind(&table, 8, 4, &[]);
    }

    #[test]
    fn a_client_counts_until_a_moment_after_its_connection() {
        let mut table = ClientTable::new(10);
        join(&mut table, 1, 9, 1, true);
        table.ended(SocketCookie(1), at(5));
        check_behind(&table, 9, 6, &[1]);
        check_behind(&table, 9, 7, &[]);
        table.sweep(at(7), |_| false);
        assert!(table.is_empty());
    }

    #[test]
    fn a_client_whose_later_connections_are_not_told_counts_while_it_lives() {
        let mut table = ClientTable::new(10);
        join(&mut table, 1, 9, 1, false);
        table.ended(SocketCookie(1), at(5));
        table.sweep(at(100), |_| false);
        check_behind(&table, 9, 100, &[1]);
        table.sweep(at(101), |process| process.tgid == 1);
        check_behind(&table, 9, 102, &[1]);
        table.sweep(at(103), |process| process.tgid == 1);
        check_behind(&table, 9, 103, &[]);
    }

    #[test]
    fn a_chain_of_proxies_is_followed_and_a_circle_ends() {
        let mut table = ClientTable::new(10);
        join(&mut table, 1, 8, 1, true);
        join(&mut table, 8, 9, 2, true);
        join(&mut table, 9, 8, 3, true);
        check_behind(&table, 9, 4, &[8, 1]);
    }

    #[test]
    fn a_full_table_gives_up_its_oldest_connection() {
        let mut table = ClientTable::new(2);
        join(&mut table, 1, 9, 1, true);
        join(&mut table, 2, 9, 2, true);
        join(&mut table, 3, 9, 3, true);
        check_behind(&table, 9, 4, &[3, 2]);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_server_that_is_gone_is_forgotten_with_its_clients() {
        let mut table = ClientTable::new(2);
        join(&mut table, 1, 9, 1, true);
        table.sweep(at(2), |process| process.tgid == 9);
        assert!(table.is_empty());
    }
}
