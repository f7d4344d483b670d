//! Causes, their alerts, and what these say.

use super::*;
use crate::core::addresses::AddressOrigin;
use crate::core::event::ExeFile;
use crate::core::fixture::{judged, member, own, stranger, tcp};
use crate::core::job::{Job, JobOf};
use crate::core::place::Place;
use crate::core::policy::rule::Action;

/// A judgement; where it denies a tool, for the tool itself.
fn judged_for(process: &ProcessView, verdict: Verdict) -> Judgement {
    if verdict != Verdict::Denied {
        return judged(verdict);
    }
    let member = process.tool.as_ref();
    Judgement {
        about: member.map(|member| Arc::clone(&member.tool)),
        ..denied()
    }
}

fn denied() -> Judgement {
    Judgement {
        rule: "banned-tool".into(),
        action: Some(Action::Deny(Severity::Critical)),
        ..judged(Verdict::Denied)
    }
}

fn flow(process: ProcessView, verdict: Verdict) -> JudgedFlow {
    JudgedFlow {
        judgement: judged_for(&process, verdict),
        process: Arc::new(process),
        remote: tcp("203.0.113.9:443"),
        address: AddressOrigin::default(),
        names: vec![own("evil.test")],
        via: vec![],
        target: None,
        hello: None,
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
    let to_banned = JudgedFlow {
        judgement: denied(),
        ..flow(claude(Role::Main), Verdict::Denied)
    };
    assert_eq!(
        shown(Cause::of_flow(&to_banned)),
        "banned-tool critical endpoint=evil.test role=main tool=claude-code verdict=denied",
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
    use Verdict::{Expected, ExpectedUnverified, Local, NotJudged, Optional, Served};
    for verdict in [
        Expected,
        ExpectedUnverified,
        Local,
        NotJudged,
        Optional,
        Served,
    ] {
        check_cause(member("claude-code", Role::Main, true), verdict, "");
        let process = member("claude-code", Role::Main, true);
        assert_eq!(
            Cause::of_presence(&process, &judged_for(&process, verdict)),
            None
        );
    }
    let allowed = Judgement {
        action: Some(Action::Allow),
        ..judged(Verdict::Allowed)
    };
    let process = member("claude-code", Role::Main, true);
    assert_eq!(Cause::of_presence(&process, &allowed), None);
}

#[test]
fn presence_and_flows_of_a_banned_tool_are_one_alert() {
    let process = member("claude-code", Role::Main, true);
    let presence = Cause::of_presence(&process, &judged_for(&process, Verdict::Denied));
    assert_eq!(presence, Cause::of_flow(&flow(process, Verdict::Denied)));
    let expect = "banned-tool critical tool=claude-code verdict=denied";
    assert_eq!(shown(presence), expect);
}

#[test]
fn a_kind_of_socket_makes_a_cause_where_a_tool_has_it() {
    let git = member("claude-code", Role::Git, true);
    let labels = |kind| format!("warning kind={kind} role=git tool=claude-code");
    for (kind, rule) in [
        (SocketKind::Raw, "raw-socket"),
        (SocketKind::Packet, "packet-socket"),
        (SocketKind::Xdp, "packet-socket"),
        (SocketKind::Tun, "packet-socket"),
        (SocketKind::Vsock, "vsock-socket"),
    ] {
        let expect = format!("{rule} {}", labels(kind.name()));
        assert_eq!(shown(Cause::of_socket(&git, kind)), expect);
        assert_eq!(Cause::of_socket(&stranger("/bin/ping"), kind), None);
    }
    assert_eq!(Cause::of_socket(&git, SocketKind::Other(31)), None);
}

#[track_caller]
fn check_exec(command: &[&str], links: u32, expect: &str) {
    let process = |tool: ProcessView| ProcessView {
        exe: command[0].into(),
        args: command.iter().map(|&word| word.to_owned()).collect(),
        exe_file: ExeFile {
            links,
            ..ExeFile::default()
        },
        ..tool
    };
    let child = process(member("claude-code", Role::OtherChild, true));
    let cause = Cause::of_exec(&child).map_or_else(String::new, |cause| shown(Some(cause)));
    assert_eq!(cause, expect);
    // Older than the monitor, or nobody's: no cause.
    let found = ProcessView {
        origin: Origin::Found,
        ..child
    };
    assert_eq!(Cause::of_exec(&found), None);
    assert_eq!(Cause::of_exec(&process(stranger("/x"))), None);
}

#[test]
fn a_program_in_no_folder_is_cause_where_a_tool_executes_it() {
    let labels = |kind| format!("kind={kind} role=other-child tool=claude-code");
    let program = format!("fileless-exec warning {}", labels("program"));
    let script = format!("fileless-exec info {}", labels("script"));
    check_exec(&["/memfd:x", "x"], 0, &program);
    check_exec(&["/usr/bin/python3", "/dev/fd/3"], 0, &program);
    check_exec(&["/usr/bin/python3", "x.py"], 1, "");
    check_exec(&["/usr/bin/python3", "-u", "/dev/fd/3"], 1, &script);
    check_exec(&["/usr/bin/node", "/proc/self/fd/12"], 1, &script);
    check_exec(&["/usr/bin/node", "/proc/4711/fd/12"], 1, &script);
    check_exec(&["/bin/sh", "/dev/stdin"], 1, &script);
    check_exec(&["/bin/sh", "/proc/meminfo/fd/1"], 1, "");
    check_exec(&["/bin/sh", "/home/u/dev/fd/1"], 1, "");
    // A pipe that is only an argument runs nothing.
    check_exec(&["/usr/bin/diff", "/dev/fd/3", "/dev/fd/4"], 1, "");
}

#[test]
fn a_redirection_is_cause_where_a_tool_is_redirected() {
    let asked = "api.anthropic.com".into();
    let of = |process| Cause::of_redirection(&flow(process, Verdict::Unknown), &asked);
    assert_eq!(
        shown(of(member("claude-code", Role::Main, true))),
        "dst-mismatch info endpoint=api.anthropic.com role=main tool=claude-code verdict=unknown",
    );
    assert_eq!(of(stranger("/bin/curl")), None);
}

#[test]
fn a_flood_is_named_by_its_program_as_far_as_it_fits() {
    let long = format!("/{}", "ä".repeat(ANNOTATION_BYTES_MAX));
    let cause = Cause::flood(&stranger(&long));
    let executable = &cause.labels["executable"];
    assert!(executable.ends_with("ä…"), "{executable}");
    assert!(executable.len() <= ANNOTATION_BYTES_MAX + '…'.len_utf8());
    assert_eq!(
        shown(Some(Cause::flood(&member("codex-cli", Role::Main, true)))),
        "flow-flood warning executable=/opt/tool/bin tool=codex-cli"
    );
}

#[test]
fn a_gap_is_cause_unless_the_monitor_has_just_started() {
    assert_eq!(Cause::of_gap(Gap::NotYetVerified), None);
    assert_eq!(
        shown(Cause::of_gap(Gap::CanaryMissing)),
        "coverage-lost warning reason=canary_missing"
    );
    assert_eq!(
        shown(Some(Cause::hook_lost("connect4"))),
        "hook-lost critical hook=connect4"
    );
}

#[test]
fn details_say_where_and_for_which_job() {
    let place = Place::at(
        "/kubepods/pod11111111-2222-3333-4444-555555555555/x.service/\
         lxc.payload.web",
    );
    let job = Job {
        provider: "jenkins",
        ..Job::default()
    };
    let process = ProcessView {
        place: Some(Arc::new(place)),
        job: JobOf::Job(Arc::new(job)),
        ..member("claude-code", Role::Main, true)
    };
    let details = details_of_flood(&process, 1);
    let expect = [
        ("container", "lxc web"),
        ("job", "jenkins"),
        ("pod", "11111111-2222-3333-4444-555555555555"),
        ("unit", "x.service"),
    ];
    for (name, text) in expect {
        assert_eq!(details.get(name).map(|text| &**text), Some(text), "{name}");
    }
    assert!(details["cgroup"].ends_with("/lxc.payload.web"));
    let nowhere = details_of_flood(&member("claude-code", Role::Main, true), 1);
    assert!(!nowhere.contains_key("cgroup") && !nowhere.contains_key("job"));
}

#[track_caller]
fn check_details(details: &BTreeMap<&'static str, Arc<str>>, expect: &[(&str, &str)]) {
    let details: Vec<_> = details.iter().map(|(key, text)| (*key, &**text)).collect();
    assert_eq!(details, expect);
}

#[test]
fn details_tell_a_person_who_where_and_why() {
    let claude = || member("claude-code", Role::Main, true);
    let redirected = JudgedFlow {
        names: vec![],
        ..flow(claude(), Verdict::Unknown)
    };
    let (who, evidence) = ("/opt/tool/bin", "exe-path: /opt/tool/*");
    check_details(
        &details_of_flow(&flow(claude(), Verdict::Undeclared)),
        &[
            ("args", who),
            ("evidence", evidence),
            ("executable", who),
            ("pid", "42"),
            ("remote", "203.0.113.9:443 tcp"),
            ("summary", "Claude Code (main) contacts evil.test: a-rule"),
            ("user_id", "1000"),
            ("version", "unknown"),
            ("why", "because"),
        ],
    );
    check_details(
        &details_of_redirection(&redirected, &tcp("192.0.2.1:443"), "api.test"),
        &[
            ("args", who),
            ("asked", "192.0.2.1:443 tcp"),
            ("evidence", evidence),
            ("executable", who),
            ("pid", "42"),
            ("remote", "203.0.113.9:443 tcp"),
            (
                "summary",
                "Claude Code (main) asked for api.test and reaches 203.0.113.9: dst-mismatch",
            ),
            ("user_id", "1000"),
            ("version", "unknown"),
            (
                "why",
                "address translation, a program that rewrites addresses, or a source route; \
                 of where the packets go: because",
            ),
        ],
    );
    check_details(
        &details_of_socket(&claude(), SocketKind::Raw, 253),
        &[
            ("args", who),
            ("evidence", evidence),
            ("executable", who),
            ("pid", "42"),
            ("socket", "raw protocol 253"),
            ("summary", "Claude Code (main) has a raw socket: raw-socket"),
            ("user_id", "1000"),
            ("version", "unknown"),
            (
                "why",
                "it can send IP packets to any address without connecting",
            ),
        ],
    );
}

#[test]
fn details_name_who_floods_and_what_was_missed() {
    check_details(
        &details_of_flood(&stranger("/usr/bin/nmap"), 7),
        &[
            ("args", "/usr/bin/nmap"),
            ("executable", "/usr/bin/nmap"),
            ("pid", "42"),
            (
                "summary",
                "Unidentified program opens new flows faster than they are recorded one by \
                 one: flow-flood",
            ),
            ("user_id", "1000"),
            (
                "why",
                "7 new flows have no record of their own; they are only counted",
            ),
        ],
    );
    check_details(
        &details_of_gap(Gap::CanaryMissing),
        &[
            (
                "summary",
                "Telltale may have missed something: canary_missing",
            ),
            (
                "why",
                "the monitor's own test flow has not come back for 10 seconds",
            ),
        ],
    );
    check_details(
        &details_of_lost_hook("connect4"),
        &[
            ("summary", "Telltale was blinded: connect4 was detached"),
            (
                "why",
                "the kernel program connect4 was detached by someone else, and what it sees \
                 was missed until it was attached again",
            ),
        ],
    );
}

#[test]
fn the_rule_of_a_cause_is_the_one_its_details_name() {
    let git = member("claude-code", Role::Git, true);
    for kind in [
        SocketKind::Raw,
        SocketKind::Packet,
        SocketKind::Xdp,
        SocketKind::Tun,
        SocketKind::Vsock,
    ] {
        let cause = Cause::of_socket(&git, kind).unwrap();
        let summary = &details_of_socket(&git, kind, 0)["summary"];
        assert!(summary.ends_with(&*cause.rule), "{summary}");
        assert!(RULES.contains(&&*cause.rule));
    }
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
