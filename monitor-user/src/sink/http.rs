//! The web server: its listeners, its connections, and what clients may take.
//!
//! In: connections. Out: the answers of [`pages`]. Each connection carries one request and lives
//! a bounded time, and their number is bounded: a client that sends no request makes room for the
//! next one, so that no number of them shuts a scraper out.
//!
//! - [`pages`]: what is served where.
//! - [`status`]: the state of the monitor, as its pages tell it.
//! - [`web_config`]: TLS, users and headers, from the file that all exporters share.
//! - [`auth`]: the passwords of clients.

mod auth;
pub mod pages;
mod status;
pub mod web_config;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use anyhow::anyhow;
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use crate::metrics::Metrics;
use crate::metrics::outputs::WebRefusal;
use pages::Web;

/// What clients may take.
#[derive(Clone, Copy)]
struct Limits {
    /// Connections served at one time; more wait in the listener's backlog.
    connections: usize,
    /// Time after which a client that has sent no request makes room for one that waits.
    grace: Duration,
    /// Time for a client to send its request, its TLS handshake included.
    header_timeout: Duration,
    /// Time for a whole connection.
    connection_timeout: Duration,
}

/// A fleet has a handful of scrapers per host, and Prometheus waits 10 s for a scrape by default.
const LIMITS: Limits = Limits {
    connections: 32,
    grace: Duration::from_millis(250),
    header_timeout: Duration::from_secs(5),
    connection_timeout: Duration::from_secs(10),
};

/// Bytes of a request line with its headers.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// Wait after a failed accept: with no file descriptor left the next would fail at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Time that open connections get to end when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Binds the addresses to listen on.
///
/// # Errors
///
/// If one cannot be bound; the text names it and what to do.
pub async fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address).await;
        listeners.push(listener.map_err(|error| bind_error(*address, &error))?);
    }
    Ok(listeners)
}

fn bind_error(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there, perhaps another Telltale; stop it, or choose another \
             port"
        }
        io::ErrorKind::AddrNotAvailable => "this host has no such address; choose another",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one"
        }
        _ => "choose another address",
    };
    anyhow!("cannot listen on {address}: {error}: {remedy} with --web.listen-address")
}

/// Serves until `shutdown` resolves, then lets open connections end for a moment.
pub async fn serve(listeners: Vec<TcpListener>, web: Web, shutdown: impl Future<Output = ()>) {
    serve_within(LIMITS, listeners, web, shutdown).await;
}

async fn serve_within(
    limits: Limits,
    listeners: Vec<TcpListener>,
    web: Web,
    shutdown: impl Future<Output = ()>,
) {
    let metrics = Arc::clone(&web.metrics);
    let app = pages::router(web.clone());
    let mut connections = JoinSet::new();
    let mut waiting = Waiting::default();
    let mut shutdown = pin!(shutdown);
    loop {
        let full = connections.len() >= limits.connections;
        let oldest = waiting.oldest();
        let due = oldest.map_or_else(Instant::now, |since| since + limits.grace);
        let has_room = !full || (oldest.is_some() && due <= Instant::now());
        tokio::select! {
            () = &mut shutdown => break,
            () = sleep_until(due), if !has_room && oldest.is_some() => {}
            Some(_) = connections.join_next() => {}
            accepted = accept(&listeners), if has_room => match accepted {
                Ok(stream) => {
                    if full && waiting.make_room() {
                        metrics.web_refused(WebRefusal::NoRequest);
                    }
                    let asked = Arc::new(AtomicBool::new(false));
                    let connection = Connection {
                        tls: web.config_now().tls.clone(),
                        app: app.clone(),
                        limits,
                        asked: Arc::clone(&asked),
                        metrics: Arc::clone(&metrics),
                    };
                    waiting.push(connections.spawn(connection.serve(stream)), asked);
                }
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
    drop(listeners);
    let ended = async { while connections.join_next().await.is_some() {} };
    // Those that did not end in time are closed with the set.
    let _ = timeout(DRAIN_TIMEOUT, ended).await;
}

/// Connections that have sent no request yet, the oldest first.
#[derive(Default)]
struct Waiting(VecDeque<Silent>);

struct Silent {
    since: Instant,
    task: AbortHandle,
    asked: Arc<AtomicBool>,
}

impl Waiting {
    fn push(&mut self, task: AbortHandle, asked: Arc<AtomicBool>) {
        self.forget();
        let since = Instant::now();
        self.0.push_back(Silent { since, task, asked });
    }

    /// Since when the oldest has been there.
    fn oldest(&mut self) -> Option<Instant> {
        self.forget();
        self.0.front().map(|silent| silent.since)
    }

    /// Ends the oldest, if there is one.
    fn make_room(&mut self) -> bool {
        self.forget();
        let oldest = self.0.pop_front();
        oldest.is_some_and(|silent| {
            silent.task.abort();
            true
        })
    }

    /// Forgets those that have ended, or asked by now.
    fn forget(&mut self) {
        self.0
            .retain(|it| !it.task.is_finished() && !it.asked.load(Ordering::Relaxed));
    }
}

/// The next connection on any of the listeners.
async fn accept(listeners: &[TcpListener]) -> io::Result<TcpStream> {
    poll_fn(|context| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    })
    .await
}

/// One client.
struct Connection {
    tls: Option<Arc<ServerConfig>>,
    app: Router,
    limits: Limits,
    /// Its request is there.
    asked: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

impl Connection {
    /// Serves its one request.
    async fn serve(self, stream: TcpStream) {
        let Connection {
            limits,
            ref metrics,
            ..
        } = self;
        let metrics = Arc::clone(metrics);
        let served = async {
            let Some(tls) = self.tls.clone() else {
                return self.answer(stream).await;
            };
            let handshake = TlsAcceptor::from(tls).accept(stream);
            match timeout(limits.header_timeout, handshake).await {
                Ok(Ok(stream)) => self.answer(stream).await,
                Ok(Err(error)) => {
                    self.metrics.web_refused(WebRefusal::Tls);
                    tracing::debug!("a TLS handshake failed: {error}");
                }
                Err(_) => self.metrics.web_refused(WebRefusal::TooSlow),
            }
        };
        if timeout(limits.connection_timeout, served).await.is_err() {
            metrics.web_refused(WebRefusal::TooSlow);
            tracing::debug!("a web client was too slow");
        }
    }

    async fn answer(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let app = TowerToHyperService::new(self.app.clone());
        let service = service_fn(|request| {
            self.asked.store(true, Ordering::Relaxed);
            app.call(request)
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_buf_size(REQUEST_BYTES_MAX)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        match served.await {
            Ok(()) => {}
            Err(error) if error.is_timeout() => self.metrics.web_refused(WebRefusal::TooSlow),
            Err(error) => tracing::debug!("a web client went away: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::path::Path;

    use flate2::read::GzDecoder;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use rustls::RootCertStore;
    use rustls::pki_types::{CertificateDer, ServerName};
    use tokio::sync::watch;
    use tokio_rustls::TlsConnector;

    use super::pages::{About, PolicyStatus, Readiness};
    use super::web_config::WebConfigFile;
    use super::*;
    use crate::metrics::BuildInfo;

    /// As [`LIMITS`], with less patience.
    const QUICK: Limits = Limits {
        connections: 2,
        grace: Duration::from_millis(50),
        header_timeout: Duration::from_millis(200),
        connection_timeout: Duration::from_millis(400),
    };

    struct Server {
        address: SocketAddr,
        second_address: SocketAddr,
        readiness: watch::Sender<Readiness>,
        stop: oneshot::Sender<()>,
        task: tokio::task::JoinHandle<()>,
        metrics: Arc<Metrics>,
    }

    async fn start(limits: Limits) -> Server {
        start_with(limits, None).await
    }

    async fn start_with(limits: Limits, config: Option<&Path>) -> Server {
        let build = BuildInfo {
            version: "<1>".into(),
            ..BuildInfo::default()
        };
        let metrics = Arc::new(Metrics::new(std::iter::empty(), &build, "5f3c").unwrap());
        let not_yet = Readiness::NotReady("connect4 is not attached: <no BTF>".into());
        let (readiness, receiver) = watch::channel(not_yet);
        let any = "127.0.0.1:0".parse().unwrap();
        let listeners = bind(&[any, any]).await.unwrap();
        let (address, second_address) = (
            listeners[0].local_addr().unwrap(),
            listeners[1].local_addr().unwrap(),
        );
        let about = About {
            version: build.version,
            ..About::default()
        };
        let web = Web {
            metrics: Arc::clone(&metrics),
            telemetry_path: "/metrics".into(),
            about: Arc::new(about),
            readiness: receiver,
            policy: watch::channel(PolicyStatus::default()).1,
            config: config.map(|path| Arc::new(WebConfigFile::open(path).unwrap())),
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve_within(limits, listeners, web, async {
            let _ = stopped.await;
        }));
        Server {
            address,
            second_address,
            readiness,
            stop,
            task,
            metrics,
        }
    }

    /// Head and body of the answer to this request line and headers.
    async fn ask(address: SocketAddr, request: &str) -> (String, String) {
        let (head, body) = ask_bytes(address, request).await;
        (head, String::from_utf8(body).unwrap())
    }

    async fn ask_bytes(address: SocketAddr, request: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream
            .write_all(format!("{request}\r\nHost: x\r\n\r\n").as_bytes())
            .await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let end = answer.windows(4).position(|it| it == b"\r\n\r\n");
        let body = end.map_or_else(Vec::new, |end| answer.split_off(end + 4));
        (String::from_utf8(answer).unwrap(), body)
    }

    #[track_caller]
    fn assert_answer(answer: &(String, String), status: &str, body: &str) {
        assert!(
            answer.0.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer:?}"
        );
        assert!(answer.1.contains(body), "{answer:?}");
    }

    #[tokio::test]
    async fn the_pages_say_what_is() {
        let server = start(LIMITS).await;
        let get = async |path: &str| ask(server.address, &format!("GET {path} HTTP/1.1")).await;
        let metrics = get("/metrics").await;
        assert_answer(&metrics, "200", "\ntelltale_build_info{");
        assert!(
            metrics
                .0
                .contains("content-type: text/plain; version=0.0.4"),
            "{}",
            metrics.0
        );
        assert_answer(&get("/-/healthy").await, "200", "healthy");
        assert_answer(
            &get("/-/ready").await,
            "503",
            "connect4 is not attached: <no BTF>",
        );
        let landing = get("/").await;
        assert_answer(&landing, "200", "href=\"/metrics\"");
        assert_answer(&landing, "200", "connect4 is not attached: &lt;no BTF");
        server.readiness.send(Readiness::Ready).unwrap();
        assert_answer(&get("/-/ready").await, "200", "ready");
        assert_answer(&get("/").await, "200", "Coverage is incomplete");
        assert_answer(&get("/status").await, "200", "\"coverage\"");
        assert_answer(&get("/etc/passwd").await, "404", "");
        let post = ask(server.second_address, "POST /metrics HTTP/1.1").await;
        assert_answer(&post, "405", "");
        assert_answer(
            &ask(server.second_address, "HEAD /metrics HTTP/1.1").await,
            "200",
            "",
        );
    }

    #[tokio::test]
    async fn a_scraper_gets_the_format_and_the_encoding_it_asks_for() {
        let server = start(LIMITS).await;
        let open = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        let answer = ask(server.address, &format!("GET /metrics HTTP/1.1\r\n{open}")).await;
        assert_answer(&answer, "200", "\n# EOF\n");
        assert!(
            answer
                .0
                .contains("application/openmetrics-text; version=1.0.0"),
            "{}",
            answer.0
        );
        let request = "GET /metrics HTTP/1.1\r\nAccept-Encoding: deflate, gzip;q=0.5";
        let (head, body) = ask_bytes(server.address, request).await;
        assert!(head.contains("content-encoding: gzip"), "{head}");
        let mut text = String::new();
        GzDecoder::new(&*body).read_to_string(&mut text).unwrap();
        assert!(text.contains("\ntelltale_build_info{"), "{text}");
        assert!(!text.contains("# EOF"));
    }

    #[tokio::test]
    async fn a_hundred_scrapers_at_once_are_all_served() {
        let server = start(LIMITS).await;
        let mut scrapes = JoinSet::new();
        for _ in 0..100 {
            scrapes.spawn(ask(server.address, "GET /metrics HTTP/1.1"));
        }
        for answer in scrapes.join_all().await {
            assert_answer(&answer, "200", "telltale_build_info");
        }
    }

    #[tokio::test]
    async fn clients_that_send_nothing_do_not_shut_out_the_next() {
        let server = start(QUICK).await;
        let mut silent = Vec::new();
        for _ in 0..QUICK.connections {
            silent.push(TcpStream::connect(server.address).await.unwrap());
        }
        assert_answer(
            &ask(server.address, "GET /-/healthy HTTP/1.1").await,
            "200",
            "healthy",
        );
        for mut stream in silent {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    }

    #[tokio::test]
    async fn clients_that_trickle_headers_do_not_shut_out_the_next() {
        let server = start(QUICK).await;
        let mut slow = JoinSet::new();
        for _ in 0..QUICK.connections {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            slow.spawn(async move {
                stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
                while stream.write_all(b"X: y\r\n").await.is_ok() {
                    sleep(Duration::from_millis(20)).await;
                }
            });
        }
        assert_answer(
            &ask(server.address, "GET /-/healthy HTTP/1.1").await,
            "200",
            "healthy",
        );
    }

    #[tokio::test]
    async fn a_request_with_a_megabyte_of_headers_is_refused() {
        let server = start(LIMITS).await;
        let request = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(1 << 20));
        let (head, _) = ask(server.address, &request).await;
        assert!(
            head.is_empty() || head.starts_with("HTTP/1.1 431"),
            "{head}"
        );
        assert_answer(
            &ask(server.address, "GET /-/healthy HTTP/1.1").await,
            "200",
            "",
        );
    }

    #[tokio::test]
    async fn it_stops_when_told_even_with_a_client_that_lingers() {
        let server = start(LIMITS).await;
        let _lingering = TcpStream::connect(server.address).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        server.stop.send(()).unwrap();
        timeout(2 * DRAIN_TIMEOUT, server.task)
            .await
            .unwrap()
            .unwrap();
        assert!(TcpStream::connect(server.address).await.is_err());
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_bound_is_named_with_the_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr();
        let taken = TcpListener::bind(taken.unwrap()).await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(&[address]).await.unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        assert!(error.contains("another program listens there"), "{error}");
        assert!(error.contains("--web.listen-address"), "{error}");
        let error = bind(&["192.0.2.1:10142".parse().unwrap()])
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("no such address"), "{error}");
    }

    /// A web configuration with TLS and a user, and the certificate to trust.
    fn secured(folder: &Path) -> (std::path::PathBuf, CertificateDer<'static>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let hash = bcrypt::hash("secret", 4).unwrap();
        let text = format!(
            "tls_server_config: {{cert_file: cert.pem, key_file: key.pem}}\n\
             http_server_config: {{headers: {{X-Frame-Options: deny}}}}\n\
             basic_auth_users: {{alice: {hash}}}\n"
        );
        let path = folder.join("web-config.yml");
        fs::write(&path, text).unwrap();
        (path, made.cert.der().clone())
    }

    #[tokio::test]
    async fn with_a_web_configuration_only_its_users_are_answered_over_tls() {
        let folder = tempfile::tempdir().unwrap();
        let (path, certificate) = secured(folder.path());
        let server = start_with(LIMITS, Some(&path)).await;
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(client));
        let ask_as = async |user: &str| {
            let stream = TcpStream::connect(server.address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = connector.connect(name, stream).await.unwrap();
            let user = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, user);
            let request =
                format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {user}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            answer
        };
        let answer = ask_as("alice:secret").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("x-frame-options: deny"), "{answer}");
        let answer = ask_as("alice:wrong").await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        assert!(answer.contains("www-authenticate: Basic"), "{answer}");
        assert!(!answer.contains("telltale_"), "{answer}");
        // Plain HTTP gets nothing.
        let (head, _) = ask(server.address, "GET /metrics HTTP/1.1").await;
        assert!(!head.contains("200"), "{head}");
        let text = server.metrics.encode(crate::metrics::encode::Format::Text);
        for reason in ["tls", "unauthorized"] {
            let series = format!("telltale_web_refused_total{{reason=\"{reason}\"}} 1\n");
            assert!(text.contains(&series), "no {series} in {text}");
        }
    }

    /// More silent clients than there is room for, and none of them goes away.
    #[tokio::test]
    async fn silent_clients_make_room_at_once() {
        let patient = Limits {
            connections: 2,
            grace: Duration::from_millis(50),
            header_timeout: Duration::from_secs(60),
            connection_timeout: Duration::from_secs(60),
        };
        let server = start(patient).await;
        let mut silent = Vec::new();
        for _ in 0..10 {
            silent.push(TcpStream::connect(server.address).await.unwrap());
        }
        let answer = timeout(
            Duration::from_secs(5),
            ask(server.address, "GET /-/healthy HTTP/1.1"),
        );
        assert_answer(&answer.await.unwrap(), "200", "healthy");
        let text = server.metrics.encode(crate::metrics::encode::Format::Text);
        assert!(
            text.contains("telltale_web_refused_total{reason=\"no_request\"} 9\n"),
            "{text}"
        );
    }
}
