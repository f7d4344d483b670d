//! What each command does, from its arguments to its answer.
//!
//! In: a parsed command line. Out: whether the answer is yes, or the error that ends the program.
//! Here everything is put together; nothing is decided.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::cli::{CatalogCommand, Cli, Command, PolicyArgs, ReplayArgs, RunArgs, UninstallArgs};
use crate::clock::WallClock;
use crate::compare::Changes;
use crate::config::{Config, Destination, Events, EventsScope, Sampling, values};
use crate::core::alert::AlertTiming;
use crate::core::catalog::{Catalog, lint};
use crate::core::collector::{Collector, CollectorConfig, Limits, Scope};
use crate::core::event::{BootNs, Event};
use crate::core::job::{self, Take};
use crate::core::names::NameLimits;
use crate::core::policy::{Policy, PolicyConfig};
use crate::host::{HostRoot, catalog_files, clock};
use crate::metrics::encode::Format;
use crate::metrics::{BuildInfo, Metrics};
use crate::pipeline::{self, Line, Reloads};
use crate::reload::{Judging, Reloader, load_catalog};
use crate::sandbox::{self, Role};
use crate::sink::console::{Console, Stream};
use crate::sink::ecs::Lines;
use crate::sink::event_log::{EventLog, LogTarget};
use crate::sink::http::pages::{About, PolicyStatus, Readiness, Web};
use crate::sink::http::{self, web_config::WebConfigFile};
use crate::sink::lines::{Rotation, WhenFull};
#[cfg(feature = "otlp")]
use crate::sink::otlp::Otlp;
use crate::sink::{HostInfo, Sinks, receivers};
use crate::source::bpf::{OBJECT_DIGEST, Options, pins};
use crate::source::facts::Facts;
use crate::source::feed::Feed;
use crate::source::recording::{Entry, Header, Recorder, Recording, is_recording};
use crate::source::resolved::Resolved;
use crate::{catalog_match, catalog_report};
use crate::{doctor, explain, observed, verify};

/// Port of DNS.
const DNS_PORT: u16 = 53;

/// Threads for HTTP and alert receivers; the line itself is one task.
const WORKERS: usize = 2;

/// Does what the command line asks for.
///
/// # Errors
///
/// What could not be started or read; the text names it and the remedy.
pub fn command(cli: Cli) -> anyhow::Result<bool> {
    start_logging(cli.log_level);
    match cli.command {
        Command::Run(args) => block_on(run(*args), enter_as_worker),
        Command::Replay(args) => block_on(replay(args), || {}),
        Command::Check(args) => check(&args),
        Command::Uninstall(args) => uninstall(&args),
        Command::Doctor => {
            let report = doctor::examine(&HostRoot::default());
            print(&report.text)?;
            Ok(report.fit)
        }
        Command::Catalog(CatalogCommand::List { catalog }) => {
            print(&catalog_report::list(&load_catalog(catalog.as_deref())?))?;
            Ok(true)
        }
        Command::Catalog(CatalogCommand::Diff { events, catalog }) => {
            let config = Config {
                catalog,
                ..Config::default()
            };
            let events = events_of(&events, &config)?;
            let catalog = load_catalog(config.catalog.as_deref())?;
            print(&observed::in_words(&events, &catalog))?;
            Ok(true)
        }
        Command::Verify(args) => {
            let report = verify::verify(&args.logs, args.through.as_deref())?;
            print(&report.text)?;
            Ok(report.whole)
        }
        Command::Explain(args) => {
            let config = Config::load(args.policy.config.as_deref(), &args.policy.flags())?;
            let Judging { catalog, loaded } = Judging::load(&config)?;
            let mut events = events_of(&args.events, &config)?;
            events.iter_mut().for_each(explain::clean);
            let policy = Policy::new(loaded.policy);
            let explained = explain::in_words(&events, &args.wanted, &catalog, &policy);
            let nothing = || format!("{} tells nothing of it\n", args.events.display());
            let found = explained.is_some();
            print(&explained.unwrap_or_else(nothing))?;
            Ok(found)
        }
        Command::Catalog(CatalogCommand::Match { words, catalog }) => {
            let found = catalog_match::in_words(&load_catalog(catalog.as_deref())?, &words);
            let is_known = found.is_some();
            let nothing = || "the catalog does not know it\n".to_owned();
            print(&found.unwrap_or_else(nothing))?;
            Ok(is_known)
        }
        Command::Catalog(CatalogCommand::Lint { catalog }) => lint(catalog.as_deref()),
        Command::Catalog(CatalogCommand::Show { tool, catalog }) => {
            print(&catalog_report::show(
                &load_catalog(catalog.as_deref())?,
                &tool,
            )?)?;
            Ok(true)
        }
    }
}

/// An error with all its causes. Many tell their cause themselves: it is then not told twice.
#[must_use]
pub fn in_words(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Messages go to standard error; standard output belongs to events and answers.
fn start_logging(level: Option<LevelFilter>) {
    let filter = match level {
        Some(level) => EnvFilter::default().add_directive(level.into()),
        None => EnvFilter::builder()
            .with_default_directive(LevelFilter::INFO.into())
            .from_env_lossy(),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(wants_color(&std::io::stderr()))
        .with_target(false)
        .init();
}

fn wants_color(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A worker of the runtime only parses, and talks HTTP.
fn enter_as_worker() {
    if let Err(error) = sandbox::enter(Role::Line) {
        tracing::warn!("a worker keeps all privileges: {error:#}");
    }
}

fn block_on(
    task: impl Future<Output = anyhow::Result<bool>>,
    on_thread_start: impl Fn() + Send + Sync + 'static,
) -> anyhow::Result<bool> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder
        .worker_threads(WORKERS)
        .thread_name("line")
        .on_thread_start(on_thread_start)
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(task)
}

/// Prints an answer. A reader that went away (`| head`) has seen enough.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

fn check(args: &PolicyArgs) -> anyhow::Result<bool> {
    let config = Config::load(args.config.as_deref(), &args.flags())?;
    let Judging { catalog, loaded } = Judging::load(&config)?;
    let oddities = loaded.oddities(clock::unix_seconds());
    let policy = Policy::new(loaded.policy);
    let mut said: String = oddities
        .iter()
        .map(|oddity| format!("{oddity}\n"))
        .collect();
    if oddities.is_empty() {
        let (tools, rules) = (catalog.tools().count(), policy.rules().len());
        let exceptions = policy.exceptions().len();
        said += &format!(
            "ok: {tools} tools in the catalog, {rules} rules and {exceptions} exceptions in the policy {}\n",
            policy.digest()
        );
    }
    print(&said)?;
    Ok(oddities.is_empty())
}

/// Says what is odd about the operator's own catalog files, or else about the built-in ones.
fn lint(folder: Option<&Path>) -> anyhow::Result<bool> {
    let catalog = load_catalog(folder)?;
    let files = match folder {
        Some(folder) => catalog_files::read(folder)?,
        None => Catalog::embedded_files(),
    };
    let now = UNIX_EPOCH + Duration::from_secs(clock::unix_seconds().unsigned_abs());
    let today = humantime::format_rfc3339_seconds(now).to_string();
    let today = today.split('T').next().unwrap_or_default();
    let remarks = lint::lint(&files, today);
    let mut said: String = remarks.iter().map(|it| format!("{it}\n")).collect();
    if remarks.is_empty() {
        let (tools, services) = (catalog.tools().count(), catalog.services().len());
        said = format!("ok: {tools} tools, {services} services\n");
    }
    print(&said)?;
    Ok(remarks.is_empty())
}

/// Takes out of the kernel what monitors left there.
fn uninstall(args: &UninstallArgs) -> anyhow::Result<bool> {
    if !args.purge_kernel_state {
        bail!("nothing to do: say --purge-kernel-state");
    }
    let folder = args
        .pin
        .as_deref()
        .unwrap_or_else(|| Path::new(values::PIN_FOLDER));
    let removed = pins::purge(folder)?;
    let folder = folder.display();
    print(&if removed {
        format!("removed {folder}: no program of Telltale is attached any more\n")
    } else {
        format!("{folder} is not there: nothing to remove\n")
    })?;
    Ok(true)
}

/// The lines of an event log, or those that a recording gives, whatever their scope.
fn events_of(file: &Path, config: &Config) -> anyhow::Result<Vec<Value>> {
    /// All of it is held at once; a line is about 1.5 kB.
    const BYTES_MAX: u64 = 1 << 30;
    let unreadable = |error| anyhow!("cannot read {}: {error}", file.display());
    let size = std::fs::metadata(file).map_err(unreadable)?.len();
    if size > BYTES_MAX {
        let file = file.display();
        bail!("{file} has more than {BYTES_MAX} bytes; give a part of it, as `grep` makes one");
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    if !is_recording(text.lines().next().unwrap_or_default()) {
        let line = |(number, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|error| {
                let (file, line) = (file.display(), number + 1);
                anyhow!("{file}:{line}: no event: {error}; give an event log or a recording")
            })
        };
        return text.lines().enumerate().map(line).collect();
    }
    let mut recording = Recording::open(file)?;
    let header = recording.header();
    let clock = WallClock {
        offset_ns: header.wall_offset_ns,
    };
    let host = HostInfo {
        name: header.host.clone(),
        boot_id: header.boot_id.clone(),
        session: format!("{:x}", header.started_ns),
        ..HostInfo::default()
    };
    let config = Config {
        events: Events {
            scope: EventsScope::All,
            ..config.events.clone()
        },
        ..config.clone()
    };
    let mut collector =
        Prepared::new(config, &host.session)?.collector(host.boot_id.clone(), clock.offset_ns)?;
    let mut lines = Lines::new(&host);
    let mut events = Vec::new();
    let mut last = BootNs(0);
    for entry in recording.by_ref() {
        let entry = entry?;
        let now = entry.now();
        last = now;
        let effects = match entry {
            Entry::Record { bytes, .. } => match Event::decode(&bytes) {
                Ok(event) => collector.apply(event, now),
                Err(_) => continue,
            },
            Entry::Tick { .. } => collector.sweep(now),
            Entry::End { .. } => continue,
        };
        for effect in &effects {
            events.extend(lines.value(effect, &clock)?);
        }
    }
    // What waited for its client's words is told at the end.
    for effect in &collector.shutdown(last) {
        events.extend(lines.value(effect, &clock)?);
    }
    Ok(events)
}

/// Everything that a run and a replay have in common.
struct Prepared {
    config: Config,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    policy: PolicyConfig,
}

impl Prepared {
    fn new(config: Config, session: &str) -> anyhow::Result<Self> {
        if cfg!(not(feature = "otlp")) && config.otlp.is_some() {
            bail!("[otlp] is set, and this build cannot speak to OpenTelemetry collectors");
        }
        let Judging { catalog, loaded } = Judging::load(&config)?;
        for oddity in loaded.oddities(clock::unix_seconds()) {
            tracing::warn!("{oddity}");
        }
        let build = BuildInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: option_env!("TELLTALE_REVISION").map(str::to_owned),
            object_digest: OBJECT_DIGEST.to_owned(),
        };
        let metrics = Metrics::new(catalog.tools().map(|tool| &*tool.id), &build, session)?;
        Ok(Prepared {
            config,
            catalog,
            metrics: Arc::new(metrics),
            policy: loaded.policy,
        })
    }

    /// What the pages show, and to whom.
    fn web(
        &self,
        info: &HostInfo,
        readiness: watch::Receiver<Readiness>,
        policy: watch::Receiver<PolicyStatus>,
    ) -> anyhow::Result<Web> {
        let config = &self.config.web;
        let file = config.config_file.as_deref().map(WebConfigFile::open);
        Ok(Web {
            metrics: Arc::clone(&self.metrics),
            telemetry_path: config.telemetry_path.clone(),
            about: Arc::new(About {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                object_digest: OBJECT_DIGEST.to_owned(),
                host: info.name.clone(),
            }),
            readiness,
            policy,
            config: file.transpose()?.map(Arc::new),
        })
    }

    fn collector(&self, boot_id: String, wall_offset_ns: i64) -> anyhow::Result<Collector> {
        let config = &self.config;
        let collector = CollectorConfig {
            boot_id,
            scope: match config.events.scope {
                EventsScope::Tools => Scope::Tools,
                EventsScope::All => Scope::All,
            },
            policy: self.policy.clone(),
            wall_offset_ns,
            resolvers: self.resolvers(),
            proxies: config.proxies.clone(),
            sampling: config.sampling == Sampling::On,
            limits: Limits {
                processes: config.limits.processes,
                flows: config.limits.flows,
                alerts: config.limits.alerts,
                names: NameLimits::of(config.limits.names),
            },
            alerts: AlertTiming {
                resend: config.alerts.resend,
                resolve_after: config.alerts.resolve_after,
                pace: config.alerts.pace,
                paces: config
                    .alerts
                    .paces
                    .iter()
                    .map(|(rule, pace)| (rule.as_str().into(), *pace))
                    .collect(),
            },
            arguments: config.events.arguments,
        };
        let collector = Collector::new(collector, Arc::clone(&self.catalog));
        self.metrics
            .set_policy(collector.policy(), self.catalog.digest());
        Ok(collector)
    }

    fn resolvers(&self) -> Vec<SocketAddr> {
        self.config.resolvers.clone().unwrap_or_default()
    }

    fn recorder(&self, path: &Path, info: &HostInfo, started: BootNs) -> anyhow::Result<Recorder> {
        let (boot_id, name) = (info.boot_id.clone(), info.name.clone());
        let wall_offset_ns = clock::wall_offset_ns();
        let header = Header::new(boot_id, name, wall_offset_ns, started, self.resolvers());
        Ok(Recorder::create(path, &header)?)
    }

    /// The ports at which resolvers are asked: that of DNS first.
    fn dns_ports(&self) -> Vec<u16> {
        let mut ports = vec![DNS_PORT];
        for resolver in self.resolvers() {
            if !ports.contains(&resolver.port()) {
                ports.push(resolver.port());
            }
        }
        ports
    }

    #[cfg(feature = "otlp")]
    fn otlp(&self, host: &HostInfo) -> anyhow::Result<Option<Otlp>> {
        let config = self.config.otlp.as_ref();
        config
            .map(|config| Otlp::start(config, host, &self.metrics))
            .transpose()
    }

    fn event_log(&self, when_full: WhenFull, host: &HostInfo) -> anyhow::Result<Option<EventLog>> {
        let Some(destination) = &self.config.events.destination else {
            return Ok(None);
        };
        let target = match destination {
            Destination::Stdout => LogTarget::Stdout,
            Destination::File(path) => LogTarget::File(path.clone()),
        };
        let events = &self.config.events;
        let mut log = EventLog::open(&target, when_full, host)?.in_format(events.format, host);
        if events.chain {
            log = log.chained(&target)?;
        }
        let rotation = Rotation {
            bytes_max: events.rotate_bytes,
            age_max: events.rotate_age,
            files_max: events.rotate_files,
        };
        // What a replay writes must be complete.
        if when_full == WhenFull::Wait {
            return Ok(Some(log));
        }
        log = log.rotating(rotation);
        if let Some(interval) = events.sync {
            log = log.syncing(interval)?;
        }
        Ok(Some(log))
    }
}

async fn run(args: RunArgs) -> anyhow::Result<bool> {
    let stop = stop_signal()?; // First: who sees that it is ready may stop it at once.
    let host = HostRoot::default();
    let config = with_resolvers(
        Config::load(args.policy.config.as_deref(), &args.flags())?,
        &host,
    )?;
    let mut info = host_info(&host)?;
    let prepared = Prepared::new(config, &info.session)?;
    info.runbooks.clone_from(&prepared.config.alerts.runbooks);
    let config_file = args.policy.config.clone();
    let reloads = Reloader::new(config_file, args.flags(), prepared.config.clone()).start()?;
    let (readiness, is_ready) = watch::channel(Readiness::Ready);
    let collector = prepared.collector(info.boot_id.clone(), clock::wall_offset_ns())?;
    let status = PolicyStatus::of(collector.policy(), prepared.catalog.digest());
    let (policy_status, policy) = watch::channel(status);
    let web = prepared.web(&info, is_ready, policy)?;
    let listeners = http::bind(&prepared.config.web.listen_addresses).await?;
    let started = clock::now();
    let recorder = match &args.record {
        Some(path) => Some(prepared.recorder(path, &info, started)?),
        None => None,
    };
    let line = Line {
        collector,
        sinks: Sinks {
            clock: WallClock {
                offset_ns: clock::wall_offset_ns(),
            },
            event_log: prepared.event_log(WhenFull::Drop, &info)?,
            console: console(&prepared.config, args.quiet)?,
            posts: receivers::start(&prepared.config.alerts, &info)?,
            #[cfg(feature = "otlp")]
            otlp: prepared.otlp(&info)?,
            metrics: Arc::clone(&prepared.metrics),
        },
        recorder,
        facts: Some(facts(&host, &prepared)?),
        resolved: resolved(&prepared.config)?,
    };
    let options = Options {
        report_all: prepared.config.events.scope == EventsScope::All,
        sample_flows: prepared.config.sampling == Sampling::On,
        dns_ports: prepared.dns_ports(),
        pin: prepared.config.pin.clone(),
    };
    let feed = Feed::start(&host, &options, Arc::clone(&prepared.catalog)).map_err(|error| {
        // Said only after the kernel refused: some kernels are content with CAP_SYS_ADMIN alone.
        match doctor::missing_capabilities(&host) {
            Ok(Some(missing)) => error.context(missing),
            _ => error,
        }
    })?;
    // The workers are there already, and entered theirs when they started.
    sandbox::enter(Role::Line).context("cannot give up privileges")?;
    announce(&listeners, &web)?;
    let (stop_web, web_stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(http::serve(listeners, web, async {
        let _ = web_stopped.await; // A dropped sender means stop as well.
    }));
    let reloads = Reloads {
        next: reloads,
        status: policy_status,
    };
    let outcome = pipeline::run(line, feed, reloads, stop).await;
    drop((readiness, stop_web));
    server.await.context("the web server failed")?;
    outcome.map(|()| true)
}

/// Says that it watches, and where it answers.
fn announce(listeners: &[TcpListener], web: &Web) -> anyhow::Result<()> {
    tracing::info!("watching this host with kernel object sha256:{OBJECT_DIGEST}");
    for listener in listeners {
        let path = &web.telemetry_path;
        tracing::info!(
            "metrics on {}://{}{path}",
            web.scheme(),
            listener.local_addr()?
        );
    }
    Ok(())
}

/// Who reads what the kernel does not tell. Of environments, no more than the configuration allows.
fn facts(host: &HostRoot, prepared: &Prepared) -> anyhow::Result<Facts> {
    let jobs = &prepared.config.jobs;
    let known = job::variables().into_iter();
    let known = known.map(|(name, take)| (name.to_owned(), take));
    let own = jobs
        .variables
        .iter()
        .map(|name| (name.clone(), Take::Value));
    let wanted = jobs.detect.then(|| known.chain(own).collect());
    Facts::start(host, wanted, prepared.catalog.switches()).context("cannot start a thread")
}

/// Who listens to systemd-resolved.
fn resolved(config: &Config) -> anyhow::Result<Option<Resolved>> {
    let socket = config.resolved.clone();
    let started = socket.map(Resolved::start).transpose();
    started.context("cannot start a thread")
}

/// The configuration with the resolvers that the host is told to ask, if it names none.
fn with_resolvers(mut config: Config, host: &HostRoot) -> anyhow::Result<Config> {
    if config.resolvers.is_none() {
        let found = host
            .resolvers()
            .context("[resolvers] addresses are not set")?;
        config.resolvers = Some(found);
    }
    Ok(config)
}

/// Resolves when the process is asked to stop.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot await SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot await SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
    })
}

fn host_info(host: &HostRoot) -> anyhow::Result<HostInfo> {
    Ok(HostInfo {
        name: host.hostname()?,
        boot_id: host.boot_id()?,
        session: format!("{:x}", clock::now().0),
        ..HostInfo::default()
    })
}

/// One line per new process and endpoint, for a person: on a terminal, unless events go there.
fn console(config: &Config, quiet: bool) -> anyhow::Result<Option<Console>> {
    let stdout = std::io::stdout();
    let events_there = config.events.destination == Some(Destination::Stdout);
    if quiet || events_there || !stdout.is_terminal() {
        return Ok(None);
    }
    Console::open(Stream::Stdout, wants_color(&stdout), WhenFull::Drop).map(Some)
}

async fn replay(args: ReplayArgs) -> anyhow::Result<bool> {
    let mut config = Config::load(args.policy.config.as_deref(), &args.flags())?;
    if [&config.events.destination, &args.metrics] == [&Some(Destination::Stdout); 2] {
        bail!("the events and the metrics both go to standard output; name a file for one of them");
    }
    let mut recording = Recording::open(&args.file)?;
    if let Some(against) = &args.against {
        return compare(config, against, &mut recording);
    }
    let header = recording.header();
    let info = HostInfo {
        name: header.host.clone(),
        boot_id: header.boot_id.clone(),
        session: format!("{:x}", header.started_ns),
        ..HostInfo::default()
    };
    // Names are backed as they were when they were recorded.
    let recorded = || header.resolvers.clone();
    config.resolvers = config.resolvers.or_else(|| Some(recorded()));
    let prepared = Prepared::new(config, &info.session)?;
    let line = Line {
        collector: prepared.collector(info.boot_id.clone(), header.wall_offset_ns)?,
        sinks: Sinks {
            clock: WallClock {
                offset_ns: header.wall_offset_ns,
            },
            event_log: prepared.event_log(WhenFull::Wait, &info)?,
            console: replay_console(&prepared.config, &args)?,
            posts: Vec::new(), // The past wakes nobody.
            #[cfg(feature = "otlp")]
            otlp: None,
            metrics: Arc::clone(&prepared.metrics),
        },
        recorder: None,
        facts: None,
        resolved: None,
    };
    pipeline::replay(line, recording).await?;
    match args.metrics {
        Some(Destination::Stdout) => print(&prepared.metrics.encode(Format::Text))?,
        Some(Destination::File(path)) => {
            std::fs::write(&path, prepared.metrics.encode(Format::Text))
                .map_err(|error| anyhow!("cannot write {}: {error}", path.display()))?
        }
        None => {}
    }
    Ok(true)
}

/// Prints what `config`'s policy says otherwise of a recording than the policy `against`. Whether
/// it says the same.
fn compare(config: Config, against: &Path, recording: &mut Recording) -> anyhow::Result<bool> {
    let old = Config {
        policy: Some(against.to_owned()),
        ..config.clone()
    };
    let (boot_id, offset_ns) = {
        let header = recording.header();
        (header.boot_id.clone(), header.wall_offset_ns)
    };
    let collector =
        |config: Config| Prepared::new(config, "")?.collector(boot_id.clone(), offset_ns);
    let changes = Changes::between(collector(old)?, collector(config)?, recording)?;
    if let Some(warning) = recording.warning() {
        tracing::warn!("{warning}");
    }
    print(&changes.in_words())?;
    Ok(changes.is_empty())
}

/// With standard output to itself, a replay shows there what a person would have seen.
fn replay_console(config: &Config, args: &ReplayArgs) -> anyhow::Result<Option<Console>> {
    let taken = Some(Destination::Stdout);
    if config.events.destination == taken || args.metrics == taken {
        return Ok(None);
    }
    let color = wants_color(&std::io::stdout());
    Console::open(Stream::Stdout, color, WhenFull::Wait).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let cause = || std::io::Error::other("disk gone");
        let told = in_words(&anyhow!(cause()).context("cannot write"));
        assert_eq!(told, "cannot write: disk gone");
        let told = in_words(&anyhow!(cause()).context("cannot write: disk gone; mend it"));
        assert_eq!(told, "cannot write: disk gone; mend it");
    }
}
