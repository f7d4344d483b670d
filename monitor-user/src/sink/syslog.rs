//! Alerts to syslog (RFC 5424, plain or with CEF; over TLS as RFC 5425 says) and to the journal of
//! systemd.
//!
//! In: alerts. Out: one message for each. A datagram counts as delivered when it is sent and no
//! host said that nobody takes it: nobody else answers. Over TCP, a connection carries one batch
//! and counts when the receiver has closed it in turn, having read all.

use std::fmt::Write;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::ConfigVerifierExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::is_unprintable;
use super::notice::{Notice, State};
use super::post::{Delivery, Transport};
use crate::clock::rfc3339;
use crate::config::{SyslogAddress, SyslogStyle};

/// Time for a batch.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a host that has no such receiver has to say so (ICMP).
const REFUSAL_WAIT: Duration = Duration::from_millis(200);

/// Pause between looks whether a connection is closed: some round trips.
const CLOSING_POLL: Duration = Duration::from_millis(5);

/// Bytes of one message: what every receiver must take over UDP (RFC 5426), a hundred times, and
/// less than a datagram holds.
const MESSAGE_BYTES_MAX: usize = 48 << 10;

/// Facility `local0`: what an operator can route as they like.
const FACILITY: u8 = 16;

/// Private enterprise number for documentation (RFC 5612): Telltale has none of its own.
const STRUCTURED_ID: &str = "telltale@32473";

/// Where the journal listens.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Sends messages.
#[derive(Clone)]
pub struct Syslog {
    address: SyslogAddress,
    style: SyslogStyle,
    /// There for an address that needs it.
    tls: Option<TlsConnector>,
}

impl Transport for Syslog {
    const BATCH_MAX: usize = 64;
    const REPEATS: bool = false;

    async fn deliver(&self, notices: &[Notice]) -> Delivery {
        match timeout(TIMEOUT, self.send(notices)).await {
            Ok(Ok(())) => Delivery::Delivered,
            Ok(Err(error)) => Delivery::Unreachable(error.to_string()),
            Err(_) => Delivery::Unreachable("timed out".to_owned()),
        }
    }
}

impl Syslog {
    /// Sends to this address in this style; the journal has a form of its own.
    ///
    /// # Errors
    ///
    /// If TLS is needed and the host has no CA certificates.
    pub fn new(address: SyslogAddress, style: SyslogStyle) -> anyhow::Result<Self> {
        let tls = match address {
            SyslogAddress::Tls(..) => Some(connector()?),
            _ => None,
        };
        Ok(Syslog {
            address,
            style,
            tls,
        })
    }

    async fn send(&self, notices: &[Notice]) -> io::Result<()> {
        match &self.address {
            SyslogAddress::Journald => {
                let entries = notices.iter().map(journal_entry).collect();
                to_unix(Path::new(JOURNAL), entries).await
            }
            SyslogAddress::Unix(path) => to_unix(path, self.messages(notices)).await,
            SyslogAddress::Udp(address) => to_udp(*address, self.messages(notices)).await,
            SyslogAddress::Tcp(address) => {
                let mut stream = TcpStream::connect(address).await?;
                to_stream(&mut stream, self.messages(notices)).await?;
                closed_in_turn(&stream).await
            }
            SyslogAddress::Tls(host, port) => {
                let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
                let name = ServerName::try_from(host.clone()).map_err(invalid)?;
                let connector = self.tls.as_ref().ok_or(io::ErrorKind::Unsupported)?;
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                let mut stream = connector.connect(name, stream).await?;
                to_stream(&mut stream, self.messages(notices)).await?;
                closed_in_turn(stream.get_ref().0).await
            }
        }
    }

    fn messages(&self, notices: &[Notice]) -> Vec<Vec<u8>> {
        let message = |notice| message(notice, self.style).into_bytes();
        notices.iter().map(message).collect()
    }
}

async fn to_unix(path: &Path, messages: Vec<Vec<u8>>) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    for message in messages {
        socket.send_to(&message, path).await?;
    }
    Ok(())
}

async fn to_udp(address: SocketAddr, messages: Vec<Vec<u8>>) -> io::Result<()> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    for message in messages {
        socket.send(&message).await?;
    }
    match timeout(REFUSAL_WAIT, socket.recv(&mut [0])).await {
        Ok(Err(refused)) => Err(refused),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// Trusts whom this host does.
fn connector() -> anyhow::Result<TlsConnector> {
    // An error says that one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = ClientConfig::with_platform_verifier()
        .context("no TLS client; install the ca-certificates package")?;
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn to_stream(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    messages: Vec<Vec<u8>>,
) -> io::Result<()> {
    for message in messages {
        stream
            .write_all(format!("{} ", message.len()).as_bytes())
            .await?;
        stream.write_all(&message).await?;
    }
    stream.shutdown().await?;
    // The end of its stream says that it has read ours. Of TLS, many receivers leave it at closing
    // the connection.
    match stream.read(&mut [0; 512]).await {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(()),
    }
}

/// A receiver may have closed the connection before the batch came: its host answers that with a
/// reset, but the end of its stream is what is read first. Once both ends are closed, and the
/// kernel knows no peer any more, all was acknowledged or the reset is there.
async fn closed_in_turn(stream: &TcpStream) -> io::Result<()> {
    while stream.peer_addr().is_ok() {
        sleep(CLOSING_POLL).await;
    }
    stream.take_error()?.map_or(Ok(()), Err)
}

/// A message of RFC 5424.
fn message(notice: &Notice, style: SyslogStyle) -> String {
    let priority = FACILITY * 8 + severity(notice);
    let time = rfc3339(notice.time_ns);
    // RFC 5424 has microseconds at most.
    let time = time.get(..26).unwrap_or(&time);
    let host = name(&notice.host.name);
    let (data, text) = match style {
        SyslogStyle::Rfc5424 => (structured(notice), sentence(notice)),
        SyslogStyle::Cef => ("-".to_owned(), cef(notice)),
    };
    let id = name(&notice.rule);
    let mut message = format!("<{priority}>1 {time}Z {host} telltale - {id} {data} \u{feff}{text}");
    if style == SyslogStyle::Cef {
        // Readers of CEF look for its first letters, and stumble over a byte order mark.
        message = message.replacen('\u{feff}', "", 1);
    }
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    message
}

fn sentence(notice: &Notice) -> String {
    printable(&format!("{}: {}", notice.state.name(), notice.summary()))
}

/// Severity of RFC 5424.
fn severity(notice: &Notice) -> u8 {
    match (notice.state, &*notice.severity) {
        (State::Resolved, _) => 5,
        (_, "critical") => 2,
        (_, "warning") => 4,
        _ => 6,
    }
}

/// A header field: printable ASCII, at most 255 bytes.
fn name(text: &str) -> String {
    let plain = text.chars().filter(char::is_ascii_graphic).take(255);
    let plain: String = plain.collect();
    if plain.is_empty() {
        "-".to_owned()
    } else {
        plain
    }
}

/// Labels and annotations as structured data.
fn structured(notice: &Notice) -> String {
    let mut data = format!("[{STRUCTURED_ID} id=\"{}\"", notice.id);
    let state = ("state", notice.state.name());
    let pairs = notice.labels.iter().chain(&notice.annotations);
    let pairs = pairs.map(|(name, value)| (&**name, &**value));
    for (name, value) in [state].into_iter().chain(pairs) {
        let mut escaped = String::new();
        for character in printable(value).chars() {
            if matches!(character, '"' | '\\' | ']') {
                escaped.push('\\');
            }
            escaped.push(character);
        }
        // Writing to a string does not fail.
        let _ = write!(data, " {name}=\"{escaped}\"");
    }
    data.push(']');
    data
}

/// The Common Event Format, version 0.
fn cef(notice: &Notice) -> String {
    let level = match (notice.state, &*notice.severity) {
        (State::Resolved, _) => 1,
        (_, "critical") => 9,
        (_, "warning") => 6,
        _ => 3,
    };
    let header = |text: &str| printable(text).replace('\\', "\\\\").replace('|', "\\|");
    let mut message = format!(
        "CEF:0|Telltale|Telltale|{}|{}|{}|{level}|",
        env!("CARGO_PKG_VERSION"),
        header(&notice.rule),
        header(notice.summary()),
    );
    let label = |name: &str| notice.labels.get(name).map_or("", String::as_str);
    let annotation = |name: &str| notice.annotations.get(name).map_or("", String::as_str);
    let extension = [
        ("rt", &*(notice.time_ns / 1_000_000).to_string()),
        ("externalId", &notice.id),
        ("act", notice.state.name()),
        ("cat", "network"),
        ("dvchost", &notice.host.name),
        ("dhost", label("endpoint")),
        ("sproc", annotation("executable")),
        ("spid", annotation("pid")),
        ("suid", annotation("user_id")),
        ("cnt", &notice.occurrences.to_string()),
        ("cs1Label", "aiTool"),
        ("cs1", label("tool")),
        ("cs2Label", "verdict"),
        ("cs2", label("verdict")),
        ("cs3Label", "policyDigest"),
        ("cs3", annotation("policy_digest")),
        ("cs4Label", "runbook"),
        ("cs4", annotation("runbook")),
        ("reason", annotation("why")),
    ];
    let there = extension.into_iter().filter(|(_, value)| !value.is_empty());
    let pairs: Vec<String> = there
        .map(|(key, value)| {
            let value = printable(value).replace('\\', "\\\\").replace('=', "\\=");
            format!("{key}={value}")
        })
        .collect();
    message.push_str(&pairs.join(" "));
    message
}

/// One entry in the journal's native protocol.
fn journal_entry(notice: &Notice) -> Vec<u8> {
    let mut entry = Vec::new();
    let mut put = |name: &str, value: &str| {
        // With its length, a value may hold anything.
        entry.extend_from_slice(name.as_bytes());
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        entry.extend_from_slice(value.as_bytes());
        entry.push(b'\n');
    };
    put("MESSAGE", &sentence(notice));
    put("PRIORITY", &severity(notice).to_string());
    put("SYSLOG_IDENTIFIER", "telltale");
    put("TELLTALE_ID", &notice.id);
    put("TELLTALE_RULE", &notice.rule);
    put("TELLTALE_STATE", notice.state.name());
    for (name, value) in notice.labels.iter().chain(&notice.annotations) {
        put(&format!("TELLTALE_{}", name.to_ascii_uppercase()), value);
    }
    entry
}

/// The text without line ends and what a terminal would act on.
fn printable(text: &str) -> String {
    text.chars()
        .map(|character| {
            if is_unprintable(character) {
                ' '
            } else {
                character
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::core::report::AlertState;
    use crate::sink::fixture::{self, CLOCK};

    fn notice() -> Notice {
        let mut notice = Notice::new(&fixture::notice(AlertState::Fired), CLOCK, &fixture::host());
        let odd = "a=b \"c\" ]|\\\nd".to_owned();
        notice.annotations.insert("why".to_owned(), odd);
        notice
    }

    #[test]
    fn a_message_of_rfc_5424_escapes_its_data() {
        assert_eq!(
            message(&notice(), SyslogStyle::Rfc5424),
            "<130>1 2026-11-20T09:32:06.000000Z build-7 telltale - banned-tool \
             [telltale@32473 id=\"5f3c-5\" state=\"fired\" tool=\"claude-code\" \
             policy_digest=\"00ff\" runbook=\"docs/runbooks/README.md#banned-tool\" \
             summary=\"Claude Code is banned and runs\" why=\"a=b \\\"c\\\" \\]|\\\\ d\"] \
             \u{feff}fired: Claude Code is banned and runs"
        );
    }

    #[test]
    fn cef_escapes_its_header_and_its_extension() {
        let mut notice = notice();
        notice
            .annotations
            .insert("summary".to_owned(), "a|b\\c".to_owned());
        assert_eq!(
            message(&notice, SyslogStyle::Cef),
            format!(
                "<130>1 2026-11-20T09:32:06.000000Z build-7 telltale - banned-tool - \
                 CEF:0|Telltale|Telltale|{}|banned-tool|a\\|b\\\\c|9|rt=1795167126000 \
                 externalId=5f3c-5 act=fired cat=network dvchost=build-7 cnt=2 cs1Label=aiTool \
                 cs1=claude-code cs2Label=verdict cs3Label=policyDigest cs3=00ff cs4Label=runbook \
                 cs4=docs/runbooks/README.md#banned-tool reason=a\\=b \"c\" ]|\\\\ d",
                env!("CARGO_PKG_VERSION")
            )
        );
    }

    #[test]
    fn an_entry_of_the_journal_holds_any_text() {
        let entry = journal_entry(&notice());
        let text = String::from_utf8_lossy(&entry);
        assert!(
            text.starts_with("MESSAGE\n\u{25}\0\0\0\0\0\0\0fired: Claude"),
            "{text:?}"
        );
        assert!(text.contains("TELLTALE_WHY\n"), "{text:?}");
        assert!(text.contains("\\\nd\n"), "{text:?}");
    }

    #[tokio::test]
    async fn over_tcp_a_batch_counts_when_it_was_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = SyslogAddress::Tcp(listener.local_addr().unwrap());
        let style = SyslogStyle::Rfc5424;
        let syslog = Syslog::new(address, style).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        });
        let batch = [notice(), notice()];
        assert_eq!(syslog.deliver(&batch).await, Delivery::Delivered);
        let text = server.await.unwrap();
        let expect = message(&batch[0], style);
        assert_eq!(text, format!("{0} {expect}{0} {expect}", expect.len()));
        let gone = syslog.deliver(&batch).await;
        assert!(matches!(gone, Delivery::Unreachable(_)), "{gone:?}");
    }

    #[tokio::test]
    async fn a_receiver_that_closes_too_soon_has_taken_nothing() {
        const TIMES: usize = 500; // Its end meets each moment of a delivery.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = SyslogAddress::Tcp(listener.local_addr().unwrap());
        let syslog = Syslog::new(address, SyslogStyle::Rfc5424).unwrap();
        std::thread::spawn(move || (0..TIMES).for_each(|_| drop(listener.accept().unwrap())));
        for _ in 0..TIMES {
            let delivery = syslog.deliver(&[notice()]).await;
            assert!(matches!(delivery, Delivery::Unreachable(_)), "{delivery:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_never_says_that_it_has_read_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = SyslogAddress::Tcp(listener.local_addr().unwrap());
        let syslog = Syslog::new(address, SyslogStyle::Rfc5424).unwrap();
        let expect = Delivery::Unreachable("timed out".to_owned());
        assert_eq!(syslog.deliver(&[notice()]).await, expect);
    }

    #[tokio::test]
    async fn a_host_that_refuses_datagrams_is_heard() {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = SyslogAddress::Udp(receiver.local_addr().unwrap());
        let syslog = Syslog::new(address, SyslogStyle::Rfc5424).unwrap();
        assert_eq!(syslog.deliver(&[notice()]).await, Delivery::Delivered);
        drop(receiver);
        let refused = syslog.deliver(&[notice()]).await;
        assert!(
            matches!(&refused, Delivery::Unreachable(why) if why.contains("refused")),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn datagrams_carry_one_message_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let style = SyslogStyle::Cef;
        let syslog = Syslog::new(SyslogAddress::Unix(path), style).unwrap();
        assert_eq!(
            syslog.deliver(&[notice(), notice()]).await,
            Delivery::Delivered
        );
        for _ in 0..2 {
            let mut buffer = vec![0; 1 << 16];
            let length = receiver.recv(&mut buffer).await.unwrap();
            assert_eq!(buffer[..length], *message(&notice(), style).as_bytes());
        }
        drop((receiver, folder));
        let gone = syslog.deliver(&[notice()]).await;
        assert!(matches!(gone, Delivery::Unreachable(_)), "{gone:?}");
    }
}
