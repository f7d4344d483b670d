//! Goes out of the host in one odd way: `evade ACT V4 V6 OTHER4 OTHER6 [MORE…]`.
//!
//! In: an act by name, and four addresses that belong to it alone, two of
//! IPv4 and two of IPv6. Out: packets, and on standard output what the runner must know:
//!
//! | line | meaning |
//! |---|---|
//! | `doer PID ADDRESS EXE` | this process reached the address; `-` for any address, or for this program |
//! | `opener PID` | this process opened the socket that another one used |
//! | `sent N`, `received N` | payload bytes, as the application counts them |
//! | `inode N` | the executable is this file |
//! | `ready` | the process waits for a line on standard input |
//! | `unsupported WHY` | this kernel has no such thing |
//! | `failed WHY` | it should have worked |
//!
//! `evade peer` is the other end of all that: it answers, counts, and reads the wire.
//!
//! Acts of a kind are in one file. This is the one program of the tests that needs `unsafe`: what
//! it does is what safe interfaces do not offer.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its output is its report to the runner"
)]

mod bulk;
mod disguise;
mod hand;
mod link;
mod load;
mod names;
mod peer;
mod place;
mod process;
mod raw;
mod rewrite;
mod sctp;
mod sys;
mod tcp;
mod udp;
mod uring;
mod xdp;

use std::env;
use std::net::SocketAddr;
use std::process::ExitCode;

use sys::Outcome;

/// Whereto an act goes.
#[derive(Clone)]
pub struct Target {
    /// An IPv4 address.
    pub v4: SocketAddr,
    /// An IPv6 address.
    pub v6: SocketAddr,
    /// Another IPv4 address.
    pub other4: SocketAddr,
    /// Another IPv6 address.
    pub other6: SocketAddr,
    /// Further arguments of this act.
    pub more: Vec<String>,
}

impl Target {
    /// A further argument.
    pub fn arg(&self, index: usize) -> Result<&str, String> {
        let arg = self.more.get(index).map(String::as_str);
        arg.ok_or_else(|| format!("argument {index} is missing"))
    }

    /// A further argument that is a number.
    pub fn number<T: std::str::FromStr>(&self, index: usize) -> Result<T, String> {
        let arg = self.arg(index)?;
        arg.parse().map_err(|_| format!("{arg} is no number"))
    }

    /// The arguments to do another act with the same addresses.
    pub fn argv(&self, act: &str) -> Vec<String> {
        let addresses = [self.v4, self.v6, self.other4, self.other6];
        let mut argv = vec!["evade".to_owned(), act.to_owned()];
        argv.extend(addresses.iter().map(ToString::to_string));
        argv
    }
}

/// One way out.
pub type Act = fn(&Target) -> Outcome;

/// All acts by name.
fn find(name: &str) -> Option<Act> {
    let families: [&[(&str, Act)]; 14] = [
        tcp::ACTS,
        udp::ACTS,
        sctp::ACTS,
        uring::ACTS,
        raw::ACTS,
        link::ACTS,
        bulk::ACTS,
        process::ACTS,
        names::ACTS,
        disguise::ACTS,
        hand::ACTS,
        place::ACTS,
        rewrite::ACTS,
        load::ACTS,
    ];
    let mut acts = families.into_iter().flatten();
    acts.find(|(known, _)| *known == name).map(|(_, act)| *act)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            sys::say(&format!("failed {error}"));
            eprintln!("evade: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let args: Vec<String> = env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    // As an interpreter, it is given the script's path first; the script's arguments follow.
    let skip = 1 + usize::from(args.get(1).is_some_and(|arg| arg.starts_with('/')));
    let mut args = args.into_iter().skip(skip);
    let name = args.next().ok_or("which act?")?;
    if name == "peer" {
        return peer::run();
    }
    let act = find(&name).ok_or_else(|| format!("no act {name}"))?;
    let mut address = || -> Result<SocketAddr, Box<dyn std::error::Error + Send + Sync>> {
        Ok(args.next().ok_or("an address is missing")?.parse()?)
    };
    let (v4, v6, other4, other6) = (address()?, address()?, address()?, address()?);
    act(&Target {
        v4,
        v6,
        other4,
        other6,
        more: args.collect(),
    })
}
