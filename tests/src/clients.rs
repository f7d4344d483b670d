//! Real clients, and what they say first.
//!
//! In: the programs of this machine, and the TLS and QUIC libraries of these tests. Out: the bytes
//! that each sends to a server on loopback, which says only what it takes to be spoken to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::crypto::{ActiveKeyExchange, CryptoProvider, SharedSecret, SupportedKxGroup, ring};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Error, NamedGroup, RootCertStore};

/// Whom all clients name.
pub const NAME: &str = "api.telltale.example";

/// How long a client may take to say something.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two datagrams of one flight are not further apart than this.
const FLIGHT: Duration = Duration::from_millis(300);

/// What one client said.
#[derive(Clone, Debug)]
pub struct Spoken {
    /// Which client, as a file name.
    pub label: &'static str,
    /// Its bytes: of its side of a connection, or of each datagram.
    pub parts: Vec<Vec<u8>>,
    /// What it said it would speak.
    pub alpn: &'static [&'static str],
}

/// A program, and how it is called for a port on loopback.
type Program = (&'static str, fn(u16) -> Vec<String>);

/// What a server says after it read so much that the test on it holds.
type Reply = (fn(&[u8]) -> bool, &'static [u8]);

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// What most TLS clients offer to speak.
const HTTP: &[&str] = &["h2", "http/1.1"];

/// TLS clients that are programs: what they are called here, what they offer, how they are run.
const TLS_PROGRAMS: [(&str, &[&str], Program); 6] = [
    (
        "curl",
        HTTP,
        ("curl", |port| {
            words(&format!(
                "-sk --resolve {NAME}:{port}:127.0.0.1 https://{NAME}:{port}/"
            ))
        }),
    ),
    (
        "openssl",
        HTTP,
        ("openssl", |port| {
            let connect = format!("s_client -connect 127.0.0.1:{port} -servername {NAME}");
            words(&format!("{connect} -alpn h2,http/1.1"))
        }),
    ),
    (
        "openssl-tls12",
        &[],
        ("openssl", |port| {
            words(&format!(
                "s_client -connect 127.0.0.1:{port} -servername {NAME} -tls1_2"
            ))
        }),
    ),
    (
        "openssl-nameless",
        &[],
        ("openssl", |port| {
            words(&format!("s_client -connect 127.0.0.1:{port} -noservername"))
        }),
    ),
    (
        "node",
        HTTP,
        ("node", |port| {
            let options = format!(
                "{{host:'127.0.0.1',port:{port},servername:'{NAME}',\
             ALPNProtocols:['h2','http/1.1']}}"
            );
            let script = format!("require('tls').connect({options}).on('error',()=>{{}})");
            vec!["-e".to_owned(), script]
        }),
    ),
    (
        "python",
        &[],
        ("python3", |port| {
            let script = format!(
                "import socket, ssl\n\
             sock = socket.create_connection(('127.0.0.1', {port}))\n\
             ssl.create_default_context().wrap_socket(sock, server_hostname='{NAME}')"
            );
            vec!["-c".to_owned(), script]
        }),
    ),
];

/// A way to use curl: what it is called here, its arguments, the proxy's replies, and what ends
/// what it says.
type Curl = (
    &'static str,
    &'static str,
    &'static [Reply],
    fn(&[u8]) -> bool,
);

const CONNECTED: Reply = (is_head, b"HTTP/1.1 200 OK\r\n\r\n");
const NO_LOGIN: Reply = (is_any, b"\x05\x00");
const LOGIN: Reply = (is_any, b"\x05\x02");
const WELCOME: Reply = (is_any, b"\x01\x00");
const GRANTED: Reply = (is_any, b"\x05\x00\x00\x01\0\0\0\0\0\0");
const GRANTED_4: Reply = (is_any, b"\x00\x5a\0\0\0\0\0\0");

/// curl as a client of a server and of each kind of proxy.
const CURLS: [Curl; 8] = [
    (
        "plain",
        "--resolve {name}:{port}:127.0.0.1 http://{name}:{port}/",
        &[],
        is_head,
    ),
    (
        "forward",
        "-x http://user:secret@127.0.0.1:{port} http://{name}/",
        &[],
        is_head,
    ),
    (
        "connect",
        "-x http://user:secret@127.0.0.1:{port} https://{name}/",
        &[CONNECTED],
        is_hello,
    ),
    (
        "socks5",
        "--socks5-hostname 127.0.0.1:{port} https://{name}/",
        &[NO_LOGIN, GRANTED],
        is_hello,
    ),
    (
        "socks5-password",
        "--proxy socks5h://user:secret@127.0.0.1:{port} https://{name}/",
        &[LOGIN, WELCOME, GRANTED],
        is_hello,
    ),
    (
        "socks5-address",
        "--socks5 127.0.0.1:{port} https://192.0.2.1/",
        &[NO_LOGIN, GRANTED],
        is_hello,
    ),
    (
        "socks4a",
        "--socks4a 127.0.0.1:{port} https://{name}/",
        &[GRANTED_4],
        is_hello,
    ),
    (
        "socks4",
        "--socks4 127.0.0.1:{port} https://192.0.2.1/",
        &[GRANTED_4],
        is_hello,
    ),
];

/// TLS clients: programs and libraries.
///
/// # Panics
///
/// If one of the programs is missing or says nothing.
#[must_use]
pub fn tls() -> Vec<Spoken> {
    let programs = TLS_PROGRAMS.map(|(label, alpn, program)| Spoken {
        label,
        parts: vec![said_by(program)],
        alpn,
    });
    let libraries = [("rustls", false), ("rustls-post-quantum", true)];
    let libraries = libraries.map(|(label, post_quantum)| Spoken {
        label,
        parts: vec![rustls_hello(post_quantum)],
        alpn: HTTP,
    });
    programs.into_iter().chain(libraries).collect()
}

/// Clients of HTTP servers and of proxies; those that ask for a tunnel then speak TLS in it.
///
/// # Panics
///
/// If curl is missing or says nothing.
#[must_use]
pub fn through_proxies() -> Vec<Spoken> {
    let speak = |(label, arguments, replies, is_whole): Curl| {
        let (listener, port) = listen();
        let arguments = arguments.replace("{port}", &port.to_string());
        let arguments = format!("-sk {}", arguments.replace("{name}", NAME));
        let mut client = start("curl", &words(&arguments));
        let spoken = listen_to(&accept(&listener), replies, is_whole);
        stop(&mut client);
        Spoken {
            label,
            parts: vec![spoken],
            alpn: &[],
        }
    };
    CURLS.map(speak).into()
}

/// QUIC clients of version 1, with an ordinary and with a post-quantum key share.
///
/// # Panics
///
/// If the library sends nothing.
#[must_use]
pub fn quic() -> Vec<Spoken> {
    let clients = [("quinn", false), ("quinn-post-quantum", true)];
    let speak = |(label, post_quantum)| Spoken {
        label,
        parts: quinn_datagrams(post_quantum),
        alpn: &["h3"],
    };
    clients.map(speak).into()
}

/// `dig` over UDP and TCP, for an address and for a service record.
///
/// # Panics
///
/// If it is missing or says nothing.
#[must_use]
pub fn dig() -> Vec<Spoken> {
    let udp = |label, kind: &str| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = start("dig", &dig_words(socket.local_addr().unwrap(), kind));
        let mut buffer = [0; 4096];
        let size = socket.recv(&mut buffer).unwrap();
        stop(&mut client);
        Spoken {
            label,
            parts: vec![buffer[..size].to_vec()],
            alpn: &[],
        }
    };
    let tcp = |label, kind: &str| {
        let (listener, _) = listen();
        let address = listener.local_addr().unwrap();
        let mut client = start("dig", &dig_words(address, &format!("{kind} +tcp")));
        let spoken = listen_to(&accept(&listener), &[], |bytes| {
            let length = bytes
                .first_chunk()
                .map(|length| u16::from_be_bytes(*length));
            length.is_some_and(|length| bytes.len() >= 2 + usize::from(length))
        });
        stop(&mut client);
        Spoken {
            label,
            parts: vec![spoken],
            alpn: &[],
        }
    };
    vec![
        udp("udp-a", "A"),
        udp("udp-https", "HTTPS"),
        tcp("tcp-aaaa", "AAAA"),
    ]
}

fn dig_words(server: SocketAddr, kind: &str) -> Vec<String> {
    words(&format!(
        "@127.0.0.1 -p {} {NAME} {kind} +tries=1 +time=2",
        server.port()
    ))
}

/// The first record that a program sends.
fn said_by((program, arguments): Program) -> Vec<u8> {
    let (listener, port) = listen();
    let mut client = start(program, &arguments(port));
    let spoken = listen_to(&accept(&listener), &[], is_hello);
    stop(&mut client);
    spoken
}

fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// The next connection: a program that cannot start its work never makes one.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let (stream, _) = crate::wait::until("a client connects", PATIENCE, || listener.accept().ok());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn start(program: &str, arguments: &[String]) -> Child {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    // A proxy of this machine is none of ours.
    for variable in [
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ] {
        command.env_remove(variable);
    }
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; apt-get install it"))
}

fn stop(client: &mut Child) {
    let _ = client.kill(); // It may have ended by itself.
    client.wait().unwrap();
}

/// Reads what a client says, and replies, until it said all that is wanted.
fn listen_to(mut stream: &TcpStream, replies: &[Reply], end: fn(&[u8]) -> bool) -> Vec<u8> {
    let (mut spoken, mut heard) = (Vec::new(), 0);
    let replies = replies.iter().copied().chain([(end, &b""[..])]);
    for (is_whole, reply) in replies {
        while !is_whole(&spoken[heard..]) {
            let mut buffer = [0; 4096];
            let size = stream.read(&mut buffer).expect("the client says more");
            assert!(size > 0, "the client ended after {spoken:x?}");
            spoken.extend_from_slice(&buffer[..size]);
        }
        heard = spoken.len();
        stream.write_all(reply).unwrap();
    }
    spoken
}

fn is_any(bytes: &[u8]) -> bool {
    !bytes.is_empty()
}

fn is_head(bytes: &[u8]) -> bool {
    bytes.ends_with(b"\r\n\r\n")
}

/// A TLS record is whole.
fn is_hello(bytes: &[u8]) -> bool {
    let length = bytes
        .get(3..5)
        .map(|it| usize::from(it[0]) << 8 | usize::from(it[1]));
    length.is_some_and(|length| bytes.len() >= 5 + length)
}

fn config(post_quantum: bool, alpn: &[&str]) -> ClientConfig {
    let mut provider = ring::default_provider();
    if post_quantum {
        provider.kx_groups.insert(0, &PostQuantumSized);
    }
    let provider: Arc<CryptoProvider> = provider.into();
    let config = ClientConfig::builder_with_provider(provider);
    let config = config
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let config = config.with_root_certificates(RootCertStore::empty());
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
    config
}

fn rustls_client(name: &str, post_quantum: bool) -> ClientConnection {
    let config = config(post_quantum, HTTP);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    ClientConnection::new(config.into(), name).unwrap()
}

fn rustls_hello(post_quantum: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut client = rustls_client(NAME, post_quantum);
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Connects, and says hello over TLS.
///
/// # Panics
///
/// If nobody listens.
pub fn speak_tls(address: SocketAddr, name: &str, post_quantum: bool) {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut client = rustls_client(name, post_quantum);
    client.write_tls(&mut stream).unwrap();
}

/// Says hello over QUIC.
///
/// # Panics
///
/// If it cannot.
pub fn speak_quic(address: SocketAddr, name: &str, post_quantum: bool) {
    while_connecting(address, name, post_quantum, || thread::sleep(FLIGHT));
}

fn quinn_datagrams(post_quantum: bool) -> Vec<Vec<u8>> {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    server.set_read_timeout(Some(FLIGHT)).unwrap();
    let mut datagrams = Vec::new();
    while_connecting(address, NAME, post_quantum, || {
        let mut buffer = [0; 4096];
        crate::wait::until("a QUIC client speaks", PATIENCE, || {
            let size = server.recv(&mut buffer).ok()?;
            datagrams.push(buffer[..size].to_vec());
            Some(())
        });
        while let Ok(size) = server.recv(&mut buffer) {
            datagrams.push(buffer[..size].to_vec());
        }
    });
    datagrams
}

/// Does something while a QUIC client tries to connect.
fn while_connecting(address: SocketAddr, name: &str, post_quantum: bool, act: impl FnOnce()) {
    let crypto = config(post_quantum, &["h3"]);
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(crypto).unwrap();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let endpoint = quinn::Endpoint::client(([0, 0, 0, 0], 0).into()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint.connect_with(config, address, name).unwrap();
    let connecting = runtime.spawn(async { drop(connecting.await) });
    act();
    connecting.abort();
}

/// A key share of the size of X25519MLKEM768, and of nothing else: a server that has another
/// group in common asks for that.
#[derive(Debug)]
struct PostQuantumSized;

/// The size of an encapsulation key of ML-KEM-768, and of an X25519 key.
const SHARE_BYTES: usize = 1184 + 32;

struct Share([u8; SHARE_BYTES]);

impl SupportedKxGroup for PostQuantumSized {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(Share([7; SHARE_BYTES])))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}

impl ActiveKeyExchange for Share {
    fn complete(self: Box<Self>, _peer: &[u8]) -> Result<SharedSecret, Error> {
        Err(Error::General("a share without a secret".to_owned()))
    }

    fn pub_key(&self) -> &[u8] {
        &self.0
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}
