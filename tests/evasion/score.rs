//! Judges a case by what the wire shows and what Telltale says, and by nothing else.
//!
//! In: what was played, and the event log. Out: the verdict that Telltale got, and its faults.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use monitor_tests::event::Event;
use serde_json::Value;

use crate::cases::{Also, Case, Owed};
use crate::peer::{Bytes, Destination};
use crate::tracer::Call;

/// What the act said of itself.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Who reached an address, and with which executable.
    pub doers: Vec<Role>,
    /// Who opened the socket.
    pub openers: Vec<Role>,
    /// Who else had to do with it: users of others' sockets, clients of proxies.
    pub others: Vec<Role>,
    /// Clients of a proxy, a part of the others.
    pub clients: Vec<Role>,
    /// Payload, as the application counts it.
    pub bytes: Option<Bytes>,
    /// Inode number of the executable.
    pub inode: Option<String>,
    /// This kernel cannot do it.
    pub unsupported: Option<String>,
    /// It should have worked, and did not.
    pub failed: Option<String>,
}

/// A process and an address.
#[derive(Clone, Debug)]
pub struct Role {
    /// Which process.
    pub pid: u32,
    /// Which address; any if `None`.
    pub address: Option<IpAddr>,
    /// Executable: `-` for the act's own, `?` for any, `*` before the end of a path.
    pub exe: String,
}

impl Told {
    /// Reads the act's output.
    #[must_use]
    pub fn parse(output: &str) -> Told {
        let mut told = Told::default();
        let (mut sent, mut received) = (None, None);
        for line in output.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "doer" => told.doers.extend(role(rest)),
                "opener" => told.openers.extend(role(rest)),
                "user" => told.others.extend(role(rest)),
                "client" => {
                    told.others.extend(role(rest));
                    told.clients.extend(role(rest));
                }
                "sent" => sent = rest.parse().ok(),
                "received" => received = rest.parse().ok(),
                "inode" => told.inode = Some(rest.to_owned()),
                "unsupported" => told.unsupported = Some(rest.to_owned()),
                "failed" => told.failed = Some(rest.to_owned()),
                _ => {}
            }
        }
        // As the peer sees it: what one end sends the other receives.
        told.bytes = sent
            .zip(received)
            .map(|(received, sent)| Bytes { received, sent });
        told
    }
}

fn role(rest: &str) -> Option<Role> {
    let mut words = rest.splitn(3, ' ');
    Some(Role {
        pid: words.next()?.parse().ok()?,
        address: words.next()?.parse().ok(),
        exe: words.next()?.to_owned(),
    })
}

/// What was played.
#[derive(Clone, Debug)]
pub struct Played {
    /// The case.
    pub case: &'static Case,
    /// The process that was started; 0 if none was.
    pub started: u32,
    /// What it said.
    pub told: Told,
    /// Where packets arrived, and how many.
    pub wire: BTreeMap<Destination, u64>,
    /// Payload that the peer's sockets counted.
    pub peer_bytes: Bytes,
    /// What went wrong with the case itself, not with Telltale.
    pub broken: Option<String>,
}

/// What Telltale got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Got {
    /// It said nothing at all.
    Silent,
    /// As much as was owed at least.
    Said(Owed),
}

impl Got {
    /// In the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Got::Silent => "SILENT",
            Got::Said(owed) => owed.name(),
        }
    }
}

/// A verdict, and what is wrong in spite of it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The least over all destinations.
    pub got: Got,
    /// Wrong or missing words.
    pub faults: Vec<String>,
}

impl Judged {
    /// Whether Telltale paid what it owed.
    #[must_use]
    pub fn passes(&self, case: &Case) -> bool {
        self.got >= Got::Said(case.owed) && self.faults.is_empty()
    }
}

/// Everything that a judgement rests on.
pub struct Bench<'a> {
    /// Events of the case's time.
    pub events: &'a [Event],
    /// The program that plays the acts.
    pub evade: &'a Path,
    /// docs/coverage.md.
    pub coverage: &'a str,
}

impl Bench<'_> {
    /// The verdict.
    #[must_use]
    pub fn judge(&self, played: &Played) -> Judged {
        let destinations: Vec<&Destination> = played.wire.keys().collect();
        let said = destinations
            .iter()
            .map(|destination| self.said_of(played, destination))
            .min();
        let got = said.unwrap_or_else(|| self.said_without_wire(played));
        let declared = played
            .case
            .declared
            .is_some_and(|word| self.coverage.to_lowercase().contains(word));
        let got = match got {
            Got::Silent if declared => Got::Said(Owed::Declared),
            got => got,
        };
        let mut faults = self.strangers(played);
        faults.extend(self.false_redirections(played));
        for also in played.case.also {
            faults.extend(self.also(played, *also));
        }
        Judged { got, faults }
    }

    /// Events that name a destination.
    fn about(&self, destination: &Destination) -> impl Iterator<Item = &Event> {
        let (address, port) = (destination.address.to_string(), destination.port);
        let protocol = destination.protocol;
        self.events.iter().filter(move |event| {
            event.text("destination.ip") == address
                && protocol_fits(event, protocol)
                // Port 0: any port of a remote that connected to this host.
                && [0, u64::from(port)].contains(&number(event, "destination.port"))
        })
    }

    fn said_of(&self, played: &Played, destination: &Destination) -> Got {
        let names = |role: &Role| self.about(destination).any(|event| self.names(event, role));
        let doers = roles_at(&played.told.doers, destination.address);
        let doers = if doers.is_empty() && played.started != 0 && played.told.openers.is_empty() {
            vec![own(played.started)]
        } else {
            doers
        };
        let openers = roles_at(&played.told.openers, destination.address);
        if !doers.is_empty() && doers.iter().all(names) {
            Got::Said(Owed::Attributed)
        } else if !openers.is_empty() && openers.iter().all(names) {
            Got::Said(Owed::Opener)
        } else if self.about(destination).next().is_some() || self.sees_socket(played) {
            Got::Said(Owed::Seen)
        } else {
            Got::Silent
        }
    }

    /// For a case of which nothing is on the wire.
    fn said_without_wire(&self, played: &Played) -> Got {
        if self.sees_socket(played) {
            Got::Said(Owed::Seen)
        } else {
            Got::Silent
        }
    }

    /// A socket that can send unasked is reported, with the process that has it.
    fn sees_socket(&self, played: &Played) -> bool {
        self.events
            .iter()
            .any(|event| event.action() == "socket-opened" && event.pid() == Some(played.started))
    }

    /// Whether an event names a process and its executable.
    fn names(&self, event: &Event, role: &Role) -> bool {
        let exe = event.text("process.executable");
        let is_it = match role.exe.as_str() {
            "-" => Path::new(exe) == self.evade,
            "?" => true,
            other => match other.strip_prefix('*') {
                Some(end) => exe.ends_with(end),
                None => exe == other,
            },
        };
        event.pid() == Some(role.pid) && is_it
    }

    /// Processes that have nothing to do with it, but are said to.
    fn strangers(&self, played: &Played) -> Vec<String> {
        let told = &played.told;
        let roles = told.doers.iter().chain(&told.openers).chain(&told.others);
        let mut known: Vec<u32> = roles.map(|role| role.pid).collect();
        known.extend([played.started, 0]);
        let about = |destination| self.about(destination);
        let mut strangers: Vec<String> = played
            .wire
            .keys()
            .flat_map(about)
            .filter(|event| !event.text("process.executable").is_empty())
            .filter(|event| !event.pid().is_some_and(|pid| known.contains(&pid)))
            .map(|event| format!("said to be {}", who(event)))
            .collect();
        strangers.dedup();
        strangers.truncate(3);
        strangers
    }

    /// A redirection is told where there is none.
    fn false_redirections(&self, played: &Played) -> Option<String> {
        const REDIRECTED: &str = "connection-redirected";
        if played.case.also.contains(&Also::Action(REDIRECTED)) {
            return None;
        }
        let mut about = played.wire.keys().flat_map(|it| self.about(it));
        let event = about.find(|event| event.action() == REDIRECTED)?;
        let asked = event.text("telltale.flow.asked.ip");
        Some(format!("a redirection from {asked} is told, falsely"))
    }

    fn also(&self, played: &Played, also: Also) -> Option<String> {
        let about = || played.wire.keys().flat_map(|it| self.about(it));
        match also {
            Also::Field(field, expect) => {
                let found = about().any(|event| is(event.get(field), expect));
                (!found).then(|| format!("{field} is not {expect}"))
            }
            Also::Action(action) => {
                let found = about().any(|event| event.action() == action);
                (!found).then(|| format!("no {action}"))
            }
            Also::Via => {
                let named = |client: &Role| {
                    self.events.iter().any(|event| {
                        let address = event.text("destination.ip").parse().ok();
                        client.address == address && holds(event.get("telltale.via"), client.pid)
                    })
                };
                let missing = played.told.clients.iter().find(|client| !named(client))?;
                Some(format!("client {} is not named", missing.pid))
            }
            Also::Bytes => self.bytes(played),
            Also::Count => played.wire.iter().find_map(|(destination, packets)| {
                let opened = self.about(destination).filter(|event| {
                    event.action() == "connection-opened" && event.pid() == Some(played.started)
                });
                let opened = opened.count() as u64;
                let address = destination.address;
                (opened != *packets).then(|| format!("{opened} of {packets} told to {address}"))
            }),
            Also::Inode => {
                let inode = played.told.inode.as_deref().unwrap_or("-");
                let found =
                    about().any(|event| is(event.get("telltale.process.file.inode"), inode));
                (!found).then(|| format!("its file is not inode {inode}"))
            }
            Also::Inner => {
                let inner = |event: &Event| {
                    event.text("destination.ip") == crate::stage::INSIDE
                        && event.pid() == Some(played.started)
                };
                let found = self.events.iter().any(inner);
                (!found).then(|| "the packets inside are not told".to_owned())
            }
        }
    }

    /// The end of the connection says as many bytes as both ends counted.
    fn bytes(&self, played: &Played) -> Option<String> {
        let counted = played.told.bytes?;
        if played.peer_bytes != counted {
            return Some(format!(
                "peer {:?}, application {counted:?}",
                played.peer_bytes
            ));
        }
        let ended = played
            .wire
            .keys()
            .flat_map(|it| self.about(it))
            .find(|event| event.action() == "connection-closed");
        let Some(ended) = ended else {
            return Some("no connection-closed".to_owned());
        };
        let told = Bytes {
            received: number(ended, "source.bytes"),
            sent: number(ended, "destination.bytes"),
        };
        (told != counted).then(|| {
            format!(
                "told {}/{} bytes, are {}/{}",
                told.received, told.sent, counted.received, counted.sent
            )
        })
    }
}

fn own(pid: u32) -> Role {
    Role {
        pid,
        address: None,
        exe: "-".to_owned(),
    }
}

fn roles_at(roles: &[Role], address: IpAddr) -> Vec<Role> {
    let fits = |role: &&Role| role.address.is_none_or(|it| it == address);
    roles.iter().filter(fits).cloned().collect()
}

fn number(event: &Event, field: &str) -> u64 {
    event.get(field).as_u64().unwrap_or_default()
}

/// A Multipath TCP socket speaks TCP on the wire.
fn protocol_fits(event: &Event, protocol: u8) -> bool {
    const TCP: u8 = 6;
    let said = event.text("network.iana_number");
    said == protocol.to_string() || (protocol == TCP && said == "262")
}

fn is(value: &Value, expect: &str) -> bool {
    match value {
        Value::String(text) => text == expect,
        // A number.
        other => format!("{other}") == expect,
    }
}

/// Whether a value holds a pid, at any depth.
fn holds(value: &Value, pid: u32) -> bool {
    match value {
        Value::Number(number) => number.as_u64() == Some(u64::from(pid)),
        Value::Array(list) => list.iter().any(|it| holds(it, pid)),
        Value::Object(fields) => fields.values().any(|it| holds(it, pid)),
        _ => false,
    }
}

fn who(event: &Event) -> String {
    format!(
        "pid {} {}",
        event.pid().unwrap_or_default(),
        event.text("process.executable")
    )
}

/// What the tracer of `connect` calls would have got.
#[must_use]
pub fn judge_tracer(played: &Played, calls: &[Call]) -> Got {
    let said = played.wire.keys().map(|destination| {
        let to_it = || {
            calls
                .iter()
                .filter(|call| call.address == destination.address)
        };
        let names = |role: &Role| to_it().any(|call| call.pid == role.pid);
        let mut doers = roles_at(&played.told.doers, destination.address);
        if doers.is_empty() && played.told.openers.is_empty() {
            doers.push(own(played.started));
        }
        let openers = roles_at(&played.told.openers, destination.address);
        if !doers.is_empty() && doers.iter().all(names) {
            Got::Said(Owed::Attributed)
        } else if !openers.is_empty() && openers.iter().all(names) {
            Got::Said(Owed::Opener)
        } else if to_it().next().is_some() {
            Got::Said(Owed::Seen)
        } else {
            Got::Silent
        }
    });
    said.min().unwrap_or(Got::Silent)
}
