//! The pure core: events in, effects out; no I/O, no clock, no async.
//!
//! In: decoded [`event::Event`]s and the time. Out: [`report::Effect`]s.
//! Inside, imports run one way:
//! `collector → alert → policy → attribute → {process, flow, names, catalog}`,
//! `{names, sample} → event → claim → wire`.

pub mod addresses;
pub mod alert;
pub mod attribute;
pub mod catalog;
pub mod claim;
pub mod clients;
pub mod collector;
pub mod contacts;
pub mod coverage;
pub mod event;
mod fair;
#[cfg(test)]
mod fixture;
pub mod flow;
pub mod job;
pub mod names;
pub mod place;
pub mod policy;
pub mod process;
pub mod redact;
pub mod report;
pub mod sample;
pub mod told;
pub mod waiting;
pub mod wire;
