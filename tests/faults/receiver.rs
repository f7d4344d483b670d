//! A receiver that something is wrong with, until it is mended.
//!
//! In: what it speaks, and its fault. Out: the messages that it took, in order. What it does not
//! take it forgets, as one does that crashed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use monitor_tests::webhook::read_request;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// How long a slow receiver takes for each message.
const SLOW: Duration = Duration::from_millis(1500);
/// How often one that hangs looks whether it is mended.
const LOOK: Duration = Duration::from_millis(50);
/// How long a sender may be silent.
const SILENCE: Duration = Duration::from_secs(20);

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody listens.
    Refuses,
    /// It takes connections, and reads and answers nothing.
    Hangs,
    /// It answers 500, or ends the connection.
    Fails,
    /// It takes its time for each message.
    Slow,
    /// Its certificate is somebody else's.
    Untrusted,
}

impl Fault {
    /// All there are.
    pub const ALL: [Fault; 5] = [
        Fault::Refuses,
        Fault::Hangs,
        Fault::Fails,
        Fault::Slow,
        Fault::Untrusted,
    ];
}

/// What it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP requests.
    Http,
    /// Messages with their length in front (RFC 6587).
    Stream,
    /// A message each.
    Datagrams,
    /// The same, at this path.
    Unix(PathBuf),
}

/// A certificate that Telltale trusts, and one that it does not.
#[derive(Clone)]
pub struct Identities {
    trusted: Arc<ServerConfig>,
    other: Arc<ServerConfig>,
    /// File with the one that is to be trusted.
    pub trust: PathBuf,
}

impl Identities {
    /// Makes them in `dir`.
    pub fn make(dir: &Path) -> Identities {
        let config = dir.join("openssl.conf");
        let text = "[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\n\
                    basicConstraints=critical,CA:FALSE\nsubjectAltName=IP:127.0.0.1\n";
        std::fs::write(&config, text).unwrap();
        let make = |name: &str| {
            let file = |kind: &str| dir.join(format!("{name}.{kind}"));
            let (certificate, key) = (file("crt"), file("key"));
            let mut openssl = Command::new("openssl");
            openssl.args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]);
            openssl.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj"]);
            openssl
                .arg(format!("/CN={name}"))
                .arg("-config")
                .arg(&config);
            openssl
                .arg("-out")
                .arg(&certificate)
                .arg("-keyout")
                .arg(&key);
            let made = openssl.output().unwrap();
            assert!(made.status.success(), "{made:?}");
            let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            let config = ServerConfig::builder().with_no_client_auth();
            Arc::new(config.with_single_cert(chain, key).unwrap())
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        Identities {
            trusted: make("trusted"),
            other: make("other"),
            trust: dir.join("trusted.crt"),
        }
    }
}

/// A receiver. Its threads end when it is dropped, or with their next message.
pub struct Receiver {
    address: SocketAddr,
    speaks: Speaks,
    /// Bound, so that nobody else takes the port, and not listening yet.
    closed: Mutex<Option<OwnedFd>>,
    listener: Mutex<Option<Arc<TcpListener>>>,
    shared: Arc<Shared>,
}

struct Shared {
    fault: Mutex<Option<Fault>>,
    /// Whether it speaks TLS, and with which certificates.
    identities: Option<Identities>,
    taken: Mutex<Vec<(String, Vec<u8>)>>,
}

impl Receiver {
    /// One with this fault. It speaks TLS where that is what is wrong.
    pub fn start(speaks: Speaks, fault: Fault, identities: &Identities) -> Receiver {
        let shared = Shared {
            fault: Mutex::new(Some(fault)),
            identities: (fault == Fault::Untrusted).then(|| identities.clone()),
            taken: Mutex::default(),
        };
        let kind = match speaks {
            Speaks::Http | Speaks::Stream => SocketType::STREAM,
            Speaks::Datagrams | Speaks::Unix(_) => SocketType::DGRAM,
        };
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None).unwrap();
        rustix::net::bind(&socket, &any).unwrap();
        let address = rustix::net::getsockname(&socket).unwrap();
        let receiver = Receiver {
            address: address.try_into().unwrap(),
            speaks,
            closed: Mutex::new(Some(socket)),
            listener: Mutex::new(None),
            shared: Arc::new(shared),
        };
        if fault == Fault::Refuses {
            if receiver.speaks == Speaks::Datagrams {
                // A bound socket would take them.
                drop(receiver.closed.lock().unwrap().take());
            }
        } else {
            receiver.open();
        }
        receiver
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing is wrong with it from now on.
    pub fn mend(&self) {
        if self.shared.fault() == Some(Fault::Refuses) {
            self.open();
        }
        *self.shared.fault.lock().unwrap() = None;
    }

    /// Messages with `marker` in them that came to a path that ends with `path`.
    pub fn count(&self, path: &str, marker: &[u8]) -> usize {
        let taken = self.shared.taken.lock().unwrap();
        let is_it = |(to, message): &&(String, Vec<u8>)| {
            to.ends_with(path) && message.windows(marker.len()).any(|it| it == marker)
        };
        taken.iter().filter(is_it).count()
    }

    fn open(&self) {
        let shared = Arc::clone(&self.shared);
        let closed = self.closed.lock().unwrap().take();
        match &self.speaks {
            Speaks::Http | Speaks::Stream => {
                let socket = closed.unwrap();
                rustix::net::listen(&socket, 128).unwrap();
                let listener = Arc::new(TcpListener::from(socket));
                *self.listener.lock().unwrap() = Some(Arc::clone(&listener));
                let http = self.speaks == Speaks::Http;
                thread::spawn(move || {
                    // Ends when drop shuts the listener down.
                    for stream in listener.incoming().map_while(Result::ok) {
                        let shared = Arc::clone(&shared);
                        thread::spawn(move || shared.serve(stream, http));
                    }
                });
            }
            Speaks::Datagrams => {
                let socket = match closed {
                    Some(socket) => UdpSocket::from(socket),
                    None => UdpSocket::bind(self.address).unwrap(),
                };
                thread::spawn(move || shared.receive(|buffer| socket.recv(buffer)));
            }
            Speaks::Unix(path) => {
                let socket = UnixDatagram::bind(path).unwrap();
                thread::spawn(move || shared.receive(|buffer| socket.recv(buffer)));
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(listener) = &*self.listener.lock().unwrap() {
            let _ = rustix::net::shutdown(listener.as_fd(), Shutdown::Both);
        }
    }
}

impl Shared {
    fn fault(&self) -> Option<Fault> {
        *self.fault.lock().unwrap()
    }

    /// Waits while it hangs; says whether it did.
    fn hung(&self) -> bool {
        let hangs = self.fault() == Some(Fault::Hangs);
        while self.fault() == Some(Fault::Hangs) {
            thread::sleep(LOOK);
        }
        hangs
    }

    fn take(&self, to: &str, message: Vec<u8>) {
        if self.fault() == Some(Fault::Slow) {
            thread::sleep(SLOW);
        }
        let mut taken = self.taken.lock().unwrap();
        taken.push((to.to_owned(), message));
    }

    fn receive(&self, mut next: impl FnMut(&mut [u8]) -> std::io::Result<usize>) {
        self.hung();
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length) = next(&mut buffer) {
            self.take("", buffer[..length].to_vec());
        }
    }

    fn serve(&self, stream: TcpStream, http: bool) -> Option<()> {
        stream.set_read_timeout(Some(SILENCE)).ok()?;
        if self.hung() {
            return None;
        }
        let wire: Box<dyn Wire> = match (&self.identities, self.fault()) {
            (None, _) => Box::new(stream),
            (Some(identities), fault) => {
                let identity = match fault {
                    Some(_) => &identities.other,
                    None => &identities.trusted,
                };
                let tls = ServerConnection::new(Arc::clone(identity)).unwrap();
                Box::new(StreamOwned::new(tls, stream))
            }
        };
        let wire = BufReader::new(wire);
        if http {
            self.http(wire)
        } else {
            self.stream(wire)
        }
    }

    /// Requests on one connection, one after the other.
    fn http(&self, mut wire: BufReader<Box<dyn Wire>>) -> Option<()> {
        loop {
            let (path, body) = read_request(&mut wire)?;
            let status = if self.fault() == Some(Fault::Fails) {
                "500 Internal Server Error"
            } else {
                self.take_body(&path, body);
                "200 OK"
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            wire.get_mut().write_all(answer.as_bytes()).ok()?;
            wire.get_mut().flush().ok()?;
        }
    }

    /// A list in JSON is a message each.
    fn take_body(&self, path: &str, body: Vec<u8>) {
        match serde_json::from_slice(&body) {
            Ok(Value::Array(alerts)) => {
                for alert in alerts {
                    self.take(path, alert.to_string().into_bytes());
                }
            }
            _ => self.take(path, body),
        }
    }

    /// Messages on one connection, until its end.
    fn stream(&self, mut wire: BufReader<Box<dyn Wire>>) -> Option<()> {
        if self.fault() == Some(Fault::Fails) {
            return None;
        }
        loop {
            let mut length = Vec::new();
            wire.read_until(b' ', &mut length).ok()?;
            length.pop()?;
            let length: u64 = String::from_utf8(length).ok()?.parse().ok()?;
            let mut message = Vec::new();
            wire.by_ref().take(length).read_to_end(&mut message).ok()?;
            self.take("", message);
        }
    }
}

/// A connection, whatever it is made of.
trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}
