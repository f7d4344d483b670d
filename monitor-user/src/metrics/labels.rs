//! The labels of all metrics, and what bounds their values.
//!
//! In: nothing. Out: [`Label`]s, and the values that must exist at 0 from the start.

use super::define::Label;
use crate::core::policy::judgement::{Severity, rule};
use crate::core::report::{DnsOutcome, Limit};

/// Label value for what is not there.
pub const NONE: &str = "none";
/// Label value for what is there and not known.
pub const OTHER: &str = "other";
/// The `rule` label of what a rule of the operator forbids.
pub const POLICY: &str = "policy";
/// Rules by which a flow is not as expected: [`POLICY`], and those of the catalog.
pub const SURPRISES: [&str; 4] = [
    POLICY,
    rule::UNEXPECTED_ENDPOINT,
    rule::UNNAMED_ENDPOINT,
    rule::AI_ENDPOINT_BY_UNKNOWN_PROGRAM,
];
/// Label value for a program that reaches an AI provider and belongs to no known tool.
pub const UNIDENTIFIED: &str = "unidentified";
/// The `table` label of the bound `ACTIVE_MAX`.
pub const ACTIVE_TABLE: &str = "active_connections";
/// The `table` label of the bound `RUNNING_MAX`.
pub const RUNNING_TABLE: &str = "running_processes";

/// Purposes that the catalog knows.
pub const PURPOSES: [&str; 18] = [
    "api",
    "assets",
    "auth",
    "device-fingerprint",
    "dns",
    "docs",
    "encrypted-dns",
    "error-reporting",
    "extensions-marketplace",
    "feature-flags",
    "geolocation-probe",
    "loopback",
    "mcp",
    "model-download",
    "other",
    "telemetry",
    "update",
    "web-search",
];

/// All severities.
pub const SEVERITIES: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];
/// All reasons of [`crate::core::event::decode::DecodeError`].
pub const DECODE_ERRORS: [&str; 4] = [
    "too_short",
    "tail_mismatch",
    "unknown_kind",
    "unknown_value",
];
/// All bounds of the collector.
pub const LIMITS: [Limit; 13] = [
    Limit::Processes,
    Limit::Flows,
    Limit::Names,
    Limit::Queries,
    Limit::Alerts,
    Limit::Watched,
    Limit::Scripts,
    Limit::Told,
    Limit::Clients,
    Limit::Places,
    Limit::Contacts,
    Limit::Claims,
    Limit::Waiting,
];
/// All outcomes of DNS messages.
pub const DNS_OUTCOMES: [DnsOutcome; 7] = [
    DnsOutcome::Query,
    DnsOutcome::Answer,
    DnsOutcome::Untrusted,
    DnsOutcome::Forged,
    DnsOutcome::Unsolicited,
    DnsOutcome::Malformed,
    DnsOutcome::NameInvalid,
];

/// The AI tool.
pub const TOOL: Label = Label::new(
    "tool",
    "ids of the catalog, `unidentified`, `none`, `other`",
);
/// What the process does for the tool.
pub const ROLE: Label = Label::new(
    "role",
    "`main`, `helper`, `mcp-server`, `shell-child`, `package-manager`, `git`, \
             `other-child`, `unidentified`, `none`",
);
/// What the endpoint is for.
pub const PURPOSE: Label = Label::new("purpose", "purposes of the catalog, `none`, `other`");
/// What the policy says.
pub const VERDICT: Label = Label::new(
    "verdict",
    "`expected`, `expected-unverified`, `optional`, `undeclared`, `allowed`, `denied`, \
             `unknown`, `local`, `served`, `not-judged`",
);
/// Transport protocol.
pub const TRANSPORT: Label = Label::new("transport", "`tcp`, `udp`, `other`");
/// Why a flow failed.
pub const FAILURE: Label = Label::new(
    "reason",
    "`refused`, `timed_out`, `unreachable`, `reset`, `never_sent`, `abandoned`, `other`",
);
/// Version of the tool.
pub const VERSION: Label = Label::new("version", "the first 16 seen per tool, `unknown`, `other`");
/// How a manifest and what was seen compare.
pub const CONTACTS: Label = Label::new(
    "class",
    "`seen`: listed, and contacted; `not-seen`: listed only; `undeclared`: contacted only, at most 256",
);
/// Who makes the tool.
pub const VENDOR: Label = Label::new("vendor", "one per tool");
/// Home of the vendor.
pub const JURISDICTION: Label = Label::new("jurisdiction", "one per tool");
/// Who runs a remote.
pub const OPERATOR: Label = Label::new("operator", "vendors of the catalog, `unknown`");
/// Home of who runs a remote.
pub const HOME: Label = Label::new(
    "jurisdiction",
    "one per operator; `XX` for one that is unknown or has several",
);
/// Rule that raised the alert.
pub const RULE: Label = Label::new(
    "rule",
    "ids of the policy's rules, `unexpected-endpoint`, `raw-socket`, `packet-socket`, \
             `vsock-socket`, `fileless-exec`, `tool-advisory`, `dst-mismatch`, `flow-flood`, `coverage-lost`, `hook-lost`, \
             `policy-exception-expired`, `name-conflict`, `proxy-bypass`, `config-rejected`, \
             `telemetry-after-optout`, `other`",
);
/// Rule of the policy.
pub const POLICY_RULE: Label = Label::new("rule", "ids of the first 256 rules, `other`");
/// The key of rules that a database of addresses is for.
pub const ADDRESS_KEY: Label = Label::new("key", "`asn`, `address_country`");
/// What became of a reload.
pub const RELOAD_OUTCOME: Label = Label::new("outcome", "`loaded`, `rejected`");
/// What a rule asks for.
pub const ACTION: Label = Label::new("action", "`allow`, `alert`, `deny`");
/// What the policy says.
pub const DIGEST: Label = Label::new("digest", "one at a time: SHA-256 of rules and exceptions");
/// What the catalog says.
pub const CATALOG_DIGEST: Label = Label::new(
    "catalog_digest",
    "one at a time: SHA-256 of the catalog's files",
);
/// How bad it is.
pub const SEVERITY: Label = Label::new("severity", "`info`, `warning`, `critical`");
/// What became of a DNS message.
pub const DNS_OUTCOME: Label = Label::new(
    "outcome",
    "`query`, `answer`, `untrusted`, `forged`, `unsolicited`, `malformed`, `name_invalid`",
);
/// Where a name comes from.
pub const NAME_SOURCE: Label = Label::new(
    "source",
    "`dns-own`, `dns-shared`, `resolved`, `dns-untrusted`, `sni`, `quic-sni`, `http-host`, \
             `http-connect`, `socks`, `manifest-ip`, `none`",
);
/// What became of listening to systemd-resolved.
pub const RESOLVED_STATE: Label = Label::new(
    "state",
    "`off`, `connecting`, `connected`, `absent`, `refused`, `unsupported`",
);
/// Values of [`RESOLVED_OUTCOME`].
pub const RESOLVED_OUTCOMES: [&str; 5] =
    ["answer", "nameless", "malformed", "oversized", "dropped"];
/// What became of a message of systemd-resolved, or of a name in it.
pub const RESOLVED_OUTCOME: Label = Label::new(
    "outcome",
    "`answer`, `nameless`, `malformed`, `oversized`, `dropped`",
);
/// Protocol in which a client gives a name.
pub const CLAIM_PROTOCOL: Label = Label::new(
    "protocol",
    "`unknown`, `tls`, `quic`, `http`, `http-connect`, `http-forward`, `socks`",
);
/// What was found in the first bytes of a flow.
pub const CLAIM_OUTCOME: Label = Label::new(
    "outcome",
    "`named`, `unnamed`, `not_recognised`, `contradicted`, `incomplete`, `invalid`, `evicted`",
);
/// Why a client did not get to a name.
pub const INCOMPLETE_REASON: Label = Label::new(
    "reason",
    "`timed-out`, `ended`, `too-long`, `malformed`, `unsupported`, `unknown-version`, \
             `undecryptable`",
);
/// What is wrong with a name.
pub const INVALID_REASON: Label = Label::new(
    "reason",
    "`empty`, `length`, `character`, `not-ascii`, `address`, `several`, `port`",
);
/// Row of the kernel's books.
pub const HOOK: Label = Label::new(
    "hook",
    "`connect4`, `connect6`, `sendmsg4`, `sendmsg6`, `flow_end`, `dns_egress`, \
             `dns_ingress`, `fork`, `exec`, `exit`, `wire`, `socket`, `join`, `sample`",
);
/// Row of the kernel's books, or the rings that it fills.
pub const BOOK: Label = Label::new(
    "hook",
    "hooks, as of `telltale_kernel_operations_total`, and `rings`",
);
/// Column of the kernel's books.
pub const HOOK_OUTCOME: Label = Label::new(
    "outcome",
    "`attempted`, `delivered`, `aggregated`, `ring_full`, `flows_full`, `unreadable`, \
             `over_budget`",
);
/// What the kernel side could not keep.
pub const GAP: Label = Label::new(
    "reason",
    "`flows_full`, `no_socket_storage`, `watched_full`, `budgets_full`, `mptcp_full`",
);
/// What a socket can do.
pub const SOCKET_KIND: Label =
    Label::new("kind", "`raw`, `packet`, `xdp`, `vsock`, `tun`, `other`");
/// Why something may have been missed.
pub const GAP_REASON: Label = Label::new(
    "reason",
    "`not_yet_verified`, `hook_not_attached:` or `hook_lost:` with a kernel program, \
             `books_unbalanced:` with a hook or `rings`, `dropped:` with a hook and an outcome, \
             `flows_full`, `no_socket_storage`, `watched_full`, `budgets_full`, `mptcp_full`, \
             `decode_errors`, `table_full:` with a table, `canary_missing`, \
             `feature_missing:` with a kernel program, `restart`, `not_pinned`",
);
/// What became of operations between two monitors.
pub const RESTART_OUTCOME: Label = Label::new(
    "outcome",
    "`attempted`, `delivered`, `aggregated`, `dropped`; `recovered` and `lost` say of records \
             whether they are told now",
);
/// Kernel program.
pub const PROGRAM: Label = Label::new("program", "programs of the kernel object");
/// Kernel map.
pub const MAP: Label = Label::new("map", "maps of the kernel object");
/// Ring between kernel and user space.
pub const RING: Label = Label::new("ring", "`control`, `detail`, `payload`");
/// Kind of record.
pub const EVENT_KIND: Label = Label::new("kind", "record kinds of this build");
/// Why a record could not be decoded.
pub const DECODE_REASON: Label = Label::new(
    "reason",
    "`too_short`, `tail_mismatch`, `unknown_kind`, `unknown_value`",
);
/// Table whose bound was reached.
pub const LIMITED_TABLE: Label = Label::new(
    "table",
    "`processes`, `flows`, `names`, `queries`, `alerts`, `watched`, `scripts`, `told`, `clients`, \
             `places`, `contacts`, `claims`, `waiting`, `active_connections`, `running_processes`",
);
/// Values of [`FACT_OUTCOME`].
pub const FACT_OUTCOMES: [&str; 4] = ["found", "none", "malformed", "skipped"];
/// What became of a question about the host.
pub const FACT_OUTCOME: Label = Label::new("outcome", "`found`, `none`, `malformed`, `skipped`");
/// Table of the collector.
pub const TABLE: Label = Label::new("table", "tables of this build");
/// Output.
pub const SINK: Label = Label::new(
    "sink",
    "`console`, and `alertmanager-1`, `webhook-1`, `slack-1`, `syslog-1`, … in the order of the \
             configuration",
);
/// Why an output dropped an item.
pub const DROP_REASON: Label = Label::new("reason", "`queue_full`, `rejected`, `shutdown`");
/// Why an alert is not told yet.
pub const ALERT_STAGE: Label = Label::new("stage", "`pending`, `withheld`");
/// Name of the remote.
pub const ENDPOINT: Label = Label::new(
    "endpoint",
    "names of remotes, the first 200 of each tool, `unnamed`, `other`",
);
/// Rule by which a flow is not as expected.
pub const SURPRISE: Label = Label::new(
    "rule",
    "`policy` for what the operator's rules forbid, `unexpected-endpoint`, `unnamed-endpoint`, \
             `ai-endpoint-by-unknown-program`, `other`",
);
/// How a process was recognised.
pub const METHOD: Label = Label::new(
    "method",
    "`exe-path`, `script`, `helper`, `lineage`, `name`, `none`",
);
/// Why a client of the web server got no answer.
pub const WEB_REFUSAL: Label =
    Label::new("reason", "`no_request`, `too_slow`, `tls`, `unauthorized`");

#[cfg(test)]
mod tests {
    use monitor_common::counter;

    use super::*;
    use crate::core::alert;
    use crate::core::claim;
    use crate::core::event::SocketKind;
    use crate::core::names::NameSource;
    use crate::core::policy::judgement::Verdict;
    use crate::core::report::ResolvedState;
    use crate::core::wire::found::Incomplete;
    use crate::metrics::outputs::WebRefusal;

    #[track_caller]
    fn check(label: Label, values: &[&str]) {
        for value in values {
            assert!(
                label.values.contains(&format!("`{value}`")),
                "{}: no {value}",
                label.name
            );
        }
        assert_eq!(
            label.values.matches('`').count(),
            2 * values.len(),
            "{}",
            label.values
        );
    }

    #[test]
    fn the_bounds_list_what_the_program_can_say() {
        check(HOOK, &counter::HOOK_NAMES);
        check(HOOK_OUTCOME, &counter::OUTCOME_NAMES);
        check(GAP, &counter::GAP_NAMES);
        check(VERDICT, &Verdict::ALL.map(Verdict::name));
        check(RULE, &[&alert::RULES[..], &[OTHER]].concat());
        let kinds = [
            SocketKind::Raw,
            SocketKind::Packet,
            SocketKind::Xdp,
            SocketKind::Vsock,
            SocketKind::Tun,
            SocketKind::Other(0),
        ];
        check(SOCKET_KIND, &kinds.map(SocketKind::name));
        check(SEVERITY, &SEVERITIES.map(Severity::name));
        check(DNS_OUTCOME, &DNS_OUTCOMES.map(DnsOutcome::name));
        check(DECODE_REASON, &DECODE_ERRORS);
        check(SURPRISE, &[&SURPRISES[..], &[OTHER]].concat());
        let sources = NameSource::ALL.map(NameSource::name);
        check(NAME_SOURCE, &[&sources[..], &[NONE]].concat());
        check(INCOMPLETE_REASON, &claim::INCOMPLETES.map(Incomplete::name));
        check(WEB_REFUSAL, &WebRefusal::ALL.map(WebRefusal::name));
        check(FACT_OUTCOME, &FACT_OUTCOMES);
        check(RESOLVED_OUTCOME, &RESOLVED_OUTCOMES);
        check(RESOLVED_STATE, &ResolvedState::ALL.map(ResolvedState::name));
        let tables = LIMITS.map(Limit::name);
        check(
            LIMITED_TABLE,
            &[&tables[..], &[ACTIVE_TABLE, RUNNING_TABLE]].concat(),
        );
    }
}
