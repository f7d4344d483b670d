//! Who is connected to whom on this host: the clients of a process that serves.
//!
//! In: connections of which both ends are here, their ends, the ends of processes. Out: for a
//! process, the clients on whose behalf it may act. A proxy's own connections are thereby told
//! with whom they may be for.
//!
//! May be: a server with several clients does not tell which of them it works for, so all are
//! named, and nothing is judged by it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
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

/// The clients of each server, however many connections each has.
///
/// A busy server is asked about with each of its own connections, so its clients are kept in the
/// order in which they are asked for.
#[derive(Debug)]
pub struct ClientTable {
    capacity: usize,
    clients: HashMap<Pair, Client>,
    /// The same pairs: of each server, the client that connected last comes first.
    latest: BTreeSet<(ProcessKey, Reverse<Joined>, ProcessKey)>,
    /// Open connections, oldest first: the kernel numbers sockets upwards.
    connections: BTreeMap<SocketCookie, Pair>,
}

/// Two processes, whatever programs they run (`exec_id` 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pair {
    server: ProcessKey,
    client: ProcessKey,
}

/// When a client connected; of connections of one moment, the later socket is the later one.
type Joined = (BootNs, SocketCookie);

#[derive(Debug)]
struct Client {
    process: Arc<ProcessView>,
    /// The last time.
    joined: Joined,
    /// Connections that are open, as far as is known.
    open: usize,
    /// Every connection of the client is told. If not, one stands for all that follow, and lasts
    /// as long as the client.
    every: bool,
    /// When the last one ended, if one did.
    ended: Option<BootNs>,
}

impl ClientTable {
    /// An empty table that holds at most `capacity` connections, and pairs of processes.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        ClientTable {
            capacity,
            clients: HashMap::new(),
            latest: BTreeSet::new(),
            connections: BTreeMap::new(),
        }
    }

    /// Remembers a connection of `client`, of which `every` one is told or only the first to each
    /// server. Where the table is full, what ended gives way, then the oldest.
    pub fn joined(
        &mut self,
        event: &FlowJoined,
        client: Arc<ProcessView>,
        every: bool,
    ) -> Option<Limit> {
        let pair = Pair {
            server: of_process(event.server),
            client: of_process(client.key),
        };
        self.close(event.cookie); // Told before.
        let limited = self.make_room(pair);
        self.connections.insert(event.cookie, pair);
        let joined = (event.time, event.cookie);
        let known = self.clients.remove(&pair);
        if let Some(known) = &known {
            self.latest.remove(&place(pair, known.joined));
        }
        self.latest.insert(place(pair, joined));
        let before = known.as_ref();
        let client = Client {
            process: client,
            joined,
            open: before.map_or(0, |it| it.open) + 1,
            every: every && before.is_none_or(|it| it.every),
            ended: before.and_then(|it| it.ended),
        };
        self.clients.insert(pair, client);
        limited
    }

    /// A connection ended.
    pub fn ended(&mut self, cookie: SocketCookie, now: BootNs) {
        let pair = self.connections.get(&cookie);
        let client = pair.and_then(|pair| self.clients.get_mut(pair));
        if let Some(client) = client.filter(|client| client.every) {
            client.ended = Some(now);
            self.close(cookie);
        }
    }

    /// Forgets what ended longer than [`LINGER`] ago, with its client if not by itself, and whose
    /// server is gone.
    pub fn sweep(&mut self, now: BootNs, is_gone: impl Fn(ProcessKey) -> bool) {
        self.retain(|pair, client| {
            if client.open > 0 && is_gone(client.process.key) {
                (client.open, client.ended) = (0, Some(now));
            }
            client.lasts(now) && !is_gone(pair.server)
        });
    }

    /// Number of open connections remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    fn make_room(&mut self, pair: Pair) -> Option<Limit> {
        let mut limited = None;
        while self.connections.len() >= self.capacity
            || (self.clients.len() >= self.capacity && !self.clients.contains_key(&pair))
        {
            limited = Some(Limit::Clients);
            let before = self.clients.len();
            self.retain(|_, client| client.open > 0);
            if self.clients.len() < before {
                continue;
            }
            let Some(oldest) = self.connections.keys().next() else {
                break; // A table for nothing.
            };
            self.close(*oldest);
        }
        limited
    }

    /// Forgets a connection. Its client stays, for as long as it lingers.
    fn close(&mut self, cookie: SocketCookie) {
        let Some(pair) = self.connections.remove(&cookie) else {
            return;
        };
        if let Some(client) = self.clients.get_mut(&pair) {
            client.open = client.open.saturating_sub(1);
        }
    }

    fn retain(&mut self, mut keep: impl FnMut(&Pair, &mut Client) -> bool) {
        self.clients.retain(|pair, client| keep(pair, client));
        let clients = &self.clients;
        self.connections
            .retain(|_, pair| clients.get(pair).is_some_and(|it| it.open > 0));
        self.latest.retain(|(server, _, client)| {
            let (server, client) = (*server, *client);
            clients.contains_key(&Pair { server, client })
        });
    }

    /// The clients of `server` at `now`, those that connected last first.
    fn of(&self, server: ProcessKey, now: BootNs) -> impl Iterator<Item = &Arc<ProcessView>> {
        const LATEST: Joined = (BootNs(u64::MAX), SocketCookie(u64::MAX));
        let first = (server, Reverse(LATEST), ProcessKey::default());
        let here = self.latest.range(first..);
        here.take_while(move |(of, ..)| *of == server)
            .filter_map(|(server, _, client)| {
                let (server, client) = (*server, *client);
                self.clients.get(&Pair { server, client })
            })
            .filter(move |client| client.lasts(now))
            .map(|client| &client.process)
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
                if known.len() >= KNOWN_MAX {
                    break;
                }
                let key = of_process(client.key);
                if !known.contains(&key) {
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

fn place(pair: Pair, joined: Joined) -> (ProcessKey, Reverse<Joined>, ProcessKey) {
    (pair.server, Reverse(joined), pair.client)
}

/// Processes looked at to find the clients of one: chains of proxies are short.
const KNOWN_MAX: usize = 64;

impl Client {
    fn lasts(&self, now: BootNs) -> bool {
        self.open > 0 || self.ended.is_some_and(|ended| now.since(ended) < LINGER)
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
    fn what_ended_gives_way_before_what_is_open() {
        let mut table = ClientTable::new(2);
        join(&mut table, 1, 9, 1, true);
        join(&mut table, 2, 9, 2, true);
        table.ended(SocketCookie(2), at(3));
        join(&mut table, 3, 9, 3, true);
        check_behind(&table, 9, 4, &[3, 1]);
    }

    #[test]
    fn a_client_with_many_connections_counts_until_after_the_last() {
        let mut table = ClientTable::new(10);
        for cookie in 1..=3 {
            join(&mut table, 1, 9, cookie, true);
        }
        join(&mut table, 1, 9, 3, true); // Told again.
        for cookie in 1..=3 {
            check_behind(&table, 9, 10, &[1]);
            table.ended(SocketCookie(cookie), at(10));
        }
        assert_eq!(table.len(), 0);
        check_behind(&table, 9, 11, &[1]);
        check_behind(&table, 9, 12, &[]);
    }

    #[test]
    fn many_that_are_gone_do_not_hide_one_that_stays() {
        let mut table = ClientTable::new(1000);
        join(&mut table, 1, 9, 1, true);
        for client in 2..500 {
            join(&mut table, client, 9, client.into(), true);
            table.ended(SocketCookie(client.into()), at(500));
        }
        check_behind(&table, 9, 502, &[1]);
    }

    #[test]
    fn a_server_that_is_gone_is_forgotten_with_its_clients() {
        let mut table = ClientTable::new(2);
        join(&mut table, 1, 9, 1, true);
        table.sweep(at(2), |process| process.tgid == 9);
        assert!(table.is_empty());
    }
}
