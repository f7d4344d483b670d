//! What the web server serves: `/`, `/metrics`, `/status`, `/-/healthy`, `/-/ready`.
//!
//! In: requests. Out: the state of the monitor at that moment, as a page, as metrics or as JSON.
//! Where the web configuration names users, every path is for them alone.

use std::io::{self, Write};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::auth::Gate;
use super::status;
use super::web_config::{WebConfig, WebConfigFile};
use crate::core::policy::Policy;
use crate::metrics::Metrics;
use crate::metrics::encode::Format;
use crate::metrics::outputs::WebRefusal;

/// Whether the monitor sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It does not, or not everything, for this reason.
    NotReady(String),
    /// All hooks are attached.
    Ready,
}

/// What the pages show, and to whom.
#[derive(Clone)]
pub struct Web {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Path of the metrics: starts with `/`, and is none of the other pages'.
    pub telemetry_path: String,
    /// What does not change while Telltale runs.
    pub about: Arc<About>,
    /// By what is judged; its owner changes it.
    pub policy: watch::Receiver<PolicyStatus>,
    /// Whether the monitor sees; its owner changes it.
    pub readiness: watch::Receiver<Readiness>,
    /// TLS, users and headers.
    pub config: Option<Arc<WebConfigFile>>,
}

/// What does not change while Telltale runs.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Version of the program.
    pub version: String,
    /// SHA-256 of the kernel object, in hex.
    pub object_digest: String,
    /// Name of the host.
    pub host: String,
}

/// By what is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyStatus {
    /// SHA-256 of rules and exceptions, in hex.
    pub digest: String,
    /// SHA-256 of the catalog's files, in hex.
    pub catalog_digest: String,
    /// Number of rules.
    pub rules: usize,
    /// Number of exceptions, those included that are over.
    pub exceptions: usize,
    /// Tools that must not run.
    pub banned: Vec<String>,
    /// Why what was written last is not what judges; `None` if it is.
    pub rejected: Option<String>,
}

impl PolicyStatus {
    /// Of a policy in force.
    #[must_use]
    pub fn of(policy: &Policy, catalog_digest: &str) -> PolicyStatus {
        PolicyStatus {
            digest: policy.digest().to_string(),
            catalog_digest: catalog_digest.to_owned(),
            rules: policy.rules().len(),
            exceptions: policy.exceptions().len(),
            banned: policy.banned().iter().map(ToString::to_string).collect(),
            rejected: None,
        }
    }
}

impl Web {
    /// The scheme that clients are to use.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self.config_now().tls {
            Some(_) => "https",
            None => "http",
        }
    }

    /// The web configuration as it is now; without a file, plain HTTP for everyone.
    pub(super) fn config_now(&self) -> Arc<WebConfig> {
        let Some(file) = &self.config else {
            return Arc::default();
        };
        let (config, usable) = file.current();
        self.metrics.set_web_config(usable);
        config
    }
}

/// What is served where.
pub fn router(web: Web) -> Router {
    let doors = Doors {
        web: web.clone(),
        gate: Arc::default(),
    };
    Router::new()
        .route("/", get(landing))
        .route(&web.telemetry_path.clone(), get(metrics))
        .route("/status", get(status_json))
        .route("/-/healthy", get(|| async { "Telltale is healthy.\n" }))
        .route("/-/ready", get(ready))
        .layer(from_fn_with_state(doors, through_the_doors))
        .with_state(web)
}

/// Who is let in.
#[derive(Clone)]
struct Doors {
    web: Web,
    gate: Arc<Gate>,
}

/// Asks for a password where one is wanted, and adds the headers of every answer.
async fn through_the_doors(State(doors): State<Doors>, request: Request, next: Next) -> Response {
    let config = doors.web.config_now();
    let header = request.headers().get(AUTHORIZATION);
    let header = header
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let admitted = config.users.is_empty() || doors.gate.admits(&config.users, header).await;
    let mut response = if admitted {
        next.run(request).await
    } else {
        doors.web.metrics.web_refused(WebRefusal::Unauthorized);
        let ask = HeaderValue::from_static("Basic");
        (
            StatusCode::UNAUTHORIZED,
            [(WWW_AUTHENTICATE, ask)],
            "Unauthorized\n",
        )
            .into_response()
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    for (name, value) in &config.headers {
        headers.insert(name.clone(), value.clone());
    }
    response
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
    tracing::error!("cannot answer: {error}");
    let text = format!("cannot answer: {error}\n");
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

/// The state for programs. Its fields are described in `docs/web.md`.
async fn status_json(State(web): State<Web>) -> Response {
    let status = spawn_blocking(move || status::json(&web)).await;
    match status {
        Ok(text) => ([(CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => broken(&error),
    }
}

/// The state for a person.
async fn landing(State(web): State<Web>) -> Response {
    let page = match spawn_blocking(move || status::page(&web)).await {
        Ok(page) => page,
        Err(error) => return broken(&error),
    };
    // The page is all there is: nothing is loaded, and no script runs.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                  form-action 'none'; frame-ancestors 'none'";
    ([(CONTENT_SECURITY_POLICY, policy)], Html(page)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
