//! The web server: `/`, `/metrics`, `/-/healthy`, `/-/ready`.
//!
//! In: scrapes. Out: the state of the metrics at that moment. Each connection carries one
//! request and lives a bounded time, and their number is bounded, so that slow clients can
//! neither exhaust the host nor shut out the next scrape for long.

use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anyhow::anyhow;
use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::metrics::Metrics;
use crate::metrics::encode::Format;

/// What clients may take.
#[derive(Clone, Copy)]
struct Limits {
    /// Connections served at one time; more wait in the listener's backlog.
    connections: usize,
    /// Time for a client to send its request.
    header_timeout: Duration,
    /// Time for a whole connection.
    connection_timeout: Duration,
}

/// A fleet has a handful of scrapers per host, and Prometheus waits 10 s for a scrape by default.
const LIMITS: Limits = Limits {
    connections: 32,
    header_timeout: Duration::from_secs(5),
    connection_timeout: Duration::from_secs(10),
};

/// Bytes of a request line with its headers.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// Wait after a failed accept: with no file descriptor left the next would fail at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Time that open connections get to end when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the monitor sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It does not, or not everything, for this reason.
    NotReady(String),
    /// All hooks are attached.
    Ready,
}

/// What the pages show.
#[derive(Clone)]
pub struct Web {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Path of the metrics: starts with `/`, and is none of the other pages'.
    pub telemetry_path: String,
    /// Version of the program.
    pub version: String,
    /// Whether the monitor sees; its owner changes it.
    pub readiness: watch::Receiver<Readiness>,
}

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
    let app = app(web);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let has_room = connections.len() < limits.connections;
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listeners), if has_room => match accepted {
                Ok(stream) => {
                    connections.spawn(connection(stream, app.clone(), limits));
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

/// Serves the one request of a connection.
async fn connection(stream: TcpStream, app: Router, limits: Limits) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(REQUEST_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    match timeout(limits.connection_timeout, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a web client went away: {error}"),
        Err(_) => tracing::debug!("a web client was too slow"),
    }
}

fn app(web: Web) -> Router {
    Router::new()
        .route("/", get(landing))
        .route(&web.telemetry_path.clone(), get(metrics))
        .route("/-/healthy", get(|| async { "Telltale is healthy.\n" }))
        .route("/-/ready", get(ready))
        .with_state(web)
}

/// The metrics, in the format and encoding that the scraper asks for.
async fn metrics(State(web): State<Web>, headers: HeaderMap) -> Response {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let format = Format::of_accept(header(ACCEPT).unwrap_or_default());
    let zipped = accepts_gzip(header(ACCEPT_ENCODING).unwrap_or_default());
    // Ten thousand series take tens of milliseconds, which a worker must not be held for.
    let encoded = spawn_blocking(move || {
        let text = web.metrics.encode(format).into_bytes();
        if zipped { gzip(&text) } else { Ok(text) }
    });
    let body = match encoded.await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return broken(&error),
        Err(error) => return broken(&error),
    };
    let mut response = ([(CONTENT_TYPE, format.content_type())], body).into_response();
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if zipped {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Whether an `Accept-Encoding` header names gzip, and does not forbid it.
fn accepts_gzip(header: &str) -> bool {
    header.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        named && weight.is_none_or(|weight| weight.parse().is_ok_and(|weight: f64| weight > 0.0))
    })
}

fn gzip(text: &[u8]) -> io::Result<Vec<u8>> {
    // Metrics repeat themselves so much that the fastest level makes them 20 times smaller.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text)?;
    encoder.finish()
}

fn broken(error: &dyn std::error::Error) -> Response {
    tracing::error!("cannot encode the metrics: {error}");
    let text = format!("cannot encode the metrics: {error}\n");
    (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
}

async fn ready(State(web): State<Web>) -> (StatusCode, String) {
    match &*web.readiness.borrow() {
        Readiness::Ready => (StatusCode::OK, "Telltale is ready.\n".to_owned()),
        Readiness::NotReady(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("Telltale is not ready: {reason}\n"),
        ),
    }
}

async fn landing(State(web): State<Web>) -> Html<String> {
    let state = match &*web.readiness.borrow() {
        Readiness::Ready => "ready: all hooks are attached".to_owned(),
        Readiness::NotReady(reason) => format!("not ready: {reason}"),
    };
    Html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <title>Telltale</title></head>\n<body>\n<h1>Telltale</h1>\n\
         <p>Which AI tools on this host talk to whom.</p>\n\
         <p>Version {}, {}.</p>\n<ul>\n\
         <li><a href=\"{}\">Metrics</a></li>\n\
         <li><a href=\"/-/healthy\">Healthy</a></li>\n\
         <li><a href=\"/-/ready\">Ready</a></li>\n</ul>\n</body>\n</html>\n",
        escape(&web.version),
        escape(&state),
        escape(&web.telemetry_path),
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;
    use crate::metrics::BuildInfo;

    /// As [`LIMITS`], with less patience.
    const QUICK: Limits = Limits {
        connections: 2,
        header_timeout: Duration::from_millis(200),
        connection_timeout: Duration::from_millis(400),
    };

    struct Server {
        address: SocketAddr,
        second_address: SocketAddr,
        readiness: watch::Sender<Readiness>,
        stop: oneshot::Sender<()>,
        task: tokio::task::JoinHandle<()>,
    }

    async fn start(limits: Limits) -> Server {
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
        let web = Web {
            metrics,
            telemetry_path: "/metrics".into(),
            version: build.version,
            readiness: receiver,
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
        assert_answer(
            &landing,
            "200",
            "Version &lt;1&gt;, not ready: connect4 is not attached: &lt;",
        );
        server.readiness.send(Readiness::Ready).unwrap();
        assert_answer(&get("/-/ready").await, "200", "ready");
        assert_answer(&get("/").await, "200", "all hooks are attached");
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

    #[test]
    fn gzip_is_sent_to_who_asks_for_it() {
        for (header, expect) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.1", true),
            ("", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("*", false),
        ] {
            assert_eq!(accepts_gzip(header), expect, "{header:?}");
        }
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
}
