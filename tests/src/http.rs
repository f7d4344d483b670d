//! The smallest HTTP client that can ask Telltale, Prometheus and Alertmanager.
//!
//! In: an address and a path. Out: status, headers and body.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::wait;

/// Connecting, and each read.
fn timeout() -> Duration {
    wait::here(Duration::from_secs(5))
}

/// An HTTP response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header lines, as sent.
    pub head: String,
    /// Body.
    pub body: String,
}

/// Sends a GET request.
///
/// # Errors
///
/// A sentence, if there is no HTTP server at `address` or it does not answer in time.
pub fn get(address: SocketAddr, path: &str) -> Result<Response, String> {
    let stream = TcpStream::connect_timeout(&address, timeout());
    get_on(
        stream.map_err(|error| format!("connect {address}: {error}"))?,
        path,
    )
}

/// Sends a GET request with a header line of the caller's.
///
/// # Errors
///
/// As [`get`].
pub fn get_with(address: SocketAddr, path: &str, header: &str) -> Result<Response, String> {
    let stream = TcpStream::connect_timeout(&address, timeout());
    stream
        .and_then(|stream| request(stream, path, &format!("{header}\r\n")))
        .map_err(|error| format!("GET {path}: {error}"))
}

/// Sends a GET request on a connection that is already there.
///
/// # Errors
///
/// As [`get`].
pub fn get_on(stream: TcpStream, path: &str) -> Result<Response, String> {
    request(stream, path, "").map_err(|error| format!("GET {path}: {error}"))
}

fn request(mut stream: TcpStream, path: &str, headers: &str) -> std::io::Result<Response> {
    stream.set_read_timeout(Some(timeout()))?;
    // Version 1.0: the body ends with the connection, and is not sent in chunks.
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n"
    )?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let bad = || std::io::Error::other(format!("not an HTTP response: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(bad)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(bad)?;
    Ok(Response {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}
