//! The receivers of alerts that are configured, started.
//!
//! In: the section `[alerts]`, and which host tells. Out: a [`Post`] for each receiver, with its
//! spool. Without a receiver, no connection is ever opened.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use super::HostInfo;
use super::alertmanager::{Alertmanager, alerts_url};
use super::http_post::{Format, HttpPost, Target};
use super::post::{Post, Retry, Transport};
use super::slack::Slack;
use super::spool::Spool;
use super::syslog::Syslog;
use super::webhook::Webhook;
use crate::config::{Alerts, Receiver};

/// Longest key of a webhook's signature.
const SECRET_BYTES_MAX: usize = 4096;

/// Starts all receivers. Must be called within a Tokio runtime.
///
/// # Errors
///
/// If a spool or a key cannot be read, or the host has no CA certificates and a URL needs them;
/// the text names the receiver.
pub fn start(alerts: &Alerts, host: &HostInfo) -> anyhow::Result<Vec<Post>> {
    let mut starter = Starter {
        alerts,
        host,
        posts: Vec::new(),
        spools: BTreeSet::new(),
    };
    for (index, peer) in alerts.alertmanagers.iter().enumerate() {
        let format = Alertmanager {
            resend: alerts.resend,
        };
        let target = Target {
            url: alerts_url(&peer.url)?,
            ..target(peer)
        };
        starter.http("alertmanager", index, target, format)?;
    }
    for (index, webhook) in alerts.webhooks.iter().enumerate() {
        let target = Target {
            secret: webhook.secret_file.as_deref().map(secret).transpose()?,
            ..target(&webhook.receiver)
        };
        starter.http("webhook", index, target, Webhook)?;
    }
    for (index, chat) in alerts.slack.iter().enumerate() {
        starter.http("slack", index, target(chat), Slack)?;
    }
    for (index, syslog) in alerts.syslog.iter().enumerate() {
        let transport = Syslog::new(syslog.address.clone(), syslog.style)
            .with_context(|| format!("syslog-{}", index + 1))?;
        let key = format!("{:?} {:?}", syslog.address, syslog.style);
        starter.start("syslog", index, &key, transport)?;
    }
    starter.tell_of_others();
    Ok(starter.posts)
}

fn target(receiver: &Receiver) -> Target {
    Target {
        url: receiver.url.clone(),
        timeout: receiver.timeout,
        secret: None,
    }
}

fn secret(path: &Path) -> anyhow::Result<Vec<u8>> {
    let what = || format!("alerts.webhook.secret_file {}", path.display());
    let mut secret = fs::read(path).with_context(what)?;
    while secret.last().is_some_and(u8::is_ascii_whitespace) {
        secret.pop();
    }
    if secret.is_empty() || secret.len() > SECRET_BYTES_MAX {
        bail!("{}: 1 to {SECRET_BYTES_MAX} bytes are allowed", what());
    }
    Ok(secret)
}

struct Starter<'a> {
    alerts: &'a Alerts,
    host: &'a HostInfo,
    posts: Vec<Post>,
    /// Names of the files in use.
    spools: BTreeSet<String>,
}

impl Starter<'_> {
    fn http<F: Format>(
        &mut self,
        kind: &str,
        index: usize,
        target: Target,
        format: F,
    ) -> anyhow::Result<()> {
        let url = target.url.to_string();
        let number = index + 1;
        let post = HttpPost::new(target, format).with_context(|| format!("{kind}-{number}"))?;
        self.start(kind, index, &url, post)
    }

    /// `key` tells the receiver from others of its kind: its spool goes by it, and not by its
    /// place in the configuration, which may change.
    fn start<T: Transport>(
        &mut self,
        kind: &str,
        index: usize,
        key: &str,
        transport: T,
    ) -> anyhow::Result<()> {
        let name = format!("{kind}-{}", index + 1);
        let bytes_max = self.alerts.spool_bytes_max;
        let spool = match &self.alerts.spool_directory {
            None => Spool::in_memory(bytes_max),
            Some(folder) => {
                let digest = Sha256::digest(key);
                let digest: String = digest
                    .iter()
                    .take(8)
                    .map(|it| format!("{it:02x}"))
                    .collect();
                let file = format!("{kind}-{digest}.spool");
                let spool =
                    Spool::open(&folder.join(&file), bytes_max).with_context(|| name.clone())?;
                self.spools.insert(file);
                spool
            }
        };
        let retry = Retry::default();
        self.posts
            .push(Post::start(name, self.host, spool, retry, transport));
        Ok(())
    }

    /// Alerts that wait for a receiver which is no longer configured are nobody's.
    fn tell_of_others(&self) {
        let Some(folder) = &self.alerts.spool_directory else {
            return;
        };
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let full = entry.metadata().is_ok_and(|metadata| metadata.len() > 0);
            if full && name.ends_with(".spool") && !self.spools.contains(&name) {
                tracing::warn!(
                    "{} holds alerts for a receiver that is no longer configured; \
                     configure it again, or remove the file",
                    entry.path().display()
                );
            }
        }
    }
}
