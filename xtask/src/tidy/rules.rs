//! Who may use what: the layer table of ARCHITECTURE.md as data.
//!
//! In: nothing. Out: [`RULES`] and [`CORE_ORDER`], which `layers.rs` applies.

/// In some modules, some paths are forbidden.
pub struct Rule {
    /// Modules of monitor-user that the rule is for, with all below them; empty: every module.
    pub modules: &'static [&'static str],
    /// Modules that it is not for, with all below them.
    pub except: &'static [&'static str],
    /// What they must not use.
    pub forbidden: &'static [&'static str],
    /// Why, as the end of the sentence "must not use X: …".
    pub why: &'static str,
}

/// Every rule.
pub const RULES: [Rule; 8] = [
    Rule {
        modules: &["core"],
        except: &[],
        forbidden: &[
            "aya",
            "aya_obj",
            "axum",
            "prometheus",
            "reqwest",
            "rustix",
            "std::env",
            "std::fs",
            "std::io::stderr",
            "std::io::stdin",
            "std::io::stdout",
            "std::net::TcpListener",
            "std::net::TcpStream",
            "std::net::ToSocketAddrs",
            "std::net::UdpSocket",
            "std::os::unix::net",
            "std::process",
            "std::thread",
            "std::time::Instant",
            "std::time::SystemTime",
            "tokio",
            "tracing",
            "tracing_subscriber",
        ],
        why: "the core is pure, without I/O, clock or async",
    },
    Rule {
        modules: &["core"],
        except: &[],
        forbidden: &[
            "crate::cli",
            "crate::config",
            "crate::doctor",
            "crate::host",
            "crate::metrics",
            "crate::pipeline",
            "crate::run",
            "crate::sink",
            "crate::source",
        ],
        why: "the core knows nothing of the layers above it",
    },
    Rule {
        modules: &["source", "host", "sink", "config", "metrics"],
        except: &[],
        forbidden: &[
            "crate::cli",
            "crate::doctor",
            "crate::pipeline",
            "crate::run",
        ],
        why: "imports run one way, main → pipeline → sink and source → core",
    },
    Rule {
        modules: &["source", "host", "config", "metrics"],
        except: &[],
        forbidden: &["crate::sink"],
        why: "only the pipeline knows where effects go",
    },
    Rule {
        modules: &["sink", "host", "config", "metrics"],
        except: &[],
        forbidden: &["crate::source"],
        why: "only the pipeline knows where events come from",
    },
    Rule {
        modules: &[],
        except: &["source/bpf", "source/ring"],
        forbidden: &["aya", "aya_obj"],
        why: "only source/bpf and source/ring speak to the kernel",
    },
    Rule {
        modules: &[],
        except: &["metrics"],
        forbidden: &["prometheus"],
        why: "only metrics/ makes and registers metrics",
    },
    Rule {
        modules: &[],
        except: &["main"],
        forbidden: &["std::process::exit", "std::process::abort"],
        why: "only main.rs ends the process",
    },
];

/// The modules of the core, lowest first. A module may use those of earlier rows, not its own row.
/// The tables (`process`, `flow`) keep what was decided, so they lie above who decides it.
pub const CORE_ORDER: [&[&str]; 9] = [
    &["wire", "redact"],
    &["claim", "fair"],
    &["event"],
    &[
        "names", "catalog", "clients", "coverage", "told", "sample", "waiting", "place", "job",
    ],
    &["addresses", "attribute"],
    &["process", "policy"],
    &["flow", "contacts"],
    &["alert"],
    &["collector"],
];

/// The core's vocabulary: types alone, made of the types of every module below the collector, and
/// spoken by every module above `event`.
pub const VOCABULARY: &str = "report";

/// Modules with these names hold test code; they must be declared under `#[cfg(test)]`.
pub const TEST_MODULES: [&str; 2] = ["fixture", "tests"];
