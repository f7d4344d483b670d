//! What the policy says of a flow or of a process's presence.
//!
//! In: who, to whom, under which names. Out: a [`Judgement`]: verdict, rule, purpose and why.

//!
//! - [`judgement`]: what can be said.
//! - [`manifest`]: what follows from the catalog alone.

pub mod judgement;
mod manifest;

use std::sync::Arc;

use super::attribute::{Attribution, Evidence};
use super::catalog::{Catalog, Provider, Tool};
use super::event::Endpoint;
use super::names::NameEvidence;
use super::report::{Origin, ProcessView};
use judgement::{Judgement, Verdict, rule};
use manifest::{doubt, judge_listed, judge_local, judge_served, judge_unlisted, listed, provided};

/// What the operator wants: `[policy]` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyConfig {
    /// Ids of tools that must not run: `claude-code`.
    pub banned: Vec<String>,
}

/// Why a policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The catalog has no tool of this id.
    #[error("[policy] banned: the catalog has no tool `{id}`{}", remedy(near))]
    UnknownTool {
        /// What the policy says.
        id: String,
        /// Ids that look like it, nearest first.
        near: Vec<Arc<str>>,
    },
}

/// What is judged of a flow.
#[derive(Clone, Copy, Debug)]
pub struct FlowFacts<'a> {
    /// Who opened it.
    pub process: &'a ProcessView,
    /// `process` is the very image that opened the flow. If not, it is the last known image of
    /// that process, because the record of a later exec was lost.
    pub exact: bool,
    /// To whom.
    pub remote: Endpoint,
    /// The remote is port 53 of a resolver that this host is configured to use.
    pub to_resolver: bool,
    /// The remote connected to the process, not the process to it.
    pub served: bool,
    /// What the remote is called, by [`meant_first`].
    pub name: Option<&'a NameEvidence>,
}

/// Brings the name to the front that `process` means by its flow: of those that count, the first
/// that the catalog knows for such a process, if it knows any.
///
/// Those count that the process itself asked for; only where it asked for none, those that
/// others did. Many hosts share an address, and what another process calls it neither excuses
/// nor accuses a process that asked for something else.
pub fn meant_first(catalog: &Catalog, process: &ProcessView, names: &mut [NameEvidence]) {
    let best = names.first().map(|name| name.source);
    let known = |name: &NameEvidence| match process.tool.as_deref() {
        Some(Attribution { tool, version, .. }) => catalog
            .endpoint(tool, &name.name, version.as_deref())
            .is_some(),
        None => catalog.provider(&name.name).is_some(),
    };
    let mut counting = names.iter().take_while(|name| Some(name.source) == best);
    if let Some(place) = counting.position(known) {
        names[..=place].rotate_right(1);
    }
}

/// The rules, ready to judge.
#[derive(Clone, Debug)]
pub struct Policy {
    banned: Vec<Arc<Tool>>,
    /// What is said of most processes and flows of a host: made once.
    not_judged: Judgement,
}

impl Policy {
    /// The policy that `config` asks for.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] if it names a tool that `catalog` does not have.
    pub fn new(config: &PolicyConfig, catalog: &Catalog) -> Result<Policy, PolicyError> {
        let find = |id: &String| {
            let unknown = || PolicyError::UnknownTool {
                id: id.clone(),
                near: catalog.near(id),
            };
            catalog.tool(id).cloned().ok_or_else(unknown)
        };
        let banned = config.banned.iter().map(find).collect::<Result<_, _>>()?;
        let why = "no rule concerns it".to_owned();
        let not_judged = Judgement::new(Verdict::NotJudged, rule::NONE, why);
        Ok(Policy { banned, not_judged })
    }

    /// Whether the tool must not run.
    #[must_use]
    pub fn bans(&self, tool: &Tool) -> bool {
        self.banned.iter().any(|banned| banned.id == tool.id)
    }

    /// The banned tool that a process belongs to, or else one whose name it bears.
    #[must_use]
    pub fn banned_tool<'a>(&self, member: &'a Attribution) -> Option<&'a Arc<Tool>> {
        let tools = std::iter::once(&member.tool).chain(&member.namesakes);
        tools.into_iter().find(|tool| self.bans(tool))
    }

    /// What the presence of a process means, whatever it does.
    #[must_use]
    pub fn judge_presence(&self, process: &ProcessView) -> Judgement {
        let banned = process.tool.as_ref().and_then(|it| self.judge_banned(it));
        banned.unwrap_or_else(|| self.not_judged.clone())
    }

    /// What a flow means.
    #[must_use]
    pub fn judge_flow(&self, catalog: &Catalog, flow: &FlowFacts<'_>) -> Judgement {
        match &flow.process.tool {
            Some(member) => self.judge_banned(member).unwrap_or_else(|| {
                if flow.served {
                    judge_served(flow, &member.tool)
                } else {
                    self.judge_member(catalog, flow, member)
                }
            }),
            // What others serve is nobody's business. What belongs to no process accuses none: the
            // kernel answers for sockets that are gone, under names that others asked for.
            None if flow.served || flow.process.origin == Origin::Kernel => self.not_judged.clone(),
            None => self.judge_stranger(catalog, flow),
        }
    }

    /// A process of a banned tool, whatever it does. One that merely bears the tool's name counts:
    /// a ban is not escaped by an unusual place of installation, nor below another tool.
    fn judge_banned(&self, member: &Attribution) -> Option<Judgement> {
        let tool = self.banned_tool(member)?;
        let how = if tool.id == member.tool.id {
            let evidence = member.evidence.first().map_or("none", Evidence::kind);
            let role = member.role.name();
            format!("the process belongs to it as {role}, evidence {evidence}")
        } else {
            let own = &member.tool.name;
            format!("the process, or one between it and {own}, bears its name")
        };
        let why = format!("{} is banned; {how}", tool.name);
        let judgement = Judgement::new(Verdict::Denied, rule::BANNED_TOOL, why);
        let banned = Some(Arc::clone(tool));
        Some(Judgement {
            banned,
            ..judgement
        })
    }

    /// A flow of a process that belongs to no known tool: judged if it reaches an AI provider.
    fn judge_stranger(&self, catalog: &Catalog, flow: &FlowFacts<'_>) -> Judgement {
        let Some((whose, provider)) = provided(catalog, flow) else {
            return self.not_judged.clone();
        };
        self.judge_banned_provider(&whose, &provider)
            .unwrap_or_else(|| {
                let why = format!("{whose}, and the program is no known AI tool");
                Judgement::new(
                    Verdict::Undeclared,
                    rule::AI_ENDPOINT_BY_UNKNOWN_PROGRAM,
                    why,
                )
                .for_purpose(&provider.purpose)
            })
    }

    /// A flow of a tool that is not banned. To a banned tool's provider it may go only if its
    /// manifest says so, and if it surely is the tool: a program does not escape a ban by calling
    /// itself another tool.
    fn judge_member(
        &self,
        catalog: &Catalog,
        flow: &FlowFacts<'_>,
        member: &Attribution,
    ) -> Judgement {
        if let Some(local) = judge_local(flow) {
            return local;
        }
        let listed = listed(catalog, flow, member);
        if (listed.is_none() || !member.trusted)
            && let Some((whose, provider)) = provided(catalog, flow)
            && let Some(denied) = self.judge_banned_provider(&whose, &provider)
        {
            return denied;
        }
        match listed {
            Some((endpoint, fact)) => judge_listed(endpoint, fact, doubt(flow, member)),
            None => judge_unlisted(flow, &member.tool),
        }
    }

    /// A flow to a provider that is banned with its tool.
    fn judge_banned_provider(&self, whose: &str, provider: &Provider) -> Option<Judgement> {
        let tool = self.banned_product(provider)?;
        let why = format!("{whose}, whose {} is banned", tool.name);
        let denied = Judgement::new(Verdict::Denied, rule::BANNED_TOOL, why);
        Some(denied.for_purpose(&provider.purpose))
    }

    /// The banned tool that a provider serves, or that is of its vendor.
    fn banned_product(&self, provider: &Provider) -> Option<&Arc<Tool>> {
        let serves =
            |tool: &&Arc<Tool>| tool.id == provider.owner || tool.vendor == provider.vendor;
        self.banned.iter().find(serves)
    }
}

fn remedy(near: &[Arc<str>]) -> String {
    if near.is_empty() {
        return "; `telltale catalog list` shows all".to_owned();
    }
    format!("; did you mean `{}`?", near.join("`, `"))
}

#[cfg(test)]
mod tests;
