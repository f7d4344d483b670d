//! `docs/config.md` and `deploy/telltale.toml`, written from the table of keys.
//!
//! In: [`keys::rows`]. Out: the text of both files. The tests here fail when a committed file
//! differs; `UPDATE=1 cargo test -p telltale config` writes them again.

use super::key::{Row, Section};
use super::keys;

/// Columns that comments of the default file are wrapped at.
const WIDTH: usize = 92;

const MARKDOWN_HEAD: &str = "\
# Configuration

<!-- Written from the table of keys in monitor-user/src/config/keys.rs:
     UPDATE=1 cargo test -p telltale config -->

Telltale runs without any configuration.
With `--config FILE` it reads one TOML file; `deploy/telltale.toml` is one with every key and its default.
A flag beats the file, and the file beats the default.
`telltale check --config FILE` reports every mistake in it at once.

The file holds the policy, so it is refused when others than its owner can write it (`chmod go-w FILE`),
or when everyone can write its folder and so replace it (`chmod o-w FOLDER`).
It must be a regular file, UTF-8, and no longer than 1 MiB.

Relative paths count from the working directory.
A URL may hold credentials (`https://user:password@host/`); messages leave them out.
";

const TOML_HEAD: &str = "\
# Telltale reads this file with: telltale run --config FILE
# Every key is here, with its default or an example; to set one, remove the # in front of it.
# To check the file: telltale check --config FILE
";

fn rows_of(section: &Section) -> impl Iterator<Item = Row> {
    let name = section.name;
    keys::rows()
        .into_iter()
        .filter(move |row| row.section == name)
}

fn header(section: &Section) -> String {
    match section.most {
        None => format!("[{}]", section.name),
        Some(_) => format!("[[{}]]", section.name),
    }
}

fn markdown() -> String {
    let mut out = MARKDOWN_HEAD.to_owned();
    for section in keys::SECTIONS {
        out += &markdown_section(section, rows_of(section));
    }
    out
}

/// A section of a reference: what it is about, and a table of its keys.
pub(super) fn markdown_section(section: &Section, rows: impl Iterator<Item = Row>) -> String {
    let mut out = format!("\n## `{}`\n\n{}\n", header(section), section.meaning);
    if let Some(most) = section.most {
        out += &format!("May be there up to {most} times.\n");
    }
    let rows: Vec<Row> = rows.collect();
    if rows.is_empty() {
        return out;
    }
    out += "\n| Key | Type | Unit | Default | Range | Meaning |\n|---|---|---|---|---|---|\n";
    for row in rows {
        let default = match &row.default {
            Some(default) => format!("`{default}`"),
            None if row.required => "required".to_owned(),
            None => "none".to_owned(),
        };
        out += &format!(
            "| `{}` | {} | {} | {default} | {} | {} |\n",
            row.name,
            row.kind,
            row.unit.unwrap_or("–"),
            row.range,
            row.meaning
        );
    }
    out
}

fn toml() -> String {
    let mut out = TOML_HEAD.to_owned();
    for section in keys::SECTIONS {
        let off = if section.most.is_some() { "#" } else { "" };
        out += &format!("\n{}{off}{}\n", comment(section.meaning), header(section));
        for row in rows_of(section) {
            let note = match (&row.default, row.unit) {
                (Some(_), Some(_)) => format!("{} {}.", row.meaning, row.range),
                (Some(default), None) if *default == row.sample => row.meaning.to_owned(),
                _ => format!("{} An example:", row.meaning),
            };
            out += &format!("{}#{} = {}\n", comment(&note), row.name, row.sample);
        }
    }
    out
}

/// Text as lines of comment.
fn comment(text: &str) -> String {
    let mut out = String::new();
    let mut line = String::from("#");
    for word in text.replace('`', "").split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out += &line;
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line += word;
    }
    out + &line + "\n"
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::super::{Config, Flags};
    use super::*;

    fn in_repository(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
    }

    #[track_caller]
    pub(in crate::config) fn check_committed(path: &str, expect: &str) {
        let path = in_repository(path);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, expect).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == expect,
            "{} is out of date; write it again with: UPDATE=1 cargo test -p telltale config",
            path.display()
        );
    }

    fn parse(text: &str) -> Config {
        match Config::parse(Path::new("telltale.toml"), text, &Flags::default()) {
            Ok(config) => config,
            Err(error) => panic!("{error}"),
        }
    }

    /// The default file with everything switched on: `#key = value`, but not `# words`.
    fn switched_on() -> String {
        let lines = toml();
        let lines = lines.lines().map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => setting,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn config_md_is_up_to_date() {
        check_committed("docs/config.md", &markdown());
    }

    #[test]
    fn default_file_is_up_to_date() {
        check_committed("deploy/telltale.toml", &toml());
    }

    #[test]
    fn default_file_changes_nothing() {
        assert_eq!(parse(&toml()), Config::default());
    }

    #[test]
    fn default_file_shows_every_key_and_its_default() {
        let text = switched_on();
        for row in keys::rows() {
            assert!(
                text.contains(&format!("\n{} = ", row.name)),
                "{}",
                row.path()
            );
        }
        let mut config = parse(&text);
        let defaults = Config::default();
        let alerts = &mut config.alerts;
        let webhooks = alerts.webhooks.iter().map(|webhook| &webhook.receiver);
        for receiver in webhooks.chain(&alerts.alertmanagers).chain(&alerts.slack) {
            assert_eq!(receiver.timeout, Duration::from_secs(10));
        }

        // What has no default shows an example, which must be one.
        assert_eq!(alerts.paces.drain(..).count(), 1);
        assert_eq!(alerts.webhooks.drain(..).count(), 1);
        assert_eq!(alerts.alertmanagers.drain(..).count(), 1);
        assert_eq!(alerts.slack.drain(..).count(), 1);
        assert_eq!(alerts.syslog.drain(..).count(), 1);
        assert!(alerts.spool_directory.take().is_some());
        assert_eq!(config.banned.drain(..).count(), 1);
        assert_eq!(config.jobs.variables.drain(..).count(), 1);
        assert!(config.events.destination.take().is_some());
        assert!(config.web.config_file.take().is_some());
        assert!(config.policy.take().is_some());
        assert!(config.addresses.asn.take().is_some());
        assert!(config.addresses.country.take().is_some());
        assert!(config.catalog.take().is_some());
        assert!(config.otlp.take().is_some());
        assert!(config.pin.take().is_some());
        assert!(config.resolvers.take().is_some());
        assert_eq!(config.proxies.drain(..).count(), 2);
        assert_eq!(config, defaults);
    }
}
