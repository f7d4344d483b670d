//! A webhook receiver: a real HTTP server that keeps what it is sent.
//!
//! In: POST requests. Out: their JSON bodies, in order.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::Shutdown;
use serde_json::Value;

use crate::wait;

/// How long a sender may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// A running receiver; stops when dropped.
#[derive(Debug)]
pub struct WebhookReceiver {
    listener: Arc<TcpListener>,
    inbox: Arc<Mutex<Inbox>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Inbox {
    bodies: Vec<Value>,
    /// Requests still to be refused with 503.
    refusals: u32,
    refused: u32,
}

impl WebhookReceiver {
    /// Listens on a free loopback port.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    pub fn start() -> WebhookReceiver {
        WebhookReceiver::on(TcpListener::bind("127.0.0.1:0").expect("a free loopback port"))
    }

    /// Receives on a listener of the caller's choice.
    #[must_use]
    pub fn on(listener: TcpListener) -> WebhookReceiver {
        let (listener, inbox) = (Arc::new(listener), Arc::new(Mutex::new(Inbox::default())));
        let (socket, kept) = (Arc::clone(&listener), Arc::clone(&inbox));
        let thread = thread::spawn(move || {
            // Ends when drop shuts the listener down.
            for stream in socket.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                thread::spawn(move || receive(&stream, &kept));
            }
        });
        WebhookReceiver {
            listener,
            inbox,
            thread: Some(thread),
        }
    }

    /// The next `count` requests get status 503.
    ///
    /// # Panics
    ///
    /// If the receiver has.
    pub fn refuse(&self, count: u32) {
        self.inbox.lock().expect("inbox").refusals = count;
    }

    /// Requests answered with 503 so far.
    ///
    /// # Panics
    ///
    /// If the receiver has.
    #[must_use]
    pub fn refused(&self) -> u32 {
        self.inbox.lock().expect("inbox").refused
    }

    /// Where to post to.
    ///
    /// # Panics
    ///
    /// If the listener has no address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("address of the listener")
    }

    /// URL to post to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address())
    }

    /// The accepted bodies so far.
    ///
    /// # Panics
    ///
    /// If the receiver has.
    #[must_use]
    pub fn bodies(&self) -> Vec<Value> {
        self.inbox.lock().expect("inbox").bodies.clone()
    }

    /// Waits for a body.
    ///
    /// # Panics
    ///
    /// If none comes in time; the message shows what came instead.
    #[track_caller]
    pub fn wait_for(&self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let ask = || self.bodies().into_iter().find(&matches);
        match wait::try_until(wait::SOON, ask) {
            Some(body) => body,
            None => panic!("webhook: no {what}; received {:#?}", self.bodies()),
        }
    }
}

impl Drop for WebhookReceiver {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(self.listener.as_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves one connection: any number of requests, one after the other.
fn receive(stream: &TcpStream, inbox: &Mutex<Inbox>) -> Option<()> {
    stream.set_read_timeout(Some(SILENCE)).ok()?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let (_, body) = read_request(&mut reader)?;
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
        let mut inbox = inbox.lock().ok()?;
        let status = if inbox.refusals > 0 {
            inbox.refusals -= 1;
            inbox.refused += 1;
            "503 Service Unavailable"
        } else {
            inbox.bodies.push(body);
            "200 OK"
        };
        drop(inbox);
        write!(writer, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").ok()?;
    }
}

/// Reads one request with a `Content-Length` and returns its path and body; `None` at the end.
pub fn read_request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body).ok()?;
    Some((path, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Posts `{"n": number}` on an open connection and returns the status line.
    fn post(stream: &mut TcpStream, number: u32) -> String {
        let body = format!("{{\"n\":{number}}}");
        let length = body.len();
        write!(
            stream,
            "POST /hook HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let (mut reader, mut status, mut line) =
            (BufReader::new(stream), String::new(), String::new());
        reader.read_line(&mut status).unwrap();
        while reader.read_line(&mut line).unwrap() > 2 {
            line.clear();
        }
        status.trim_end().to_owned()
    }

    #[test]
    fn keeps_bodies_of_a_kept_connection_and_can_refuse() {
        let receiver = WebhookReceiver::start();
        let mut stream = TcpStream::connect(receiver.address()).unwrap();
        receiver.refuse(1);
        assert_eq!(post(&mut stream, 1), "HTTP/1.1 503 Service Unavailable");
        assert_eq!(post(&mut stream, 2), "HTTP/1.1 200 OK");
        assert_eq!(post(&mut stream, 3), "HTTP/1.1 200 OK");
        assert_eq!(receiver.refused(), 1);
        receiver.wait_for("third body", |body| body["n"] == 3);
        assert_eq!(receiver.bodies().len(), 2);
    }
}
