//! New policy and catalog without a restart: on SIGHUP, and when a file changes.
//!
//! In: the files that judge: policy, catalog, databases of addresses. Out: a [`Reload`] for the
//! line, ready to be put in place between two events: reading and compiling happens elsewhere, so
//! that the line loses nothing meanwhile.
//!
//! What else the configuration says is for the next start.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::interval;

use crate::config::policy::{self, Loaded, World};
use crate::config::{AddressFiles, Config, Flags, addresses};
use crate::core::catalog::Catalog;
use crate::core::policy::Policy;
use crate::host::{HostRoot, catalog_files, clock};
use crate::run::in_words;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// A file that is still being written changes again: it is read once it stayed the same for a
/// look.
const LOOKS_THE_SAME: usize = 1;

/// What judges from now on, or why it does not change.
pub enum Reload {
    /// New rules, and the catalog that they were read with.
    Loaded(Box<(Policy, Arc<Catalog>)>),
    /// What was written cannot be used; what judged before goes on.
    Rejected(String),
}

/// What judges, as the configuration asks for it.
pub struct Judging {
    /// The catalog.
    pub catalog: Arc<Catalog>,
    /// The policy.
    pub loaded: Loaded,
}

impl Judging {
    /// Reads catalog and policy, and says what is odd about them.
    ///
    /// # Errors
    ///
    /// Every mistake in them, with its place.
    pub fn load(config: &Config) -> anyhow::Result<Judging> {
        let catalog = Arc::new(load_catalog(config.catalog.as_deref())?);
        let loaded = load_policy(config, &catalog)?;
        Ok(Judging { catalog, loaded })
    }
}

/// The built-in catalog, with the files of `folder` laid over it.
///
/// # Errors
///
/// Every mistake in the files, with its place.
pub fn load_catalog(folder: Option<&Path>) -> anyhow::Result<Catalog> {
    let mut files = Catalog::embedded_files();
    if let Some(folder) = folder {
        files.extend(catalog_files::read(folder)?);
    }
    Ok(Catalog::parse(&files)?)
}

/// The policy that the configuration asks for.
///
/// # Errors
///
/// Every mistake in it, with its place.
pub fn load_policy(config: &Config, catalog: &Catalog) -> anyhow::Result<Loaded> {
    let users = HostRoot::default().users();
    let user = |name: &str| users.get(name).copied();
    let world = World {
        catalog,
        users: &user,
        addresses: Arc::new(addresses::load(&config.addresses)?),
    };
    let file = config.policy.as_deref();
    Ok(policy::load(file, &config.banned, &world)?)
}

/// Reads again what judges.
#[derive(Clone)]
pub struct Reloader {
    config_file: Option<PathBuf>,
    flags: Flags,
    config: Config,
}

impl Reloader {
    /// A reader of what `config` was read from.
    #[must_use]
    pub fn new(config_file: Option<PathBuf>, flags: Flags, config: Config) -> Self {
        Reloader {
            config_file,
            flags,
            config,
        }
    }

    /// Sends what judges, each time it is another, until the line goes away.
    ///
    /// # Errors
    ///
    /// If SIGHUP cannot be awaited.
    pub fn start(self) -> anyhow::Result<mpsc::Receiver<Reload>> {
        let hangup = signal(SignalKind::hangup()).context("cannot await SIGHUP")?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(self.watch(hangup, sender));
        Ok(receiver)
    }

    async fn watch(mut self, mut hangup: Signal, sender: mpsc::Sender<Reload>) {
        let mut look = interval(LOOK_INTERVAL);
        let mut read = self.stamps();
        let mut seen = (read.clone(), 0);
        loop {
            let asked = tokio::select! {
                () = sender.closed() => return,
                _ = hangup.recv() => true,
                _ = look.tick() => false,
            };
            let stamps = self.stamps();
            if !asked {
                let looks = if stamps == seen.0 { seen.1 + 1 } else { 0 };
                seen = (stamps.clone(), looks);
                if stamps == read || looks < LOOKS_THE_SAME {
                    continue;
                }
            }
            read = stamps;
            let reloader = self.clone();
            let reload = match spawn_blocking(move || reloader.load()).await {
                Ok(Ok((config, reload))) => {
                    self.config = config;
                    reload
                }
                Ok(Err(error)) => Reload::Rejected(in_words(&error)),
                Err(error) => Reload::Rejected(error.to_string()),
            };
            if sender.send(reload).await.is_err() {
                return;
            }
        }
    }

    fn load(&self) -> anyhow::Result<(Config, Reload)> {
        let config = Config::load(self.config_file.as_deref(), &self.flags)?;
        let Judging { catalog, loaded } = Judging::load(&config)?;
        for oddity in loaded.oddities(clock::unix_seconds()) {
            tracing::warn!("{oddity}");
        }
        let judges = |config: &Config| Config {
            policy: None,
            banned: Vec::new(),
            addresses: AddressFiles::default(),
            catalog: None,
            ..config.clone()
        };
        if judges(&config) != judges(&self.config) {
            tracing::warn!(
                "policy and catalog are read again; other changes of the configuration are for the next start"
            );
        }
        let policy = Policy::new(loaded.policy);
        Ok((config, Reload::Loaded(Box::new((policy, catalog)))))
    }

    /// When each file that judges was last written, and how long it is.
    fn stamps(&self) -> Vec<(PathBuf, Option<(SystemTime, u64)>)> {
        let mut files: Vec<PathBuf> = self
            .config_file
            .iter()
            .chain(&self.config.policy)
            .chain(&self.config.addresses.asn)
            .chain(&self.config.addresses.country)
            .cloned()
            .collect();
        for folder in ["tools", "services"] {
            let folder = self
                .config
                .catalog
                .as_ref()
                .map(|catalog| catalog.join(folder));
            let entries = folder.and_then(|folder| fs::read_dir(folder).ok());
            let entries = entries.into_iter().flatten().filter_map(Result::ok);
            files.extend(entries.map(|entry| entry.path()));
        }
        files.sort();
        let stamp = |file: &Path| {
            let metadata = fs::metadata(file).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        files
            .into_iter()
            .map(|file| (stamp(&file), file))
            .map(|(stamp, file)| (file, stamp))
            .collect()
    }
}
