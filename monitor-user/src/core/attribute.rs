//! Which AI tool a process belongs to, and why we say so.
//!
//! In: a program image (exe path, argv), its parent's attribution, the catalog.
//! Out: an [`Attribution`] with its evidence, strongest first, or `None`.

use std::sync::Arc;

use super::catalog::Tool;

/// A process's membership in an AI tool.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribution {
    /// The tool, from the catalog.
    pub tool: Arc<Tool>,
    /// Its version where the path says so; `None` is "unknown".
    pub version: Option<Arc<str>>,
    /// What the process does for the tool.
    pub role: Role,
    /// Why, strongest first; never empty.
    pub evidence: Vec<Evidence>,
    /// The evidence is a known layout (or descent from one). `false`: a name alone, which
    /// counts towards a ban and never towards an allowance.
    pub trusted: bool,
}

/// What a process does for its tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The tool itself.
    Main,
    /// A helper program that ships with the tool.
    Helper,
    /// An MCP server that the tool started.
    McpServer,
    /// A shell that the tool started.
    Shell,
    /// A package manager below the tool.
    PackageManager,
    /// git below the tool.
    Git,
    /// Any other program below the tool.
    OtherChild,
    /// No tool is known: a program that reaches an AI provider.
    Unidentified,
}

impl Role {
    /// Name in events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Main => "main",
            Role::Helper => "helper",
            Role::McpServer => "mcp-server",
            Role::Shell => "shell-child",
            Role::PackageManager => "package-manager",
            Role::Git => "git",
            Role::OtherChild => "other-child",
            Role::Unidentified => "unidentified",
        }
    }
}

/// One reason for an attribution.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// The executable's path matches a glob of the catalog.
    ExePath {
        /// The glob.
        glob: Arc<str>,
    },
    /// An argument at exec is a script path that matches a glob of the catalog.
    Script {
        /// The glob.
        glob: Arc<str>,
        /// The argument.
        path: Arc<str>,
    },
    /// The executable's path matches a helper glob of the catalog.
    Helper {
        /// The glob.
        glob: Arc<str>,
    },
    /// It descends from a process of the tool.
    Lineage {
        /// Executable of the nearest ancestor that is not itself attributed by lineage.
        ancestor_exe: Arc<str>,
        /// Its pid.
        ancestor_pid: u32,
    },
    /// Only its name is that of the tool.
    Name {
        /// The name.
        name: Arc<str>,
    },
    /// It reaches an endpoint of this provider.
    Endpoint {
        /// The host name.
        host: Arc<str>,
    },
}

impl Evidence {
    /// Kind, for metrics and events.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Evidence::ExePath { .. } => "exe-path",
            Evidence::Script { .. } => "script",
            Evidence::Helper { .. } => "helper",
            Evidence::Lineage { .. } => "lineage",
            Evidence::Name { .. } => "name",
            Evidence::Endpoint { .. } => "endpoint",
        }
    }
}
