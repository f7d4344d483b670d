//! Plays an AI tool, or a child of one: it does on the network what its arguments say.
//!
//! In: words, done from left to right.
//!
//! | words | what happens |
//! |---|---|
//! | `connect HOST:PORT` | TCP: resolve, connect, say hello, read to the end |
//! | `connect-fails HOST:PORT` | the same, but it must fail |
//! | `hold HOST:PORT` | connect, and keep it open until the process ends |
//! | `datagram HOST:PORT` | UDP: `sendto` on a socket that is not connected |
//! | `udp-connect HOST:PORT` | UDP: `connect`, then `send` |
//! | `burst N ADDR[,ADDR…]` | connect and close N times, to the addresses in turn |
//! | `wait` | print `waiting`, then wait for a line on standard input |
//! | `thread NAME …` | do the rest in a thread of this name |
//! | `number N` | nothing: it only tells processes apart |
//! | `run PROGRAM ARGS…` | start the rest as a child, and wait for its success |
//! | `each N PROGRAM ARGS…` | start the rest N times, one after the other, with the number added |
//!
//! Out: one line per connection, and exit status 0 if all went as the words say.

#![allow(clippy::print_stdout, reason = "its output is its report to the test")]

use std::collections::VecDeque;
use std::env;
use std::error::Error;
use std::io::{Read, Write, stdin};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Connecting, and each read.
const TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> Outcome {
    let mut player = Player {
        words: env::args().skip(1).collect(),
        held: Vec::new(),
    };
    player.play()
}

struct Player {
    words: VecDeque<String>,
    held: Vec<TcpStream>,
}

impl Player {
    fn play(&mut self) -> Outcome {
        while let Some(word) = self.words.pop_front() {
            match word.as_str() {
                "connect" => connect(&self.next()?)?,
                "connect-fails" => connect_fails(&self.next()?)?,
                "hold" => self.hold()?,
                "datagram" => datagram(&self.next()?)?,
                "udp-connect" => udp_connect(&self.next()?)?,
                "burst" => burst(self.next()?.parse()?, &self.next()?)?,
                "wait" => wait()?,
                "thread" => self.in_thread()?,
                "number" => drop(self.next()?),
                "run" => run(&self.rest())?,
                "each" => self.each()?,
                other => return Err(format!("unknown word {other}").into()),
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<String, String> {
        self.words
            .pop_front()
            .ok_or_else(|| "a word is missing at the end".to_owned())
    }

    fn rest(&mut self) -> Vec<String> {
        self.words.drain(..).collect()
    }

    fn hold(&mut self) -> Outcome {
        let stream = open(&self.next()?)?;
        self.held.push(stream);
        Ok(())
    }

    fn in_thread(&mut self) -> Outcome {
        let name = self.next()?;
        let mut player = Player {
            words: self.rest().into(),
            held: Vec::new(),
        };
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || player.play())?;
        thread.join().map_err(|_| "the thread panicked")?
    }

    fn each(&mut self) -> Outcome {
        let count: u32 = self.next()?.parse()?;
        let command = self.rest();
        for number in 0..count {
            run(&[command.as_slice(), &[number.to_string()]].concat())?;
        }
        Ok(())
    }
}

fn resolve(address: &str) -> Result<SocketAddr, Box<dyn Error + Send + Sync>> {
    let found = address.to_socket_addrs()?.next();
    Ok(found.ok_or_else(|| format!("{address} has no address"))?)
}

fn open(address: &str) -> Result<TcpStream, Box<dyn Error + Send + Sync>> {
    let remote = resolve(address)?;
    let stream = TcpStream::connect_timeout(&remote, TIMEOUT)
        .map_err(|error| format!("connect {address} ({remote}): {error}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    println!("connected {remote}");
    Ok(stream)
}

fn connect(address: &str) -> Outcome {
    let mut stream = open(address)?;
    stream.write_all(b"hello\n")?;
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn connect_fails(address: &str) -> Outcome {
    match open(address) {
        Ok(_) => Err(format!("{address} could be reached").into()),
        Err(error) => {
            println!("failed {error}");
            Ok(())
        }
    }
}

/// A UDP socket of the same family as `remote`.
fn udp_socket(remote: SocketAddr) -> std::io::Result<UdpSocket> {
    UdpSocket::bind(if remote.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    })
}

fn datagram(address: &str) -> Outcome {
    let remote = resolve(address)?;
    udp_socket(remote)?.send_to(b"hello", remote)?;
    println!("sent {remote}");
    Ok(())
}

fn udp_connect(address: &str) -> Outcome {
    let remote = resolve(address)?;
    let socket = udp_socket(remote)?;
    socket.connect(remote)?;
    socket.send(b"hello")?;
    println!("sent {remote}");
    Ok(())
}

fn burst(count: usize, addresses: &str) -> Outcome {
    let remotes: Vec<SocketAddr> = addresses
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    for remote in remotes.iter().cycle().take(count) {
        TcpStream::connect(remote).map_err(|error| format!("connect {remote}: {error}"))?;
    }
    println!("burst {count}");
    Ok(())
}

fn wait() -> Outcome {
    println!("waiting");
    stdin().read_line(&mut String::new())?;
    Ok(())
}

fn run(command: &[String]) -> Outcome {
    let (program, args) = command.split_first().ok_or("run what?")?;
    let status = Command::new(program).args(args).status();
    let status = status.map_err(|error| format!("{program}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{program}: {status}").into())
    }
}
