//! The one table of configuration keys: what there is, what it may be, what it means.
//!
//! In: nothing. Out: a constant per key, which [`super::fields`] reads the file by and which
//! `docs/config.md` and `deploy/telltale.toml` are written from.

use std::net::SocketAddr;
use std::path::PathBuf;

use reqwest::Url;

use super::key::{Absent, Key, List, Number, Row, Section, Text};
use super::values;
use super::vocabulary::Vocabulary;
use super::{Destination, EventFormat, EventsScope, Sampling, SyslogAddress, SyslogStyle};
use crate::core::redact::Arguments;
use crate::core::wire::Target;

/// `[web]`.
pub const WEB: Section = Section {
    name: "web",
    most: None,
    meaning: "The HTTP endpoint that Prometheus scrapes.",
};
/// `[events]`.
pub const EVENTS: Section = Section {
    name: "events",
    most: None,
    meaning: "The event log: one JSON object per line.",
};
/// `[policy]`.
pub const POLICY: Section = Section {
    name: "policy",
    most: None,
    meaning: "What is forbidden on this host, and what is allowed.",
};
/// `[catalog]`.
pub const CATALOG: Section = Section {
    name: "catalog",
    most: None,
    meaning: "The AI tools that are recognised, and what each is expected to contact.",
};
/// `[jobs]`.
pub const JOBS: Section = Section {
    name: "jobs",
    most: None,
    meaning: "Which build job a tool runs in, by names and ids in the environment of its processes \
              or their ancestors (GitHub Actions, GitLab, Jenkins, Buildkite, Woodpecker, TeamCity, \
              Azure Pipelines). No other variable is read.",
};
/// `[alerts]`.
pub const ALERTS: Section = Section {
    name: "alerts",
    most: None,
    meaning: "When receivers are told of alerts.",
};
/// `[[alerts.rule]]`.
pub const RULE: Section = Section {
    name: "alerts.rule",
    most: Some(256),
    meaning: "How soon, and how often, one rule tells of new alerts.",
};
/// `[[alerts.webhook]]`.
pub const WEBHOOK: Section = Section {
    name: "alerts.webhook",
    most: Some(16),
    meaning: "A receiver that gets each alert as a JSON POST.",
};
/// `[[alerts.alertmanager]]`.
pub const ALERTMANAGER: Section = Section {
    name: "alerts.alertmanager",
    most: Some(16),
    meaning: "A Prometheus Alertmanager that gets each alert; list every member of a cluster.",
};
/// `[[alerts.slack]]`.
pub const SLACK: Section = Section {
    name: "alerts.slack",
    most: Some(16),
    meaning: "A chat that takes Slack's incoming webhooks: Slack, Mattermost, Rocket.Chat.",
};
/// `[[alerts.syslog]]`.
pub const SYSLOG: Section = Section {
    name: "alerts.syslog",
    most: Some(16),
    meaning: "A receiver of syslog messages (RFC 5424), or the journal of this host.",
};
/// `[otlp]`.
pub const OTLP: Section = Section {
    name: "otlp",
    most: None,
    meaning: "An OpenTelemetry collector, which is told events and metrics over HTTP.",
};
/// `[limits]`.
pub const LIMITS: Section = Section {
    name: "limits",
    most: None,
    meaning: "Sizes of the tables in memory. Reaching one is counted in \
              `telltale_table_limited_total`.",
};
/// `[kernel]`.
pub const KERNEL: Section = Section {
    name: "kernel",
    most: None,
    meaning: "The kernel side.",
};
/// `[resolvers]`.
pub const RESOLVERS: Section = Section {
    name: "resolvers",
    most: None,
    meaning: "The DNS resolvers of this host.",
};

/// `[names]`.
pub const NAMES: Section = Section {
    name: "names",
    most: None,
    meaning: "How remote ends get their names; docs/names.md has the rule.",
};
/// `[proxy]`.
pub const PROXY: Section = Section {
    name: "proxy",
    most: None,
    meaning: "The proxies of this network.",
};

/// All sections, in the order of the documentation.
pub const SECTIONS: [&Section; 17] = [
    &WEB,
    &EVENTS,
    &POLICY,
    &CATALOG,
    &JOBS,
    &ALERTS,
    &RULE,
    &WEBHOOK,
    &ALERTMANAGER,
    &SLACK,
    &SYSLOG,
    &OTLP,
    &LIMITS,
    &KERNEL,
    &RESOLVERS,
    &NAMES,
    &PROXY,
];

/// `web.listen_addresses`.
pub const WEB_LISTEN_ADDRESSES: Key<List<SocketAddr>> = Key {
    section: &WEB,
    name: "listen_addresses",
    shape: List {
        of: "`IP:PORT`",
        default: &["127.0.0.1:10142"],
        example: &[],
        fewest: 1,
        most: 16,
        parse: values::listen_address,
    },
    meaning: "Addresses to listen on; port 0 lets the kernel choose one. \
              Without `config_file`, whoever reaches them can read the metrics.",
};

/// `web.telemetry_path`.
pub const WEB_TELEMETRY_PATH: Key<Text<String>> = Key {
    section: &WEB,
    name: "telemetry_path",
    shape: Text {
        of: "URL path, starts with `/`",
        default: Absent::Default("/metrics"),
        example: "",
        parse: values::telemetry_path,
    },
    meaning: "Path of the metrics.",
};

/// `web.config_file`.
pub const WEB_CONFIG_FILE: Key<Text<PathBuf>> = Key {
    section: &WEB,
    name: "config_file",
    shape: Text {
        of: "path",
        default: Absent::Nothing,
        example: "/etc/telltale/web-config.yml",
        parse: values::path,
    },
    meaning: "TLS, users and headers of the web server, in the format that all Prometheus \
              exporters share. It is read anew when it, or a certificate, changes.",
};

/// `events.file`.
pub const EVENTS_FILE: Key<Text<Destination>> = Key {
    section: &EVENTS,
    name: "file",
    shape: Text {
        of: "path, or `-`",
        default: Absent::Nothing,
        example: "/var/log/telltale/events.ndjson",
        parse: values::destination,
    },
    meaning: "File to append to; `-` is standard output. Without this key there is no event log.",
};

/// `events.scope`.
pub const EVENTS_SCOPE: Key<Text<EventsScope>> = Key {
    section: &EVENTS,
    name: "scope",
    shape: Text {
        of: "`tools` or `all`",
        default: Absent::Default("tools"),
        example: "",
        parse: values::events_scope,
    },
    meaning: "`tools` covers AI tools, their children, and whatever reaches an AI endpoint; \
              `all` covers every process and every connection.",
};

/// `events.arguments`.
pub const EVENTS_ARGUMENTS: Key<Text<Arguments>> = Key {
    section: &EVENTS,
    name: "arguments",
    shape: Text {
        of: "`program` or `redacted`",
        default: Absent::Default("program"),
        example: "",
        parse: values::arguments,
    },
    meaning: "How much of the arguments of processes is told, in events and alerts: `program` is \
              the program and its script, `redacted` is all of them but what looks like a secret.",
};

/// `events.rotate_mebibytes`.
pub const EVENTS_ROTATE_MEBIBYTES: Key<Number> = Key {
    section: &EVENTS,
    name: "rotate_mebibytes",
    // Some hundred thousand events.
    shape: Number {
        unit: "MiB",
        default: 256,
        min: 1,
        max: 1_048_576,
    },
    meaning: "The file is put aside as `FILE.1` when it is so long. One that something else moves \
              or removes is left for a new one, too.",
};

/// `events.format`.
pub const EVENTS_FORMAT: Key<Text<EventFormat>> = Key {
    section: &EVENTS,
    name: "format",
    shape: Text {
        of: "`ecs` or `ocsf`",
        default: Absent::Default("ecs"),
        example: "",
        parse: values::event_format,
    },
    meaning: "Schema of the lines: Elastic Common Schema 9, or OCSF 1.8. The commands that read \
              an event log read `ecs`.",
};

/// `events.rotate_hours`.
pub const EVENTS_ROTATE_HOURS: Key<Number> = Key {
    section: &EVENTS,
    name: "rotate_hours",
    // A year of 366 days.
    shape: Number {
        unit: "hours",
        default: 0,
        min: 0,
        max: 8_784,
    },
    meaning: "The file is also put aside when it is so old, if there is anything in it. 0: at any \
              age.",
};

/// `events.sync_seconds`.
pub const EVENTS_SYNC_SECONDS: Key<Number> = Key {
    section: &EVENTS,
    name: "sync_seconds",
    shape: Number {
        unit: "seconds",
        default: 0,
        min: 0,
        max: 3_600,
    },
    meaning: "How much of the log a crash of the machine may take: the disk is told to keep what \
              was written about this often (`fdatasync`), when the file is put aside, and at the \
              end. 0 leaves it to the kernel, which takes half a minute.",
};

/// `events.chain`.
pub const EVENTS_CHAIN: Key<Text<bool>> = Key {
    section: &EVENTS,
    name: "chain",
    shape: Text {
        of: "`on` or `off`",
        default: Absent::Default("off"),
        example: "",
        parse: values::on_or_off,
    },
    meaning: "`on` seals each line with a hash over it and all before it, for `telltale verify`; \
              see `docs/events.md`.",
};

/// `events.rotate_files`.
pub const EVENTS_ROTATE_FILES: Key<Number> = Key {
    section: &EVENTS,
    name: "rotate_files",
    shape: Number {
        unit: "files",
        default: 8,
        min: 1,
        max: 1_000,
    },
    meaning: "Files put aside that are kept; older ones are removed.",
};

/// `policy.file`.
pub const POLICY_FILE: Key<Text<PathBuf>> = Key {
    section: &POLICY,
    name: "file",
    shape: Text {
        of: "path",
        default: Absent::Nothing,
        example: "/etc/telltale/policy.toml",
        parse: values::path,
    },
    meaning: "The policy file: rules, packs and exceptions, as `docs/policy.md` describes them. \
              The flag `--policy` names another.",
};

/// `policy.banned`.
pub const POLICY_BANNED: Key<List<String>> = Key {
    section: &POLICY,
    name: "banned",
    shape: List {
        of: "tool identifier",
        default: &[],
        example: &["claude-code"],
        fewest: 0,
        most: 256,
        parse: values::tool_id,
    },
    meaning: "Tools that must neither run nor connect, by their identifiers in \
              `telltale catalog list`: short for the pack `ban-and-replace`, in front of the \
              policy file. The flag `--banned` adds to them.",
};

/// `policy.asn_database`.
pub const POLICY_ASN_DATABASE: Key<Text<PathBuf>> = Key {
    section: &POLICY,
    name: "asn_database",
    shape: Text {
        of: "path",
        default: Absent::Nothing,
        example: "/var/lib/GeoIP/GeoLite2-ASN.mmdb",
        parse: values::path,
    },
    meaning: "Which autonomous system announces an address, for `asn` in rules and \
              `destination.as.number` in events: a file in the MaxMind DB format with the fields of \
              GeoLite2-ASN. Telltale brings none.",
};

/// `policy.address_country_database`.
pub const POLICY_COUNTRY_DATABASE: Key<Text<PathBuf>> = Key {
    section: &POLICY,
    name: "address_country_database",
    shape: Text {
        of: "path",
        default: Absent::Nothing,
        example: "/var/lib/GeoIP/GeoLite2-Country.mmdb",
        parse: values::path,
    },
    meaning: "Where an address is, for `address_country` in rules and \
              `destination.geo.country_iso_code` in events: a file in the MaxMind DB format with the \
              fields of GeoLite2-Country. Telltale brings none.",
};

/// `catalog.directory`.
pub const CATALOG_DIRECTORY: Key<Text<PathBuf>> = Key {
    section: &CATALOG,
    name: "directory",
    shape: Text {
        of: "path",
        default: Absent::Nothing,
        example: "/etc/telltale/catalog",
        parse: values::path,
    },
    meaning: "Folder with catalog files of your own, `tools/*.toml` and `services/*.toml`, laid \
              over the built-in ones: an entry replaces the one with the same identifier.",
};

/// `jobs.detect`.
pub const JOBS_DETECT: Key<Text<bool>> = Key {
    section: &JOBS,
    name: "detect",
    shape: Text {
        of: "`on` or `off`",
        default: Absent::Default("on"),
        example: "",
        parse: values::on_or_off,
    },
    meaning: "`off` reads no environment at all.",
};

/// `jobs.variables`.
pub const JOBS_VARIABLES: Key<List<String>> = Key {
    section: &JOBS,
    name: "variables",
    shape: List {
        of: "name of a variable",
        default: &[],
        example: &["ACME_BUILD_ID"],
        fewest: 0,
        most: 32,
        parse: values::variable,
    },
    meaning: "Variables of your own build system whose values are shown as well. They must not \
              hold secrets: names that speak of one are refused.",
};

/// `alerts.resend_seconds`.
pub const ALERTS_RESEND_SECONDS: Key<Number> = Key {
    section: &ALERTS,
    name: "resend_seconds",
    // Alertmanager takes an alert for resolved 5 minutes after it last heard of it.
    shape: Number {
        unit: "seconds",
        default: 60,
        min: 1,
        max: 86_400,
    },
    meaning: "How often receivers are told again of an alert that fires still.",
};

/// `alerts.resolve_after_seconds`.
pub const ALERTS_RESOLVE_AFTER_SECONDS: Key<Number> = Key {
    section: &ALERTS,
    name: "resolve_after_seconds",
    shape: Number {
        unit: "seconds",
        default: 300,
        min: 1,
        max: 604_800,
    },
    meaning: "An alert is resolved when its cause was not seen for so long.",
};

/// `alerts.for_seconds`.
pub const ALERTS_FOR_SECONDS: Key<Number> = Key {
    section: &ALERTS,
    name: "for_seconds",
    shape: Number {
        unit: "seconds",
        default: 0,
        min: 0,
        max: 86_400,
    },
    meaning: "A new alert is told when its cause was seen over so long, without a pause as long as \
              that. 0: at once.",
};

/// `alerts.new_per_minute`.
pub const ALERTS_NEW_PER_MINUTE: Key<Number> = Key {
    section: &ALERTS,
    name: "new_per_minute",
    // A person reads none of more; a rule seldom has as many.
    shape: Number {
        unit: "alerts",
        default: 60,
        min: 1,
        max: 1_000_000,
    },
    meaning: "New alerts of one rule that are told within a minute. Others are told later, in \
              their turn: none is lost.",
};

/// `alerts.rule.name`.
pub const RULE_NAME: Key<Text<String>> = Key {
    section: &RULE,
    name: "name",
    shape: Text {
        of: "name of a rule",
        default: Absent::Mistake,
        example: "flow-flood",
        parse: values::one_line,
    },
    meaning: "The rule: one of docs/runbooks/README.md, or of the policy.",
};

/// `alerts.rule.for_seconds`.
pub const RULE_FOR_SECONDS: Key<Number> = Key {
    section: &RULE,
    name: "for_seconds",
    shape: ALERTS_FOR_SECONDS.shape,
    meaning: "As in `[alerts]`, for this rule.",
};

/// `alerts.rule.new_per_minute`.
pub const RULE_NEW_PER_MINUTE: Key<Number> = Key {
    section: &RULE,
    name: "new_per_minute",
    shape: ALERTS_NEW_PER_MINUTE.shape,
    meaning: "As in `[alerts]`, for this rule.",
};

/// `alerts.spool_directory`.
pub const ALERTS_SPOOL_DIRECTORY: Key<Text<PathBuf>> = Key {
    section: &ALERTS,
    name: "spool_directory",
    shape: Text {
        of: "path",
        default: Absent::Nothing,
        example: "/var/lib/telltale/spool",
        parse: values::path,
    },
    meaning: "Folder where alerts are kept until their receivers take them, across kills and \
              restarts. Without this key they wait in memory.",
};

/// `alerts.spool_mebibytes`.
pub const ALERTS_SPOOL_MEBIBYTES: Key<Number> = Key {
    section: &ALERTS,
    name: "spool_mebibytes",
    // Some ten thousand alerts.
    shape: Number {
        unit: "MiB",
        default: 16,
        min: 1,
        max: 1_024,
    },
    meaning: "How much may wait for each receiver. What finds no room is dropped and counted in \
              `telltale_sink_dropped_total`.",
};

/// `alerts.runbooks`.
pub const ALERTS_RUNBOOKS: Key<Text<String>> = Key {
    section: &ALERTS,
    name: "runbooks",
    shape: Text {
        of: "URL or path",
        default: Absent::Default("docs/runbooks/README.md"),
        example: "",
        parse: values::one_line,
    },
    meaning: "Page that explains each rule: alerts carry it with `#` and the rule's name added.",
};

/// `alerts.webhook.url`.
pub const WEBHOOK_URL: Key<Text<Url>> = Key {
    section: &WEBHOOK,
    name: "url",
    shape: Text {
        of: "`http` or `https` URL",
        default: Absent::Mistake,
        example: "http://127.0.0.1:8080/alerts",
        parse: values::url,
    },
    meaning: "Where to send them.",
};

/// `alerts.webhook.timeout_seconds`.
pub const WEBHOOK_TIMEOUT_SECONDS: Key<Number> = Key {
    section: &WEBHOOK,
    name: "timeout_seconds",
    shape: Number {
        unit: "seconds",
        default: 10,
        min: 1,
        max: 60,
    },
    meaning: "How long one request may take.",
};

/// `alerts.webhook.secret_file`.
pub const WEBHOOK_SECRET_FILE: Key<Text<PathBuf>> = Key {
    section: &WEBHOOK,
    name: "secret_file",
    shape: Text {
        of: "path",
        default: Absent::Nothing,
        example: "/etc/telltale/webhook.key",
        parse: values::path,
    },
    meaning: "File with a key: bodies are then signed with HMAC-SHA256, in the header \
              `X-Telltale-Signature`.",
};

/// `alerts.alertmanager.url`.
pub const ALERTMANAGER_URL: Key<Text<Url>> = Key {
    section: &ALERTMANAGER,
    name: "url",
    shape: Text {
        of: "`http` or `https` URL",
        default: Absent::Mistake,
        example: "http://127.0.0.1:9093",
        parse: values::alertmanager_url,
    },
    meaning: "Its base URL; `/api/v2/alerts` is added.",
};

/// `alerts.alertmanager.timeout_seconds`.
pub const ALERTMANAGER_TIMEOUT_SECONDS: Key<Number> = Key {
    section: &ALERTMANAGER,
    name: "timeout_seconds",
    shape: Number {
        unit: "seconds",
        default: 10,
        min: 1,
        max: 60,
    },
    meaning: "How long one request may take.",
};

/// `alerts.slack.url`.
pub const SLACK_URL: Key<Text<Url>> = Key {
    section: &SLACK,
    name: "url",
    shape: Text {
        of: "`http` or `https` URL",
        default: Absent::Mistake,
        example: "http://127.0.0.1:8065/hooks/x",
        parse: values::url,
    },
    meaning: "Its incoming webhook.",
};

/// `alerts.slack.timeout_seconds`.
pub const SLACK_TIMEOUT_SECONDS: Key<Number> = Key {
    section: &SLACK,
    name: "timeout_seconds",
    shape: Number {
        unit: "seconds",
        default: 10,
        min: 1,
        max: 60,
    },
    meaning: "How long one request may take.",
};

/// `alerts.syslog.address`.
pub const SYSLOG_ADDRESS: Key<Text<SyslogAddress>> = Key {
    section: &SYSLOG,
    name: "address",
    shape: Text {
        of: "`unix:PATH`, `udp:IP:PORT`, `tcp:IP:PORT`, `tls:HOST:PORT` or `journald`",
        default: Absent::Mistake,
        example: "unix:/dev/log",
        parse: values::syslog_address,
    },
    meaning: "Where it listens. Over TCP, octet counting (RFC 6587) is spoken. Over TLS \
              (RFC 5425), the receiver's certificate must be for the host that is written here, \
              by one of the CA certificates of this host.",
};

/// `alerts.syslog.format`.
pub const SYSLOG_FORMAT: Key<Text<SyslogStyle>> = Key {
    section: &SYSLOG,
    name: "format",
    shape: Text {
        of: "`rfc5424` or `cef`",
        default: Absent::Default("rfc5424"),
        example: "",
        parse: values::syslog_style,
    },
    meaning: "`rfc5424` has structured data and a sentence, `cef` the Common Event Format. \
              The journal has a form of its own.",
};

/// `otlp.url`.
pub const OTLP_URL: Key<Text<Url>> = Key {
    section: &OTLP,
    name: "url",
    shape: Text {
        of: "`http` or `https` URL",
        default: Absent::Nothing,
        example: "http://127.0.0.1:4318",
        parse: values::url,
    },
    meaning: "Its base URL; `/v1/logs` and `/v1/metrics` are added. Without this key nobody is told.",
};

/// `otlp.events`.
pub const OTLP_EVENTS: Key<Text<bool>> = Key {
    section: &OTLP,
    name: "events",
    shape: Text {
        of: "`on` or `off`",
        default: Absent::Default("on"),
        example: "",
        parse: values::on_or_off,
    },
    meaning: "`on` sends what the event log shows as log records, whether or not it is written to \
              a file.",
};

/// `otlp.metrics_seconds`.
pub const OTLP_METRICS_SECONDS: Key<Number> = Key {
    section: &OTLP,
    name: "metrics_seconds",
    shape: Number {
        unit: "seconds",
        default: 60,
        min: 0,
        max: 86_400,
    },
    meaning: "How often it is told all metrics; 0: never.",
};

/// `otlp.timeout_seconds`.
pub const OTLP_TIMEOUT_SECONDS: Key<Number> = Key {
    section: &OTLP,
    name: "timeout_seconds",
    shape: Number {
        unit: "seconds",
        default: 10,
        min: 1,
        max: 60,
    },
    meaning: "How long one request may take.",
};

/// `limits.processes`.
pub const LIMITS_PROCESSES: Key<Number> = Key {
    section: &LIMITS,
    name: "processes",
    // Linux's default of `pid_max`. An image takes 0.5 to 3 kB, most of it path and argv.
    shape: Number {
        unit: "entries",
        default: 32_768,
        min: 64,
        max: 1_048_576,
    },
    meaning: "Processes remembered at one time.",
};

/// `limits.flows`.
pub const LIMITS_FLOWS: Key<Number> = Key {
    section: &LIMITS,
    name: "flows",
    // As many as the kernel side counts at one time.
    shape: Number {
        unit: "entries",
        default: 65_536,
        min: 64,
        max: 1_048_576,
    },
    meaning: "Flows remembered at one time.",
};

/// `limits.names`.
pub const LIMITS_NAMES: Key<Number> = Key {
    section: &LIMITS,
    name: "names",
    // What twenty new processes a second learn, ten names each, in the five minutes that they
    // are kept: about 40 MB.
    shape: Number {
        unit: "entries",
        default: 65_536,
        min: 64,
        max: 1_048_576,
    },
    meaning: "Names of addresses remembered at one time.",
};

/// `limits.alerts`.
pub const LIMITS_ALERTS: Key<Number> = Key {
    section: &LIMITS,
    name: "alerts",
    // More than a person can read, few enough to send.
    shape: Number {
        unit: "entries",
        default: 4_096,
        min: 16,
        max: 65_536,
    },
    meaning: "Alerts that fire at one time.",
};

/// `kernel.pin`.
pub const KERNEL_PIN: Key<Text<PathBuf>> = Key {
    section: &KERNEL,
    name: "pin",
    shape: Text {
        of: "path",
        default: Absent::Nothing,
        example: values::PIN_FOLDER,
        parse: values::path,
    },
    meaning: "Folder on a BPF file system in which the programs and their maps outlive the \
              monitor: what happens while it does not run is told at its next start, or counted. \
              The packaged service sets it. `telltale uninstall --purge-kernel-state` removes it. \
              Without this key nothing outlives the monitor.",
};

/// `resolvers.addresses`.
pub const RESOLVERS_ADDRESSES: Key<List<SocketAddr>> = Key {
    section: &RESOLVERS,
    name: "addresses",
    shape: List {
        of: "IP address, with a port if it is not 53",
        default: &[],
        example: &["192.0.2.53", "[2001:db8::53]:5353"],
        fewest: 1,
        most: 16,
        parse: values::resolver,
    },
    meaning: "Traffic to them is the host's own, and only their answers tie a name to an address. \
              Without this key they are those of `/etc/resolv.conf` and of systemd-resolved; name \
              those of your containers here as well. Of ports other than 53, three count.",
};

/// `names.sample`.
pub const NAMES_SAMPLE: Key<Text<Sampling>> = Key {
    section: &NAMES,
    name: "sample",
    shape: Text {
        of: "`on` or `off`",
        default: Absent::Default("on"),
        example: "",
        parse: values::sampling,
    },
    meaning: "`on` reads the first bytes of flows for the name that the client gives (TLS, QUIC, \
              HTTP, proxies); nothing else of them is kept. `off` leaves DNS alone to name flows.",
};

/// `names.resolved`.
pub const NAMES_RESOLVED: Key<Text<Option<PathBuf>>> = Key {
    section: &NAMES,
    name: "resolved",
    shape: Text {
        of: "path of a socket, or `off`",
        default: Absent::Default(values::RESOLVED_SOCKET),
        example: "",
        parse: values::path_or_off,
    },
    meaning: "Where systemd-resolved tells the answers that it gives (docs/names.md). Before \
              systemd 256 it tells root alone, and the packaged service goes by a relay.",
};

/// `proxy.mandatory`.
pub const PROXY_MANDATORY: Key<List<Target>> = Key {
    section: &PROXY,
    name: "mandatory",
    shape: List {
        of: "name or IP address, with or without a port",
        default: &[],
        example: &["proxy.example:3128", "192.0.2.8"],
        fewest: 1,
        most: 16,
        parse: values::proxy,
    },
    meaning: "The proxies through which AI tools must go outside: one that does not raises \
              `proxy-bypass`. What they are asked for counts as reached.",
};

/// All keys, in the order of the documentation.
#[must_use]
pub fn rows() -> Vec<Row> {
    vec![
        WEB_LISTEN_ADDRESSES.list_row(),
        WEB_TELEMETRY_PATH.text_row(),
        WEB_CONFIG_FILE.text_row(),
        EVENTS_FILE.text_row(),
        EVENTS_SCOPE.text_row(),
        EVENTS_ARGUMENTS.text_row(),
        EVENTS_FORMAT.text_row(),
        EVENTS_ROTATE_MEBIBYTES.number_row(),
        EVENTS_ROTATE_HOURS.number_row(),
        EVENTS_ROTATE_FILES.number_row(),
        EVENTS_SYNC_SECONDS.number_row(),
        EVENTS_CHAIN.text_row(),
        POLICY_FILE.text_row(),
        POLICY_BANNED.list_row(),
        POLICY_ASN_DATABASE.text_row(),
        POLICY_COUNTRY_DATABASE.text_row(),
        CATALOG_DIRECTORY.text_row(),
        JOBS_DETECT.text_row(),
        JOBS_VARIABLES.list_row(),
        ALERTS_RESEND_SECONDS.number_row(),
        ALERTS_RESOLVE_AFTER_SECONDS.number_row(),
        ALERTS_FOR_SECONDS.number_row(),
        ALERTS_NEW_PER_MINUTE.number_row(),
        ALERTS_SPOOL_DIRECTORY.text_row(),
        ALERTS_SPOOL_MEBIBYTES.number_row(),
        ALERTS_RUNBOOKS.text_row(),
        RULE_NAME.text_row(),
        RULE_FOR_SECONDS.number_row(),
        RULE_NEW_PER_MINUTE.number_row(),
        WEBHOOK_URL.text_row(),
        WEBHOOK_TIMEOUT_SECONDS.number_row(),
        WEBHOOK_SECRET_FILE.text_row(),
        ALERTMANAGER_URL.text_row(),
        ALERTMANAGER_TIMEOUT_SECONDS.number_row(),
        SLACK_URL.text_row(),
        SLACK_TIMEOUT_SECONDS.number_row(),
        SYSLOG_ADDRESS.text_row(),
        SYSLOG_FORMAT.text_row(),
        OTLP_URL.text_row(),
        OTLP_EVENTS.text_row(),
        OTLP_METRICS_SECONDS.number_row(),
        OTLP_TIMEOUT_SECONDS.number_row(),
        LIMITS_PROCESSES.number_row(),
        LIMITS_FLOWS.number_row(),
        LIMITS_NAMES.number_row(),
        LIMITS_ALERTS.number_row(),
        KERNEL_PIN.text_row(),
        RESOLVERS_ADDRESSES.list_row(),
        NAMES_SAMPLE.text_row(),
        NAMES_RESOLVED.text_row(),
        PROXY_MANDATORY.list_row(),
    ]
}

/// What messages about the configuration know.
pub const VOCABULARY: Vocabulary = Vocabulary {
    sections: &SECTIONS,
    rows,
    reference: "docs/config.md",
};
