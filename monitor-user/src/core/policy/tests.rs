//! What is said of flows and of presence, case by case.
//!
//! In: processes, remotes and names. Out: judgements.

use super::judgement::{Judgement, Severity, Verdict};
use super::rule::{Action, Matcher, Rule, Word};
use super::*;
use crate::core::addresses::AddressOrigin;
use crate::core::attribute::Role;
use crate::core::fixture::{
    addresses, ban, catalog, exception, member, own, rule, shared, stranger, tcp, words,
};

fn policy(banned: &[&str]) -> Policy {
    Policy::new(ban(banned))
}

/// Who goes where, under which names, with nothing banned but `banned`.
struct Case<'a> {
    process: ProcessView,
    to: &'a str,
    names: &'a [NameEvidence],
    banned: &'a [&'a str],
}

impl Case<'_> {
    fn judge(&self) -> Judgement {
        self.judge_where(|facts| facts)
    }

    fn judge_where(&self, change: impl FnOnce(FlowFacts<'_>) -> FlowFacts<'_>) -> Judgement {
        let mut names = self.names.to_vec();
        meant_first(&catalog(), &self.process, &mut names);
        let facts = FlowFacts {
            process: &self.process,
            exact: true,
            remote: tcp(self.to),
            address: AddressOrigin::default(),
            to_resolver: false,
            served: false,
            name: names.first(),
            also: None,
            vouched: false,
            wall_seconds: 0,
        };
        policy(self.banned).judge_flow(&catalog(), &change(facts))
    }
}

fn claude() -> ProcessView {
    member("claude-code", Role::Main, true)
}

#[track_caller]
fn check(judgement: &Judgement, verdict: Verdict, rule: &str, why: &str) {
    assert_eq!(
        (judgement.verdict, &*judgement.rule),
        (verdict, rule),
        "{}",
        judgement.why
    );
    assert_eq!(&*judgement.why, why);
}

#[track_caller]
fn check_claude(to: &str, names: &[NameEvidence], verdict: Verdict, why: &str) {
    let judgement = Case {
        process: claude(),
        to,
        names,
        banned: &[],
    }
    .judge();
    assert_eq!((judgement.verdict, &*judgement.why), (verdict, why));
}

const REMOTE: &str = "203.0.113.9:443";

#[test]
fn a_tool_may_reach_what_its_manifest_lists() {
    check_claude(
        REMOTE,
        &[own("api.anthropic.com")],
        Verdict::Expected,
        "api.anthropic.com is in Claude Code's manifest (api), \
         resolved by the process's own DNS query",
    );
    check_claude(
        REMOTE,
        &[own("api.anthropic.com"), shared("evil.test")],
        Verdict::Expected,
        "api.anthropic.com is in Claude Code's manifest (api), \
         resolved by the process's own DNS query",
    );
    check_claude(
        REMOTE,
        &[shared("cdn.test"), shared("api.anthropic.com")],
        Verdict::Expected,
        "api.anthropic.com is in Claude Code's manifest (api), \
         resolved by another process's DNS query",
    );
    check_claude(
        REMOTE,
        &[own("statsig.anthropic.com")],
        Verdict::Optional,
        "statsig.anthropic.com is in Claude Code's manifest (telemetry), \
         resolved by the process's own DNS query; DISABLE_TELEMETRY=1 turns it off",
    );
    check_claude(
        REMOTE,
        &[own("cdn.anthropic.com")],
        Verdict::Optional,
        "cdn.anthropic.com is in Claude Code's manifest (assets), \
         resolved by the process's own DNS query; it is optional",
    );
    check_claude(
        "192.0.2.200:443",
        &[],
        Verdict::Expected,
        "192.0.2.200 is in Claude Code's manifest (api), listed by address",
    );
}

#[test]
fn what_the_manifest_does_not_list_is_undeclared_or_unknown() {
    check_claude(
        REMOTE,
        &[own("evil.test")],
        Verdict::Undeclared,
        "evil.test is not in Claude Code's manifest; resolved by the process's own DNS query",
    );
    check_claude(
        REMOTE,
        &[],
        Verdict::Unknown,
        "203.0.113.9 has no known name, and is not in Claude Code's manifest",
    );
}

#[track_caller]
fn check_meant(process: &ProcessView, mut names: Vec<NameEvidence>, expect: &[&str]) {
    meant_first(&catalog(), process, &mut names);
    let names: Vec<_> = names.iter().map(|name| &*name.name).collect();
    assert_eq!(names, expect);
}

#[test]
fn of_several_names_the_one_is_meant_that_explains_the_flow() {
    let (api, cdn, other) = ("api.anthropic.com", "cdn.anthropic.com", "other.test");
    check_meant(&claude(), vec![], &[]);
    check_meant(
        &claude(),
        vec![own(other), own(cdn), own(api)],
        &[cdn, other, api],
    );
    check_meant(
        &claude(),
        vec![shared(other), shared("else.test"), shared(api)],
        &[api, other, "else.test"],
    );
    check_meant(&claude(), vec![own(other), shared(api)], &[other, api]);
    // No provider's name explains what a stranger does with a CDN.
    let curl = stranger("/bin/curl");
    check_meant(&curl, vec![own(cdn), own(api)], &[api, cdn]);
    check_meant(&curl, vec![own(other), own(cdn)], &[other, cdn]);
}

#[test]
fn what_another_process_calls_an_address_does_not_excuse_one_that_asked_for_itself() {
    let names = [own("evil.test"), shared("api.anthropic.com")];
    let case = Case {
        process: claude(),
        to: REMOTE,
        names: &names,
        banned: &[],
    };
    assert_eq!(case.judge().verdict, Verdict::Undeclared);
    // Nor does it accuse one.
    let names = [own("example.test"), shared("api.anthropic.com")];
    let process = stranger("/bin/curl");
    let case = Case {
        process,
        to: REMOTE,
        names: &names,
        banned: &["claude-code"],
    };
    assert_eq!(case.judge().verdict, Verdict::NotJudged);
}

#[test]
fn a_flow_on_this_host_or_to_its_resolver_is_local() {
    check_claude(
        "127.0.0.1:8080",
        &[],
        Verdict::Local,
        "127.0.0.1 is this host itself",
    );
    check_claude("[::]:8080", &[], Verdict::Local, ":: is this host itself");
    let case = Case {
        process: claude(),
        to: "198.51.100.1:53",
        names: &[],
        banned: &[],
    };
    let dns = case.judge_where(|facts| FlowFacts {
        to_resolver: true,
        ..facts
    });
    check(
        &dns,
        Verdict::Local,
        judgement::rule::LOCAL,
        "198.51.100.1 is a resolver of this host",
    );
    assert_eq!(dns.purpose.as_deref(), Some("dns"));
    check(
        &case.judge(),
        Verdict::Unknown,
        judgement::rule::UNNAMED_ENDPOINT,
        "198.51.100.1 has no known name, and is not in Claude Code's manifest",
    );
    // A name that leads to this host is what the process meant.
    let names = [own("evil.test")];
    let case = Case {
        process: claude(),
        to: "127.0.0.1:443",
        names: &names,
        banned: &[],
    };
    assert_eq!(case.judge().verdict, Verdict::Undeclared);
}

#[track_caller]
fn check_served(process: ProcessView, to: &str, banned: &[&str], verdict: Verdict, why: &str) {
    let case = Case {
        process,
        to,
        names: &[own("api.openai.com")],
        banned,
    };
    let judgement = case.judge_where(|facts| FlowFacts {
        served: true,
        ..facts
    });
    assert_eq!((judgement.verdict, &*judgement.why), (verdict, why));
}

#[test]
fn a_peer_that_connects_to_a_tool_is_not_the_tools_choice() {
    check_served(
        claude(),
        "203.0.113.9:0",
        &[],
        Verdict::Served,
        "203.0.113.9 connected to Claude Code, not the other way round",
    );
    check_served(
        claude(),
        "[::1]:0",
        &[],
        Verdict::Local,
        "::1 is this host itself",
    );
    check_served(
        claude(),
        "203.0.113.9:0",
        &["claude-code"],
        Verdict::Denied,
        "banned: the process belongs to Claude Code as main, evidence exe-path",
    );
    check_served(
        stranger("/usr/sbin/nginx"),
        "203.0.113.9:0",
        &["codex-cli"],
        Verdict::NotJudged,
        "no rule concerns it",
    );
}

#[test]
fn the_kernel_is_not_judged_wherever_its_packets_go() {
    let names = &[shared("api.openai.com")];
    let case = |process| Case {
        process,
        to: REMOTE,
        names,
        banned: &["codex-cli"],
    };
    let kernel = ProcessView {
        origin: Origin::Kernel,
        ..stranger("")
    };
    assert_eq!(case(kernel).judge().verdict, Verdict::NotJudged);
    assert_eq!(case(stranger("")).judge().verdict, Verdict::Denied);
}

#[test]
fn a_process_that_may_not_be_the_tool_does_not_profit_from_its_manifest() {
    let case = |process| Case {
        process,
        to: REMOTE,
        names: &[],
        banned: &[],
    };
    for name in ["api.anthropic.com", "statsig.anthropic.com"] {
        let names = &[own(name)];
        let by_name = Case {
            names,
            ..case(member("claude-code", Role::Main, false))
        };
        assert_eq!(by_name.judge().verdict, Verdict::ExpectedUnverified);
        let lost = Case {
            names,
            ..case(claude())
        };
        let lost = lost.judge_where(|facts| FlowFacts {
            exact: false,
            ..facts
        });
        assert_eq!(lost.verdict, Verdict::ExpectedUnverified);
    }
    let by_name = Case {
        to: "192.0.2.200:443",
        ..case(member("claude-code", Role::Main, false))
    };
    check(
        &by_name.judge(),
        Verdict::ExpectedUnverified,
        judgement::rule::MANIFEST,
        "192.0.2.200 is in Claude Code's manifest (api), listed by address; \
         but only its name says that it is Claude Code",
    );
}

#[test]
fn a_banned_tool_may_reach_nothing_and_not_even_run() {
    let banned = &["claude-code"];
    for (role, trusted, why) in [
        (
            Role::Main,
            true,
            "banned: the process belongs to Claude Code as main, evidence exe-path",
        ),
        (
            Role::Git,
            true,
            "banned: the process belongs to Claude Code as git, evidence exe-path",
        ),
        (
            Role::Main,
            false,
            "banned: the process belongs to Claude Code as main, evidence name",
        ),
    ] {
        let process = member("claude-code", role, trusted);
        check(
            &policy(banned).judge_presence(&process, 0),
            Verdict::Denied,
            "banned-tool",
            why,
        );
        for to in ["127.0.0.1:8080", REMOTE] {
            let names = &[own("api.anthropic.com")];
            let case = Case {
                process: process.clone(),
                to,
                names,
                banned,
            };
            check(&case.judge(), Verdict::Denied, "banned-tool", why);
        }
    }
    for process in [member("codex-cli", Role::Main, true), stranger("/bin/sh")] {
        let judgement = policy(banned).judge_presence(&process, 0);
        assert_eq!(judgement.verdict, Verdict::NotJudged);
    }
}

#[test]
fn the_name_of_a_banned_tool_is_not_borne_below_another_either() {
    let claude = Arc::clone(catalog().tool("claude-code").unwrap());
    let mut codex = member("codex-cli", Role::OtherChild, true);
    Arc::make_mut(codex.tool.as_mut().unwrap())
        .namesakes
        .push(Arc::clone(&claude));
    let judge = |banned| policy(&[banned]).judge_presence(&codex, 0);
    let judgement = judge("claude-code");
    check(
        &judgement,
        Verdict::Denied,
        "banned-tool",
        "banned: the process, or one between it and Codex CLI, bears the name of Claude Code",
    );
    assert_eq!(judgement.about, Some(claude));
    let names = &[own("api.openai.com")];
    let case = |banned| Case {
        process: codex.clone(),
        to: REMOTE,
        names,
        banned,
    };
    assert_eq!(case(&["claude-code"]).judge().verdict, Verdict::Denied);
    assert_eq!(case(&[]).judge().verdict, Verdict::Expected);
    // Its own tool counts first.
    assert_eq!(judge("codex-cli").about.unwrap().id.as_ref(), "codex-cli");
}

#[test]
fn a_stranger_is_judged_only_where_it_reaches_an_ai_provider() {
    let case = |names: &[NameEvidence], banned: &[&str]| {
        Case {
            process: stranger("/bin/python3"),
            to: REMOTE,
            names,
            banned,
        }
        .judge()
    };
    assert_eq!(case(&[], &[]).verdict, Verdict::NotJudged);
    assert_eq!(
        case(&[own("example.test")], &["claude-code"]).verdict,
        Verdict::NotJudged
    );
    let reaches = [own("api.openai.com")];
    check(
        &case(&reaches, &["claude-code"]),
        Verdict::Undeclared,
        judgement::rule::AI_ENDPOINT_BY_UNKNOWN_PROGRAM,
        "api.openai.com is OpenAI's (api), and the program is no known AI tool",
    );
    check(
        &case(&reaches, &["claude-code", "codex-cli"]),
        Verdict::Denied,
        "banned-vendor",
        "banned vendor: api.openai.com is OpenAI's (api), and the program is no known AI tool",
    );
}

#[test]
fn another_tools_name_does_not_open_the_way_to_a_banned_tools_provider() {
    let judge = |trusted, banned: &[&str]| {
        let names = &[own("api.openai.com")];
        let process = member("claude-code", Role::Main, trusted);
        Case {
            process,
            to: REMOTE,
            names,
            banned,
        }
        .judge()
    };
    for trusted in [true, false] {
        let denied = judge(trusted, &["codex-cli"]);
        check(
            &denied,
            Verdict::Denied,
            "banned-vendor",
            "banned vendor: api.openai.com is not in Claude Code's manifest; \
             resolved by the process's own DNS query",
        );
        assert_eq!(
            (denied.about, denied.purpose.as_deref()),
            (None, Some("api"))
        );
        assert_eq!(judge(trusted, &[]).verdict, Verdict::Undeclared);
    }
}

#[test]
fn a_manifest_opens_the_way_to_a_banned_tools_provider_for_the_tool_itself_only() {
    let catalog = Catalog::embedded().unwrap();
    let policy = policy(&["claude-code"]);
    for (trusted, verdict) in [(true, Verdict::Expected), (false, Verdict::Denied)] {
        let mut process = member("codex-cli", Role::Main, trusted);
        let tool = Arc::clone(catalog.tool("copilot-language-server").unwrap());
        Arc::make_mut(process.tool.as_mut().unwrap()).tool = tool;
        let facts = FlowFacts {
            process: &process,
            exact: true,
            remote: tcp(REMOTE),
            address: AddressOrigin::default(),
            to_resolver: false,
            served: false,
            name: Some(&own("api.anthropic.com")),
            also: None,
            vouched: false,
            wall_seconds: 0,
        };
        assert_eq!(policy.judge_flow(&catalog, &facts).verdict, verdict);
    }
}

/// Whether a rule with one item about an address denies a flow there, and one that denies all
/// others does not.
#[track_caller]
fn check_address(word: Word, item: &str, to: &str, expect: bool) {
    let (catalog, addresses) = (catalog(), Arc::new(addresses()));
    let process = member("claude-code", Role::Main, true);
    let remote = tcp(to);
    let facts = FlowFacts {
        process: &process,
        exact: true,
        remote,
        address: addresses.origin(remote.addr.ip()),
        to_resolver: false,
        served: false,
        // What others claim of an address changes nothing of where it is.
        name: Some(&shared("api.openai.com")),
        also: None,
        vouched: false,
        wall_seconds: 0,
    };
    let denies = |when: Matcher, unless: Matcher| {
        let deny = Action::Deny(Severity::Warning);
        let policy = Policy::new(PolicyConfig {
            rules: vec![Rule {
                when,
                unless,
                ..rule("r", deny)
            }],
            addresses: Arc::clone(&addresses),
            ..PolicyConfig::default()
        });
        policy.judge_flow(&catalog, &facts).verdict == Verdict::Denied
    };
    let (item, any) = (words(word, &[item]), words(Word::Tool, &["*"]));
    assert_eq!(denies(item.clone(), Matcher::default()), expect);
    assert_eq!(denies(any, item), !expect);
}

#[test]
fn rules_about_addresses_go_by_the_operators_databases() {
    let (asn, country) = (Word::Asn, Word::AddressCountry);
    check_address(asn, "AS64496", "203.0.113.9:443", true);
    check_address(asn, "AS6449", "203.0.113.9:443", false);
    check_address(asn, "AS64496", "198.51.100.1:443", false);
    check_address(asn, "none", "203.0.113.9:443", false);
    check_address(asn, "none", "192.0.2.1:443", true);
    check_address(country, "CN", "203.0.113.9:443", true);
    check_address(country, "US", "203.0.113.9:443", false);
    check_address(country, "SG", "192.0.2.1:443", true);
    check_address(country, "DE", "[2001:db8::1]:443", true);
    check_address(country, "XX", "10.0.0.1:443", true);
    check_address(country, "XX", "203.0.113.9:443", false);
    // The home of who runs the endpoint is another thing.
    check_address(Word::Country, "US", "203.0.113.9:443", true);
}

/// A policy of one rule about the words of one part, and perhaps one exception to it.
fn one_rule(word: Word, items: &[&str], action: Action) -> PolicyConfig {
    PolicyConfig {
        rules: vec![Rule {
            when: words(word, items),
            ..rule("r", action)
        }],
        ..PolicyConfig::default()
    }
}

fn judged_by(config: PolicyConfig, process: &ProcessView, name: &NameEvidence) -> Judgement {
    let facts = FlowFacts {
        process,
        exact: true,
        remote: tcp(REMOTE),
        address: AddressOrigin::default(),
        to_resolver: false,
        served: false,
        name: Some(name),
        also: None,
        vouched: false,
        wall_seconds: 1_000,
    };
    Policy::new(config).judge_flow(&catalog(), &facts)
}

#[test]
fn an_allowance_is_for_the_tool_itself_and_not_for_its_name() {
    let allow = |item| one_rule(Word::Tool, &[item], Action::Allow);
    let verdict =
        |process: &ProcessView| judged_by(allow("claude-code"), process, &own("evil.test")).verdict;
    assert_eq!(verdict(&claude()), Verdict::Allowed);
    assert_eq!(
        verdict(&member("claude-code", Role::Main, false)),
        Verdict::Undeclared
    );
    assert_eq!(verdict(&stranger("/bin/curl")), Verdict::NotJudged);
    // Nor does another tool's process profit from a name that it bears.
    let claude = Arc::clone(catalog().tool("claude-code").unwrap());
    let mut codex = member("codex-cli", Role::Main, true);
    Arc::make_mut(codex.tool.as_mut().unwrap())
        .namesakes
        .push(claude);
    assert_eq!(verdict(&codex), Verdict::Undeclared);
    // What an impostor wants to escape by `unless` catches it.
    let mut but_claude = one_rule(Word::Tool, &["*"], Action::Deny(Severity::Critical));
    but_claude.rules[0].unless = words(Word::Tool, &["claude-code"]);
    for (trusted, verdict) in [(true, Verdict::Expected), (false, Verdict::Denied)] {
        let process = member("claude-code", Role::Main, trusted);
        let judged = judged_by(but_claude.clone(), &process, &own("api.anthropic.com"));
        assert_eq!(judged.verdict, verdict);
    }
}

fn lifting(config: PolicyConfig, ends_seconds: i64) -> PolicyConfig {
    PolicyConfig {
        exceptions: vec![exception(ends_seconds)],
        ..config
    }
}

#[test]
fn an_exception_lifts_a_rule_until_its_day_is_over() {
    let deny = || {
        one_rule(
            Word::Tool,
            &["claude-code"],
            Action::Deny(Severity::Critical),
        )
    };
    let judge =
        |ends, process: &ProcessView| judged_by(lifting(deny(), ends), process, &own("evil.test"));
    let lifted = judge(1_001, &claude());
    assert_eq!(
        (lifted.verdict, lifted.action),
        (Verdict::Allowed, Some(Action::Allow))
    );
    assert_eq!(
        (&*lifted.rule, lifted.exception.as_deref()),
        ("r", Some("x"))
    );
    assert!(
        lifted
            .why
            .ends_with("; exception `x` of me lifts it up to 2026-12-31: so it was agreed")
    );
    let over = judge(1_000, &claude());
    assert_eq!((over.verdict, over.exception), (Verdict::Denied, None));
    let impostor = judge(1_001, &member("claude-code", Role::Main, false));
    assert_eq!(impostor.verdict, Verdict::Denied);
    let presence = Policy::new(lifting(deny(), 1_001)).judge_presence(&claude(), 1_000);
    assert_eq!(presence.verdict, Verdict::Allowed);
}

#[test]
fn a_rule_about_where_flows_go_is_not_about_presence_nor_about_this_host() {
    let mut config = one_rule(Word::Tool, &["*"], Action::Deny(Severity::Critical));
    config.rules[0].unless = words(Word::Country, &["CN"]);
    let policy = Policy::new(config);
    assert_eq!(
        policy.judge_presence(&claude(), 0).verdict,
        Verdict::NotJudged
    );
    let facts = |to, name| FlowFacts {
        process: Box::leak(Box::new(claude())),
        exact: true,
        remote: tcp(to),
        address: AddressOrigin::default(),
        to_resolver: false,
        served: false,
        name,
        also: None,
        vouched: false,
        wall_seconds: 0,
    };
    let judge = |to, name| policy.judge_flow(&catalog(), &facts(to, name)).verdict;
    assert_eq!(judge("127.0.0.1:80", None), Verdict::Local);
    assert_eq!(judge(REMOTE, None), Verdict::Denied);
    assert_eq!(
        judge(REMOTE, Some(&own("api.anthropic.com"))),
        Verdict::Denied
    );
}
