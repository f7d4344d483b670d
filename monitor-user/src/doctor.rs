//! `telltale doctor`: what this kernel and these privileges allow, and the remedy for the rest.
//!
//! In: the host, and a trial load of every kernel program. Out: a page of text, and whether all
//! that the monitor needs is there. Nothing is attached.

use std::fmt::Write;

use crate::host::capability::{CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON};
use crate::host::{HostError, HostRoot, LOCKED_DOWN, Lockdown};
use crate::source::{bpf, cgroup2};

/// What was found.
pub struct Report {
    /// For a person.
    pub text: String,
    /// The monitor can run here.
    pub fit: bool,
}

/// Looks at everything that the monitor needs.
#[must_use]
pub fn examine(host: &HostRoot) -> Report {
    let mut page = Page {
        text: String::new(),
        fit: true,
    };
    page.note(
        "kernel",
        &host
            .kernel_release()
            .unwrap_or_else(|error| error.to_string()),
    );
    page.note("kernel object", &format!("sha256:{}", bpf::OBJECT_DIGEST));
    examine_capabilities(&mut page, host);
    examine_lockdown(&mut page, host);
    match cgroup2::open_root(host) {
        Ok(_) => page.good("cgroup v2", "the root of the hierarchy can be opened"),
        Err(error) => page.bad("cgroup v2", &format!("{error:#}")),
    }
    match bpf::probe() {
        Ok(programs) => {
            page.good(
                "kernel types",
                "BTF is there, and every field that is needed",
            );
            for bpf::Probed {
                program,
                loaded,
                optional_before,
            } in programs
            {
                match (loaded, optional_before) {
                    (Ok(()), _) => page.good(program, "loads"),
                    (Err(_), Some((major, minor))) => page.note(
                        program,
                        &format!("not there: it needs Linux {major}.{minor}; see docs/coverage.md"),
                    ),
                    (Err(error), None) => page.bad(program, &error.to_string()),
                }
            }
        }
        Err(error) => page.bad("kernel programs", &error.to_string()),
    }
    match host.resolvers() {
        Ok(resolvers) if resolvers.is_empty() => {
            page.note(
                "resolvers",
                "none in /etc/resolv.conf; set [resolvers] addresses",
            );
        }
        Ok(resolvers) => {
            let list: Vec<String> = resolvers.iter().map(ToString::to_string).collect();
            page.note("resolvers", &list.join(", "));
        }
        Err(error) => page.note("resolvers", &error.to_string()),
    }
    examine_daemons(&mut page, host);
    let conclusion = if page.fit {
        "Telltale can watch this host: `telltale run`"
    } else {
        "Telltale cannot watch this host until what is marked MISSING is mended"
    };
    let _ = writeln!(page.text, "\n{conclusion}"); // Writing to a String cannot fail.
    Report {
        text: page.text,
        fit: page.fit,
    }
}

fn examine_capabilities(page: &mut Page, host: &HostRoot) {
    match missing_capabilities(host) {
        Ok(None) => page.good(
            "capabilities",
            "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN are there",
        ),
        Ok(Some(missing)) => page.bad("capabilities", &missing),
        Err(error) => page.bad("capabilities", &error.to_string()),
    }
}

/// Which of the capabilities that are needed this process lacks, and the remedy; `None` if none.
///
/// # Errors
///
/// [`HostError`] if `/proc` cannot tell.
pub fn missing_capabilities(host: &HostRoot) -> Result<Option<String>, HostError> {
    let needed = [CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN];
    let missing = host.capabilities()?.missing(&needed);
    let names: Vec<&str> = missing.iter().map(|capability| capability.name).collect();
    let sentence = || format!("{} missing: run as root", names.join(", "));
    Ok((!names.is_empty()).then(sentence))
}

/// What the monitors that run here may still do.
fn examine_daemons(page: &mut Page, host: &HostRoot) {
    for daemon in host.daemons() {
        page.note(
            "running",
            &format!("Telltale with process id {}", daemon.pid),
        );
        for thread in daemon.threads {
            let filter = match (thread.filtered, thread.no_new_privileges) {
                (true, true) => "system calls filtered, no new privileges",
                (true, false) => "system calls filtered",
                (false, _) => "SYSTEM CALLS NOT FILTERED",
            };
            let may = thread.capabilities.in_words();
            page.note(&format!("  {}", thread.name), &format!("{may}; {filter}"));
        }
    }
}

fn examine_lockdown(page: &mut Page, host: &HostRoot) {
    match host.lockdown() {
        Lockdown::Confidentiality => page.bad("lockdown", LOCKED_DOWN),
        Lockdown::Integrity => page.good("lockdown", "integrity: no hindrance"),
        Lockdown::Off => page.good("lockdown", "off"),
        Lockdown::Unknown => page.note("lockdown", "unknown: securityfs is not mounted"),
    }
}

struct Page {
    text: String,
    fit: bool,
}

impl Page {
    fn good(&mut self, what: &str, found: &str) {
        self.line("ok", what, found);
    }

    fn bad(&mut self, what: &str, found: &str) {
        self.fit = false;
        self.line("MISSING", what, found);
    }

    fn note(&mut self, what: &str, found: &str) {
        self.line("", what, found);
    }

    fn line(&mut self, mark: &str, what: &str, found: &str) {
        let _ = writeln!(self.text, "{mark:<8} {what:<15} {found}"); // As above.
    }
}
