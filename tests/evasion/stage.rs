//! Plays cases: starts the acts, looks at the wire, and waits until Telltale has said its part.
//!
//! In: a network, a program that acts, a monitor. Out: [`Played`].

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use monitor_tests::running::Running;
use monitor_tests::wait;

use crate::cases::{Case, How, Reach};
use crate::network::{Addresses, HOST, Namespace, Network};
use crate::peer::{Peer, Wire};
use crate::score::{Played, Told};

/// Inside the tunnel: the address of its other end.
pub const INSIDE: &str = "198.51.100.2";
/// The port that everything goes to.
const PORT: u16 = 443;
/// An act's whole life, under emulation.
const LIFE: Duration = Duration::from_secs(180);
/// What has left is at the peer by then.
const ARRIVAL: Duration = Duration::from_secs(5);

/// Where cases are played.
pub struct Stage {
    /// The network.
    pub network: Network,
    /// Its other end.
    pub peer: Peer,
    /// The program that acts.
    pub evade: PathBuf,
    /// Where every case has a folder of its own.
    pub dir: PathBuf,
}

/// An act that is under way.
pub struct Acting {
    case: &'static Case,
    addresses: [IpAddr; 4],
    process: Option<Running>,
    broken: Option<String>,
    unsupported: Option<String>,
}

impl Stage {
    /// Starts the act of a case. `number` is in its addresses.
    pub fn start(&mut self, number: usize, case: &'static Case) -> Acting {
        let addresses = Addresses::of(number).all();
        let mut acting = Acting {
            case,
            addresses,
            process: None,
            broken: None,
            unsupported: None,
        };
        if let Err(why) = self.prepare(case, addresses) {
            acting.unsupported = Some(why);
            return acting;
        }
        if case.how != How::Pinged {
            acting.process = Some(self.act(case, addresses, &format!("{number}-{}", case.name)));
        }
        acting
    }

    /// Starts the program.
    fn act(&self, case: &Case, addresses: [IpAddr; 4], label: &str) -> Running {
        let dir = self.dir.join(label);
        fs::create_dir_all(&dir).expect("a folder");
        // Acts give up root, too.
        fs::set_permissions(&dir, Permissions::from_mode(0o777)).expect("its permissions");
        let mut command = Command::new(&self.evade);
        command.current_dir(&dir).arg(case.act);
        let [_, v6, other4, other6] = addresses.map(|address| (address, PORT).into());
        let first: std::net::SocketAddr = (first_address(case, addresses), PORT).into();
        command.args([first, v6, other4, other6].map(|it| it.to_string()));
        let other = self.network.other.path();
        for arg in case.args {
            command.arg(arg.replace("{other}", &other.display().to_string()));
        }
        self.network
            .host
            .enter(|| Running::start(label, &self.dir, command))
    }

    /// What the case needs beside its act.
    fn prepare(&self, case: &Case, addresses: [IpAddr; 4]) -> Result<(), String> {
        let Network { host, peer, .. } = &self.network;
        let [v4, _, other4, _] = addresses;
        match case.how {
            How::Translated => translate(host, v4, other4),
            How::Tunnelled => tunnel(host, v4),
            How::Announced => {
                let announced = peer.ip_if_it_can(&format!("mptcp endpoint add {other4} signal"));
                announced.then_some(()).ok_or_else(|| "ip mptcp".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Removes what [`Stage::prepare`] has made.
    fn tidy(&self, case: &Case) {
        let Network { host, peer, .. } = &self.network;
        match case.how {
            How::Translated => drop(nft(host, "delete table ip evade")),
            How::Tunnelled => drop(host.ip_if_it_can("link del tunnel0")),
            How::Announced => drop(peer.ip_if_it_can("mptcp endpoint flush")),
            _ => {}
        }
    }

    /// Sees an act through to its end, and looks at the wire.
    pub fn finish(&mut self, mut acting: Acting) -> Played {
        if acting.unsupported.is_none() {
            self.see_through(&mut acting);
        }
        let case = acting.case;
        let output = acting.process.as_ref().map(Running::stdout);
        let mut told = Told::parse(&output.unwrap_or_default());
        told.unsupported = acting.unsupported.or(told.unsupported);
        let mut addresses = acting.addresses.to_vec();
        addresses.extend(case.reach.iter().filter_map(|reach| match reach {
            Reach::Fixed(address) => address.parse::<IpAddr>().ok(),
            _ => None,
        }));
        let wanted: Vec<IpAddr> = case
            .reach
            .iter()
            .map(|reach| address_of(*reach, acting.addresses))
            .collect();
        let wire = if told.unsupported.is_some() {
            Wire::default()
        } else {
            self.wait_for_arrival(&wanted, told.bytes.is_some())
        };
        // A child that outlives the process that was started may have said more by now.
        if let Some(process) = &acting.process {
            let unsupported = told.unsupported.take();
            told = Told::parse(&process.stdout());
            told.unsupported = unsupported.or(told.unsupported);
        }
        let missing = wanted.iter().find(|it| wire.to(&[**it]).next().is_none());
        let nothing = missing.map(|it| format!("nothing arrived at {it}"));
        let broken = acting.broken.or_else(|| told.failed.clone()).or(nothing);
        self.tidy(case);
        Played {
            case,
            started: acting.process.as_ref().map_or(0, Running::pid),
            broken: broken.filter(|_| told.unsupported.is_none()),
            told,
            wire: packets(&wire, &addresses),
            peer_bytes: wire.bytes.get(&addresses[0]).copied().unwrap_or_default(),
        }
    }

    /// Waits for the end of the act, calling it if it waits to be called.
    fn see_through(&mut self, acting: &mut Acting) {
        let [v4, _, other4, _] = acting.addresses;
        if acting.case.how == How::Pinged {
            self.peer.ping(v4, HOST);
            return;
        }
        let Some(process) = &mut acting.process else {
            return;
        };
        match acting.case.how {
            How::Called(port) | How::OlderCalled(port) => {
                if !wait_until_ready(process) {
                    acting.broken = Some(format!("it is not ready: {}", process.describe()));
                    return;
                }
                // Who is called back first was connected to first.
                let has_two = acting.case.reach.len() > 1;
                let first = if acting.case.name == "accepted-after-connect" {
                    other4
                } else {
                    v4
                };
                self.peer.call(first, &format!("{HOST}:{port}"));
                if has_two && first == v4 {
                    self.peer.call(other4, &format!("{HOST}:{port}"));
                }
            }
            How::Older => process.say("go on"),
            _ => {}
        }
        if wait::try_until(LIFE, || process.status()).is_none() {
            acting.broken = Some(format!("{} does not end", process.describe()));
        } else if process.status().is_some_and(|status| !status.success()) {
            acting.broken = Some(process.describe());
        }
    }

    /// Looks at the wire until something went to each address, and, where bytes matter, until
    /// their number stands still.
    fn wait_for_arrival(&mut self, wanted: &[IpAddr], bytes_matter: bool) -> Wire {
        let mut last = self.peer.report();
        let complete = |wire: &Wire| wanted.iter().all(|it| wire.to(&[*it]).next().is_some());
        // In vain: the caller sees what is missing.
        let _ = wait::try_until(ARRIVAL, || {
            let now = self.peer.report();
            let stands = !bytes_matter || now.bytes == last.bytes;
            last = now;
            (stands && complete(&last)).then_some(())
        });
        last
    }
}

/// Waits until an act is ready to go on.
pub fn wait_until_ready(process: &mut Running) -> bool {
    let ready = wait::try_until(ARRIVAL, || {
        let ready = process.stdout().lines().any(|line| line == "ready");
        (ready || process.status().is_some()).then_some(ready)
    });
    ready == Some(true)
}

impl Acting {
    /// Waits until it is ready to go on.
    pub fn wait_until_ready(&mut self) {
        if let Some(process) = &mut self.process
            && !wait_until_ready(process)
            && !process.stdout().contains("unsupported")
        {
            self.broken = Some(format!("it is not ready: {}", process.describe()));
        }
    }
}

fn packets(wire: &Wire, addresses: &[IpAddr]) -> BTreeMap<crate::peer::Destination, u64> {
    let to = wire.to(addresses);
    to.map(|it| (it, wire.packets.get(&it).copied().unwrap_or_default()))
        .collect()
}

/// What the act takes for its IPv4 address.
fn first_address(case: &Case, addresses: [IpAddr; 4]) -> IpAddr {
    match (case.how, case.reach) {
        (How::Tunnelled, _) => INSIDE.parse().expect("an address"),
        (_, [Reach::Fixed(address), ..]) => address.parse().expect("an address"),
        _ => addresses[0],
    }
}

fn address_of(reach: Reach, [v4, v6, other4, other6]: [IpAddr; 4]) -> IpAddr {
    match reach {
        Reach::V4 => v4,
        Reach::V6 => v6,
        Reach::Other4 => other4,
        Reach::Other6 => other6,
        Reach::Fixed(address) => address.parse().expect("an address"),
    }
}

/// From now on packets to one address go to another.
fn translate(host: &Namespace, from: IpAddr, to: IpAddr) -> Result<(), String> {
    let rules = format!(
        "table ip evade {{ chain out {{ type nat hook output priority -100; \
         ip daddr {from} dnat to {to}; }}; }}"
    );
    nft(host, &rules)
}

/// Gives nft a script.
fn nft(host: &Namespace, script: &str) -> Result<(), String> {
    let mut command = Command::new("nft");
    command.arg(script).stdin(Stdio::null());
    let output = host.enter(|| command.output());
    let output = output.map_err(|_| "nft is not installed".to_owned())?;
    let error = String::from_utf8_lossy(&output.stderr);
    let first = error.lines().next().unwrap_or_default().to_owned();
    output.status.success().then_some(()).ok_or(first)
}

/// A tunnel to an address, with [`INSIDE`] at its other end.
fn tunnel(host: &Namespace, to: IpAddr) -> Result<(), String> {
    let add = format!("link add tunnel0 type vxlan id 7 remote {to} dstport 4789");
    if !host.ip_if_it_can(&add) {
        return Err("vxlan".to_owned());
    }
    host.ip("addr add 198.51.100.1/24 dev tunnel0");
    host.ip("link set tunnel0 up");
    host.ip(&format!(
        "neigh add {INSIDE} lladdr 02:00:00:00:00:09 dev tunnel0"
    ));
    Ok(())
}
