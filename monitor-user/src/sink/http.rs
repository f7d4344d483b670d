//! The web server: `/`, `/metrics`, `/-/healthy`, `/-/ready`.
//!
//! In: scrapes. Out: the state of the metrics at that moment. Each connection carries one
//! request and lives a bounded time, and their number is bounded, so that slow clients can
//! neither exhaust the host nor shut out the next scrape for long.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anyhow::anyhow;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::metrics::Metrics;

/// Connections served at one time; more wait in the listener's backlog. A fleet has a handful of
/// scrapers per host.
const CONNECTIONS_MAX: usize = 32;

/// Time for a client to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a whole connection: as long as Prometheus waits for a scrape by default.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

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
    let app = app(web);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let has_room = connections.len() < CONNECTIONS_MAX;
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listeners), if has_room => match accepted {
                Ok(stream) => {
                    connections.spawn(timeout(CONNECTION_TIMEOUT, connection(stream, app.clone())));
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
async fn connection(stream: TcpStream, app: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(REQUEST_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
        .await;
    if let Err(error) = served {
        tracing::debug!("a web client went away: {error}");
    }
}

fn app(web: Web) -> Router {
    Router::new()
        .route("/", get(landing))
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(|| async { "Telltale is healthy.\n" }))
        .route("/-/ready", get(ready))
        .with_state(web)
}

async fn metrics(State(web): State<Web>) -> Response {
    let encoded = spawn_blocking(move || web.metrics.encode()).await;
    match encoded {
        Ok(Ok(text)) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Ok(Err(error)) => broken(&error),
        Err(error) => broken(&error),
    }
}

fn broken(error: &dyn std::error::Error) -> Response {
    tracing::error!("cannot encode the metrics: {error}");
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("cannot encode the metrics: {error}\n"),
    )
        .into_response()
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
         <li><a href=\"/metrics\">Metrics</a></li>\n\
         <li><a href=\"/-/healthy\">Healthy</a></li>\n\
         <li><a href=\"/-/ready\">Ready</a></li>\n</ul>\n</body>\n</html>\n",
        escape(&web.version),
        escape(&state),
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
