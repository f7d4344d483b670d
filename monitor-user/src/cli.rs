//! The command line: exactly what was typed, each value already of its type.
//!
//! In: the arguments of the process. Out: a [`Cli`]. What the values mean together with the
//! config file is for [`crate::config`]; doing it is for `main`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

use crate::config::{Destination, EventsScope, Flags, values};
use crate::core::redact::Arguments;
use crate::explain::Wanted;

/// Shows which AI tools on this host talk to whom.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(name = "telltale", after_help = ABOUT_EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Least important messages to log: off, error, warn, info, debug or trace.
    /// Without this flag the environment variable RUST_LOG decides, then `info`
    #[arg(long = "log.level", value_name = "LEVEL", global = true)]
    pub log_level: Option<LevelFilter>,
}

const ABOUT_EXAMPLES: &str = "\
Examples:
  telltale run                      watch, and serve metrics on 127.0.0.1:10142
  telltale run --banned claude-code alert when this tool runs or connects
  telltale doctor                   what this kernel and these privileges allow";

/// What to do.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Watch this host: serve metrics, send alerts, write the event log
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Check config, policy and catalog, and report every mistake with its file, line and key
    #[command(after_help = CHECK_EXAMPLES)]
    Check(PolicyArgs),
    /// Show what this kernel and these privileges allow, and the remedy for what is missing
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor,
    /// Take out of the kernel what `telltale run --pin` left there
    #[command(after_help = UNINSTALL_EXAMPLES)]
    Uninstall(UninstallArgs),
    /// Tell why something was judged as it was: process, ancestry, evidence, names, each rule
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Prove that an event log with a chain (`events.chain`) is complete and unaltered
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Show the AI tools that are recognised
    #[command(subcommand, after_help = CATALOG_EXAMPLES)]
    Catalog(CatalogCommand),
    /// Feed a recording through the same line, with this config: same records, same result
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(ReplayArgs),
}

const RUN_EXAMPLES: &str = "\
Examples:
  telltale run --config /etc/telltale/telltale.toml
  telltale run --events - --events-scope all --quiet
  telltale run --record today.ndjson";

const CHECK_EXAMPLES: &str = "\
Example:
  telltale check --config /etc/telltale/telltale.toml";

const UNINSTALL_EXAMPLES: &str = "\
Example:
  telltale uninstall --purge-kernel-state";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  telltale explain 4711 --events /var/log/telltale/events.ndjson
  telltale explain 43fc6638b35-17 --events today.ndjson --policy candidate.toml";

const VERIFY_EXAMPLES: &str = "\
Examples:
  telltale verify /var/log/telltale/events.ndjson
  telltale verify archive/events.ndjson.2 archive/events.ndjson.1 --through 9f86d081884c7d65...";

const DOCTOR_EXAMPLES: &str = "\
Example:
  telltale doctor";

const CATALOG_EXAMPLES: &str = "\
Examples:
  telltale catalog list
  telltale catalog show claude-code
  telltale catalog match api.anthropic.com
  telltale catalog match /usr/bin/node /usr/local/bin/gemini
  telltale catalog lint --catalog /etc/telltale/catalog
  telltale catalog diff --events /var/log/telltale/events.ndjson";

const REPLAY_EXAMPLES: &str = "\
Examples:
  telltale replay today.ndjson --events -
  telltale replay today.ndjson --config candidate.toml --metrics -
  telltale replay today.ndjson --policy new.toml --against old.toml";

/// Flags of `telltale run`.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct RunArgs {
    /// Config file and policy.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// The event log.
    #[command(flatten)]
    pub events: EventsArgs,
    /// Address to serve metrics on, instead of the config's; may be repeated
    #[arg(long = "web.listen-address", value_name = "IP:PORT",
          value_parser = values::listen_address)]
    pub listen_addresses: Vec<SocketAddr>,
    /// Path of the metrics
    #[arg(long = "web.telemetry-path", value_name = "PATH",
          value_parser = values::telemetry_path)]
    pub telemetry_path: Option<String>,
    /// TLS, users and headers of the web server, as all Prometheus exporters take them
    #[arg(long = "web.config.file", value_name = "FILE", value_parser = values::path)]
    pub web_config: Option<PathBuf>,
    /// Also record every kernel record into this new file, for `telltale replay`.
    /// It holds arguments and host names
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Folder on a BPF file system in which the kernel side outlives this process
    #[arg(long, value_name = "DIR", value_parser = values::path)]
    pub pin: Option<PathBuf>,
    /// Socket at which systemd-resolved tells its answers, or `off`
    #[arg(long, value_name = "PATH|off", value_parser = resolved)]
    pub resolved: Option<Socket>,
    /// Print no line per new process and endpoint on a terminal
    #[arg(long, short)]
    pub quiet: bool,
}

/// Arguments of `telltale verify`.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct VerifyArgs {
    /// The event log: one file, which stands for all that was put aside of it, or several,
    /// oldest first
    #[arg(value_name = "LOG", required = true)]
    pub logs: Vec<PathBuf>,
    /// A hash that `telltale verify` told earlier: the log must still hold its line
    #[arg(long, value_name = "HASH")]
    pub through: Option<String>,
}

/// A socket; `None` is `off`.
// Of a bare `Option<Option<_>>`, clap would make a flag whose value may be left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Socket(pub Option<PathBuf>);

fn resolved(text: &str) -> Result<Socket, String> {
    values::path_or_off(text).map(Socket)
}

/// Flags of `telltale uninstall`.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct UninstallArgs {
    /// Detach all programs that outlived a monitor, and remove their maps
    #[arg(long)]
    pub purge_kernel_state: bool,
    /// Folder that `telltale run --pin` was given [default: /sys/fs/bpf/telltale]
    #[arg(long, value_name = "DIR", value_parser = values::path)]
    pub pin: Option<PathBuf>,
}

/// Flags that say what is allowed.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct PolicyArgs {
    /// Config file; without it the defaults hold
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder with catalog files of your own, laid over the built-in ones: `tools/*.toml` and
    /// `services/*.toml`
    #[arg(long, value_name = "DIR", value_parser = values::path)]
    pub catalog: Option<PathBuf>,
    /// Policy file, instead of the config's
    #[arg(long, value_name = "FILE", value_parser = values::path)]
    pub policy: Option<PathBuf>,
    /// Tool that must neither run nor connect, besides the config's; may be repeated
    #[arg(long, value_name = "TOOL", value_parser = values::tool_id)]
    pub banned: Vec<String>,
}

/// Flags of the event log.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct EventsArgs {
    /// Write the event log, as NDJSON in ECS field names, to a file or (-) to standard output
    #[arg(long, value_name = "FILE|-", value_parser = values::destination)]
    pub events: Option<Destination>,
    /// What the event log covers: AI tools and their children, or everything
    #[arg(long, value_name = "tools|all", value_parser = values::events_scope)]
    pub events_scope: Option<EventsScope>,
    /// How much of arguments is told: the program and its script, or all but what looks like a
    /// secret
    #[arg(long, value_name = "program|redacted", value_parser = values::arguments)]
    pub events_arguments: Option<Arguments>,
}

/// What to show of the catalog.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum CatalogCommand {
    /// One line per tool
    List {
        /// Folder with catalog files of your own, laid over the built-in ones: `tools/*.toml` and
        /// `services/*.toml`
        #[arg(long, value_name = "DIR", value_parser = values::path)]
        catalog: Option<PathBuf>,
    },
    /// What tools were seen to contact, against what their manifests declare: a patch, in TOML
    Diff {
        /// The event log, or a recording
        #[arg(long, value_name = "FILE", value_parser = values::path)]
        events: PathBuf,
        /// Folder with catalog files of your own, laid over the built-in ones: `tools/*.toml` and
        /// `services/*.toml`
        #[arg(long, value_name = "DIR", value_parser = values::path)]
        catalog: Option<PathBuf>,
    },
    /// What the catalog makes of a host, an address, or a command line that begins with a path
    Match {
        /// Folder with catalog files of your own, laid over the built-in ones: `tools/*.toml` and
        /// `services/*.toml`
        #[arg(long, value_name = "DIR", value_parser = values::path)]
        catalog: Option<PathBuf>,
        /// The host or address, or the executable and its arguments
        #[arg(
            value_name = "WHAT",
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        words: Vec<String>,
    },
    /// Report every mistake in catalog files, and what may be meant otherwise
    Lint {
        /// Folder with catalog files of your own, laid over the built-in ones: `tools/*.toml` and
        /// `services/*.toml`
        #[arg(long, value_name = "DIR", value_parser = values::path)]
        catalog: Option<PathBuf>,
    },
    /// Everything the catalog says of one tool
    Show {
        /// Its identifier, as `telltale catalog list` shows it
        #[arg(value_name = "TOOL", value_parser = values::tool_id)]
        tool: String,
        /// Folder with catalog files of your own, laid over the built-in ones: `tools/*.toml` and
        /// `services/*.toml`
        #[arg(long, value_name = "DIR", value_parser = values::path)]
        catalog: Option<PathBuf>,
    },
}

/// Arguments of `telltale explain`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct ExplainArgs {
    /// A pid, an entity id (`process.entity_id`) or an event id (`event.id`)
    #[arg(value_name = "PID|ENTITY|EVENT", value_parser = Wanted::parse)]
    pub wanted: Wanted,
    /// The event log, or a recording
    #[arg(long, value_name = "FILE", value_parser = values::path)]
    pub events: PathBuf,
    /// Config file and policy.
    #[command(flatten)]
    pub policy: PolicyArgs,
}

/// Arguments of `telltale replay`.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct ReplayArgs {
    /// Recording, made with `telltale run --record FILE`
    pub file: PathBuf,
    /// Config file and policy.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// The event log.
    #[command(flatten)]
    pub events: EventsArgs,
    /// Print only what the policy says otherwise than this policy file; exit status 1 if anything
    #[arg(long, value_name = "FILE", value_parser = values::path, conflicts_with_all = ["events", "metrics"])]
    pub against: Option<PathBuf>,
    /// Write the metrics as they are at the end, to a file or (-) to standard output
    #[arg(long, value_name = "FILE|-", value_parser = values::destination)]
    pub metrics: Option<Destination>,
}

impl RunArgs {
    /// Those that beat the config file.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags {
            listen_addresses: self.listen_addresses.clone(),
            telemetry_path: self.telemetry_path.clone(),
            web_config: self.web_config.clone(),
            pin: self.pin.clone(),
            resolved: self.resolved.clone().map(|Socket(path)| path),
            ..flags(&self.policy, &self.events)
        }
    }
}

impl ReplayArgs {
    /// Those that beat the config file.
    #[must_use]
    pub fn flags(&self) -> Flags {
        flags(&self.policy, &self.events)
    }
}

impl PolicyArgs {
    /// Those that beat the config file.
    #[must_use]
    pub fn flags(&self) -> Flags {
        flags(self, &EventsArgs::default())
    }
}

fn flags(policy: &PolicyArgs, events: &EventsArgs) -> Flags {
    Flags {
        events: events.events.clone(),
        events_scope: events.events_scope,
        events_arguments: events.events_arguments,
        catalog: policy.catalog.clone(),
        policy: policy.policy.clone(),
        banned: policy.banned.clone(),
        ..Flags::default()
    }
}

impl Cli {
    /// Parses arguments; the first is the program's name. `version` is what `--version` prints
    /// after the name: the version, and the digest of the eBPF object that is built in.
    ///
    /// # Errors
    ///
    /// A usage error, or the text of `--help` and `--version`: `clap::Error::exit` prints either
    /// where it belongs, and leaves with status 2 or 0.
    pub fn from_args<I>(args: I, version: &'static str) -> Result<Cli, clap::Error>
    where
        I: IntoIterator,
        I::Item: Into<OsString> + Clone,
    {
        let mut command = Cli::command().version(version);
        let matches = command.try_get_matches_from_mut(args)?;
        Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::from_args(line.split_whitespace(), "1.2.3\neBPF object sha256:abc")
    }

    #[track_caller]
    fn command(line: &str) -> Command {
        match parse(line) {
            Ok(cli) => cli.command,
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    fn check_refused(line: &str, expect: &str) {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains(expect), "{text}");
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_alone_asks_for_nothing() {
        assert_eq!(command("telltale run"), Command::Run(Box::default()));
        assert_eq!(RunArgs::default().flags(), Flags::default());
    }

    #[test]
    fn every_flag_of_run() {
        let Command::Run(args) = command(
            "telltale run --config c.toml --web.listen-address 127.0.0.1:1 \
             --web.listen-address [::1]:2 --web.telemetry-path /m --web.config.file w \
             --events - --events-scope all --events-arguments redacted \
             --record r.ndjson --pin p --resolved off --catalog dir --policy p.toml --banned a --banned b -q",
        ) else {
            panic!("not run")
        };
        assert_eq!(args.policy.config, Some(PathBuf::from("c.toml")));
        assert_eq!(args.record, Some(PathBuf::from("r.ndjson")));
        assert!(args.quiet);
        assert_eq!(
            args.flags(),
            Flags {
                listen_addresses: ["127.0.0.1:1", "[::1]:2"]
                    .map(|at| at.parse().unwrap())
                    .into(),
                telemetry_path: Some("/m".to_owned()),
                web_config: Some(PathBuf::from("w")),
                events: Some(Destination::Stdout),
                events_scope: Some(EventsScope::All),
                events_arguments: Some(Arguments::Redacted),
                catalog: Some(PathBuf::from("dir")),
                policy: Some(PathBuf::from("p.toml")),
                banned: vec!["a".to_owned(), "b".to_owned()],
                pin: Some(PathBuf::from("p")),
                resolved: Some(None),
            }
        );
    }

    #[test]
    fn check_and_replay_take_the_policy() {
        let Command::Check(args) = command("telltale check --catalog dir --banned a") else {
            panic!("not check")
        };
        let expect = Flags {
            catalog: Some(PathBuf::from("dir")),
            banned: vec!["a".to_owned()],
            ..Flags::default()
        };
        assert_eq!(args.flags(), expect);

        let line = "telltale replay f --config c --catalog dir --banned a --events e --metrics -";
        let Command::Replay(args) = command(line) else {
            panic!("not replay")
        };
        assert_eq!(args.file, PathBuf::from("f"));
        assert_eq!(args.policy.config, Some(PathBuf::from("c")));
        assert_eq!(args.metrics, Some(Destination::Stdout));
        let events = Some(Destination::File(PathBuf::from("e")));
        assert_eq!(args.flags(), Flags { events, ..expect });
    }

    #[test]
    fn catalog_and_doctor() {
        assert_eq!(
            command("telltale catalog list"),
            Command::Catalog(CatalogCommand::List { catalog: None })
        );
        assert_eq!(
            command("telltale catalog show codex-cli --catalog dir"),
            Command::Catalog(CatalogCommand::Show {
                tool: "codex-cli".to_owned(),
                catalog: Some(PathBuf::from("dir")),
            })
        );
        assert_eq!(command("telltale doctor"), Command::Doctor);
    }

    #[test]
    fn the_log_level_is_for_every_command() {
        let level = |line| parse(line).unwrap().log_level;
        assert_eq!(level("telltale doctor"), None);
        assert_eq!(
            level("telltale --log.level debug doctor"),
            Some(LevelFilter::DEBUG)
        );
        assert_eq!(
            level("telltale run --log.level off"),
            Some(LevelFilter::OFF)
        );
        check_refused("telltale run --log.level loud", "invalid value 'loud'");
    }

    #[test]
    fn wrong_values_name_the_flag_and_the_remedy() {
        check_refused(
            "telltale run --web.listen-address :9100",
            "invalid value ':9100' for '--web.listen-address <IP:PORT>': no IP address; \
             write \"[::]:9100\"",
        );
        check_refused(
            "telltale run --web.telemetry-path m",
            "does not start with /; write \"/m\"",
        );
        check_refused(
            "telltale run --events-scope most",
            "write \"tools\" or \"all\"",
        );
        check_refused(
            "telltale run --banned Claude",
            "`telltale catalog list` shows them",
        );
        check_refused(
            "telltale run --bannd x",
            "a similar argument exists: '--banned'",
        );
        check_refused("telltale rnu", "unrecognized subcommand 'rnu'");
        check_refused("telltale replay", "<FILE>");
    }

    #[test]
    fn version_and_help() {
        let text = |line: &str| {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 0);
            error.to_string()
        };
        assert_eq!(
            text("telltale --version"),
            "telltale 1.2.3\neBPF object sha256:abc\n"
        );
        assert!(text("telltale --help").contains("\nExamples:\n  telltale run "));
        for command in ["run", "check", "explain", "doctor", "catalog", "replay"] {
            let help = text(&format!("telltale {command} --help"));
            assert!(help.contains(&format!("\n  telltale {command}")), "{help}");
        }
    }
}
