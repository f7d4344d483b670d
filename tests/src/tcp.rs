//! TCP and UDP servers that count their visitors.
//!
//! In: a namespace and an address in it. Out: connections accepted, read to their end and counted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use rustix::net::Shutdown;

use crate::netns::NetNs;

/// What a server says to everyone, before it reads: enough for an HTTP client too.
const GREETING: &[u8] = b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A running TCP server; stops when dropped.
#[derive(Debug)]
pub struct TcpServer {
    listener: Arc<TcpListener>,
    accepted: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl TcpServer {
    /// Listens on an address of the namespace, and reads each connection to its end.
    ///
    /// # Panics
    ///
    /// If the address is taken.
    #[must_use]
    pub fn start(ns: &NetNs, address: &str) -> TcpServer {
        TcpServer::serving(ns, address, |stream| {
            drop(thread::spawn(|| greet_and_read(stream)))
        })
    }

    /// Listens, and drops each connection at once: for floods.
    ///
    /// # Panics
    ///
    /// If the address is taken.
    #[must_use]
    pub fn start_dropping(ns: &NetNs, address: &str) -> TcpServer {
        TcpServer::serving(ns, address, drop)
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    fn serving(ns: &NetNs, address: &str, handle: fn(TcpStream)) -> TcpServer {
        let address: SocketAddr = address.parse().expect("an address with a port");
        let listener = ns.enter(|| TcpListener::bind(address).expect("TCP listener"));
        let (listener, accepted) = (Arc::new(listener), Arc::new(AtomicU64::new(0)));
        let (socket, count) = (Arc::clone(&listener), Arc::clone(&accepted));
        let thread = thread::spawn(move || {
            // Ends when drop shuts the listener down.
            for stream in socket.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::Relaxed);
                handle(stream);
            }
        });
        TcpServer {
            listener,
            accepted,
            thread: Some(thread),
        }
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(self.listener.as_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn greet_and_read(mut stream: TcpStream) {
    let _ = stream.write_all(GREETING);
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
}

/// A bound UDP socket that swallows what it gets.
///
/// # Panics
///
/// If the address is taken.
#[must_use]
pub fn udp_sink(ns: &NetNs, address: &str) -> UdpSocket {
    let address: SocketAddr = address.parse().expect("an address with a port");
    ns.enter(|| UdpSocket::bind(address).expect("UDP socket"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;

    #[test]
    fn counts_and_stops() {
        let ns = NetNs::new();
        for start in [TcpServer::start, TcpServer::start_dropping] {
            let server = start(&ns, "[2001:db8::10]:443");
            for _ in 0..3 {
                ns.enter(|| TcpStream::connect("[2001:db8::10]:443").unwrap());
            }
            wait::until("three visitors", wait::SOON, || {
                (server.accepted() == 3).then_some(())
            });
            drop(server);
            assert!(ns.enter(|| TcpStream::connect("[2001:db8::10]:443").is_err()));
        }
    }
}
