//! What the operator asked for: the config file and the flags → [`Config`], typed and bounded.
//!
//! In: a TOML file and [`Flags`]. Out: a [`Config`], or a [`ConfigError`] that names every
//! mistake with its place and its remedy. Flags beat the file, the file beats the defaults.
//!
//! - [`keys`]: the one table of keys, with defaults, ranges and meanings.
//! - [`fields`]: takes keys out of the file; what is left over is unknown.
//! - [`values`]: text → typed value, for the file and for flags alike.
//! - [`file`]: reads the file, or refuses it.
//! - [`policy`]: the policy file, which has its own keys.
//! - [`addresses`]: the databases of addresses.
//! - [`error`]: what can be wrong.

pub mod addresses;
#[cfg(test)]
mod document;
pub mod error;
pub mod fields;
pub mod file;
pub mod key;
pub mod keys;
pub mod policy;
pub mod values;
pub mod vocabulary;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;

use self::error::{ConfigError, Place};
use self::fields::{Fields, Reader};
use crate::core::alert::Pace;
use crate::core::redact::Arguments;
use crate::core::wire::Target;

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The HTTP endpoint.
    pub web: Web,
    /// The event log.
    pub events: Events,
    /// The policy file, if there is one.
    pub policy: Option<PathBuf>,
    /// The databases that rules about addresses are asked of.
    pub addresses: AddressFiles,
    /// Tools that must not run, each once.
    pub banned: Vec<BannedTool>,
    /// Folder of the catalog; `None` is the built-in one.
    pub catalog: Option<PathBuf>,
    /// What is read of build jobs.
    pub jobs: Jobs,
    /// Alerts and their receivers.
    pub alerts: Alerts,
    /// An OpenTelemetry collector.
    pub otlp: Option<Otlp>,
    /// Sizes of the collector's tables.
    pub limits: Limits,
    /// Folder in which the kernel side outlives the monitor; `None`: it does not.
    pub pin: Option<PathBuf>,
    /// Resolvers of this host; `None` means those of `/etc/resolv.conf`.
    pub resolvers: Option<Vec<SocketAddr>>,
    /// Whether the first bytes of flows are read for names.
    pub sampling: Sampling,
    /// The socket at which systemd-resolved tells its answers; `None`: it is not listened to.
    pub resolved: Option<PathBuf>,
    /// The proxies through which AI tools must go outside.
    pub proxies: Vec<Target>,
}

/// Databases of addresses, in the MaxMind DB format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressFiles {
    /// Which autonomous system announces an address.
    pub asn: Option<PathBuf>,
    /// Where an address is.
    pub country: Option<PathBuf>,
}

/// Whether the first bytes of flows are read for names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampling {
    /// They are.
    #[default]
    On,
    /// They are not.
    Off,
}

/// The HTTP endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Web {
    /// Addresses to listen on; never empty. Port 0 lets the kernel choose.
    pub listen_addresses: Vec<SocketAddr>,
    /// Path of the metrics: starts with `/`, and is neither `/` nor one of `/-/…`.
    pub telemetry_path: String,
    /// TLS, users and headers; `None` is plain HTTP for everyone.
    pub config_file: Option<PathBuf>,
}

/// The event log.
#[derive(Clone, Debug, PartialEq)]
pub struct Events {
    /// Where it goes; `None` writes none.
    pub destination: Option<Destination>,
    /// What it covers.
    pub scope: EventsScope,
    /// How much of argv it tells, and alerts with it.
    pub arguments: Arguments,
    /// Its file is put aside when it has so many bytes.
    pub rotate_bytes: u64,
    /// Its file is put aside when it is so old; `None`: at any age.
    pub rotate_age: Option<Duration>,
    /// Files put aside that are kept.
    pub rotate_files: u32,
    /// The disk is told to keep what was written, about this often; `None` leaves it to the
    /// kernel.
    pub sync: Option<Duration>,
    /// Its lines are sealed into a chain.
    pub chain: bool,
    /// In which schema its lines are written.
    pub format: EventFormat,
}

/// The schema of the event log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventFormat {
    /// Elastic Common Schema 9.
    #[default]
    Ecs,
    /// Open Cybersecurity Schema Framework 1.8.
    Ocsf,
}

/// A file to write, or standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output, spelled `-`.
    Stdout,
    /// A file.
    File(PathBuf),
}

/// What the event log covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventsScope {
    /// AI tools, their children, and whatever reaches an AI endpoint.
    #[default]
    Tools,
    /// Every process and every flow.
    All,
}

/// A tool that must not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BannedTool {
    /// Identifier in the catalog: `[a-z0-9-]+`.
    pub tool: String,
    /// Where the operator wrote it.
    pub place: Place,
}

/// What is read of build jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jobs {
    /// Environments are read.
    pub detect: bool,
    /// Variables besides those of the known build systems.
    pub variables: Vec<String>,
}

/// Alerts and their receivers.
#[derive(Clone, Debug, PartialEq)]
pub struct Alerts {
    /// Receivers are told again of a firing alert this often.
    pub resend: Duration,
    /// An alert is resolved when its cause was not seen for so long.
    pub resolve_after: Duration,
    /// How soon, and how often, rules tell of new alerts.
    pub pace: Pace,
    /// The same, of rules that have a pace of their own.
    pub paces: Vec<(String, Pace)>,
    /// Where alerts are kept until they are delivered; `None` keeps them in memory.
    pub spool_directory: Option<PathBuf>,
    /// Bytes that may wait for one receiver.
    pub spool_bytes_max: u64,
    /// Where each rule is explained: a URL or path, without the rule.
    pub runbooks: String,
    /// Each gets a JSON POST per alert.
    pub webhooks: Vec<Webhook>,
    /// Base URLs of Alertmanagers.
    pub alertmanagers: Vec<Receiver>,
    /// Incoming webhooks of chats.
    pub slack: Vec<Receiver>,
    /// Receivers of syslog messages.
    pub syslog: Vec<Syslog>,
}

/// A receiver of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where it is.
    pub receiver: Receiver,
    /// File with the key that bodies are signed with.
    pub secret_file: Option<PathBuf>,
}

/// A receiver of syslog messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// Where it is.
    pub address: SyslogAddress,
    /// What it is told.
    pub style: SyslogStyle,
}

/// Where syslog messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    /// `unix:PATH`: datagrams, as `/dev/log` takes them.
    Unix(PathBuf),
    /// `udp:IP:PORT`.
    Udp(SocketAddr),
    /// `tcp:IP:PORT`, with octet counting (RFC 6587).
    Tcp(SocketAddr),
    /// `tls:HOST:PORT` (RFC 5425): name or IP address, which the receiver's certificate is for.
    Tls(String, u16),
    /// `journald`: the journal of this host, in its own protocol.
    Journald,
}

/// What a syslog message says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyslogStyle {
    /// Structured data and a sentence.
    #[default]
    Rfc5424,
    /// Common Event Format behind the same header.
    Cef,
}

/// Where alerts are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// `http` or `https`. May hold credentials: do not log it.
    pub url: Url,
    /// How long one request may take.
    pub timeout: Duration,
}

/// An OpenTelemetry collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// `http` or `https`; `/v1/logs` and `/v1/metrics` are added. May hold credentials.
    pub url: Url,
    /// How long one request may take.
    pub timeout: Duration,
    /// It is told events.
    pub events: bool,
    /// It is told all metrics this often; `None`: never.
    pub metrics: Option<Duration>,
}

/// Sizes of the collector's tables, in entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Processes.
    pub processes: usize,
    /// Flows.
    pub flows: usize,
    /// Names of addresses.
    pub names: usize,
    /// Alerts.
    pub alerts: usize,
}

/// What was typed as flags; each beats the file, except that `banned` adds to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    /// `--web.listen-address`; empty if it was not typed.
    pub listen_addresses: Vec<SocketAddr>,
    /// `--web.telemetry-path`.
    pub telemetry_path: Option<String>,
    /// `--web.config.file`.
    pub web_config: Option<PathBuf>,
    /// `--events`.
    pub events: Option<Destination>,
    /// `--events-scope`.
    pub events_scope: Option<EventsScope>,
    /// `--events-arguments`.
    pub events_arguments: Option<Arguments>,
    /// `--catalog`.
    pub catalog: Option<PathBuf>,
    /// `--policy`.
    pub policy: Option<PathBuf>,
    /// `--banned`.
    pub banned: Vec<String>,
    /// `--pin`.
    pub pin: Option<PathBuf>,
    /// `--resolved`; of it `None` is `off`.
    pub resolved: Option<Option<PathBuf>>,
}

impl Default for Config {
    /// What holds without a file and without flags.
    fn default() -> Self {
        let mut reader = Reader::new(Path::new(""), "", &keys::VOCABULARY);
        reader.document(read)
    }
}

impl Config {
    /// Reads the file, if one is given, and lays the flags over it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the file cannot be trusted or read, or holds mistakes: all of them.
    pub fn load(path: Option<&Path>, flags: &Flags) -> Result<Config, ConfigError> {
        match path {
            Some(path) => Config::parse(path, &file::read(path, file::FILE_BYTES_MAX)?, flags),
            None => Ok(Config::default().overridden_by(flags)),
        }
    }

    /// As [`Config::load`], from the text of the file; its path is for messages only.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] if the text holds mistakes.
    pub fn parse(path: &Path, text: &str, flags: &Flags) -> Result<Config, ConfigError> {
        let mut reader = Reader::new(path, text, &keys::VOCABULARY);
        let config = reader.document(read);
        reader.finish()?;
        Ok(config.overridden_by(flags))
    }

    fn overridden_by(mut self, flags: &Flags) -> Config {
        if !flags.listen_addresses.is_empty() {
            self.web
                .listen_addresses
                .clone_from(&flags.listen_addresses);
        }
        if let Some(path) = &flags.telemetry_path {
            self.web.telemetry_path.clone_from(path);
        }
        if flags.web_config.is_some() {
            self.web.config_file.clone_from(&flags.web_config);
        }
        if flags.events.is_some() {
            self.events.destination.clone_from(&flags.events);
        }
        if let Some(arguments) = flags.events_arguments {
            self.events.arguments = arguments;
        }
        if let Some(scope) = flags.events_scope {
            self.events.scope = scope;
        }
        if flags.catalog.is_some() {
            self.catalog.clone_from(&flags.catalog);
        }
        if flags.pin.is_some() {
            self.pin.clone_from(&flags.pin);
        }
        if let Some(resolved) = &flags.resolved {
            self.resolved.clone_from(resolved);
        }
        if flags.policy.is_some() {
            self.policy.clone_from(&flags.policy);
        }
        // A ban in the file must not be lifted because one more was typed.
        for tool in &flags.banned {
            if !self.banned.iter().any(|banned| banned.tool == *tool) {
                let place = Place::Flag("--banned");
                self.banned.push(BannedTool {
                    tool: tool.clone(),
                    place,
                });
            }
        }
        self
    }
}

/// The whole file, section by section. A key that cannot be used keeps its default here, and
/// its problem with the reader.
fn read(file: &mut Fields) -> Config {
    let (policy, banned, addresses) = file.section(&keys::POLICY, read_policy);
    let (sampling, resolved) = file.section(&keys::NAMES, |names| {
        let sampling = names.text(&keys::NAMES_SAMPLE);
        (
            sampling.unwrap_or_default(),
            names.text(&keys::NAMES_RESOLVED).flatten(),
        )
    });
    Config {
        web: file.section(&keys::WEB, read_web),
        events: file.section(&keys::EVENTS, read_events),
        policy,
        addresses,
        banned,
        catalog: file.section(&keys::CATALOG, |catalog| {
            catalog.text(&keys::CATALOG_DIRECTORY)
        }),
        jobs: file.section(&keys::JOBS, read_jobs),
        alerts: file.section(&keys::ALERTS, read_alerts),
        otlp: file.section(&keys::OTLP, read_otlp),
        limits: file.section(&keys::LIMITS, read_limits),
        pin: file.section(&keys::KERNEL, |kernel| kernel.text(&keys::KERNEL_PIN)),
        resolvers: file.section(&keys::RESOLVERS, read_resolvers),
        sampling,
        resolved,
        proxies: file.section(&keys::PROXY, read_proxies),
    }
}

fn read_web(web: &mut Fields) -> Web {
    let addresses = web.list(&keys::WEB_LISTEN_ADDRESSES);
    Web {
        listen_addresses: addresses.into_iter().map(|(_, address)| address).collect(),
        telemetry_path: web.text(&keys::WEB_TELEMETRY_PATH).unwrap_or_default(),
        config_file: web.text(&keys::WEB_CONFIG_FILE),
    }
}

fn read_events(events: &mut Fields) -> Events {
    Events {
        destination: events.text(&keys::EVENTS_FILE),
        scope: events.text(&keys::EVENTS_SCOPE).unwrap_or_default(),
        arguments: events.text(&keys::EVENTS_ARGUMENTS).unwrap_or_default(),
        rotate_bytes: u64::from(events.number(&keys::EVENTS_ROTATE_MEBIBYTES)) << 20,
        rotate_age: some_seconds(3600 * events.number(&keys::EVENTS_ROTATE_HOURS)),
        rotate_files: events.number(&keys::EVENTS_ROTATE_FILES),
        sync: some_seconds(events.number(&keys::EVENTS_SYNC_SECONDS)),
        chain: events.text(&keys::EVENTS_CHAIN).unwrap_or_default(),
        format: events.text(&keys::EVENTS_FORMAT).unwrap_or_default(),
    }
}

/// A time that 0 turns off.
fn some_seconds(number: u32) -> Option<Duration> {
    (number > 0).then(|| seconds(number))
}

fn read_policy(policy: &mut Fields) -> (Option<PathBuf>, Vec<BannedTool>, AddressFiles) {
    let file = policy.text(&keys::POLICY_FILE);
    let banned = policy.list(&keys::POLICY_BANNED);
    let banned = banned
        .into_iter()
        .map(|(place, tool)| BannedTool { tool, place });
    let addresses = AddressFiles {
        asn: policy.text(&keys::POLICY_ASN_DATABASE),
        country: policy.text(&keys::POLICY_COUNTRY_DATABASE),
    };
    (file, banned.collect(), addresses)
}

fn read_jobs(jobs: &mut Fields) -> Jobs {
    let variables = jobs.list(&keys::JOBS_VARIABLES);
    Jobs {
        detect: jobs.text(&keys::JOBS_DETECT).unwrap_or(true),
        variables: variables.into_iter().map(|(_, name)| name).collect(),
    }
}

fn read_otlp(otlp: &mut Fields) -> Option<Otlp> {
    let timeout = seconds(otlp.number(&keys::OTLP_TIMEOUT_SECONDS));
    let events = otlp.text(&keys::OTLP_EVENTS).unwrap_or(true);
    let metrics = some_seconds(otlp.number(&keys::OTLP_METRICS_SECONDS));
    otlp.text(&keys::OTLP_URL).map(|url| Otlp {
        url,
        timeout,
        events,
        metrics,
    })
}

fn read_alerts(alerts: &mut Fields) -> Alerts {
    let webhook = |fields: &mut Fields| {
        let timeout = seconds(fields.number(&keys::WEBHOOK_TIMEOUT_SECONDS));
        let secret_file = fields.text(&keys::WEBHOOK_SECRET_FILE);
        fields.text(&keys::WEBHOOK_URL).map(|url| Webhook {
            receiver: Receiver { url, timeout },
            secret_file,
        })
    };
    let slack = |fields: &mut Fields| {
        let timeout = seconds(fields.number(&keys::SLACK_TIMEOUT_SECONDS));
        let url = fields.text(&keys::SLACK_URL);
        url.map(|url| Receiver { url, timeout })
    };
    let syslog = |fields: &mut Fields| {
        let style = fields.text(&keys::SYSLOG_FORMAT).unwrap_or_default();
        let address = fields.text(&keys::SYSLOG_ADDRESS);
        address.map(|address| Syslog { address, style })
    };
    let alertmanager = |fields: &mut Fields| {
        let timeout = seconds(fields.number(&keys::ALERTMANAGER_TIMEOUT_SECONDS));
        fields
            .text(&keys::ALERTMANAGER_URL)
            .map(|url| Receiver { url, timeout })
    };
    let pace = |fields: &mut Fields, hold, most| Pace {
        hold: seconds(fields.number(hold)),
        new_per_minute: fields.number(most),
    };
    let rule = |fields: &mut Fields| {
        let pace = pace(fields, &keys::RULE_FOR_SECONDS, &keys::RULE_NEW_PER_MINUTE);
        let name = fields.text(&keys::RULE_NAME);
        name.map(|name| (name, pace))
    };
    Alerts {
        pace: pace(
            alerts,
            &keys::ALERTS_FOR_SECONDS,
            &keys::ALERTS_NEW_PER_MINUTE,
        ),
        paces: alerts.sections(&keys::RULE, rule),
        resend: seconds(alerts.number(&keys::ALERTS_RESEND_SECONDS)),
        resolve_after: seconds(alerts.number(&keys::ALERTS_RESOLVE_AFTER_SECONDS)),
        spool_directory: alerts.text(&keys::ALERTS_SPOOL_DIRECTORY),
        spool_bytes_max: u64::from(alerts.number(&keys::ALERTS_SPOOL_MEBIBYTES)) << 20,
        runbooks: alerts.text(&keys::ALERTS_RUNBOOKS).unwrap_or_default(),
        webhooks: alerts.sections(&keys::WEBHOOK, webhook),
        alertmanagers: alerts.sections(&keys::ALERTMANAGER, alertmanager),
        slack: alerts.sections(&keys::SLACK, slack),
        syslog: alerts.sections(&keys::SYSLOG, syslog),
    }
}

fn read_limits(limits: &mut Fields) -> Limits {
    Limits {
        processes: limits.number(&keys::LIMITS_PROCESSES) as usize,
        flows: limits.number(&keys::LIMITS_FLOWS) as usize,
        names: limits.number(&keys::LIMITS_NAMES) as usize,
        alerts: limits.number(&keys::LIMITS_ALERTS) as usize,
    }
}

fn read_proxies(proxy: &mut Fields) -> Vec<Target> {
    let mandatory = proxy.list(&keys::PROXY_MANDATORY);
    mandatory.into_iter().map(|(_, proxy)| proxy).collect()
}

fn read_resolvers(resolvers: &mut Fields) -> Option<Vec<SocketAddr>> {
    let addresses = resolvers.list(&keys::RESOLVERS_ADDRESSES);
    (!addresses.is_empty()).then(|| addresses.into_iter().map(|(_, address)| address).collect())
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(u64::from(number))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[track_caller]
    fn parse(text: &str, flags: &Flags) -> Config {
        match Config::parse(Path::new("telltale.toml"), text, flags) {
            Ok(config) => config,
            Err(error) => panic!("{error}"),
        }
    }

    fn banned(config: &Config) -> Vec<&str> {
        config.banned.iter().map(|banned| &*banned.tool).collect()
    }

    #[test]
    fn without_file_and_flags_the_defaults_hold() {
        let config = Config::load(None, &Flags::default()).unwrap();
        let expect = Config {
            web: Web {
                listen_addresses: vec!["127.0.0.1:10142".parse().unwrap()],
                telemetry_path: "/metrics".to_owned(),
                config_file: None,
            },
            events: Events {
                destination: None,
                scope: EventsScope::Tools,
                arguments: Arguments::Program,
                rotate_bytes: 256 << 20,
                rotate_age: None,
                rotate_files: 8,
                sync: None,
                chain: false,
                format: EventFormat::Ecs,
            },
            policy: None,
            addresses: AddressFiles::default(),
            banned: Vec::new(),
            catalog: None,
            jobs: Jobs {
                detect: true,
                variables: Vec::new(),
            },
            alerts: Alerts {
                resend: Duration::from_secs(60),
                resolve_after: Duration::from_secs(300),
                pace: Pace {
                    hold: Duration::ZERO,
                    new_per_minute: 60,
                },
                paces: Vec::new(),
                spool_directory: None,
                spool_bytes_max: 16 << 20,
                runbooks: "docs/runbooks/README.md".to_owned(),
                webhooks: Vec::new(),
                alertmanagers: Vec::new(),
                slack: Vec::new(),
                syslog: Vec::new(),
            },
            otlp: None,
            limits: Limits {
                processes: 32_768,
                flows: 65_536,
                names: 65_536,
                alerts: 4_096,
            },
            pin: None,
            resolvers: None,
            sampling: Sampling::On,
            resolved: Some(PathBuf::from(
                "/run/systemd/resolve/io.systemd.Resolve.Monitor",
            )),
            proxies: Vec::new(),
        };
        assert_eq!(config, expect);
    }

    const EVERYTHING: &str = r#"
        web = { listen_addresses = ["0.0.0.0:0", "[::1]:9100"], telemetry_path = "/m", config_file = "w.yml" }
        policy = { file = "p.toml", banned = ["qoder-cli", "claude-code"], asn_database = "a.mmdb", address_country_database = "c.mmdb" }
        resolvers.addresses = ["192.0.2.53"]
        kernel.pin = "/pins"
        names = { sample = "off", resolved = "off" }
        proxy.mandatory = ["proxy.example:3128"]
        [events]
        file = "-"
        scope = "all"
        arguments = "redacted"
        rotate_mebibytes = 1
        rotate_files = 2
        rotate_hours = 24
        sync_seconds = 5
        chain = "on"
        format = "ocsf"
        [catalog]
        directory = "catalog"
        [jobs]
        detect = "off"
        variables = ["ACME_BUILD"]
        [alerts]
        resend_seconds = 0x1e
        resolve_after_seconds = 604_800
        for_seconds = 1
        new_per_minute = 2
        spool_directory = "spool"
        spool_mebibytes = 2
        runbooks = "https://wiki/telltale"
        [[alerts.rule]]
        name = "flow-flood"
        for_seconds = 60
        [[alerts.webhook]]
        url = "http://127.0.0.1:1/hook?a=b"
        timeout_seconds = 60
        secret_file = "key"
        [[alerts.webhook]]
        url = "https://user:password@[::1]/"
        [[alerts.alertmanager]]
        url = "http://127.0.0.1:9093/am"
        [[alerts.slack]]
        url = "http://127.0.0.1:2/chat"
        [[alerts.syslog]]
        address = "tcp:192.0.2.1:601"
        format = "cef"
        [[alerts.syslog]]
        address = "journald"
        [otlp]
        url = "http://127.0.0.1:4318/base"
        metrics_seconds = 0
        [limits]
        processes = 64
        flows = 1_048_576
        names = 65
        alerts = 16
    "#;

    fn addresses(texts: [&str; 2]) -> Vec<SocketAddr> {
        texts.map(|text| text.parse().unwrap()).into()
    }

    fn alerts_of_everything() -> Alerts {
        let receiver = |url: &str, seconds| Receiver {
            url: Url::parse(url).unwrap(),
            timeout: Duration::from_secs(seconds),
        };
        Alerts {
            resend: Duration::from_secs(30),
            resolve_after: Duration::from_secs(604_800),
            pace: Pace {
                hold: Duration::from_secs(1),
                new_per_minute: 2,
            },
            paces: vec![(
                "flow-flood".to_owned(),
                Pace {
                    hold: Duration::from_secs(60),
                    new_per_minute: 60,
                },
            )],
            spool_directory: Some(PathBuf::from("spool")),
            spool_bytes_max: 2 << 20,
            runbooks: "https://wiki/telltale".to_owned(),
            webhooks: vec![
                Webhook {
                    receiver: receiver("http://127.0.0.1:1/hook?a=b", 60),
                    secret_file: Some(PathBuf::from("key")),
                },
                Webhook {
                    receiver: receiver("https://user:password@[::1]/", 10),
                    secret_file: None,
                },
            ],
            alertmanagers: vec![receiver("http://127.0.0.1:9093/am", 10)],
            slack: vec![receiver("http://127.0.0.1:2/chat", 10)],
            syslog: vec![
                Syslog {
                    address: SyslogAddress::Tcp("192.0.2.1:601".parse().unwrap()),
                    style: SyslogStyle::Cef,
                },
                Syslog {
                    address: SyslogAddress::Journald,
                    style: SyslogStyle::Rfc5424,
                },
            ],
        }
    }

    #[test]
    fn the_file_beats_the_defaults() {
        let mut config = parse(EVERYTHING, &Flags::default());
        assert_eq!(banned(&config), ["qoder-cli", "claude-code"]);
        config.banned.clear();
        let expect = Config {
            web: Web {
                listen_addresses: addresses(["0.0.0.0:0", "[::1]:9100"]),
                telemetry_path: "/m".to_owned(),
                config_file: Some(PathBuf::from("w.yml")),
            },
            events: Events {
                destination: Some(Destination::Stdout),
                scope: EventsScope::All,
                arguments: Arguments::Redacted,
                rotate_bytes: 1 << 20,
                rotate_age: Some(Duration::from_secs(86_400)),
                rotate_files: 2,
                sync: Some(Duration::from_secs(5)),
                chain: true,
                format: EventFormat::Ocsf,
            },
            policy: Some(PathBuf::from("p.toml")),
            addresses: AddressFiles {
                asn: Some(PathBuf::from("a.mmdb")),
                country: Some(PathBuf::from("c.mmdb")),
            },
            banned: Vec::new(),
            catalog: Some(PathBuf::from("catalog")),
            jobs: Jobs {
                detect: false,
                variables: vec!["ACME_BUILD".to_owned()],
            },
            alerts: alerts_of_everything(),
            otlp: Some(Otlp {
                url: Url::parse("http://127.0.0.1:4318/base").unwrap(),
                timeout: Duration::from_secs(10),
                events: true,
                metrics: None,
            }),
            limits: Limits {
                processes: 64,
                flows: 1_048_576,
                names: 65,
                alerts: 16,
            },
            pin: Some(PathBuf::from("/pins")),
            resolvers: Some(vec!["192.0.2.53:53".parse().unwrap()]),
            sampling: Sampling::Off,
            resolved: None,
            proxies: vec![Target::from_text(b"proxy.example:3128").unwrap()],
        };
        assert_eq!(config, expect);
    }

    #[test]
    fn flags_beat_the_file_and_bans_add_up() {
        let flags = Flags {
            listen_addresses: vec!["127.0.0.1:1".parse().unwrap()],
            telemetry_path: Some("/typed".to_owned()),
            web_config: Some(PathBuf::from("typed")),
            events: Some(Destination::File(PathBuf::from("typed"))),
            events_scope: Some(EventsScope::Tools),
            events_arguments: Some(Arguments::Program),
            catalog: Some(PathBuf::from("typed")),
            policy: Some(PathBuf::from("typed")),
            banned: vec!["codex-cli".to_owned(), "qoder-cli".to_owned()],
            pin: Some(PathBuf::from("typed")),
            resolved: Some(Some(PathBuf::from("typed"))),
        };
        let config = parse(EVERYTHING, &flags);
        assert_eq!(config.web.listen_addresses, flags.listen_addresses);
        assert_eq!(config.web.telemetry_path, "/typed");
        assert_eq!(config.web.config_file, flags.web_config);
        assert_eq!(config.events.destination, flags.events);
        assert_eq!(config.events.scope, EventsScope::Tools);
        assert_eq!(config.catalog, flags.catalog);
        assert_eq!(config.pin, flags.pin);
        assert_eq!(Some(config.resolved.clone()), flags.resolved);
        assert_eq!(config.policy, flags.policy);
        assert_eq!(banned(&config), ["qoder-cli", "claude-code", "codex-cli"]);
    }

    #[test]
    fn a_byte_order_mark_and_crlf_are_text_too() {
        let config = parse("\u{feff}[events]\r\nscope = \"all\"\r\n", &Flags::default());
        assert_eq!(config.events.scope, EventsScope::All);
    }

    /// Every `tests/config/invalid-*.toml` is refused, in the words of `tests/config/messages.txt`.
    #[test]
    fn every_mistake_has_its_message() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
        let mut names: Vec<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("invalid-"))
            .collect();
        names.sort();
        let mut messages = String::new();
        for name in names {
            let text = fs::read_to_string(folder.join(&name)).unwrap();
            match Config::parse(Path::new(&name), &text, &Flags::default()) {
                Ok(_) => panic!("{name} is accepted"),
                Err(error) => messages += &format!("{error}\n\n"),
            }
        }
        let golden = folder.join("messages.txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&golden, &messages).unwrap();
        }
        // On a difference, the first line that differs says more than two walls of text.
        let expect = fs::read_to_string(&golden).unwrap();
        for (got, expect) in messages.lines().zip(expect.lines()) {
            assert_eq!(got, expect, "UPDATE=1 accepts the new words");
        }
        assert_eq!(messages.len(), expect.len());
    }

    #[test]
    fn a_file_full_of_mistakes_is_refused_at_once() {
        let text: String = (0..70_000).map(|idx| format!("key{idx} = 1\n")).collect();
        let error = Config::parse(Path::new("odd"), &text, &Flags::default()).unwrap_err();
        let message = error.to_string();
        assert_eq!(message.lines().count(), 51);
        assert!(message.ends_with("\n… and 69950 more"), "{message}");
    }

    #[test]
    fn no_text_makes_it_panic() {
        for end in (0..EVERYTHING.len()).filter(|&end| EVERYTHING.is_char_boundary(end)) {
            let _ = Config::parse(Path::new("cut"), &EVERYTHING[..end], &Flags::default());
        }
        let nested = ["web = ", &"[".repeat(100_000)].concat();
        let long_key = format!("{} = 1", "k".repeat(1 << 20));
        let dotted = format!("{}a = 1", "a.".repeat(100_000));
        let headers = "[[alerts.webhook]]\n".repeat(20_000);
        for text in [
            nested,
            long_key,
            dotted,
            headers,
            "é = \"é".to_owned(),
            "\0".to_owned(),
        ] {
            let error = Config::parse(Path::new("odd"), &text, &Flags::default()).unwrap_err();
            let message = error.to_string();
            assert!(message.starts_with("odd:"), "{message}");
            assert!(message.len() < 1000, "{message}");
        }
    }
}
