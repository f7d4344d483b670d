//! The catalog: AI tools, how to recognise them, and what each is expected to contact.
//!
//! In: the texts of `catalog/tools/*.toml` and `catalog/services/*.toml`. Out: [`Catalog`].

use std::sync::Arc;

/// One AI tool.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Identifier, `claude-code`: `[a-z0-9-]+`.
    pub id: Arc<str>,
    /// Name for people.
    pub name: Arc<str>,
    /// Who makes it.
    pub vendor: Arc<str>,
    /// ISO 3166 alpha-2 code of the vendor's home; `XX` if unknown or several.
    pub jurisdiction: Arc<str>,
}

// STUB, replaced by the catalog branch.
use std::net::IpAddr;

/// Stub.
pub struct CatalogFile {
    /// Stub.
    pub name: String,
    /// Stub.
    pub text: String,
}
/// Stub.
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct CatalogErrors;
/// Stub.
#[derive(Debug)]
pub struct ManifestEndpoint {
    /// Stub.
    pub host: Arc<str>,
    /// Stub.
    pub purpose: Arc<str>,
    /// Stub.
    pub optional: bool,
    /// Stub.
    pub switch: Option<Arc<str>>,
    /// Stub.
    pub shared: bool,
}
/// Stub.
#[derive(Clone)]
pub struct Provider {
    /// Stub.
    pub owner: Arc<str>,
    /// Stub.
    pub name: Arc<str>,
    /// Stub.
    pub vendor: Arc<str>,
    /// Stub.
    pub jurisdiction: Arc<str>,
    /// Stub.
    pub purpose: Arc<str>,
}
/// Stub.
#[derive(Debug)]
pub struct Catalog {
    tools: Vec<Arc<Tool>>,
    endpoints: Vec<(Arc<str>, ManifestEndpoint)>,
}
impl Catalog {
    /// Stub.
    pub fn parse(_: &[CatalogFile]) -> Result<Catalog, CatalogErrors> {
        let tool = |id: &str, name: &str, vendor: &str| {
            Arc::new(Tool {
                id: id.into(),
                name: name.into(),
                vendor: vendor.into(),
                jurisdiction: "US".into(),
            })
        };
        let at = |id: &str, host: &str, purpose: &str, optional| {
            (
                Arc::from(id),
                ManifestEndpoint {
                    host: host.into(),
                    purpose: purpose.into(),
                    optional,
                    switch: optional.then(|| "DISABLE_TELEMETRY=1".into()),
                    shared: false,
                },
            )
        };
        Ok(Catalog {
            tools: vec![
                tool("claude-code", "Claude Code", "Anthropic"),
                tool("codex", "Codex CLI", "OpenAI"),
            ],
            endpoints: vec![
                at("claude-code", "api.anthropic.com", "api", false),
                at("claude-code", "statsig.anthropic.com", "telemetry", true),
                at("codex", "api.openai.com", "api", false),
                at("claude-code", "192.0.2.200", "api", false),
            ],
        })
    }
    /// Stub.
    pub fn tool(&self, id: &str) -> Option<&Arc<Tool>> {
        self.tools.iter().find(|tool| &*tool.id == id)
    }
    /// Stub.
    pub fn tools(&self) -> impl Iterator<Item = &Arc<Tool>> {
        self.tools.iter()
    }
    /// Stub.
    pub fn endpoint(&self, tool: &Tool, host: &str, _: Option<&str>) -> Option<&ManifestEndpoint> {
        self.endpoints
            .iter()
            .find(|(id, e)| *id == tool.id && &*e.host == host)
            .map(|(_, e)| e)
    }
    /// Stub.
    pub fn endpoint_ip(
        &self,
        tool: &Tool,
        ip: IpAddr,
        v: Option<&str>,
    ) -> Option<&ManifestEndpoint> {
        self.endpoint(tool, &ip.to_string(), v)
    }
    /// Stub.
    pub fn provider(&self, host: &str) -> Option<Provider> {
        let (id, e) = self.endpoints.iter().find(|(_, e)| &*e.host == host)?;
        let tool = self.tool(id)?;
        Some(Provider {
            owner: id.clone(),
            name: tool.name.clone(),
            vendor: tool.vendor.clone(),
            jurisdiction: "US".into(),
            purpose: e.purpose.clone(),
        })
    }
}
