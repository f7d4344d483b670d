//! One readable line per new (process image, endpoint), per tool process, and per alert.
//!
//! In: effects. Out: aligned lines on standard output or standard error, in colour if asked.
//! Nothing that a process can choose reaches the terminal unescaped.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use anyhow::Context;

use super::lines::{LineWriter, WhenFull};
use super::{file_name, is_unprintable, state_name};
use crate::clock::WallClock;
use crate::core::attribute::Role;
use crate::core::event::{BootNs, Endpoint, Hook};
use crate::core::policy::judgement::Severity;
use crate::core::policy::judgement::Verdict;
use crate::core::report::{
    AlertNotice, AlertState, Effect, FlowAction, FlowReport, Origin, OverBudgetReport,
    ProcessStarted, ProcessView, SocketReport,
};
use crate::metrics::outputs::SinkStats;

/// Which standard stream to write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Writes effects for a person to read, and never fails.
pub struct Console {
    lines: LineWriter,
    color: bool,
}

impl Console {
    /// Opens the console. `color` is the caller's decision: a terminal, and no `NO_COLOR`.
    ///
    /// # Errors
    ///
    /// If the stream is closed.
    pub fn open(stream: Stream, color: bool, when_full: WhenFull) -> anyhow::Result<Self> {
        let (stream, name) = match stream {
            Stream::Stdout => (io::stdout().as_fd().try_clone_to_owned(), "standard output"),
            Stream::Stderr => (io::stderr().as_fd().try_clone_to_owned(), "standard error"),
        };
        let file = File::from(stream.context(name)?);
        Ok(Console {
            lines: LineWriter::new(file, name, when_full),
            color,
        })
    }

    /// Writes the line of an effect, if it has one.
    pub fn write(&mut self, effect: &Effect, clock: &WallClock) {
        if let Some(mut line) = line(effect, clock, self.color) {
            line.push('\n');
            self.lines.push(line.as_bytes());
        }
    }

    /// Writes what waits.
    pub fn flush(&mut self) {
        self.lines.flush();
    }

    /// What was shown and dropped.
    #[must_use]
    pub fn stats(&self) -> SinkStats {
        let lines = self.lines.stats();
        SinkStats {
            delivered: lines.lines_written,
            dropped_queue_full: lines.lines_dropped,
            ..SinkStats::default()
        }
    }
}

/// The line of an effect; `None` if the console does not show it.
fn line(effect: &Effect, clock: &WallClock, color: bool) -> Option<String> {
    match effect {
        Effect::ProcessStarted(event) if event.logged && event.process.tool.is_some() => {
            Some(process_started(event, clock, color))
        }
        Effect::Flow(report) if report.logged && report.first => flow(report, clock, color),
        Effect::SocketOpened(report) if report.logged => Some(socket(report, clock)),
        // Its alert, and the metrics, tell how it goes on.
        Effect::OverBudget(report) if report.refused == report.refused_total => {
            Some(over_budget(report, clock))
        }
        Effect::Alert(notice) if notice.state != AlertState::StillFiring => {
            Some(alert(notice, clock, color))
        }
        _ => None,
    }
}

fn process_started(event: &ProcessStarted, clock: &WallClock, color: bool) -> String {
    let verdict = event.judgement.verdict;
    let shown = if verdict == Verdict::Denied {
        paint(verdict.name(), verdict, color)
    } else {
        "".into()
    };
    let what = format!("{} {shown}", clean(&event.process.exe));
    let role = event.process.tool.as_ref().map(|tool| tool.role);
    let when = (event.time, clock);
    row(when, "process", &event.process, role, what.trim_end())
}

fn flow(report: &FlowReport, clock: &WallClock, color: bool) -> Option<String> {
    let (action, asked) = match &report.action {
        FlowAction::Opened {
            hook: Hook::Accepted,
        } => ("accept", String::new()),
        FlowAction::Opened { .. } => ("connect", String::new()),
        FlowAction::Redirected { asked, asked_name } => {
            let name = asked_name.as_ref().map(|name| &*name.name);
            ("redirect", format!(" asked {}", endpoint(asked, name)))
        }
        FlowAction::Ended(_) => return None,
    };
    let target = endpoint(&report.remote, report.name());
    let verdict = report.judgement.verdict;
    let via = report.via.first().map_or_else(String::new, |client| {
        format!(" via pid {}", client.key.tgid)
    });
    let what = format!(
        "{target:<48} {:<5} {} {}{asked}{via}",
        report.remote.protocol.name(),
        paint(&format!("{:<19}", verdict.name()), verdict, color),
        clean(report.judgement.purpose.as_deref().unwrap_or("-")),
    );
    let role = report.process.role_in_flow(&report.judgement);
    let when = (report.time, clock);
    Some(row(when, action, &report.process, role, &what))
}

/// `api.anthropic.com:443 (192.0.2.10)`, `192.0.2.10:443`, `192.0.2.10`.
fn endpoint(endpoint: &Endpoint, name: Option<&str>) -> String {
    let (addr, ip) = (endpoint.addr, endpoint.addr.ip());
    let port = match addr.port() {
        0 => String::new(), // None, or any.
        port => format!(":{port}"),
    };
    match name {
        Some(name) => format!("{}{port} ({ip})", clean(name)),
        None if port.is_empty() => ip.to_string(),
        None => addr.to_string(),
    }
}

fn socket(report: &SocketReport, clock: &WallClock) -> String {
    let (kind, protocol) = (report.kind.name(), report.protocol);
    let how = if report.found { "found open" } else { "opened" };
    let what = format!("{kind} socket, protocol {protocol}, {how}");
    let role = own_role(&report.process);
    row((report.time, clock), "socket", &report.process, role, &what)
}

fn over_budget(report: &OverBudgetReport, clock: &WallClock) -> String {
    let what = format!("{} new flows only counted", report.refused);
    let role = own_role(&report.process);
    row((report.time, clock), "flood", &report.process, role, &what)
}

fn own_role(process: &ProcessView) -> Option<Role> {
    process.tool.as_deref().map(|member| member.role)
}

fn alert(notice: &AlertNotice, clock: &WallClock, color: bool) -> String {
    let alert = &notice.alert;
    let code = match (notice.state, alert.severity) {
        (AlertState::Resolved, _) => GREEN,
        (_, Severity::Critical) => RED,
        (_, Severity::Warning | Severity::Info) => YELLOW,
    };
    let tool = alert.labels.get("tool").map_or("-", |tool| tool);
    let summary = alert
        .annotations
        .get("summary")
        .map_or("", |summary| summary);
    let severity = format!("{:<15}", alert.severity.name());
    format!(
        "{}  {:<8} {:<26} {} {:>7}  {} {}: {}",
        time_of_day(notice.time, clock),
        "alert",
        clean(tool),
        in_color(&severity, code, color),
        "",
        alert.rule,
        state_name(notice.state),
        clean(summary),
    )
}

/// The columns that processes and connections share.
fn row(
    (time, clock): (BootNs, &WallClock),
    action: &str,
    process: &ProcessView,
    role: Option<Role>,
    what: &str,
) -> String {
    let who = match process.tool.as_deref() {
        Some(tool) => {
            let version = tool.version.as_deref().unwrap_or_default();
            format!("{} {version}", tool.tool.id)
        }
        None if process.origin == Origin::Kernel => "kernel".to_owned(),
        None if process.exe.is_empty() => "unknown".to_owned(),
        None => file_name(&process.exe).to_owned(),
    };
    let role = role.map_or("-", Role::name);
    let time = time_of_day(time, clock);
    format!(
        "{time}  {action:<8} {:<26} {role:<15} {:>7}  {what}{}",
        clean(&who),
        process.key.tgid,
        clean(&whereabouts(process)),
    )
}

/// ` [docker web-1] [gitlab acme/app, run 7]`: where it runs, if that is not the host itself.
fn whereabouts(process: &ProcessView) -> String {
    let container = process
        .place
        .as_ref()
        .and_then(|place| place.container.as_ref());
    let mut text = String::new();
    if let Some(container) = container {
        text.push_str(&format!(" [{container}]"));
    }
    if let Some(job) = process.job.job() {
        text.push_str(&format!(" [{job}]"));
    }
    text
}

/// `09:32:00Z`.
fn time_of_day(time: BootNs, clock: &WallClock) -> String {
    let seconds = clock.unix_seconds(time) % 86_400;
    format!(
        "{:02}:{:02}:{:02}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// What a terminal would act on, as `\u{1b}`.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len());
    for character in text.chars() {
        match is_unprintable(character) {
            true => cleaned.extend(character.escape_unicode()),
            false => cleaned.push(character),
        }
    }
    Cow::Owned(cleaned)
}

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;

fn paint<'a>(text: &'a str, verdict: Verdict, color: bool) -> Cow<'a, str> {
    match verdict {
        Verdict::Expected | Verdict::Allowed | Verdict::ExpectedUnverified => {
            in_color(text, GREEN, color)
        }
        Verdict::Optional | Verdict::Undeclared | Verdict::Unknown => in_color(text, YELLOW, color),
        Verdict::Denied => in_color(text, RED, color),
        Verdict::Local | Verdict::Served | Verdict::NotJudged => Cow::Borrowed(text),
    }
}

fn in_color(text: &str, code: u8, color: bool) -> Cow<'_, str> {
    if color {
        Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::event::{Outcome, SocketKind};
    use crate::core::job::{Job, JobOf};
    use crate::core::place::Place;
    use crate::core::report::ProcessView;
    use crate::sink::fixture::{self, CLOCK};

    #[track_caller]
    fn check(effect: &Effect, expect: Option<&str>) {
        assert_eq!(line(effect, &CLOCK, false).as_deref(), expect);
    }

    #[test]
    fn lines_are_aligned() {
        check(
            &fixture::started(fixture::process(4242)),
            Some(
                "09:32:02Z  process  claude-code 2.1.328        main               4242  \
                 /home/u/.local/share/claude/versions/2.1.328 denied",
            ),
        );
        check(
            &fixture::flow(fixture::opened(fixture::process(4242))),
            Some(
                "09:32:03Z  connect  claude-code 2.1.328        main               4242  \
                 api.anthropic.com:443 (192.0.2.10)               tcp   expected            api",
            ),
        );
        check(
            &fixture::flow(FlowReport {
                names: Vec::new(),
                remote: fixture::remote("[2001:db8::1]:443", crate::core::event::Protocol::Udp),
                ..fixture::opened(fixture::stranger(7))
            }),
            Some(
                "09:32:03Z  connect  curl                       unidentified          7  \
                 [2001:db8::1]:443                                udp   expected            api",
            ),
        );
        check(
            &fixture::alert(AlertState::Fired),
            Some(
                "09:32:06Z  alert    claude-code                critical                 \
                 banned-tool fired: Claude Code is banned and runs",
            ),
        );
    }

    fn socket(report: SocketReport) -> Effect {
        Effect::SocketOpened(Box::new(report))
    }

    #[test]
    fn what_no_call_announced_has_its_lines() {
        check(
            &fixture::flow(fixture::accepted(fixture::process(42))),
            Some(
                "09:32:03Z  accept   claude-code 2.1.328        main                 42  \
                 192.0.2.99                                       tcp   served              -",
            ),
        );
        check(
            &fixture::flow(fixture::redirected(fixture::process(42))),
            Some(
                "09:32:03Z  redirect claude-code 2.1.328        main                 42  \
                 192.0.2.128:3128                                 tcp   unknown             - \
                 asked api.anthropic.com:443 (192.0.2.10)",
            ),
        );
        check(
            &fixture::flow(FlowReport {
                names: Vec::new(),
                ..fixture::opened(fixture::kernel())
            }),
            Some(
                "09:32:03Z  connect  kernel                     -                     0  \
                 192.0.2.10:443                                   tcp   expected            api",
            ),
        );
        check(
            &socket(fixture::socket(
                fixture::process(42),
                SocketKind::Raw,
                false,
            )),
            Some(
                "09:32:07Z  socket   claude-code 2.1.328        main                 42  \
                 raw socket, protocol 253, opened",
            ),
        );
        check(
            &socket(fixture::socket(
                fixture::stranger(43),
                SocketKind::Packet,
                true,
            )),
            Some(
                "09:32:07Z  socket   curl                       -                    43  \
                 packet socket, protocol 253, found open",
            ),
        );
        check(
            &fixture::over_budget(fixture::stranger(43), 7, 7),
            Some(
                "09:32:08Z  flood    curl                       -                    43  \
                 7 new flows only counted",
            ),
        );
    }

    #[test]
    fn only_what_is_new_is_shown() {
        check(&fixture::started(fixture::stranger(1)), None);
        let again = FlowReport {
            first: false,
            ..fixture::opened(fixture::process(1))
        };
        check(&fixture::flow(again), None);
        let unlogged = FlowReport {
            logged: false,
            ..fixture::opened(fixture::process(1))
        };
        check(&fixture::flow(unlogged), None);
        check(
            &fixture::flow(fixture::closed(fixture::process(1), Outcome::Closed)),
            None,
        );
        check(&fixture::ended(fixture::process(1), 0), None);
        let unlogged = SocketReport {
            logged: false,
            ..fixture::socket(fixture::process(1), SocketKind::Raw, false)
        };
        check(&socket(unlogged), None);
        check(&fixture::over_budget(fixture::process(1), 7, 8), None);
        check(&fixture::alert(AlertState::StillFiring), None);
    }

    /// Claude Code in a container and a build job.
    fn placed(name: &str) -> ProcessView {
        let place = Place::at(&format!("/docker/{}", "0a".repeat(32)));
        let place = place.with(&[("name".to_owned(), name.to_owned())]);
        let job = Job {
            provider: "gitlab",
            run_id: Some("7".into()),
            ..Job::default()
        };
        ProcessView {
            place: Some(Arc::new(place)),
            job: JobOf::Job(Arc::new(job)),
            ..fixture::process(42)
        }
    }

    #[test]
    fn container_and_job_stand_at_the_end() {
        check(
            &fixture::started(placed("web-1")),
            Some(
                "09:32:02Z  process  claude-code 2.1.328        main                 42  \
                 /home/u/.local/share/claude/versions/2.1.328 denied [docker web-1] [gitlab, run 7]",
            ),
        );
        let text = line(&fixture::started(placed("\u{1b}[2J")), &CLOCK, false).unwrap();
        assert!(!text.contains(is_unprintable), "{text:?}");
    }

    #[test]
    fn nothing_of_others_acts_on_the_terminal() {
        let exe = "/tmp/\u{1b}[31mred\u{9b}\u{202e}\n";
        let process = ProcessView {
            exe: exe.into(),
            ..fixture::process(1)
        };
        let text = line(&fixture::started(process), &CLOCK, false).unwrap();
        assert!(!text.contains(is_unprintable), "{text:?}");
        assert!(
            text.contains("/tmp/\\u{1b}[31mred\\u{9b}\\u{202e}\\u{a}"),
            "{text:?}"
        );
    }

    #[test]
    fn color_is_there_only_when_asked() {
        let effect = fixture::flow(fixture::opened(fixture::process(1)));
        let plain = line(&effect, &CLOCK, false).unwrap();
        let colored = line(&effect, &CLOCK, true).unwrap();
        assert!(colored.contains("\x1b[32mexpected "), "{colored:?}");
        assert_eq!(
            colored.replace("\x1b[32m", "").replace("\x1b[0m", ""),
            plain
        );
    }
}
