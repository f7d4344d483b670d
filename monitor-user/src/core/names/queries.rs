//! Queries that wait for their answers, and what an answer says of its question.
//!
//! In: parsed DNS messages with the socket and the resolver of each. Out: whether an answer was
//! asked for, and the addresses that it ties to the name asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::slice;

use super::later;
use crate::core::event::{BootNs, DnsMessage, Endpoint, SocketCookie};
use crate::core::fair::{FairTable, Owner};
use crate::core::wire::HostName;
use crate::core::wire::dns::{AnswerData, Message, Question};

/// A query is answered within this, or not at all: resolvers give up after 5 to 30 seconds.
const QUERY_KEEP_SECONDS: u64 = 30;

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// The answer to an outstanding query.
    Asked,
    /// It answers what this socket asked, but not as whoever was asked would: another id, or from
    /// elsewhere. Someone guesses.
    Forged,
    /// Nobody asked, or no longer.
    Unsolicited,
}

/// Outstanding queries.
#[derive(Debug)]
pub(super) struct Queries(FairTable<QueryKey, Query>);

/// A query is told from others by its socket, its id, and whom it asks: musl sends the same query
/// from one socket to all its resolvers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct QueryKey {
    cookie: SocketCookie,
    id: u16,
    resolver: Endpoint,
}

#[derive(Debug)]
struct Query {
    question: Question,
    expires: BootNs,
}

impl Queries {
    /// At most `capacity` queries wait.
    pub(super) fn new(capacity: usize) -> Self {
        Queries(FairTable::new(capacity, capacity))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Remembers a query until its answer. Returns how many others had to go.
    pub(super) fn asked(&mut self, message: &DnsMessage, parsed: Message) -> usize {
        let query = Query {
            question: parsed.question,
            expires: later(message.time, QUERY_KEEP_SECONDS),
        };
        let key = QueryKey::new(message, parsed.id);
        let (_, evicted) = self.0.insert(message.process.into(), key, query);
        evicted.iter().count()
    }

    /// Whether an answer was waited for. From now on it is not.
    pub(super) fn answered(&mut self, message: &DnsMessage, answer: &Message) -> Answered {
        let owner = Owner::from(message.process);
        let key = QueryKey::new(message, answer.id);
        let waits =
            |query: &Query| query.question == answer.question && query.expires > message.time;
        if self
            .0
            .get(owner, &key)
            .is_some_and(|entry| waits(&entry.value))
        {
            self.0.remove(owner, &key);
            return Answered::Asked;
        }
        let first = QueryKey {
            id: 0,
            resolver: Endpoint::MIN,
            ..key
        };
        let of_socket = self.0.range(owner, first);
        let mut of_socket = of_socket.take_while(|(key, _)| key.cookie == message.cookie);
        if of_socket.any(|(_, entry)| waits(&entry.value)) {
            Answered::Forged
        } else {
            Answered::Unsolicited
        }
    }

    /// Forgets the queries that nobody answered.
    pub(super) fn sweep(&mut self, now: BootNs) {
        self.0.prune(|query| query.expires <= now);
    }
}

impl QueryKey {
    fn new(message: &DnsMessage, id: u16) -> Self {
        QueryKey {
            cookie: message.cookie,
            id,
            resolver: message.resolver,
        }
    }
}

/// The addresses that an answer ties to the name asked, each with its TTL: those of the name and
/// of its aliases, address hints of service records included, since clients connect to them, too.
pub(super) fn addresses(answer: &Message) -> Vec<(IpAddr, u32)> {
    if answer.rcode != 0 {
        return Vec::new();
    }
    let names = aliases(answer);
    let meant = answer
        .answers
        .iter()
        .filter(|record| names.contains(&record.owner));
    let ips = meant.flat_map(|record| {
        let ips = match &record.data {
            AnswerData::Address(ip) => slice::from_ref(ip),
            AnswerData::Service(service) => &service.hints,
            AnswerData::Cname(_) => &[],
        };
        ips.iter().map(|ip| (ip.to_canonical(), record.ttl))
    });
    ips.collect()
}

/// The name asked and what CNAME records make of it, in whatever order and circles they come.
fn aliases(answer: &Message) -> BTreeSet<&HostName> {
    let mut targets = BTreeMap::new();
    for record in &answer.answers {
        if let AnswerData::Cname(target) = &record.data {
            targets.entry(&record.owner).or_insert(target);
        }
    }
    let mut name = &answer.question.name;
    let mut names = BTreeSet::from([name]);
    while let Some(target) = targets.remove(name) {
        names.insert(target);
        name = target;
    }
    names
}
