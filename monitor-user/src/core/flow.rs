//! What was said of a flow when it opened, so that its end is told in the same words.
//!
//! In: judged flows at their opening, cookies at their end, the time. Out: the judged flow again.
//!
//! By the time a flow ends its process may be gone, its names expired and its judgement another;
//! a connection that was told as expected must not end as something else. A flow that is no
//! longer here is not lost: its end is judged anew.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::addresses::AddressOrigin;
use super::event::{BootNs, Endpoint, SocketCookie};
use super::names::NameEvidence;
use super::policy::judgement::Judgement;
use super::report::{Hello, Limit, ProcessView, ProxyTarget};

/// Names kept of a flow's remote. Object stores have one per bucket, and whoever controls a zone
/// can add any number: more than a few explain nothing, and each open flow holds them.
pub const NAMES_MAX: usize = 8;

/// How long an opening waits for its end. The record of an end can be lost, and no connection of
/// a build lasts a day.
pub const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// A flow with everything that is known and said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedFlow {
    /// Who opened it.
    pub process: Arc<ProcessView>,
    /// To whom.
    pub remote: Endpoint,
    /// What the operator's databases say of the remote's address.
    pub address: AddressOrigin,
    /// Names of the remote, best first, at most [`NAMES_MAX`].
    pub names: Vec<NameEvidence>,
    /// For whom the process may act: see [`ClientTable`](super::clients::ClientTable).
    pub via: Vec<Arc<ProcessView>>,
    /// Whom the client asks a proxy for, which the remote then is.
    pub target: Option<ProxyTarget>,
    /// What the client says in its TLS or QUIC hello.
    pub hello: Option<Arc<Hello>>,
    /// What the policy says.
    pub judgement: Judgement,
    /// First time this image goes to this remote.
    pub first: bool,
}

impl JudgedFlow {
    /// What to call the remote: whom a proxy is asked for, its best name, else its address.
    #[must_use]
    pub fn endpoint(&self) -> Arc<str> {
        match &self.target {
            Some(target) => Arc::clone(&target.host),
            None => endpoint_name(self.names.first(), self.remote.addr.ip()),
        }
    }
}

/// What to call an endpoint: its best name, else its address.
#[must_use]
pub fn endpoint_name(name: Option<&NameEvidence>, ip: IpAddr) -> Arc<str> {
    name.map_or_else(|| ip.to_string().into(), |name| Arc::clone(&name.name))
}

/// Flows that opened and have not ended.
#[derive(Debug)]
pub struct FlowTable {
    capacity: usize,
    /// Boxed, as the nodes of a tree that grows at its end are little more than half full.
    open: BTreeMap<SocketCookie, Box<OpenFlow>>,
}

#[derive(Debug)]
struct OpenFlow {
    opened: BootNs,
    flow: JudgedFlow,
}

impl FlowTable {
    /// An empty table that holds at most `capacity` flows.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        FlowTable {
            capacity,
            open: BTreeMap::new(),
        }
    }

    /// Number of open flows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no flow is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Remembers a flow until its end. A socket that goes on to another remote is remembered
    /// with that one. Where the table is full the oldest socket gives way (the kernel numbers
    /// them upwards): its end may be lost already, the new flow's is sure to come.
    pub fn opened(&mut self, cookie: SocketCookie, flow: JudgedFlow, now: BootNs) -> Option<Limit> {
        let full = self.open.len() >= self.capacity && !self.open.contains_key(&cookie);
        if full {
            self.open.pop_first();
        }
        let open = OpenFlow { opened: now, flow };
        self.open.insert(cookie, Box::new(open));
        full.then_some(Limit::Flows)
    }

    /// Takes the flow of `cookie` to `remote` out. `None` if it is not, or no longer, here.
    pub fn ended(&mut self, cookie: SocketCookie, remote: &Endpoint) -> Option<JudgedFlow> {
        let open = self.open.remove(&cookie)?;
        (open.flow.remote == *remote).then_some(open.flow)
    }

    /// The open flow of `cookie` to `remote`.
    #[must_use]
    pub fn get(&self, cookie: SocketCookie, remote: &Endpoint) -> Option<&JudgedFlow> {
        let open = self.open.get(&cookie)?;
        (open.flow.remote == *remote).then_some(&open.flow)
    }

    /// The client of an open flow said hello.
    pub fn said(&mut self, cookie: SocketCookie, remote: &Endpoint, hello: Arc<Hello>) {
        if let Some(open) = self.open.get_mut(&cookie)
            && open.flow.remote == *remote
        {
            open.flow.hello = Some(hello);
        }
    }

    /// All open flows.
    pub fn iter(&self) -> impl Iterator<Item = &JudgedFlow> {
        self.open.values().map(|open| &open.flow)
    }

    /// Forgets flows that opened longer than [`PATIENCE`] ago.
    pub fn sweep(&mut self, now: BootNs) {
        self.open
            .retain(|_, open| now.since(open.opened) < PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture::{at, judged, own, stranger, tcp};
    use crate::core::policy::judgement::Verdict;

    fn flow(addr: &str) -> JudgedFlow {
        JudgedFlow {
            process: Arc::new(stranger("/bin/curl")),
            remote: tcp(addr),
            address: AddressOrigin::default(),
            names: vec![own("api.test")],
            via: vec![],
            target: None,
            hello: None,
            judgement: judged(Verdict::Expected),
            first: true,
        }
    }

    #[track_caller]
    fn check_ended(table: &mut FlowTable, cookie: u64, addr: &str, expect: Option<&JudgedFlow>) {
        assert_eq!(
            table.ended(SocketCookie(cookie), &tcp(addr)).as_ref(),
            expect
        );
    }

    #[test]
    fn a_flow_ends_once_as_it_opened() {
        let mut table = FlowTable::new(10);
        let open = flow("192.0.2.1:443");
        assert_eq!(table.opened(SocketCookie(1), open.clone(), at(1)), None);
        check_ended(&mut table, 2, "192.0.2.1:443", None);
        check_ended(&mut table, 1, "192.0.2.1:443", Some(&open));
        check_ended(&mut table, 1, "192.0.2.1:443", None);
        assert!(table.is_empty());
    }

    #[test]
    fn a_socket_that_went_on_to_another_remote_ends_there() {
        let mut table = FlowTable::new(10);
        let second = flow("192.0.2.2:53");
        table.opened(SocketCookie(1), flow("192.0.2.1:53"), at(1));
        table.opened(SocketCookie(1), second.clone(), at(1));
        check_ended(&mut table, 1, "192.0.2.2:53", Some(&second));
        table.opened(SocketCookie(1), second, at(1));
        check_ended(&mut table, 1, "192.0.2.1:53", None);
    }

    #[test]
    fn a_full_table_gives_up_its_oldest_socket() {
        let mut table = FlowTable::new(2);
        let open = flow("192.0.2.1:443");
        for cookie in [5, 6] {
            assert_eq!(
                table.opened(SocketCookie(cookie), open.clone(), at(1)),
                None
            );
        }
        assert_eq!(table.opened(SocketCookie(6), open.clone(), at(1)), None);
        assert_eq!(
            table.opened(SocketCookie(7), open.clone(), at(1)),
            Some(Limit::Flows)
        );
        check_ended(&mut table, 5, "192.0.2.1:443", None);
        check_ended(&mut table, 7, "192.0.2.1:443", Some(&open));
    }

    #[test]
    fn an_end_that_never_comes_is_not_waited_for_for_ever() {
        let mut table = FlowTable::new(2);
        table.opened(SocketCookie(1), flow("192.0.2.1:443"), at(10));
        table.sweep(at(9 + PATIENCE.as_secs()));
        assert_eq!(table.len(), 1);
        table.sweep(at(10 + PATIENCE.as_secs()));
        assert!(table.is_empty());
    }

    #[test]
    fn a_remote_is_called_by_its_best_name_or_its_address() {
        let named = flow("192.0.2.1:443");
        assert_eq!(&*named.endpoint(), "api.test");
        assert_eq!(
            &*JudgedFlow {
                names: vec![],
                ..named
            }
            .endpoint(),
            "192.0.2.1"
        );
    }
}
