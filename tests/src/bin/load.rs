//! A load generator: one kind of operation, a given number of times, as fast as it goes.
//!
//! In: `load KIND COUNT [PER_SECOND]`, then a line on standard input that starts it. Out: `ready` when it waits
//! for that line, then one line of JSON: operations, wall time, and CPU time of this process with
//! its children. It talks to itself over loopback only and ends when it is done.
//!
//! `cargo xtask bench` runs it, in a network namespace of its own. `load once ADDRESS NUMBER` is
//! what `load exec` executes. `load hold COUNT` starts processes that stay, each with five
//! connected sockets, until its own standard input ends.
#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::io::{self, BufRead, Error, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

/// Destinations that TCP connects take turns with: a closed connection holds its ports for a
/// minute, and there are 28 000 for each destination.
const ADDRESSES: u8 = 8;
/// The hello of a real client, with a post-quantum key share.
const HELLO: &[u8] = include_bytes!("../../../fuzz/corpus/tls/rustls-post-quantum");
/// Payload of a small packet.
const SMALL_BYTES: usize = 64;
/// Payload of a large packet: what one packet on loopback holds, less headers.
const LARGE_BYTES: usize = 65_000;
/// Sockets of a process that stays.
const HELD: u32 = 5;
/// Addresses that they are connected to, at many ports; those that they have come next.
const REMOTES: u32 = 240;
/// Unit of the CPU times in `/proc/self/stat`.
const TICK: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["once", address, _number] => connect_once(address),
        ["held", number] => held(number),
        [kind, count] => run(kind, count, None),
        [kind, count, rate] => run(kind, count, Some(rate)),
        _ => Err(Error::other("usage: load KIND COUNT [PER_SECOND]")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load {}: {error}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// Prepares an operation, waits for the start, repeats it, and reports.
fn run(kind: &str, count: &str, rate: Option<&str>) -> io::Result<()> {
    let count: u32 = count.parse().map_err(Error::other)?;
    let rate: Option<u32> = rate.map(str::parse).transpose().map_err(Error::other)?;
    let mut operation = prepare(kind)?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "ready")?;
    stdout.flush()?;
    io::stdin().lock().read_line(&mut String::new())?;

    let (wall, cpu) = (Instant::now(), cpu_time()?);
    for number in 0..count {
        operation(number)?;
        if let Some(rate) = rate {
            let due = Duration::from_secs(1) * number / rate;
            std::thread::sleep(due.saturating_sub(wall.elapsed()));
        }
    }
    let (wall, cpu) = (wall.elapsed(), cpu_time()?.saturating_sub(cpu));
    writeln!(
        stdout,
        r#"{{"operations":{count},"wall_ns":{},"cpu_ns":{}}}"#,
        wall.as_nanos(),
        cpu.as_nanos()
    )?;
    if kind == "hold" {
        io::stdin().lock().read_line(&mut String::new())?;
    }
    Ok(())
}

type Operation = Box<dyn FnMut(u32) -> io::Result<()>>;

fn prepare(kind: &str) -> io::Result<Operation> {
    match kind {
        "tcp-connect" => tcp_connect(),
        "tls-hello" => tls_hello(),
        "tls-handshake" => tls_handshake(),
        "tcp-stream" => tcp_stream(),
        "udp-connect" => udp_connect(),
        "udp-sendto" => udp_sendto(),
        "packet-small" => packet(SMALL_BYTES),
        "packet-large" => packet(LARGE_BYTES),
        "fork" => fork(),
        "exec" => exec(),
        "hold" => hold(),
        other => Err(Error::other(format!("no operation is called {other}"))),
    }
}

/// Connect, accept, and close both ends with a FIN.
fn tcp_connect() -> io::Result<Operation> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    Ok(Box::new(move |number| {
        let host = number.to_le_bytes()[0] % ADDRESSES + 1;
        let client = TcpStream::connect((Ipv4Addr::new(127, 0, 0, host), port))?;
        let (server, _) = listener.accept()?;
        drop(client);
        drop(server);
        Ok(())
    }))
}

/// A connection on which a TLS client says hello, and the server one byte.
fn tls_hello() -> io::Result<Operation> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    let hello = record(HELLO);
    let mut read = vec![0; hello.len()];
    Ok(Box::new(move |number| {
        let host = number.to_le_bytes()[0] % ADDRESSES + 1;
        let mut client = TcpStream::connect((Ipv4Addr::new(198, 51, 100, host), port))?;
        let (mut server, _) = listener.accept()?;
        client.write_all(&hello)?;
        server.read_exact(&mut read)?;
        server.write_all(&[0])?;
        client.read_exact(&mut [0])
    }))
}

/// A connection with a whole TLS 1.3 handshake: nothing is resumed, the server's key is P-256.
fn tls_handshake() -> io::Result<Operation> {
    const NAME: &str = "api.load.example";
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    let signed = rcgen::generate_simple_self_signed([NAME.to_owned()]).map_err(Error::other)?;
    let mut roots = RootCertStore::empty();
    roots.add(signed.cert.der().clone()).map_err(Error::other)?;
    let mut client_side = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client_side.resumption = rustls::client::Resumption::disabled();
    let client_side = Arc::new(client_side);
    let key = PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der());
    let server_side = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key.into())
        .map_err(Error::other)?;
    let server_side = Arc::new(server_side);
    let name = ServerName::try_from(NAME).map_err(Error::other)?;
    Ok(Box::new(move |number| {
        let host = number.to_le_bytes()[0] % ADDRESSES + 1;
        let client = TcpStream::connect((Ipv4Addr::new(198, 51, 100, host), port))?;
        let (server, _) = listener.accept()?;
        let new = ClientConnection::new(Arc::clone(&client_side), name.clone());
        let mut near = rustls::StreamOwned::new(new.map_err(Error::other)?, client);
        let new = ServerConnection::new(Arc::clone(&server_side));
        let mut far = rustls::StreamOwned::new(new.map_err(Error::other)?, server);
        near.sock.set_nonblocking(true)?;
        far.sock.set_nonblocking(true)?;
        while near.conn.is_handshaking() || far.conn.is_handshaking() {
            would_block(near.conn.complete_io(&mut near.sock))?;
            would_block(far.conn.complete_io(&mut far.sock))?;
        }
        Ok(())
    }))
}

/// Passes over that the other end has to speak first.
fn would_block<T>(result: io::Result<T>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

/// A packet on one connection, after its hello.
fn tcp_stream() -> io::Result<Operation> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    let mut client = TcpStream::connect((Ipv4Addr::new(198, 51, 100, 1), port))?;
    client.set_nodelay(true)?;
    let (mut server, _) = listener.accept()?;
    let hello = record(HELLO);
    client.write_all(&hello)?;
    server.read_exact(&mut vec![0; hello.len()])?;
    server.write_all(&[0])?;
    client.read_exact(&mut [0])?;
    let mut buffer = [0; SMALL_BYTES];
    Ok(Box::new(move |_| {
        client.write_all(&buffer)?;
        server.read_exact(&mut buffer)
    }))
}

/// A TLS record with one handshake message.
fn record(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or_default();
    [&[22, 3, 1], &length.to_be_bytes()[..], message].concat()
}

/// `connect(2)` of one UDP socket, which sends nothing.
fn udp_connect() -> io::Result<Operation> {
    let (server, client) = udp_pair()?;
    let to = server.local_addr()?;
    Ok(Box::new(move |_| client.connect(to)))
}

/// A datagram with its address, and its reception.
fn udp_sendto() -> io::Result<Operation> {
    let (server, client) = udp_pair()?;
    let to = server.local_addr()?;
    let mut buffer = [0; SMALL_BYTES];
    Ok(Box::new(move |_| {
        client.send_to(&buffer, to)?;
        server.recv(&mut buffer).map(drop)
    }))
}

/// One packet from a connected socket to another: it leaves once and arrives once.
fn packet(bytes: usize) -> io::Result<Operation> {
    let (server, client) = udp_pair()?;
    client.connect(server.local_addr()?)?;
    let mut buffer = vec![0; bytes];
    Ok(Box::new(move |_| {
        client.send(&buffer)?;
        server.recv(&mut buffer).map(drop)
    }))
}

fn udp_pair() -> io::Result<(UdpSocket, UdpSocket)> {
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    Ok((bind()?, bind()?))
}

/// A process that ends before it executes anything: its program is not there.
fn fork() -> io::Result<Operation> {
    let missing = Path::new("/nonexistent/telltale-load");
    Ok(Box::new(move |_| match Command::new(missing).spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(Error::other(format!("{} exists", missing.display()))),
    }))
}

/// A process that executes this program, which connects once and exits.
fn exec() -> io::Result<Operation> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?.to_string();
    let program = env::current_exe()?;
    Ok(Box::new(move |number| {
        let mut child = Command::new(&program);
        let status = child
            .args(["once", &address, &number.to_string()])
            .status()?;
        if !status.success() {
            return Err(Error::other(status.to_string()));
        }
        listener.accept().map(drop)
    }))
}

/// A process that stays, with its sockets, until this one ends.
fn hold() -> io::Result<Operation> {
    let (reader, writer) = io::pipe()?;
    let program = env::current_exe()?;
    Ok(Box::new(move |number| {
        let _open = &writer; // Its end is the children's end.
        let mut child = Command::new(&program);
        child.args(["held", &number.to_string()]);
        child.stdin(reader.try_clone()?).stdout(Stdio::piped());
        let mut connected = child.spawn()?.stdout.ok_or(ErrorKind::BrokenPipe)?;
        connected.read_exact(&mut [0])
    }))
}

/// Sockets to remotes that no other process has; they send nothing.
fn held(number: &str) -> io::Result<()> {
    let number: u32 = number.parse().map_err(Error::other)?;
    let mut sockets = Vec::new();
    for at in 0..HELD {
        // Of each address there are 28 000 ports.
        let own = address(REMOTES + at);
        let socket = UdpSocket::bind((own, 0))?;
        let remote = number * HELD + at;
        let port = u16::try_from(1024 + remote / REMOTES).map_err(Error::other)?;
        socket.connect((address(remote % REMOTES), port))?;
        sockets.push(socket);
    }
    let mut stdout = io::stdout();
    stdout.write_all(b"\n")?;
    stdout.flush()?;
    io::stdin().lock().read_line(&mut String::new()).map(drop)
}

/// An address of a server, by its number.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 51, 100, 1)) + number)
}

fn connect_once(address: &str) -> io::Result<()> {
    let address: SocketAddr = address.parse().map_err(Error::other)?;
    TcpStream::connect(address).map(drop)
}

/// CPU time of this process, to the nanosecond, and of its children that ended, to the tick.
fn cpu_time() -> io::Result<Duration> {
    let own = read_fields("/proc/self/schedstat", 0)?;
    // Fields 16 and 17, `cutime` and `cstime`: the 14th and 15th after the program's name.
    let children = read_fields("/proc/self/stat", 13)?;
    let number = |fields: &[String], index: usize| {
        let field = fields.get(index).map_or("", String::as_str);
        field.parse::<u32>().map_err(Error::other)
    };
    let own_ns: u64 = own
        .first()
        .map_or("", String::as_str)
        .parse()
        .map_err(Error::other)?;
    let ticks = number(&children, 0)? + number(&children, 1)?;
    Ok(Duration::from_nanos(own_ns) + TICK * ticks)
}

/// The fields of a one-line file, from the given one after a program's name in parentheses on.
fn read_fields(path: &str, skip: usize) -> io::Result<Vec<String>> {
    let mut text = String::new();
    fs::File::open(path)?.read_to_string(&mut text)?;
    let rest = text.rsplit_once(')').map_or(&*text, |(_, rest)| rest);
    Ok(rest
        .split_whitespace()
        .skip(skip)
        .map(str::to_owned)
        .collect())
}
