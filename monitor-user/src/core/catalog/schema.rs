//! The format of catalog files, as `keys` documents it: what serde reads.
//!
//! In: TOML. Out: entries as they were written, with their places, for `check`.

use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

/// The one version of the format that this build reads.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// `tools/*.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolFile {
    pub(super) schema_version: Spanned<u32>,
    pub(super) id: Spanned<String>,
    pub(super) name: Spanned<String>,
    pub(super) vendor: Spanned<String>,
    pub(super) jurisdiction: Spanned<String>,
    pub(super) kind: Spanned<String>,
    #[serde(default)]
    pub(super) aliases: Vec<String>,
    pub(super) source: Spanned<String>,
    pub(super) date: Spanned<Datetime>,
    pub(super) confidence: Spanned<String>,
    #[serde(default)]
    pub(super) notes: Vec<String>,
    pub(super) recognise: Spanned<RecogniseEntry>,
    #[serde(default)]
    pub(super) helper: Vec<HelperEntry>,
    #[serde(default)]
    pub(super) endpoint: Vec<EndpointEntry>,
    #[serde(default)]
    pub(super) advisory: Vec<AdvisoryEntry>,
}

/// `[recognise]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RecogniseEntry {
    pub(super) exe: Vec<Spanned<String>>,
    pub(super) script: Vec<Spanned<String>>,
    pub(super) launcher: Vec<Spanned<String>>,
    pub(super) names: Vec<Spanned<String>>,
    pub(super) ide: Vec<Spanned<String>>,
    pub(super) collisions: Vec<String>,
    pub(super) runtimes: Vec<String>,
    pub(super) applets: Vec<String>,
    pub(super) comm: Vec<String>,
    pub(super) npm: Vec<String>,
    pub(super) pypi: Vec<String>,
    pub(super) environment: Vec<String>,
}

/// `[[helper]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HelperEntry {
    pub(super) glob: Spanned<String>,
    pub(super) role: Spanned<String>,
    pub(super) what: Spanned<String>,
}

/// `[[endpoint]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointEntry {
    pub(super) host: Spanned<String>,
    pub(super) purpose: Spanned<String>,
    pub(super) since: Option<Spanned<String>>,
    pub(super) until: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) optional: bool,
    pub(super) switch: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) shared: bool,
    pub(super) operator: Option<String>,
    pub(super) source: Spanned<String>,
    pub(super) date: Spanned<Datetime>,
    pub(super) confidence: Spanned<String>,
    pub(super) note: Option<String>,
}

/// `[[advisory]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdvisoryEntry {
    pub(super) id: Spanned<String>,
    pub(super) title: Spanned<String>,
    pub(super) summary: Spanned<String>,
    pub(super) since: Option<Spanned<String>>,
    pub(super) until: Option<Spanned<String>>,
    pub(super) source: Spanned<String>,
    pub(super) date: Spanned<Datetime>,
    pub(super) confidence: Spanned<String>,
}

/// `services/*.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceFile {
    pub(super) schema_version: Spanned<u32>,
    pub(super) class: Spanned<String>,
    #[serde(default)]
    pub(super) service: Vec<ServiceEntry>,
}

/// `[[service]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceEntry {
    pub(super) id: Spanned<String>,
    pub(super) name: Spanned<String>,
    pub(super) vendor: Spanned<String>,
    pub(super) jurisdiction: Spanned<String>,
    pub(super) hosts: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) shared: Vec<Spanned<String>>,
    pub(super) source: Spanned<String>,
    pub(super) date: Spanned<Datetime>,
    pub(super) confidence: Spanned<String>,
    pub(super) note: Option<String>,
}
