//! Telltale: which AI tools on this host talk to whom.
//!
//! In: records from the kernel (or from a recording). Out: metrics, alerts and an event log.
//! Read the modules in this order; each imports only those before it, and [`pipeline`] joins them:
//!
//! 1. [`core`]: pure. Events in, effects out.
//! 2. [`source`]: where records come from: the kernel, or a recording.
//! 3. [`host`]: what is read of the host besides: resolvers, users, boot id.
//! 4. [`metrics`] and [`sink`]: where effects go.
//! 5. [`config`] and [`cli`]: what the operator asked for.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod core;
pub mod host;
pub mod source;
