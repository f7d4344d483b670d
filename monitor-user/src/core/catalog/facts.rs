//! What the catalog says of a tool, as it was checked.
//!
//! In: made by `checker`. Out: read by the rest of the catalog, and by reports.

use std::sync::Arc;

use super::path::PathGlob;
use super::version::VersionRange;
use super::{ManifestEndpoint, Tool};

/// What kinds of tools there are.
pub const KINDS: [&str; 5] = [
    "cli-agent",
    "ide",
    "ide-extension-server",
    "local-model-server",
    "sdk",
];

/// How well a statement is founded, best first within each kind of source.
pub const CONFIDENCES: [&str; 6] = [
    "official+package",
    "package",
    "official",
    "measured",
    "secondary",
    "guess",
];

/// All that the catalog says of a tool.
#[derive(Clone, Debug)]
pub struct ToolFacts {
    /// Which tool.
    pub tool: Arc<Tool>,
    /// One of [`KINDS`].
    pub kind: Arc<str>,
    /// Other ids that people may try.
    pub aliases: Vec<String>,
    /// How its processes are recognised.
    pub recognisers: Recognisers,
    /// Programs that ship with it.
    pub helpers: Vec<Helper>,
    /// The manifest: what it is expected to contact.
    pub endpoints: Vec<ManifestEndpoint>,
    /// What is known of certain versions.
    pub advisories: Vec<Advisory>,
    /// Where the recognisers come from.
    pub source: Arc<str>,
    /// When they were collected, `2026-11-20`.
    pub date: Arc<str>,
    /// One of [`CONFIDENCES`].
    pub confidence: Arc<str>,
    /// Observations for people.
    pub notes: Vec<String>,
}

/// How processes of a tool are recognised. The last five are for people, and for later.
#[derive(Clone, Debug)]
pub struct Recognisers {
    /// The executable is one of these.
    pub exe: Vec<PathGlob>,
    /// An interpreter runs one of these.
    pub script: Vec<PathGlob>,
    /// The same, but the path repeats only the tool's name: never trusted.
    pub launcher: Vec<PathGlob>,
    /// The executable, the script or `argv[0]` bears this name, in any folder: never trusted.
    pub names: Vec<PathGlob>,
    /// Programs that hold the tool among other things, such as an editor with an extension: the
    /// tool's in flows to endpoints that are the tool's alone, and by nothing else.
    pub ide: Vec<PathGlob>,
    /// Programs, besides the usual interpreters, that run its scripts.
    pub runtimes: Vec<String>,
    /// `argv[0]` with which its executable acts as another program that it contains.
    pub applets: Vec<String>,
    /// Names that other programs bear too: no evidence.
    pub collisions: Vec<String>,
    /// Thread names.
    pub comm: Vec<String>,
    /// npm packages.
    pub npm: Vec<String>,
    /// Python packages.
    pub pypi: Vec<String>,
    /// What it sets in the environment of its children.
    pub environment: Vec<String>,
}

/// A program that ships with a tool.
#[derive(Clone, Debug)]
pub struct Helper {
    /// Its executable.
    pub glob: PathGlob,
    /// What kind of helper, `device-fingerprint`: `[a-z0-9-]+`.
    pub role: Arc<str>,
    /// What it is, for people.
    pub what: Arc<str>,
}

/// What is known of certain versions of a tool.
#[derive(Clone, Debug)]
pub struct Advisory {
    /// `[a-z0-9-]+`.
    pub id: Arc<str>,
    /// One line.
    pub title: Arc<str>,
    /// What was observed.
    pub summary: Arc<str>,
    /// Which versions.
    pub versions: VersionRange,
    /// Where this comes from.
    pub source: Arc<str>,
    /// When it was collected.
    pub date: Arc<str>,
    /// One of [`CONFIDENCES`].
    pub confidence: Arc<str>,
}
