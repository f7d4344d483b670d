//! Alerts as pure state: what fires, what fires still, what is resolved.
//!
//! In: judgements that deserve a person's attention, and the time. Out: state changes.
//!
//! Which judgement raises which alert, and what makes two alerts one:
//!
//! | rule | verdict | of | severity | labels |
//! |---|---|---|---|---|
//! | `banned-tool` | denied | the tool's own processes | critical | tool, verdict |
//! | `banned-tool` | denied | any other program | critical | tool, verdict, role, endpoint |
//! | `unexpected-endpoint` | undeclared | tool, helper, unidentified program | warning | the same |
//! | `unexpected-endpoint` | undeclared | other children of a tool | info | the same |
//! | `unexpected-endpoint` | unknown | any process of a tool | info | the same |
//!
//! A banned tool is one alert however many processes it has. What a tool's children contact is
//! mostly what its user asked for (`git`, package managers), and an address without a name is
//! mostly a name that was looked up before the monitor started: both are told, neither pages.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use super::attribute::{Evidence, Role};
use super::event::{BootNs, Endpoint};
use super::flow::JudgedFlow;
use super::policy::{Judgement, Verdict, rule};
use super::report::{AlertState, Limit, ProcessView};

/// Alerts that fire at one time by default: more than a person can read, few enough to send.
pub const ALERTS_MAX: usize = 10_000;

/// Bytes of one annotation. Receivers reject or cut large alerts; the event log has it all.
const ANNOTATION_BYTES_MAX: usize = 1024;

/// The `tool` label of a program that belongs to no known tool.
const UNIDENTIFIED: &str = "unidentified";

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Look at it in working hours.
    Warning,
    /// Look at it now.
    Critical,
}

impl Severity {
    /// Name in alerts and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// One alert: what Alertmanager and webhooks are told.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The rule: `banned-tool`, `unexpected-endpoint`.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Identity: two alerts with the same rule and labels are one. Bounded values only.
    pub labels: BTreeMap<&'static str, Arc<str>>,
    /// Details of the first occurrence, for a person; may hold pids, paths, addresses.
    pub annotations: BTreeMap<&'static str, Arc<str>>,
    /// When it started to fire.
    pub started: BootNs,
    /// When its cause was last seen.
    pub last_seen: BootNs,
    /// How often its cause was seen since it started.
    pub occurrences: u64,
}

/// What makes two alerts one, and how bad it is. See the table above.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    rule: &'static str,
    severity: Severity,
    labels: BTreeMap<&'static str, Arc<str>>,
}

impl Cause {
    /// The presence or any flow of a banned tool.
    #[must_use]
    pub fn banned(tool: &Arc<str>) -> Cause {
        let verdict = Verdict::Denied.name().into();
        Cause {
            rule: rule::BANNED_TOOL,
            severity: Severity::Critical,
            labels: BTreeMap::from([("tool", Arc::clone(tool)), ("verdict", verdict)]),
        }
    }

    /// What the presence of a process gives cause to, if anything.
    #[must_use]
    pub fn of_presence(process: &ProcessView, judgement: &Judgement) -> Option<Cause> {
        let member = process.tool.as_ref()?;
        (judgement.verdict == Verdict::Denied).then(|| Cause::banned(&member.tool.id))
    }

    /// What a flow gives cause to, if anything.
    #[must_use]
    pub fn of_flow(flow: &JudgedFlow) -> Option<Cause> {
        let (verdict, member) = (flow.judgement.verdict, flow.process.tool.as_ref());
        let role = member.map_or(Role::Unidentified, |member| member.role);
        let (rule, severity) = match (verdict, role) {
            (Verdict::Denied, Role::Unidentified) => (rule::BANNED_TOOL, Severity::Critical),
            (Verdict::Denied, _) => return Cause::of_presence(&flow.process, &flow.judgement),
            (Verdict::Undeclared, Role::Main | Role::Helper | Role::Unidentified) => {
                (rule::UNEXPECTED_ENDPOINT, Severity::Warning)
            }
            (Verdict::Undeclared | Verdict::Unknown, _) => {
                (rule::UNEXPECTED_ENDPOINT, Severity::Info)
            }
            _ => return None,
        };
        let tool = member.map_or_else(|| UNIDENTIFIED.into(), |member| member.tool.id.clone());
        let labels = BTreeMap::from([
            ("tool", tool),
            ("role", role.name().into()),
            ("endpoint", flow.endpoint()),
            ("verdict", verdict.name().into()),
        ]);
        Some(Cause {
            rule,
            severity,
            labels,
        })
    }
}

/// The details of a flow that is cause for an alert, for a person.
#[must_use]
pub fn details_of_flow(flow: &JudgedFlow) -> BTreeMap<&'static str, Arc<str>> {
    let Endpoint { addr, protocol } = flow.remote;
    let mut details = details(
        &flow.process,
        &flow.judgement,
        &format!("contacts {}", flow.endpoint()),
    );
    details.insert("remote", format!("{addr} {}", protocol.name()));
    finished(details)
}

/// The details of a process whose presence is cause for an alert, for a person.
#[must_use]
pub fn details_of_presence(
    process: &ProcessView,
    judgement: &Judgement,
) -> BTreeMap<&'static str, Arc<str>> {
    finished(details(process, judgement, "runs"))
}

fn details(
    process: &ProcessView,
    judgement: &Judgement,
    does: &str,
) -> BTreeMap<&'static str, String> {
    let who = process.tool.as_ref().map_or_else(
        || "Unidentified program".to_owned(),
        |member| format!("{} ({})", member.tool.name, member.role.name()),
    );
    let mut details = BTreeMap::from([
        ("summary", format!("{who} {does}: {}", judgement.rule)),
        ("why", judgement.why.to_string()),
        ("executable", process.exe.to_string()),
        ("pid", process.key.tgid.to_string()),
        ("args", process.args.join(" ")),
        ("user_id", process.uid.to_string()),
    ]);
    if let Some(parent) = &process.parent {
        details.insert(
            "parent",
            format!("{} (pid {})", parent.exe, parent.key.tgid),
        );
    }
    if let Some(member) = &process.tool {
        let evidence: Vec<_> = member.evidence.iter().map(in_words).collect();
        details.insert("evidence", evidence.join("; "));
    }
    details
}

fn in_words(evidence: &Evidence) -> String {
    let what = match evidence {
        Evidence::ExePath { glob } | Evidence::Helper { glob } => glob.to_string(),
        Evidence::Script { path, .. } => path.to_string(),
        Evidence::Lineage {
            ancestor_exe,
            ancestor_pid,
        } => {
            format!("below {ancestor_exe} (pid {ancestor_pid})")
        }
        Evidence::Name { name } => name.to_string(),
        Evidence::Endpoint { host } => host.to_string(),
    };
    format!("{}: {what}", evidence.kind())
}

fn finished(details: BTreeMap<&'static str, String>) -> BTreeMap<&'static str, Arc<str>> {
    details
        .into_iter()
        .map(|(key, text)| (key, shortened(text).into()))
        .collect()
}

fn shortened(mut text: String) -> String {
    if text.len() > ANNOTATION_BYTES_MAX {
        text.truncate(text.floor_char_boundary(ANNOTATION_BYTES_MAX));
        text.push('…');
    }
    text
}

/// When firing alerts are told again, and when they are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertTiming {
    /// A firing alert is told again after this. Default 60 s: Alertmanager takes an alert for
    /// resolved that it has not heard of for `resolve_timeout`, by default 5 minutes.
    pub resend: Duration,
    /// An alert is resolved when its cause has not been seen for this long. Default 300 s.
    pub resolve_after: Duration,
}

impl Default for AlertTiming {
    fn default() -> Self {
        AlertTiming {
            resend: Duration::from_secs(60),
            resolve_after: Duration::from_secs(300),
        }
    }
}

/// The alerts that fire now.
#[derive(Debug)]
pub struct AlertBook {
    timing: AlertTiming,
    capacity: usize,
    firing: BTreeMap<Cause, Firing>,
}

#[derive(Debug)]
struct Firing {
    alert: Alert,
    /// When receivers were last told.
    told: BootNs,
}

impl AlertBook {
    /// A book without alerts that holds at most `capacity`.
    #[must_use]
    pub fn new(timing: AlertTiming, capacity: usize) -> Self {
        AlertBook {
            timing,
            capacity,
            firing: BTreeMap::new(),
        }
    }

    /// Number of alerts that fire.
    #[must_use]
    pub fn len(&self) -> usize {
        self.firing.len()
    }

    /// Whether nothing fires.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.firing.is_empty()
    }

    /// A cause was seen. `Some` if an alert fires for it from now on, `None` if one does already;
    /// `details` is asked for in the first case only.
    ///
    /// # Errors
    ///
    /// [`Limit::Alerts`] if so many alerts fire that there is no room for another.
    pub fn raise(
        &mut self,
        cause: Cause,
        now: BootNs,
        details: impl FnOnce() -> BTreeMap<&'static str, Arc<str>>,
    ) -> Result<Option<Arc<Alert>>, Limit> {
        let full = self.firing.len() >= self.capacity;
        match self.firing.entry(cause) {
            Entry::Occupied(mut known) => {
                let alert = &mut known.get_mut().alert;
                alert.occurrences += 1;
                alert.last_seen = now;
                Ok(None)
            }
            Entry::Vacant(_) if full => Err(Limit::Alerts),
            Entry::Vacant(new) => {
                let Cause {
                    rule,
                    severity,
                    labels,
                } = new.key().clone();
                let annotations = details();
                let (started, last_seen, occurrences) = (now, now, 1);
                let alert = Alert {
                    rule,
                    severity,
                    labels,
                    annotations,
                    started,
                    last_seen,
                    occurrences,
                };
                new.insert(Firing {
                    alert: alert.clone(),
                    told: now,
                });
                Ok(Some(Arc::new(alert)))
            }
        }
    }

    /// A cause goes on without being seen anew: its alert, if one fires, is not resolved.
    pub fn keep(&mut self, cause: &Cause, now: BootNs) {
        if let Some(firing) = self.firing.get_mut(cause) {
            firing.alert.last_seen = now;
        }
    }

    /// What is over, and what is due to be told again, in the order of rules and labels.
    pub fn sweep(&mut self, now: BootNs) -> Vec<(AlertState, Arc<Alert>)> {
        let timing = self.timing;
        let mut told = Vec::new();
        self.firing.retain(|_, firing| {
            let over = now.since(firing.alert.last_seen) >= timing.resolve_after;
            if over {
                told.push((AlertState::Resolved, Arc::new(firing.alert.clone())));
            } else if now.since(firing.told) >= timing.resend {
                firing.told = now;
                told.push((AlertState::StillFiring, Arc::new(firing.alert.clone())));
            }
            !over
        });
        told
    }

    /// Everything that fires, in the order of rules and labels.
    pub fn firing(&self) -> impl Iterator<Item = &Alert> {
        self.firing.values().map(|firing| &firing.alert)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture::{at, judged, member, own, stranger, tcp};

    fn flow(process: ProcessView, verdict: Verdict) -> JudgedFlow {
        JudgedFlow {
            process: Arc::new(process),
            remote: tcp("203.0.113.9:443"),
            names: vec![own("evil.test")],
            judgement: judged(verdict),
            first: true,
        }
    }

    /// `cause` as `rule severity label=value …`; empty if there is none.
    fn shown(cause: Option<Cause>) -> String {
        let Some(Cause {
            rule,
            severity,
            labels,
        }) = cause
        else {
            return String::new();
        };
        let labels = labels
            .iter()
            .map(|(label, value)| format!(" {label}={value}"));
        format!("{rule} {}{}", severity.name(), labels.collect::<String>())
    }

    #[track_caller]
    fn check_cause(process: ProcessView, verdict: Verdict, expect: &str) {
        assert_eq!(shown(Cause::of_flow(&flow(process, verdict))), expect);
    }

    #[test]
    fn a_verdict_and_a_role_make_a_cause() {
        let claude = |role| member("claude-code", role, true);
        for role in [Role::Main, Role::OtherChild] {
            let expect = "banned-tool critical tool=claude-code verdict=denied";
            check_cause(claude(role), Verdict::Denied, expect);
        }
        check_cause(
            stranger("/bin/python3"),
            Verdict::Denied,
            "banned-tool critical endpoint=evil.test role=unidentified tool=unidentified verdict=denied",
        );
        check_cause(
            stranger("/bin/python3"),
            Verdict::Undeclared,
            "unexpected-endpoint warning endpoint=evil.test role=unidentified tool=unidentified verdict=undeclared",
        );
        check_cause(
            claude(Role::Helper),
            Verdict::Undeclared,
            "unexpected-endpoint warning endpoint=evil.test role=helper tool=claude-code verdict=undeclared",
        );
        check_cause(
            claude(Role::Git),
            Verdict::Undeclared,
            "unexpected-endpoint info endpoint=evil.test role=git tool=claude-code verdict=undeclared",
        );
        check_cause(
            claude(Role::Main),
            Verdict::Unknown,
            "unexpected-endpoint info endpoint=evil.test role=main tool=claude-code verdict=unknown",
        );
    }

    #[test]
    fn what_is_in_order_gives_no_cause() {
        use Verdict::{Expected, ExpectedUnverified, Local, NotJudged, Optional};
        for verdict in [Expected, ExpectedUnverified, Local, NotJudged, Optional] {
            check_cause(member("claude-code", Role::Main, true), verdict, "");
            let process = member("claude-code", Role::Main, true);
            assert_eq!(Cause::of_presence(&process, &judged(verdict)), None);
        }
        assert_eq!(
            Cause::of_presence(&stranger("/bin/sh"), &judged(Verdict::Denied)),
            None
        );
    }

    #[test]
    fn presence_and_flows_of_a_banned_tool_are_one_alert() {
        let process = member("claude-code", Role::Main, true);
        let presence = Cause::of_presence(&process, &judged(Verdict::Denied));
        assert_eq!(presence, Cause::of_flow(&flow(process, Verdict::Denied)));
        assert_eq!(presence, Some(Cause::banned(&"claude-code".into())));
    }

    #[test]
    fn details_tell_a_person_who_where_and_why() {
        let details = details_of_flow(&flow(
            member("claude-code", Role::Main, true),
            Verdict::Undeclared,
        ));
        let expect = [
            ("args", "/opt/tool/bin"),
            ("evidence", "exe-path: /opt/tool/*"),
            ("executable", "/opt/tool/bin"),
            ("pid", "42"),
            ("remote", "203.0.113.9:443 tcp"),
            ("summary", "Claude Code (main) contacts evil.test: a-rule"),
            ("user_id", "1000"),
            ("why", "because"),
        ];
        let details: Vec<_> = details.iter().map(|(key, text)| (*key, &**text)).collect();
        assert_eq!(details, expect);
    }

    #[test]
    fn a_detail_is_cut_between_letters() {
        let args: Arc<[String]> = ["ä".repeat(ANNOTATION_BYTES_MAX)].into();
        let process = ProcessView {
            args,
            ..stranger("/bin/x")
        };
        let details = details_of_presence(&process, &judged(Verdict::Denied));
        let args = details.get("args").unwrap();
        assert!(args.ends_with("ä…") && args.len() <= ANNOTATION_BYTES_MAX + '…'.len_utf8());
    }

    fn cause(tool: &str) -> Cause {
        Cause::banned(&tool.into())
    }

    /// Raises `tool`'s alert; whether it fires anew.
    fn raise(book: &mut AlertBook, tool: &str, now: u64) -> Result<bool, Limit> {
        book.raise(cause(tool), at(now), BTreeMap::new)
            .map(|fired| fired.is_some())
    }

    /// What a sweep tells: `state tool occurrences`.
    fn swept(book: &mut AlertBook, now: u64) -> Vec<String> {
        let told = book.sweep(at(now)).into_iter();
        told.map(|(state, alert)| {
            format!("{state:?} {} {}", alert.labels["tool"], alert.occurrences)
        })
        .collect()
    }

    #[test]
    fn an_alert_fires_once_is_told_again_and_is_resolved() {
        let mut book = AlertBook::new(AlertTiming::default(), 10);
        assert_eq!(raise(&mut book, "a", 0), Ok(true));
        assert_eq!(raise(&mut book, "a", 10), Ok(false));
        assert_eq!(swept(&mut book, 59), [""; 0]);
        assert_eq!(swept(&mut book, 60), ["StillFiring a 2"]);
        assert_eq!(swept(&mut book, 119), [""; 0]);
        assert_eq!(swept(&mut book, 120), ["StillFiring a 2"]);
        assert_eq!(swept(&mut book, 310), ["Resolved a 2"]);
        assert_eq!(swept(&mut book, 400), [""; 0]);
        assert!(book.is_empty());
        assert_eq!(raise(&mut book, "a", 500), Ok(true));
    }

    #[test]
    fn an_alert_that_is_kept_is_not_resolved_and_one_that_is_not_there_is_not_made() {
        let mut book = AlertBook::new(AlertTiming::default(), 10);
        raise(&mut book, "a", 0).unwrap();
        book.keep(&cause("a"), at(299));
        book.keep(&cause("b"), at(299));
        assert_eq!(swept(&mut book, 300), ["StillFiring a 1"]);
        assert_eq!(swept(&mut book, 599), ["Resolved a 1"]);
    }

    #[test]
    fn a_full_book_refuses_new_alerts_and_keeps_counting_old_ones() {
        let mut book = AlertBook::new(AlertTiming::default(), 2);
        for tool in ["b", "a"] {
            assert_eq!(raise(&mut book, tool, 0), Ok(true));
        }
        assert_eq!(raise(&mut book, "c", 0), Err(Limit::Alerts));
        assert_eq!(raise(&mut book, "b", 1), Ok(false));
        assert_eq!(swept(&mut book, 60), ["StillFiring a 1", "StillFiring b 2"]);
        assert_eq!(book.firing().count(), 2);
    }

    #[test]
    fn details_are_those_of_the_first_occurrence() {
        let mut book = AlertBook::new(AlertTiming::default(), 2);
        let details = || BTreeMap::from([("pid", "1".into())]);
        let fired = book.raise(cause("a"), at(1), details).unwrap().unwrap();
        assert_eq!(
            (fired.started, fired.last_seen, fired.occurrences),
            (at(1), at(1), 1)
        );
        let unwanted = || unreachable!("an alert that fires already needs no details");
        assert_eq!(book.raise(cause("a"), at(2), unwanted), Ok(None));
        let alert = book.firing().next().unwrap();
        assert_eq!(
            (alert.started, alert.last_seen, alert.occurrences),
            (at(1), at(2), 2)
        );
        assert_eq!(&*alert.annotations["pid"], "1");
    }
}
