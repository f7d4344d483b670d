//! How flows get their names: what resolvers said, joined with what clients say.
//!
//! In: openings, DNS messages, claims. Out: flows, judged under the best name that there is, each
//! told once; alerts about names that are contradicted.

use std::iter::repeat_n;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use monitor_common::flow::ProcessKey;

use super::Collector;
use crate::core::alert::{self, Cause};
use crate::core::attribute::{Attribution, attribute_flow};
use crate::core::claim::{By, Claim, Named};
use crate::core::event::{
    BootNs, DnsMessage, Endpoint, FlowOpened, Hook, NameClaimed, NameResolved, Protocol,
    SocketCookie,
};
use crate::core::flow::{JudgedFlow, NAMES_MAX};
use crate::core::names::{NameEvidence, NameSource, Observed};
use crate::core::policy::{self, FlowFacts};
use crate::core::report::{DnsOutcome, Effect, FlowAction, Hello, Limit, ProcessView, ProxyTarget};
use crate::core::wire::{Host, Target};

/// How often the names of open flows are kept from expiring: some times in their shortest life.
const KEEP_NAMES_EVERY: Duration = Duration::from_secs(60);

/// What a client says of the other end of its flow.
#[derive(Debug)]
pub(super) struct Said {
    /// The name, with the protocol in which it was said.
    name: Option<NameEvidence>,
    /// Whom a proxy is asked for.
    target: Option<ProxyTarget>,
    /// The target is an address.
    target_ip: Option<IpAddr>,
    /// Another name may be hidden behind it.
    ech: bool,
    /// What is told of it, if it is a hello.
    hello: Option<Arc<Hello>>,
}

impl Said {
    fn new(event: &NameClaimed, named: &Named) -> Said {
        let ip = match named.host {
            Host::Address(ip) => Some(ip),
            Host::Name(_) => None,
        };
        let is_proxy = named.by.is_proxy();
        let target = ProxyTarget {
            host: named.text(),
            port: named.port,
        };
        Said {
            name: ip
                .is_none()
                .then(|| evidence(event, named.text(), named.by)),
            target: is_proxy.then_some(target),
            target_ip: ip.filter(|_| is_proxy),
            ech: named.ech,
            hello: matches!(named.by, By::Tls | By::Quic).then(|| {
                Arc::new(Hello {
                    server_name: named.text(),
                    alpn: named.alpn.clone(),
                    ech: named.ech,
                })
            }),
        }
    }
}

fn evidence(event: &NameClaimed, name: Arc<str>, by: By) -> NameEvidence {
    NameEvidence {
        name,
        source: NameSource::from(by),
        first: event.time,
        learned: event.time,
        asked_by: event.process,
    }
}

impl Collector {
    pub(super) fn dns_message(&mut self, event: &DnsMessage, now: BootNs) -> Vec<Effect> {
        let Observed {
            outcome,
            forged,
            limited,
            evicted,
        } = self.names.observe(event);
        let limited = limited.map(|limit| repeat_n(Effect::Limited(limit), evicted));
        let mut effects = vec![Effect::Dns(outcome)];
        effects.extend(limited.into_iter().flatten());
        if let Some(name) = forged {
            let process = self.process_of(event.process);
            let cause = Cause::name_conflict(&process, &name, DnsOutcome::Forged.name());
            let details = || alert::details_of_forgery(&process, &event.resolver, &name);
            effects.extend(self.raise(Some(cause), details, now));
        }
        effects
    }

    pub(super) fn name_resolved(&mut self, event: &NameResolved) -> Vec<Effect> {
        let evicted = self.names.resolved(&event.name, event.ip, event.time);
        repeat_n(Effect::Limited(Limit::Names), evicted).collect()
    }

    pub(super) fn flow_opened(&mut self, event: &FlowOpened, now: BootNs) -> Vec<Effect> {
        self.notice_move(event, now);
        let mut effects = if event.hook == Hook::Connect {
            self.tell_waiting_of(event.cookie, now)
        } else {
            let same = self.waiting.take(event.cookie, event.remote);
            self.tell_as_they_are(same.as_slice(), now)
        };
        let process = self.process(event.process, event.uid, event.cgroup);
        let served = event.hook == Hook::Accepted;
        let flow = self.judge(event.process, process, event.remote, served, None, now);
        if self.may_say_more(event, &flow) {
            if self.waiting.push(event, now) {
                return effects;
            }
            effects.push(Effect::Limited(Limit::Waiting));
        }
        effects.extend(self.tell_opened(event, flow, now));
        effects
    }

    /// Whether what the client has yet to say could change what is to be told: there is no name
    /// that the process itself resolved, or the remote passes on what it is asked for.
    fn may_say_more(&self, event: &FlowOpened, flow: &JudgedFlow) -> bool {
        let remote = event.remote;
        let is_sampled = self.sampling
            && matches!(event.hook, Hook::Connect | Hook::Sendmsg)
            && matches!(remote.protocol, Protocol::Tcp | Protocol::Udp)
            && flow.process.tool.is_some() | !remote.addr.ip().is_loopback()
            && !self.names.trusts(remote.addr);
        let best = flow.names.first().map(|name| name.source);
        is_sampled
            && flow.judgement.about.is_none()
            && (best != Some(NameSource::DnsOwn) || self.is_proxy(&remote, &flow.names))
    }

    /// Tells an opening under what is known now.
    fn tell_opened(&mut self, event: &FlowOpened, flow: JudgedFlow, now: BootNs) -> Vec<Effect> {
        let flow = JudgedFlow {
            first: event.first,
            ..flow
        };
        // A member of a tool is watched from its start; a stranger, from when it gives cause.
        let member = flow.process.tool.as_deref();
        if member.is_none_or(Attribution::is_of_flow) && flow.judgement.matters() {
            self.watch(event.process);
        }
        let action = FlowAction::Opened { hook: event.hook };
        let mut effects = vec![self.report(flow.clone(), event.time, event.cookie, action)];
        effects.extend(self.alert_of_flow(&flow, now));
        effects.extend(self.alert_after_optout(&flow, now));
        effects.extend(self.note_contact(&flow));
        if self.bypasses_proxy(event, &flow) {
            let details = || alert::details_of_proxy_bypass(&flow);
            effects.extend(self.raise(Cause::proxy_bypass(&flow), details, now));
        }
        // The end is told of sockets that are connected to one remote. A packet that goes
        // elsewhere does not change which.
        if matches!(event.hook, Hook::Connect | Hook::Found) {
            let limited = self.flows.opened(event.cookie, flow, now);
            effects.extend(limited.map(Effect::Limited));
        }
        effects
    }

    /// Tells what waits of a socket, because it ends or goes elsewhere.
    pub(super) fn tell_waiting_of(&mut self, cookie: SocketCookie, now: BootNs) -> Vec<Effect> {
        let events = self.waiting.take_socket(cookie);
        self.tell_as_they_are(&events, now)
    }

    /// Tells what has waited long enough.
    pub(super) fn tell_overdue(&mut self, now: BootNs) -> Vec<Effect> {
        let events = self.waiting.overdue(now);
        self.tell_as_they_are(&events, now)
    }

    /// Tells all that waits.
    pub(super) fn tell_all_waiting(&mut self, now: BootNs) -> Vec<Effect> {
        let events = self.waiting.take_all();
        self.tell_as_they_are(&events, now)
    }

    fn tell_as_they_are(&mut self, events: &[FlowOpened], now: BootNs) -> Vec<Effect> {
        let mut effects = Vec::new();
        for event in events {
            effects.extend(self.tell_with(event, None, now));
        }
        effects
    }

    fn tell_with(&mut self, event: &FlowOpened, said: Option<&Said>, now: BootNs) -> Vec<Effect> {
        let process = self.process(event.process, event.uid, event.cgroup);
        let flow = self.judge(event.process, process, event.remote, false, said, now);
        self.tell_opened(event, flow, now)
    }

    pub(super) fn name_claimed(&mut self, event: NameClaimed, now: BootNs) -> Vec<Effect> {
        let mut effects = vec![Effect::Claimed(Box::new(event.claim.clone()))];
        if event.claim == Claim::Contradicted {
            return effects; // What is told follows.
        }
        let open = self.flows.get(event.cookie, &event.remote).cloned();
        let is_tunnel = open.as_ref().is_some_and(|flow| flow.target.is_some());
        let said = match &event.claim {
            // What is said to this host, or in a tunnel, names nobody at this address.
            Claim::Named(named) if !named.by.is_proxy() => {
                let here = event.remote.addr.ip().is_loopback();
                (!here && !is_tunnel).then(|| Said::new(&event, named))
            }
            Claim::Named(named) => Some(Said::new(&event, named)),
            _ => None,
        };
        if let Some(said) = &said {
            effects.extend(self.note_claim(&event, said, now));
        }
        if let Some(opened) = self.waiting.take(event.cookie, event.remote) {
            effects.extend(self.tell_with(&opened, said.as_ref(), now));
        } else if let (Some(told), Some(said)) = (open, said) {
            if let Some(hello) = &said.hello {
                let hello = Arc::clone(hello);
                self.flows.said(event.cookie, &event.remote, hello);
            }
            effects.extend(self.tell_if_worse(&event, &told, &said, now));
        }
        effects
    }

    /// Remembers a name that is claimed of an address, and looks whether it can be true.
    fn note_claim(&mut self, event: &NameClaimed, said: &Said, now: BootNs) -> Vec<Effect> {
        let (Some(name), None) = (&said.name, &said.target) else {
            return Vec::new();
        };
        let ip = event.remote.addr.ip();
        let evicted = self.names.claim(ip, name);
        let mut effects: Vec<_> = repeat_n(Effect::Limited(Limit::Claims), evicted).collect();
        let contradicted = self.names.contradicted(event.process, ip, &name.name, now);
        if let Some(backed) = contradicted.filter(|_| !said.ech) {
            let process = self.process_of(event.process);
            let cause = Cause::name_conflict(&process, &name.name, name.source.name());
            let details =
                || alert::details_of_name_conflict(&process, &event.remote, name, &backed);
            effects.extend(self.raise(Some(cause), details, now));
        }
        effects
    }

    /// A flow was told under a name that its process resolved. What it says now is no new flow, but
    /// may be cause for an alert.
    fn tell_if_worse(
        &mut self,
        event: &NameClaimed,
        told: &JudgedFlow,
        said: &Said,
        now: BootNs,
    ) -> Option<Effect> {
        let process = Arc::clone(&told.process);
        let flow = self.judge(event.process, process, event.remote, false, Some(said), now);
        if !flow.judgement.verdict.is_worse_than(told.judgement.verdict) {
            return None;
        }
        self.alert_of_flow(&flow, now)
    }

    /// A flow of `key`, of which the table knows `process`, to or (`served`) from `remote`, and
    /// what its client says of it.
    pub(super) fn judge(
        &self,
        key: ProcessKey,
        process: Arc<ProcessView>,
        remote: Endpoint,
        served: bool,
        said: Option<&Said>,
        now: BootNs,
    ) -> JudgedFlow {
        let ip = remote.addr.ip();
        let claim = said.and_then(|said| said.name.as_ref());
        let names = self.names_of(key, &process, ip, said, now);
        let process = match names.first() {
            Some(name) if !served => self.as_held(process, &name.name),
            _ => process,
        };
        let target = said.and_then(|said| said.target.clone());
        let vouched = target.is_some() && self.is_proxy(&remote, &names);
        let is_claim = |name: &NameEvidence| claim.is_some_and(|claim| claim.name == name.name);
        let own = names.iter().find(|name| name.source == NameSource::DnsOwn);
        let agrees = names
            .iter()
            .any(|name| is_claim(name) && name.source.is_backed());
        let judged = match said.and_then(|said| said.target_ip) {
            Some(ip) => Endpoint {
                addr: (ip, remote.addr.port()).into(),
                ..remote
            },
            None => remote,
        };
        let facts = FlowFacts {
            process: &process,
            exact: process.key == key,
            remote: judged,
            address: self.policy.addresses().origin(judged.addr.ip()),
            to_resolver: self.names.trusts(remote.addr),
            served,
            name: match said {
                Some(Said {
                    target_ip: Some(_), ..
                }) => None,
                _ => names.first(),
            },
            also: own.filter(|_| said.is_some() && !agrees && !vouched),
            vouched,
            wall_seconds: self.wall_seconds(now),
        };
        let judgement = self.policy.judge_flow(&self.catalog, &facts);
        let address = if judged == remote {
            facts.address
        } else {
            self.policy.addresses().origin(ip)
        };
        let via = if served || ip.is_loopback() {
            Vec::new()
        } else {
            self.clients_behind(&process, now)
        };
        JudgedFlow {
            process,
            remote,
            address,
            names,
            via,
            target,
            hello: said.and_then(|said| said.hello.clone()),
            judgement,
            first: false,
        }
    }

    /// The process as it is in a flow to `host`: an editor, say, is a tool in some.
    fn as_held(&self, process: Arc<ProcessView>, host: &str) -> Arc<ProcessView> {
        if process.tool.is_some() {
            return process;
        }
        let Some(tool) = attribute_flow(&self.catalog, &process.exe, host) else {
            return process;
        };
        Arc::new(ProcessView {
            tool: Some(Arc::new(tool)),
            ..ProcessView::clone(&process)
        })
    }

    /// What `key`, of which the table knows `process`, may mean by `ip`: best name first.
    pub(super) fn names_of(
        &self,
        key: ProcessKey,
        process: &ProcessView,
        ip: IpAddr,
        said: Option<&Said>,
        now: BootNs,
    ) -> Vec<NameEvidence> {
        let claim = said.and_then(|said| said.name.as_ref());
        let mut names = self.names.lookup(key, ip, claim, now);
        let hides = said.is_some_and(|said| said.ech);
        let is_own = |name: &NameEvidence| name.source == NameSource::DnsOwn;
        if hides && names.first().is_some_and(|name| !name.source.is_backed()) {
            // The name before an encrypted one is whoever relays: the process's own question says
            // more.
            if let Some(place) = names.iter().position(is_own) {
                names[..=place].rotate_right(1);
            }
        } else if claim.is_none() {
            policy::meant_first(&self.catalog, process, &mut names);
        }
        names.truncate(NAMES_MAX);
        names
    }

    /// Whether the operator named `remote`, known as `names`, as a proxy.
    fn is_proxy(&self, remote: &Endpoint, names: &[NameEvidence]) -> bool {
        let is_host = |proxy: &Target| match &proxy.host {
            Host::Address(ip) => *ip == remote.addr.ip(),
            Host::Name(name) => names
                .iter()
                .any(|known| known.source.is_backed() && *known.name == *name.as_str()),
        };
        let is_port = |proxy: &Target| proxy.port.is_none_or(|port| port == remote.addr.port());
        self.proxies
            .iter()
            .any(|proxy| is_host(proxy) && is_port(proxy))
    }

    /// Whether a tool goes outside without asking the proxy that it must ask.
    fn bypasses_proxy(&self, event: &FlowOpened, flow: &JudgedFlow) -> bool {
        let remote = event.remote;
        !self.proxies.is_empty()
            && flow.process.tool.is_some()
            && !matches!(event.hook, Hook::Accepted)
            && is_outside(remote.addr.ip())
            && !self.names.trusts(remote.addr)
            && !self.is_proxy(&remote, &flow.names)
    }

    /// A name counts as long as a flow is open under it.
    pub(super) fn keep_names_of_open_flows(&mut self, now: BootNs) {
        if now.since(self.names_kept) < KEEP_NAMES_EVERY {
            return;
        }
        self.names_kept = now;
        for flow in self.flows.iter() {
            if let Some(name) = flow.names.first() {
                self.names.keep(flow.remote.addr.ip(), name, now);
            }
        }
    }
}

/// Whether an address is beyond the company's own networks.
fn is_outside(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let is_shared = first == 100 && second & 0xc0 == 64; // RFC 6598.
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast()
                || is_shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || ip.is_multicast())
        }
    }
}

#[cfg(test)]
mod tests;
