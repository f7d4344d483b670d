//! Why the kernel side does not start, in words that say what to do.
//!
//! In: what the kernel and the loader say. Out: a [`LoadError`].

use aya::programs::ProgramError;

use super::pins::PinsError;
use crate::source::btf::{BTF_PATH, BtfError};

/// Why the kernel side could not be started. The text holds the remedy.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No BTF.
    #[error(
        "the kernel does not tell its types ({BTF_PATH}: {0}): Telltale needs a kernel built with \
         CONFIG_DEBUG_INFO_BTF=y, as Debian 11+, Ubuntu 20.10+, RHEL 8.2+ and SLES 15 SP3+ ship it"
    )]
    NoBtf(std::io::Error),
    /// BTF without something that the programs read.
    #[error("{0}: this kernel's layout is not supported; please report `uname -r` with this line")]
    Layout(#[from] BtfError),
    /// The object does not fit this build.
    #[error("the built-in kernel object is damaged or of another build ({0}); reinstall Telltale")]
    Object(String),
    /// Not allowed.
    #[error(
        "not allowed to {what}: run as root, or give CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN \
         (`telltale doctor` shows what is missing{detail})"
    )]
    Denied {
        /// What was refused.
        what: String,
        /// What else is known.
        detail: String,
    },
    /// A program was refused.
    #[error("the kernel refused the program {program}: {error}")]
    Program {
        /// Which.
        program: &'static str,
        /// The kernel's words, with the verifier's log where there is one.
        error: String,
    },
    /// The kernel side cannot be pinned as it is to be.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// A program could not be attached.
    #[error(
        "cannot attach {program} to the cgroup-v2 root: {error}; if another program is attached \
         there without BPF_F_ALLOW_MULTI (`bpftool cgroup show`), it must be detached first"
    )]
    Attach {
        /// Which.
        program: &'static str,
        /// The kernel's words.
        error: String,
    },
}

/// An error with all its causes, once each.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn is_denied(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut source = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            // Not EACCES: that is the verifier's word for a program that it does not accept.
            return io.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error());
        }
        source = cause.source();
    }
    false
}

pub(super) fn object_error(error: aya::EbpfError) -> LoadError {
    if is_denied(&error) {
        LoadError::Denied {
            what: "create BPF maps".to_owned(),
            detail: String::new(),
        }
    } else {
        LoadError::Object(chain(&error))
    }
}

pub(super) fn program_error(program: &'static str, error: &ProgramError) -> LoadError {
    if is_denied(error) {
        let what = format!("load the kernel program {program}");
        LoadError::Denied {
            what,
            detail: "; kernel lockdown may forbid it".to_owned(),
        }
    } else {
        LoadError::Program {
            program,
            error: chain(error),
        }
    }
}
