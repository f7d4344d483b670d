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
