//! Takes alerts to a receiver by HTTP POST.
//!
//! In: batches of alerts. Out: JSON bodies to one URL.
//!
//! Nothing is followed, looked up or sent that the operator did not configure: no redirects,
//! and no proxy from the environment.

use std::time::Duration;

use anyhow::Context;
use hmac::{Hmac, Mac};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response, StatusCode, Url, redirect};
use sha2::Sha256;

use super::notice::Notice;
use super::post::{Delivery, Transport};
use crate::host::clock::unix_ns;

/// Bytes of a refusal that are read and logged.
const REFUSAL_BYTES_MAX: usize = 512;

/// Time to resolve a name and connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Header with the time of a signed body: unix time in seconds.
const TIMESTAMP_HEADER: &str = "X-Telltale-Timestamp";
/// Header with the signature: `sha256=` and, in hex, the HMAC-SHA256 of the timestamp, a dot and
/// the body.
const SIGNATURE_HEADER: &str = "X-Telltale-Signature";

/// Writes alerts as a receiver wants them.
pub trait Format: Send + Sync + 'static {
    /// Alerts per body, at least 1. It bounds the body, together with the size of an alert.
    const BATCH_MAX: usize;
    /// Whether the receiver is told again of what fires still.
    const REPEATS: bool = true;

    /// Writes a JSON body. `now_ns` is the unix time at which it is sent.
    fn body(&self, notices: &[Notice], now_ns: u64) -> String;
}

/// Where to post, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// `http` or `https`.
    pub url: Url,
    /// Time for a whole attempt.
    pub timeout: Duration,
    /// Signs bodies with this key, if there is one.
    pub secret: Option<Vec<u8>>,
}

/// Posts what a format writes.
pub struct HttpPost<F> {
    client: Client,
    target: Target,
    format: F,
}

impl<F: Format> HttpPost<F> {
    /// Connects when the first alert comes, not before.
    ///
    /// # Errors
    ///
    /// If the URL is https and the host has no CA certificates.
    pub fn new(target: Target, format: F) -> anyhow::Result<Self> {
        let client =
            client(&target).context("no TLS client; install the ca-certificates package")?;
        Ok(HttpPost {
            client,
            target,
            format,
        })
    }

    async fn attempt(&self, body: String) -> Delivery {
        let Target { url, secret, .. } = &self.target;
        let mut request = self
            .client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json");
        if let Some(secret) = secret {
            let timestamp = (unix_ns() / 1_000_000_000).to_string();
            let signature = signature(secret, &timestamp, &body);
            request = request
                .header(TIMESTAMP_HEADER, timestamp)
                .header(SIGNATURE_HEADER, signature);
        }
        match request.body(body).send().await {
            Ok(response) if response.status().is_success() => Delivery::Delivered,
            Ok(response) => refusal(response).await,
            // Without the URL, which may hold a password.
            Err(error) => {
                let error = anyhow::Error::from(error.without_url());
                Delivery::Unreachable(format!("{error:#}"))
            }
        }
    }
}

impl<F: Format> Transport for HttpPost<F> {
    const BATCH_MAX: usize = F::BATCH_MAX;
    const REPEATS: bool = F::REPEATS;

    async fn deliver(&self, notices: &[Notice]) -> Delivery {
        self.attempt(self.format.body(notices, unix_ns())).await
    }
}

/// Connects to nobody but `target`.
pub(super) fn client(target: &Target) -> anyhow::Result<Client> {
    // An error says that one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .user_agent(concat!("telltale/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT.min(target.timeout))
        .timeout(target.timeout);
    // Without https there is no need to have, and to read, the CA certificates of the host.
    let client = if target.url.scheme() == "https" {
        client
    } else {
        client.tls_certs_only([])
    };
    Ok(client.build()?)
}

/// The value of [`SIGNATURE_HEADER`].
fn signature(secret: &[u8], timestamp: &str, body: &str) -> String {
    // HMAC takes keys of any length.
    let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(secret) else {
        return String::new();
    };
    for part in [timestamp, ".", body] {
        hmac.update(part.as_bytes());
    }
    let digest = hmac.finalize().into_bytes();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

/// What a status other than success means.
pub(super) async fn refusal(mut response: Response) -> Delivery {
    let status = response.status();
    let mut text = Vec::new();
    while text.len() < REFUSAL_BYTES_MAX {
        let Ok(Some(chunk)) = response.chunk().await else {
            break;
        };
        text.extend_from_slice(&chunk);
    }
    text.truncate(REFUSAL_BYTES_MAX);
    let why = format!("{status}: {:?}", String::from_utf8_lossy(&text));
    // A password may be mended, a path be put back, a redirection be taken away, by people: what
    // is wrong with the body itself is wrong for ever.
    let for_ever = [
        StatusCode::BAD_REQUEST,
        StatusCode::PAYLOAD_TOO_LARGE,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        StatusCode::UNPROCESSABLE_ENTITY,
    ];
    if for_ever.contains(&status) {
        Delivery::Rejected(why)
    } else {
        Delivery::Busy(why)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode as Answer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::core::report::AlertState;
    use crate::sink::fixture::{self, CLOCK, TestReceiver};

    /// Writes the ids.
    struct Ids;

    impl Format for Ids {
        const BATCH_MAX: usize = 4;

        fn body(&self, notices: &[Notice], _: u64) -> String {
            let ids = notices.iter().map(|notice| &*notice.id);
            serde_json::json!(ids.collect::<Vec<_>>()).to_string()
        }
    }

    async fn deliver_to(url: &str) -> Delivery {
        let target = Target {
            url: Url::parse(url).unwrap(),
            timeout: Duration::from_millis(300),
            secret: None,
        };
        let notice = Notice::new(&fixture::notice(AlertState::Fired), CLOCK, &fixture::host());
        let post = HttpPost::new(target, Ids).unwrap();
        post.deliver(&[notice]).await
    }

    /// A listener that takes connections and never says a word.
    async fn hanging() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        (listener, url)
    }

    #[track_caller]
    fn assert_why(delivery: Delivery, expect: fn(String) -> Delivery, part: &str) {
        let (Delivery::Rejected(why) | Delivery::Busy(why) | Delivery::Unreachable(why)) =
            delivery.clone()
        else {
            panic!("delivered");
        };
        assert_eq!(delivery, expect(why.clone()));
        assert!(why.contains(part), "{why}");
    }

    #[tokio::test]
    async fn an_answer_says_whether_to_try_again() {
        for (answer, expect) in [
            (
                Answer::INTERNAL_SERVER_ERROR,
                Delivery::Busy as fn(String) -> Delivery,
            ),
            (Answer::TOO_MANY_REQUESTS, Delivery::Busy),
            (Answer::NOT_FOUND, Delivery::Busy),
            (Answer::UNAUTHORIZED, Delivery::Busy),
            (Answer::BAD_REQUEST, Delivery::Rejected),
            (Answer::UNPROCESSABLE_ENTITY, Delivery::Rejected),
        ] {
            let receiver = TestReceiver::start(vec![answer]).await;
            assert_why(deliver_to(&receiver.url).await, expect, answer.as_str());
        }
        let receiver = TestReceiver::start(vec![]).await;
        assert_eq!(deliver_to(&receiver.url).await, Delivery::Delivered);
        assert_eq!(receiver.bodies(), ["[\"5f3c-5\"]"]);
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let (target, target_url) = hanging().await;
        let (listener, url) = hanging().await;
        let answer =
            format!("HTTP/1.1 307 X\r\nLocation: {target_url}\r\nContent-Length: 0\r\n\r\n");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream
        });
        assert_why(deliver_to(&url).await, Delivery::Busy, "307");
        let contacted = tokio::time::timeout(Duration::from_millis(50), target.accept()).await;
        assert!(contacted.is_err());
        server.abort();
    }

    #[tokio::test]
    async fn a_receiver_that_is_gone_hangs_or_speaks_no_tls_is_unreachable() {
        let (listener, url) = hanging().await;
        assert_why(deliver_to(&url).await, Delivery::Unreachable, "timed out");
        drop(listener);
        assert_why(deliver_to(&url).await, Delivery::Unreachable, "refused");
        let receiver = TestReceiver::start(vec![]).await;
        let url = receiver.url.replace("http:", "https:");
        assert_why(deliver_to(&url).await, Delivery::Unreachable, "");
        assert!(receiver.bodies().is_empty());
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut() {
        let (listener, url) = hanging().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            let head = "HTTP/1.1 400 X\r\nContent-Length: 1000000000\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut sent = 0u64;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {
                sent += 4096;
            }
            sent
        });
        assert_why(deliver_to(&url).await, Delivery::Rejected, "400");
        let sent = server.await.unwrap();
        assert!(sent < 100_000_000, "{sent} bytes were taken");
    }

    #[test]
    fn a_signature_covers_time_and_body() {
        // As `printf %s '1795167120.{}' | openssl dgst -sha256 -hmac key` says.
        let expect = "sha256=a03db608b1ea7cbfd7a750d2090e996edbc918be324f9b659133dceaad7c4de7";
        assert_eq!(signature(b"key", "1795167120", "{}"), expect);
        assert_ne!(signature(b"key", "1795167121", "{}"), expect);
        assert_ne!(signature(b"other", "1795167120", "{}"), expect);
    }
}
