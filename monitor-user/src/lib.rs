//! Telltale: which AI tools on this host talk to whom.
//!
//! In: records from the kernel (or from a recording). Out: metrics, alerts and an event log.
//! Read the modules in this order; each imports only those before it, and [`pipeline`] joins them:
//!
//! 1. [`core`]: pure. Events in, effects out.
//! 2. [`host`] and [`clock`]: what is read of the host besides records.
//! 3. [`source`]: where records come from: the kernel, or a recording.
//! 4. [`metrics`] and [`sink`]: where effects go.
//! 5. [`config`] and [`cli`]: what the operator asked for.
//! 6. [`pipeline`], [`reload`], [`compare`], [`explain`], [`observed`], [`verify`], [`doctor`] and [`run`]: the shell that joins them, one function per command.
#![forbid(unsafe_code)]

#[cfg(test)]
mod catalog_document;
pub mod catalog_match;
pub mod catalog_report;
pub mod cli;
pub mod clock;
pub mod compare;
pub mod config;
pub mod core;
pub mod doctor;
pub mod explain;
pub mod host;
pub mod metrics;
pub mod observed;
pub mod pipeline;
pub mod reload;
pub mod run;
pub mod sandbox;
pub mod sink;
pub mod source;
pub mod supervisor;
pub mod verify;
