//! Judges a case by what the wire shows and what Telltale says, and by nothing else.
//!
//! In: what was played, and the event log. Out: the verdict that Telltale got, and its faults.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use monitor_tests::event::Event;
use serde_json::Value;

use crate::cases::{Also, Case, Owed};
use crate::log::Log;
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
    /// What is owed on this kernel.
    pub owed: Owed,
    /// The least over all destinations.
    pub got: Got,
    /// Wrong or missing words.
    pub faults: Vec<String>,
}

impl Judged {
    /// Whether Telltale paid what it owed.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.got >= Got::Said(self.owed) && self.faults.is_empty()
    }
}

/// Whether Telltale says, in its metrics, that this kernel lacks what settles the case.
#[must_use]
pub fn is_missing(case: &Case, gaps: &str) -> bool {
    case.needs
        .is_some_and(|program| gaps.contains(&format!("\"feature_missing:{program}\"")))
}

/// Everything that a judgement rests on.
pub struct Bench<'a> {
    /// What Telltale has said.
    pub log: &'a Log,
    /// The program that plays the acts.
    pub evade: &'a Path,
    /// docs/coverage.md.
    pub coverage: &'a str,
    /// What Telltale itself says that it cannot see on this kernel, as metrics.
    pub gaps: &'a str,
}

impl Bench<'_> {
    /// The verdict.
    #[must_use]
    pub fn judge(&self, played: &Played) -> Judged {
        let said = played.wire.keys().map(|it| self.said_of(played, it)).min();
        let got = said.unwrap_or_else(|| self.said_without_wire(played));
        let missing = is_missing(played.case, self.gaps);
        let declared = played
            .case
            .declared
            .is_some_and(|word| self.coverage.to_lowercase().contains(word));
        let got = match got {
            Got::Silent if declared || missing => Got::Said(Owed::Declared),
            got => got,
        };
        let mut faults: Vec<String> = self.strangers(played).into_iter().collect();
        if !missing {
            faults.extend(self.unnamed(played));
        }
        faults.extend(self.false_redirections(played));
        for also in played.case.also {
            faults.extend(self.also(played, *also));
        }
        let owed = if missing {
            Owed::Declared
        } else {
            played.case.owed
        };
        Judged { owed, got, faults }
    }

    /// Events that name a destination.
    fn about(&self, destination: &Destination) -> impl Iterator<Item = &Event> {
        let (protocol, port) = (destination.protocol, destination.port);
        let events = self.log.about(destination.address).iter();
        events.filter(move |event| {
            // Port 0: any port of a remote that connected to this host.
            protocol_fits(event, protocol)
                && [0, u64::from(port)].contains(&number(event, "destination.port"))
        })
    }

    /// Pids and executables that are named for a destination.
    fn named(&self, destination: &Destination) -> BTreeSet<(u32, &str)> {
        let about = self.about(destination);
        let pairs = about.map(|event| {
            let pid = event.pid().unwrap_or_default();
            (pid, event.text("process.executable"))
        });
        pairs.collect()
    }

    fn said_of(&self, played: &Played, destination: &Destination) -> Got {
        let named = self.named(destination);
        let is_named = |role: &Role| self.is_named(&named, role);
        let doers = doers(played, destination);
        let openers = roles_at(&played.told.openers, destination.address);
        if !doers.is_empty() && doers.iter().all(is_named) {
            Got::Said(Owed::Attributed)
        } else if !openers.is_empty() && openers.iter().all(is_named) {
            Got::Said(Owed::Opener)
        } else if !named.is_empty() || self.sees_socket(played) {
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
        let mut others = self.log.others().iter();
        others.any(|event| event.action() == "socket-opened" && event.pid() == Some(played.started))
    }

    /// Whether a process and its executable are among those that are named.
    fn is_named(&self, named: &BTreeSet<(u32, &str)>, role: &Role) -> bool {
        let mut of_pid = named
            .range((role.pid, "")..)
            .take_while(|(pid, _)| *pid == role.pid);
        of_pid.any(|(_, exe)| match role.exe.as_str() {
            "-" => Path::new(exe) == self.evade,
            "?" => true,
            other => match other.strip_prefix('*') {
                Some(end) => exe.ends_with(end),
                None => *exe == other,
            },
        })
    }

    /// Processes that have nothing to do with it, but are said to.
    fn strangers(&self, played: &Played) -> Option<String> {
        let told = &played.told;
        let roles = told.doers.iter().chain(&told.openers).chain(&told.others);
        let mut known: BTreeSet<u32> = roles.map(|role| role.pid).collect();
        known.extend([played.started, 0]);
        let named = played.wire.keys().flat_map(|it| self.named(it));
        let mut strangers = named.filter(|(pid, exe)| !exe.is_empty() && !known.contains(pid));
        let (pid, exe) = strangers.next()?;
        let others = strangers.count();
        Some(format!("said to be of {pid} {exe} and {others} others"))
    }

    /// Doers that no event about their destination names, where all are owed.
    fn unnamed(&self, played: &Played) -> Option<String> {
        let mut unnamed = Vec::new();
        for destination in played.wire.keys() {
            let named = self.named(destination);
            let doers = roles_at(&played.told.doers, destination.address);
            let doers = doers.into_iter().filter(|it| !self.is_named(&named, it));
            unnamed.extend(doers.map(|doer| {
                let told = named.iter().filter(|(pid, _)| *pid == doer.pid);
                let told: Vec<&str> = told.map(|(_, exe)| *exe).collect();
                format!("{}, told as {told:?},", doer.pid)
            }));
        }
        let first = unnamed.first()?;
        let others = unnamed.len() - 1;
        Some(format!("{first} and {others} others are not named"))
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
                    let about = client.address.map(|it| self.log.about(it));
                    let mut about = about.unwrap_or_default().iter();
                    about.any(|event| holds(event.get("telltale.via"), client.pid))
                };
                let missing = played.told.clients.iter().find(|client| !named(client))?;
                Some(format!("client {} is not named", missing.pid))
            }
            Also::Bytes => self.bytes(played, 0),
            Also::BytesAndRepeats => self.bytes(played, 8),
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
                let inside = crate::stage::INSIDE.parse().expect("an address");
                let mut about = self.log.about(inside).iter();
                let found = about.any(|event| event.pid() == Some(played.started));
                (!found).then(|| "the packets inside are not told".to_owned())
            }
        }
    }

    /// The end of the connection says as many bytes as both ends counted or, where `repeats` is not
    /// 0, up to that part of them more.
    fn bytes(&self, played: &Played, repeats: u64) -> Option<String> {
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
        let most = |bytes: u64| bytes + bytes.checked_div(repeats).unwrap_or(0);
        let fits = |told: u64, counted| (counted..=most(counted)).contains(&told);
        let right = fits(told.received, counted.received) && fits(told.sent, counted.sent);
        (!right).then(|| {
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

/// Who reached the destination: the process that was started, unless the act says otherwise.
fn doers(played: &Played, destination: &Destination) -> Vec<Role> {
    let doers = roles_at(&played.told.doers, destination.address);
    if doers.is_empty() && played.started != 0 && played.told.openers.is_empty() {
        return vec![own(played.started)];
    }
    doers
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
        let doers = doers(played, destination);
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
