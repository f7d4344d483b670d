//! Alerts as pure state: what fires, what fires still, what is resolved.
//!
//! In: what deserves a person's attention, and the time. Out: causes, and details for a person;
//! [`AlertBook`] makes state changes of them.
//!
//! Which judgement raises which alert, and what makes two alerts one:
//!
//! | rule | verdict | of | severity | labels |
//! |---|---|---|---|---|
//! | the policy's, about processes | any | all of the tool, and any that bear its name | the rule's | tool, verdict |
//! | the policy's, about endpoints | any | any process | the rule's | tool, verdict, role, endpoint |
//! | `unexpected-endpoint` | undeclared | tool, helper, unidentified program | warning | the same |
//! | `unexpected-endpoint` | undeclared | other children of a tool | info | the same |
//! | `unexpected-endpoint` | unknown | any process of a tool | info | the same |
//!
//! And what else does:
//!
//! | rule | what | severity | labels |
//! |---|---|---|---|
//! | `raw-socket` | a tool's process opened one | warning | tool, role, kind |
//! | `packet-socket` | the same, of kinds packet, xdp and tun | warning | tool, role, kind |
//! | `vsock-socket` | the same, to the hypervisor | warning | tool, role, kind |
//! | `fileless-exec` | a tool's process executes a file that is in no folder | warning | tool, role, kind |
//! | `fileless-exec` | the same with a script that is read from a descriptor | info | tool, role, kind |
//! | `tool-advisory` | a tool runs in a version that something is known of | info | tool, advisory |
//! | `dst-mismatch` | a tool's packets go elsewhere than asked | info | tool, role, endpoint, verdict |
//! | `flow-flood` | any process opens too many new flows | warning | tool, executable |
//! | `coverage-lost` | something may have been missed | warning | reason |
//! | `hook-lost` | someone detached a kernel program | critical | hook |
//! | `telemetry-after-optout` | a tool contacts what a variable in its environment turns off | warning | tool, endpoint, switch |
//! | `config-rejected` | a change of policy, catalog or configuration cannot be used | warning | |
//! | `policy-exception-expired` | an exception's last day is over, and it is still there | warning | exception |
//! | `name-conflict` | a client names another host than resolvers do, or a DNS answer is forged | warning for tools, else info | tool, role, endpoint, source |
//! | `proxy-bypass` | a tool reaches outside past a mandatory proxy | warning | tool, role, endpoint |
//!
//! What the policy allows, or an exception lifts, raises nothing. A banned tool is one alert however many processes it has. What a tool's children contact is
//! mostly what its user asked for (`git`, package managers), and an address without a name is
//! mostly a name that was looked up before the monitor started: both are told, neither pages.

mod book;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::book::{AlertBook, AlertTiming, Pace, Raised, Swept};
use super::attribute::{Attribution, Evidence, Role};
use super::catalog::facts::Advisory;
use super::catalog::program::script_argument;
use super::coverage::Gap;
use super::event::{BootNs, Endpoint, SocketKind};
use super::flow::JudgedFlow;
use super::names::NameEvidence;
use super::policy::judgement::{Judgement, Severity, Verdict, rule};
use super::policy::rule::Exception;
use super::report::{Origin, ProcessView};

/// A tool's process has a socket that sends IP packets to any address.
const RAW_SOCKET: &str = "raw-socket";
/// A tool's process has a socket or device that sends frames past the hooks on flows.
const PACKET_SOCKET: &str = "packet-socket";
/// A tool's process has a socket to the hypervisor.
const VSOCK_SOCKET: &str = "vsock-socket";
/// A tool's process executes what is in no folder.
const FILELESS_EXEC: &str = "fileless-exec";
/// A tool runs in a version that something is known of.
const TOOL_ADVISORY: &str = "tool-advisory";
/// The packets of a tool's flow go elsewhere than was asked.
const DST_MISMATCH: &str = "dst-mismatch";
/// A process opens new flows faster than they are recorded one by one.
const FLOW_FLOOD: &str = "flow-flood";
/// Something may have been missed.
const COVERAGE_LOST: &str = "coverage-lost";
/// A kernel program was detached.
const HOOK_LOST: &str = "hook-lost";

/// An exception of the policy is over, and still there.
const EXCEPTION_EXPIRED: &str = "policy-exception-expired";
/// A name that resolvers, or a client's own words, contradict.
const NAME_CONFLICT: &str = "name-conflict";
/// A tool reaches out directly, though it must ask a proxy.
const PROXY_BYPASS: &str = "proxy-bypass";

/// What was written last cannot be used, and does not judge.
const CONFIG_REJECTED: &str = "config-rejected";

/// A tool sends telemetry though its environment says that it must not.
const AFTER_OPTOUT: &str = "telemetry-after-optout";

/// All rules that raise alerts, besides those of the policy.
pub const RULES: [&str; 15] = [
    rule::UNEXPECTED_ENDPOINT,
    RAW_SOCKET,
    PACKET_SOCKET,
    VSOCK_SOCKET,
    FILELESS_EXEC,
    TOOL_ADVISORY,
    DST_MISMATCH,
    FLOW_FLOOD,
    COVERAGE_LOST,
    HOOK_LOST,
    EXCEPTION_EXPIRED,
    NAME_CONFLICT,
    PROXY_BYPASS,
    CONFIG_REJECTED,
    AFTER_OPTOUT,
];

/// Bytes of one annotation. Receivers reject or cut large alerts; the event log has it all.
const ANNOTATION_BYTES_MAX: usize = 1024;

/// The `tool` label of a program that belongs to no known tool and acts like one.
const UNIDENTIFIED: &str = "unidentified";
/// The `tool` label of any other program.
const NO_TOOL: &str = "none";

/// One alert: what Alertmanager and webhooks are told.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The rule: one of the policy's, or of [`RULES`].
    pub rule: Arc<str>,
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

impl Alert {
    /// One whose cause was seen for the first time.
    fn new(cause: Cause, annotations: BTreeMap<&'static str, Arc<str>>, now: BootNs) -> Alert {
        Alert {
            rule: cause.rule,
            severity: cause.severity,
            labels: cause.labels,
            annotations,
            started: now,
            last_seen: now,
            occurrences: 1,
        }
    }
}

/// What makes two alerts one, and how bad it is. See the table above.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    rule: Arc<str>,
    severity: Severity,
    labels: BTreeMap<&'static str, Arc<str>>,
}

impl Cause {
    /// What the presence of a process gives cause to, if anything.
    #[must_use]
    pub fn of_presence(process: &ProcessView, judgement: &Judgement) -> Option<Cause> {
        let severity = judgement.action?.severity()?;
        let own = process.tool.as_ref().map(|member| &member.tool);
        let tool = judgement.about.as_ref().or(own);
        let tool = tool.map_or_else(|| NO_TOOL.into(), |tool| Arc::clone(&tool.id));
        let verdict = judgement.verdict.name().into();
        Some(Cause {
            rule: Arc::clone(&judgement.rule),
            severity,
            labels: BTreeMap::from([("tool", tool), ("verdict", verdict)]),
        })
    }

    /// What a flow gives cause to, if anything.
    #[must_use]
    pub fn of_flow(flow: &JudgedFlow) -> Option<Cause> {
        let judgement = &flow.judgement;
        if judgement.about.is_some() {
            return Cause::of_presence(&flow.process, judgement);
        }
        let (verdict, member) = (judgement.verdict, flow.process.tool.as_ref());
        let role = member.map_or(Role::Unidentified, |member| member.role);
        let (rule, severity) = match (judgement.action, verdict, role) {
            (Some(action), ..) => (Arc::clone(&judgement.rule), action.severity()?),
            (None, Verdict::Undeclared, Role::Main | Role::Helper | Role::Unidentified) => {
                (rule::UNEXPECTED_ENDPOINT.into(), Severity::Warning)
            }
            (None, Verdict::Undeclared | Verdict::Unknown, _) => {
                (rule::UNEXPECTED_ENDPOINT.into(), Severity::Info)
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

    /// A tool sends what the variable `switch` in its environment turns off.
    #[must_use]
    pub fn after_optout(flow: &JudgedFlow, switch: &str) -> Cause {
        let tool = flow.process.tool.as_ref();
        let tool = tool.map_or_else(|| NO_TOOL.into(), |member| Arc::clone(&member.tool.id));
        Cause {
            rule: AFTER_OPTOUT.into(),
            severity: Severity::Warning,
            labels: BTreeMap::from([
                ("tool", tool),
                ("endpoint", flow.endpoint()),
                ("switch", switch.into()),
            ]),
        }
    }

    /// What was written last cannot be used, and does not judge.
    #[must_use]
    pub fn rejected() -> Cause {
        Cause {
            rule: CONFIG_REJECTED.into(),
            severity: Severity::Warning,
            labels: BTreeMap::new(),
        }
    }

    /// An exception of the policy is over, and still there.
    #[must_use]
    pub fn expired(exception: &Exception) -> Cause {
        Cause {
            rule: EXCEPTION_EXPIRED.into(),
            severity: Severity::Warning,
            labels: BTreeMap::from([("exception", Arc::clone(&exception.id))]),
        }
    }

    /// What a socket that can send unasked gives cause to, if anything.
    #[must_use]
    pub fn of_socket(process: &ProcessView, kind: SocketKind) -> Option<Cause> {
        let member = process.tool.as_ref()?;
        let rule = match kind {
            SocketKind::Raw => RAW_SOCKET,
            SocketKind::Packet | SocketKind::Xdp | SocketKind::Tun => PACKET_SOCKET,
            SocketKind::Vsock => VSOCK_SOCKET,
            SocketKind::Other(_) => return None,
        };
        let labels = BTreeMap::from([
            ("tool", Arc::clone(&member.tool.id)),
            ("role", member.role.name().into()),
            ("kind", kind.name().into()),
        ]);
        Some(Cause {
            rule: rule.into(),
            severity: Severity::Warning,
            labels,
        })
    }

    /// What it gives cause to that a process executes its program, if anything.
    #[must_use]
    pub fn of_exec(process: &ProcessView) -> Option<Cause> {
        let member = process.tool.as_ref()?;
        let (kind, severity) = match Fileless::of(process)? {
            Fileless::Program => ("program", Severity::Warning),
            Fileless::Script => ("script", Severity::Info),
        };
        let labels = BTreeMap::from([
            ("tool", Arc::clone(&member.tool.id)),
            ("role", member.role.name().into()),
            ("kind", kind.into()),
        ]);
        Some(Cause {
            rule: FILELESS_EXEC.into(),
            severity,
            labels,
        })
    }

    /// A process of a tool runs in a version that `advisory` is about.
    #[must_use]
    pub fn of_advisory(member: &Attribution, advisory: &Advisory) -> Cause {
        let labels = BTreeMap::from([
            ("tool", Arc::clone(&member.tool.id)),
            ("advisory", Arc::clone(&advisory.id)),
        ]);
        Cause {
            rule: TOOL_ADVISORY.into(),
            severity: Severity::Info,
            labels,
        }
    }

    /// What it gives cause to that `flow` goes elsewhere than to the endpoint asked, if anything.
    #[must_use]
    pub fn of_redirection(flow: &JudgedFlow, asked: &Arc<str>) -> Option<Cause> {
        let member = flow.process.tool.as_ref()?;
        let labels = BTreeMap::from([
            ("tool", Arc::clone(&member.tool.id)),
            ("role", member.role.name().into()),
            ("endpoint", Arc::clone(asked)),
            ("verdict", flow.judgement.verdict.name().into()),
        ]);
        Some(Cause {
            rule: DST_MISMATCH.into(),
            severity: Severity::Info,
            labels,
        })
    }

    /// `process` goes by a name that is contradicted, as `source` has it.
    #[must_use]
    pub fn name_conflict(process: &ProcessView, name: &Arc<str>, source: &'static str) -> Cause {
        let member = process.tool.as_ref();
        let tool = member.map_or_else(|| NO_TOOL.into(), |member| Arc::clone(&member.tool.id));
        let role = member.map_or(NO_TOOL, |member| member.role.name());
        let severity = if member.is_some() {
            Severity::Warning
        } else {
            Severity::Info
        };
        Cause {
            rule: NAME_CONFLICT.into(),
            severity,
            labels: BTreeMap::from([
                ("tool", tool),
                ("role", role.into()),
                ("endpoint", Arc::clone(name)),
                ("source", source.into()),
            ]),
        }
    }

    /// A tool's flow goes outside past a mandatory proxy. `None` for other programs.
    #[must_use]
    pub fn proxy_bypass(flow: &JudgedFlow) -> Option<Cause> {
        let member = flow.process.tool.as_ref()?;
        let labels = BTreeMap::from([
            ("tool", Arc::clone(&member.tool.id)),
            ("role", member.role.name().into()),
            ("endpoint", flow.endpoint()),
        ]);
        Some(Cause {
            rule: PROXY_BYPASS.into(),
            severity: Severity::Warning,
            labels,
        })
    }

    /// A process opens new flows faster than they are recorded one by one.
    #[must_use]
    pub fn flood(process: &ProcessView) -> Cause {
        let member = process.tool.as_ref();
        let tool = member.map_or_else(|| NO_TOOL.into(), |member| Arc::clone(&member.tool.id));
        let executable = match process.origin {
            Origin::Kernel => "kernel".into(),
            _ if process.exe.is_empty() => "unknown".into(),
            _ => shortened(process.exe.to_string()).into(),
        };
        Cause {
            rule: FLOW_FLOOD.into(),
            severity: Severity::Warning,
            labels: BTreeMap::from([("tool", tool), ("executable", executable)]),
        }
    }

    /// What a gap gives cause to, if anything: a monitor that has just started has nothing to be
    /// alarmed about, and one that cannot be verified soon has another gap that says why.
    #[must_use]
    pub fn of_gap(gap: Gap) -> Option<Cause> {
        (gap != Gap::NotYetVerified).then(|| Cause {
            rule: COVERAGE_LOST.into(),
            severity: Severity::Warning,
            labels: BTreeMap::from([("reason", gap.to_string().into())]),
        })
    }

    /// Someone detached the kernel program `hook`.
    #[must_use]
    pub fn hook_lost(hook: &str) -> Cause {
        Cause {
            rule: HOOK_LOST.into(),
            severity: Severity::Critical,
            labels: BTreeMap::from([("hook", hook.into())]),
        }
    }
}

/// The details of a flow that is cause for an alert, for a person.
#[must_use]
pub fn details_of_flow(flow: &JudgedFlow) -> BTreeMap<&'static str, Arc<str>> {
    let Judgement { rule, why, .. } = &flow.judgement;
    let does = format!("contacts {}", flow.endpoint());
    let mut details = details(&flow.process, &does, rule, why);
    details.insert("remote", remote(&flow.remote));
    if !flow.via.is_empty() {
        let clients: Vec<_> = flow
            .via
            .iter()
            .map(|client| client_in_words(client))
            .collect();
        details.insert("via", clients.join(", "));
    }
    finished(details)
}

/// `/usr/bin/node (pid 17, Claude Code)`.
fn client_in_words(client: &ProcessView) -> String {
    let (exe, pid) = (&client.exe, client.key.tgid);
    match &client.tool {
        Some(member) => format!("{exe} (pid {pid}, {})", member.tool.name),
        None => format!("{exe} (pid {pid})"),
    }
}

/// The details of a process whose presence is cause for an alert, for a person.
#[must_use]
pub fn details_of_presence(
    process: &ProcessView,
    judgement: &Judgement,
) -> BTreeMap<&'static str, Arc<str>> {
    let Judgement { rule, why, .. } = judgement;
    finished(details(process, "runs", rule, why))
}

/// The details of telemetry after an opt-out, for a person.
#[must_use]
pub fn details_after_optout(flow: &JudgedFlow, switch: &str) -> BTreeMap<&'static str, Arc<str>> {
    let does = format!(
        "contacts {} though {switch} was set when it started",
        flow.endpoint()
    );
    let why = format!(
        "{switch} is documented to turn this off; {}",
        flow.judgement.why
    );
    let mut details = details(&flow.process, &does, AFTER_OPTOUT, &why);
    details.insert("remote", remote(&flow.remote));
    finished(details)
}

/// The details of a configuration that cannot be used, for a person.
#[must_use]
pub fn details_of_rejected(error: &str) -> BTreeMap<&'static str, Arc<str>> {
    let summary = "A change of policy, catalog or configuration was rejected; what judged before \
                   stays in force";
    finished(BTreeMap::from([
        ("summary", summary.to_owned()),
        ("why", error.to_owned()),
    ]))
}

/// The details of an exception that is over, for a person.
#[must_use]
pub fn details_of_expired(exception: &Exception) -> BTreeMap<&'static str, Arc<str>> {
    let Exception {
        id, owner, expires, ..
    } = exception;
    let rules = exception.rules.join(", ");
    let mut details = BTreeMap::from([
        (
            "summary",
            format!("Exception {id} of the policy ended with {expires}"),
        ),
        (
            "why",
            format!("it lifts {rules} no more; renew it or remove it from the policy"),
        ),
        ("owner", owner.to_string()),
        ("reason", exception.reason.to_string()),
    ]);
    if let Some(ticket) = &exception.ticket {
        details.insert("ticket", ticket.to_string());
    }
    finished(details)
}

/// What is in no folder of a program that is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fileless {
    /// The executable: it is in memory (memfd), or was deleted before.
    Program,
    /// What an interpreter reads: a descriptor that it was given, of a pipe or a file in memory.
    Script,
}

impl Fileless {
    fn of(process: &ProcessView) -> Option<Fileless> {
        // One that was found running may have been replaced since, as updates do.
        if process.origin != Origin::Executed {
            return None;
        }
        if process.exe_file.links == 0 {
            return Some(Fileless::Program);
        }
        let script = script_argument(&process.exe, &process.args)?;
        is_descriptor(script).then_some(Fileless::Script)
    }
}

/// `/dev/fd/3`, `/proc/self/fd/3`, `/proc/4711/fd/3`, `/dev/stdin`.
fn is_descriptor(path: &str) -> bool {
    let of_process = || {
        let (process, rest) = path.strip_prefix("/proc/")?.split_once('/')?;
        let is_process = matches!(process, "self" | "thread-self")
            || process.bytes().all(|byte| byte.is_ascii_digit());
        Some(is_process && rest.starts_with("fd/"))
    };
    path.starts_with("/dev/fd/") || path == "/dev/stdin" || of_process().unwrap_or(false)
}

/// The details of a program in no folder that is cause for an alert, for a person.
#[must_use]
pub fn details_of_exec(process: &ProcessView) -> BTreeMap<&'static str, Arc<str>> {
    let (does, why) = match Fileless::of(process) {
        Some(Fileless::Script) => (
            "runs a script from a descriptor",
            "it comes from a pipe or from memory, so no folder holds what was run",
        ),
        _ => (
            "executes a program that is in no folder",
            "it was deleted before, or made in memory: nothing is left to look at, and its path \
             proves nothing",
        ),
    };
    finished(details(process, does, FILELESS_EXEC, why))
}

/// The details of a version that something is known of, for a person.
#[must_use]
pub fn details_of_advisory(
    process: &ProcessView,
    advisory: &Advisory,
) -> BTreeMap<&'static str, Arc<str>> {
    let member = process.tool.as_deref();
    let version = member.and_then(|member| member.version.as_deref());
    let version = version.unwrap_or("unknown");
    let does = format!(
        "runs in version {version}, of which is known: {}",
        advisory.title
    );
    let mut details = details(process, &does, TOOL_ADVISORY, &advisory.summary);
    let Advisory {
        source,
        date,
        confidence,
        ..
    } = advisory;
    details.insert("source", format!("{source} ({confidence}, {date})"));
    finished(details)
}

/// The details of a socket that is cause for an alert, for a person.
#[must_use]
pub fn details_of_socket(
    process: &ProcessView,
    kind: SocketKind,
    protocol: u32,
) -> BTreeMap<&'static str, Arc<str>> {
    let (rule, what, why) = match kind {
        SocketKind::Raw => (
            RAW_SOCKET,
            "a raw socket",
            "it can send IP packets to any address without connecting",
        ),
        SocketKind::Tun => (
            PACKET_SOCKET,
            "a TUN device",
            "what it puts into the network stack is seen as nobody's",
        ),
        SocketKind::Vsock => (
            VSOCK_SOCKET,
            "a vsock socket",
            "it reaches the hypervisor, which may pass on anything unseen",
        ),
        SocketKind::Packet | SocketKind::Xdp | SocketKind::Other(_) => (
            PACKET_SOCKET,
            "a packet socket",
            "it can send frames of any content, which no hook ties to their sender",
        ),
    };
    let mut details = details(process, &format!("has {what}"), rule, why);
    details.insert("socket", format!("{} protocol {protocol}", kind.name()));
    finished(details)
}

/// The details of a flow that goes elsewhere than to the endpoint asked, for a person.
#[must_use]
pub fn details_of_redirection(
    flow: &JudgedFlow,
    asked: &Endpoint,
    asked_name: &str,
) -> BTreeMap<&'static str, Arc<str>> {
    let does = format!("asked for {asked_name} and reaches {}", flow.endpoint());
    let why = format!(
        "address translation, a program that rewrites addresses, or a source route; of where the \
         packets go: {}",
        flow.judgement.why
    );
    let mut details = details(&flow.process, &does, DST_MISMATCH, &why);
    details.insert("asked", remote(asked));
    details.insert("remote", remote(&flow.remote));
    finished(details)
}

/// The details of a claim that contradicts what resolvers said, for a person.
#[must_use]
pub fn details_of_name_conflict(
    process: &ProcessView,
    at: &Endpoint,
    claimed: &NameEvidence,
    backed: &NameEvidence,
) -> BTreeMap<&'static str, Arc<str>> {
    let (claim, name) = (&claimed.name, &backed.name);
    let does = format!("says it speaks to {claim}, at an address of {name}");
    let why = format!(
        "resolvers know {claim} at other addresses only, and this one as {name}: a false name, or \
         one host behind another's"
    );
    let mut details = details(process, &does, NAME_CONFLICT, &why);
    details.insert("remote", remote(at));
    details.insert("claimed", format!("{claim} ({})", claimed.source.name()));
    details.insert("backed", format!("{name} ({})", backed.source.name()));
    finished(details)
}

/// The details of a forged DNS answer, for a person.
#[must_use]
pub fn details_of_forgery(
    process: &ProcessView,
    resolver: &Endpoint,
    name: &str,
) -> BTreeMap<&'static str, Arc<str>> {
    let does = format!("got an answer about {name} that it did not ask for");
    let why = "it answers an outstanding question with another id, or from elsewhere: someone \
               guesses. It was not used";
    let mut details = details(process, &does, NAME_CONFLICT, why);
    details.insert("remote", remote(resolver));
    finished(details)
}

/// The details of a flow past a mandatory proxy, for a person.
#[must_use]
pub fn details_of_proxy_bypass(flow: &JudgedFlow) -> BTreeMap<&'static str, Arc<str>> {
    let does = format!("contacts {} directly", flow.endpoint());
    let why = "[proxy] mandatory names whom AI tools must ask for outside hosts";
    let mut details = details(&flow.process, &does, PROXY_BYPASS, why);
    details.insert("remote", remote(&flow.remote));
    finished(details)
}

/// The details of a process that opens too many new flows, for a person. `refused`: how many
/// have no record of their own so far.
#[must_use]
pub fn details_of_flood(process: &ProcessView, refused: u64) -> BTreeMap<&'static str, Arc<str>> {
    let does = "opens new flows faster than they are recorded one by one";
    let why = format!("{refused} new flows have no record of their own; they are only counted");
    finished(details(process, does, FLOW_FLOOD, &why))
}

/// The details of a gap, for a person.
#[must_use]
pub fn details_of_gap(gap: Gap) -> BTreeMap<&'static str, Arc<str>> {
    finished(BTreeMap::from([
        (
            "summary",
            format!("Telltale may have missed something: {gap}"),
        ),
        ("why", gap.why()),
    ]))
}

/// The details of a kernel program that was detached, for a person.
#[must_use]
pub fn details_of_lost_hook(hook: &'static str) -> BTreeMap<&'static str, Arc<str>> {
    finished(BTreeMap::from([
        (
            "summary",
            format!("Telltale was blinded: {hook} was detached"),
        ),
        ("why", Gap::HookLost(hook).why()),
    ]))
}

fn remote(endpoint: &Endpoint) -> String {
    format!("{} {}", endpoint.addr, endpoint.protocol.name())
}

/// Who does what, by which rule that is worth an alert, and why.
fn details(
    process: &ProcessView,
    does: &str,
    rule: &str,
    why: &str,
) -> BTreeMap<&'static str, String> {
    let who = match &process.tool {
        Some(member) => format!("{} ({})", member.tool.name, member.role.name()),
        None if process.origin == Origin::Kernel => "The kernel, or an unknown owner,".to_owned(),
        None => "Unidentified program".to_owned(),
    };
    let mut details = BTreeMap::from([
        ("summary", format!("{who} {does}: {rule}")),
        ("why", why.to_owned()),
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
    let ancestry: Vec<_> = process
        .ancestors()
        .skip(1)
        .map(|it| format!("{} (pid {})", it.exe, it.key.tgid))
        .collect();
    if !ancestry.is_empty() {
        details.insert("ancestry", ancestry.join(" < "));
    }
    details.extend(whereabouts(process));
    if let Some(member) = &process.tool {
        let evidence: Vec<_> = member.evidence.iter().map(in_words).collect();
        details.insert("evidence", evidence.join("; "));
        let version = member.version.as_deref().unwrap_or("unknown");
        details.insert("version", version.to_owned());
    }
    details
}

/// Where a process runs, and for which build job.
fn whereabouts(process: &ProcessView) -> BTreeMap<&'static str, String> {
    let mut found = BTreeMap::new();
    if let Some(place) = &process.place {
        found.insert("cgroup", place.path.to_string());
        let unit = place.unit.as_ref().map(|unit| unit.name.to_string());
        found.extend(unit.map(|unit| ("unit", unit)));
        found.extend(
            place
                .container
                .as_ref()
                .map(|it| ("container", it.to_string())),
        );
        found.extend(place.pod.as_ref().map(|pod| ("pod", pod.to_string())));
    }
    found.extend(process.job.job().map(|job| ("job", job.to_string())));
    found
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
        Evidence::Endpoint { host } => host.to_string(),
        Evidence::Name { name } => name.to_string(),
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

#[cfg(test)]
mod tests;
