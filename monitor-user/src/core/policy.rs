//! What the policy says of a flow or of a process's presence.
//!
//! In: who, to whom, under which names. Out: a [`Judgement`]: verdict, rule, action and why.
//!
//! First the catalog speaks ([`manifest`]): is the endpoint in the tool's manifest? Then the first
//! rule that fits decides, then an exception may lift it; where none fits, the catalog's word
//! stands.
//!
//! - [`judgement`]: what can be said.
//! - [`manifest`]: what follows from the catalog alone.
//! - [`rule`]: rules and exceptions, as the operator means them.
//! - [`facts`]: what rules look at.
//! - [`index`]: which of thousands of rules fit, without looking at each; [`intervals`] finds those
//!   of ports, versions and times.
//! - [`review`]: what is odd about a policy.
//! - [`window`]: times of the week.

pub mod facts;
pub mod index;
pub mod intervals;
pub mod judgement;
mod manifest;
pub mod review;
pub mod rule;
pub mod window;

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use self::facts::{Known, Subject};
use self::index::{Bits, Index};
use self::judgement::{Judgement, Verdict};
use self::rule::{Action, Exception, Matcher, Misfit, Rule, Word};
use super::addresses::{AddressOrigin, Addresses};
use super::attribute::{Attribution, Evidence};
use super::catalog::{Catalog, Tool};
use super::event::Endpoint;
use super::names::NameEvidence;
use super::report::{Origin, ProcessView};

/// What the operator wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyConfig {
    /// The first that fits decides.
    pub rules: Vec<Rule>,
    /// The first that fits lifts what was decided.
    pub exceptions: Vec<Exception>,
    /// What rules about addresses are asked of.
    pub addresses: Arc<Addresses>,
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
    /// What the operator's databases say of the remote's address.
    pub address: AddressOrigin,
    /// The remote is a resolver that this host is configured to use.
    pub to_resolver: bool,
    /// The remote connected to the process, not the process to it.
    pub served: bool,
    /// What the remote is called, by [`meant_first`].
    pub name: Option<&'a NameEvidence>,
    /// Another name that the process itself resolved to the remote, where what it says of the flow
    /// is none of those: the worse of both counts.
    pub also: Option<&'a NameEvidence>,
    /// `name` is whom a proxy is asked for that the operator vouches for.
    pub vouched: bool,
    /// Seconds since 1970 began in UTC.
    pub wall_seconds: i64,
}

/// The rules, ready to judge.
#[derive(Clone, Debug)]
pub struct Policy {
    config: PolicyConfig,
    digest: Arc<str>,
    /// Rules that allow, by what they are about, and by what they are not.
    allowing: [Index; 2],
    /// The same for those that do not.
    forbidding: [Index; 2],
    exceptions: Index,
    /// Rules that say nothing of a process that merely runs.
    of_flows: Bits,
    /// Rules that say nothing of what stays on this host.
    of_remotes: Bits,
    /// What is said of most processes and flows of a host: made once.
    not_judged: Judgement,
}

/// The rule that decides, and what lifts it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// The exception, if one fits.
    pub exception: Option<&'p Exception>,
}

impl Policy {
    /// The policy that `config` asks for.
    #[must_use]
    pub fn new(config: PolicyConfig) -> Policy {
        let count = config.rules.len();
        let index = |allows: bool, of: fn(&Rule) -> &Matcher| {
            let rules = config.rules.iter().enumerate();
            let rules = rules.filter(|(_, rule)| (rule.action == Action::Allow) == allows);
            let matchers: Vec<_> = rules.map(|(number, rule)| (number, of(rule))).collect();
            Index::new(&matchers, count)
        };
        // An empty `unless` excludes nothing.
        let unless = |allows: bool| {
            let rules = config.rules.iter().enumerate();
            let rules = rules
                .filter(|(_, rule)| (rule.action == Action::Allow) == allows)
                .filter(|(_, rule)| !rule.unless.is_empty());
            let matchers: Vec<_> = rules.map(|(number, rule)| (number, &rule.unless)).collect();
            Index::new(&matchers, count)
        };
        let exceptions = config.exceptions.iter().map(|exception| &exception.when);
        let exceptions: Vec<_> = exceptions.enumerate().collect();
        let those = |is: fn(&Rule) -> bool| {
            let mut bits = Bits::none(count);
            let rules = config.rules.iter().enumerate();
            rules
                .filter(|(_, rule)| is(rule))
                .for_each(|(number, _)| bits.insert(number));
            bits
        };
        Policy {
            digest: digest(&config).into(),
            allowing: [index(true, |rule| &rule.when), unless(true)],
            forbidding: [index(false, |rule| &rule.when), unless(false)],
            exceptions: Index::new(&exceptions, exceptions.len()),
            of_flows: those(Rule::is_of_flow),
            of_remotes: those(Rule::is_of_remotes),
            not_judged: Judgement::new(
                Verdict::NotJudged,
                judgement::rule::NONE,
                "no rule concerns it".to_owned(),
            ),
            config,
        }
    }

    /// SHA-256 of what the rules and exceptions say, and of the databases that they ask, in hex
    /// digits: it is the same wherever it is written, in whatever form.
    #[must_use]
    pub fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    /// The rules, in the order in which they are asked.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.config.rules
    }

    /// The exceptions, in the order in which they are asked.
    #[must_use]
    pub fn exceptions(&self) -> &[Exception] {
        &self.config.exceptions
    }

    /// What the operator's databases say of addresses.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.config.addresses
    }

    /// Ids of the tools that are forbidden as such, in the order of the rules.
    #[must_use]
    pub fn banned(&self) -> Vec<Arc<str>> {
        let bans = |rule: &&Rule| matches!(rule.action, Action::Deny(_)) && !rule.is_of_flow();
        let tools = self.rules().iter().filter(bans);
        let tools = tools.flat_map(|rule| rule.when.words(Word::Tool));
        let mut banned = Vec::new();
        for tool in tools.filter(|tool| !tool.contains('*')) {
            if !banned.contains(tool) {
                banned.push(Arc::clone(tool));
            }
        }
        banned
    }

    /// The first rule that fits, if any does, and the first exception to it that is in force.
    #[must_use]
    pub fn decide(&self, subject: &Subject<'_>) -> Option<Decision<'_>> {
        let rule = self.config.rules.get(self.fitting(subject).first()?)?;
        let exception = match rule.action {
            Action::Allow => None,
            Action::Alert(_) | Action::Deny(_) => self.exception(rule, subject),
        };
        Some(Decision { rule, exception })
    }

    /// The numbers of all rules that fit.
    #[must_use]
    pub fn fitting(&self, subject: &Subject<'_>) -> Bits {
        let (generous, strict) = (&subject.generous, subject.strict.as_ref());
        let [when, unless] = &self.forbidding;
        let mut fitting = when.fitting(generous);
        if let Some(strict) = strict {
            fitting.remove(&unless.fitting(strict));
            let [when, unless] = &self.allowing;
            let mut allowing = when.fitting(strict);
            if !allowing.is_empty() {
                allowing.remove(&unless.fitting(generous));
                fitting.add(&allowing);
            }
        }
        if !generous.is_flow {
            fitting.remove(&self.of_flows);
        }
        if generous.is_local {
            fitting.remove(&self.of_remotes);
        }
        fitting
    }

    fn exception(&self, rule: &Rule, subject: &Subject<'_>) -> Option<&Exception> {
        let strict = subject.strict.as_ref()?;
        let fitting = self.exceptions.fitting(strict);
        let mut exceptions = fitting
            .iter()
            .filter_map(|it| self.config.exceptions.get(it));
        exceptions.find(|it| it.rules.contains(&rule.id) && !it.is_expired(strict.wall_seconds))
    }

    /// The same answer, rule by rule, with why each earlier one does not apply. For people.
    #[must_use]
    pub fn explain(&self, subject: &Subject<'_>) -> Vec<(&Rule, Option<Misfit>)> {
        let (generous, strict) = (&subject.generous, subject.strict.as_ref());
        let mut asked = Vec::new();
        for rule in &self.config.rules {
            let misfit = rule.misfit(generous, strict);
            asked.push((rule, misfit));
            if misfit.is_none() {
                break;
            }
        }
        asked
    }

    /// What the presence of a process means, whatever it does.
    #[must_use]
    pub fn judge_presence(&self, process: &ProcessView, wall_seconds: i64) -> Judgement {
        if process.origin == Origin::Kernel {
            return self.not_judged.clone();
        }
        let subject = Subject::of_presence(process, wall_seconds);
        match self.decide(&subject) {
            Some(decision) => decided(decision, process, self.not_judged.clone(), false),
            None => self.not_judged.clone(),
        }
    }

    /// What a flow means.
    #[must_use]
    pub fn judge_flow(&self, catalog: &Catalog, flow: &FlowFacts<'_>) -> Judgement {
        let judgement = self.judge_name(catalog, flow);
        let Some(also) = flow.also else {
            return judgement;
        };
        let name = Some(also);
        let other = self.judge_name(catalog, &FlowFacts { name, ..*flow });
        if other.verdict.is_worse_than(judgement.verdict) {
            other
        } else {
            judgement
        }
    }

    /// What a flow means under its one name.
    fn judge_name(&self, catalog: &Catalog, flow: &FlowFacts<'_>) -> Judgement {
        let known = Known::of(catalog, flow);
        let Some(assessment) = self.assess(catalog, flow, &known) else {
            return self.not_judged.clone();
        };
        let decision = self.decide(&facts::of_flow(flow, &known, &assessment));
        let judgement = match decision {
            Some(decision) => decided(decision, flow.process, assessment, true),
            None => assessment,
        };
        Judgement {
            operator: known.operator.cloned(),
            ..judgement
        }
    }

    /// What the catalog alone says of a flow; `None` if no rule may say anything either. What
    /// others serve is nobody's business. What belongs to no process accuses none: the kernel
    /// answers for sockets that are gone, under names that others asked for.
    #[must_use]
    pub fn assess(
        &self,
        catalog: &Catalog,
        flow: &FlowFacts<'_>,
        known: &Known<'_>,
    ) -> Option<Judgement> {
        match &flow.process.tool {
            Some(member) => Some(manifest::judge_member(catalog, flow, member, known)),
            None if flow.served || flow.process.origin == Origin::Kernel => None,
            None => Some(
                manifest::judge_stranger(flow, known).unwrap_or_else(|| self.not_judged.clone()),
            ),
        }
    }
}

/// What a rule makes of something of which the catalog alone says `assessment`.
fn decided(
    decision: Decision<'_>,
    process: &ProcessView,
    assessment: Judgement,
    is_flow: bool,
) -> Judgement {
    let Decision { rule, exception } = decision;
    let of_process = !rule.is_of_flow();
    let about = process
        .tool
        .as_deref()
        .filter(|_| of_process)
        .map(|member| Arc::clone(blamed(rule, member)));
    let mut why = match &rule.what {
        Some(what) => what.to_string(),
        None => format!("rule `{}` of the policy", rule.id),
    };
    match (&about, process.tool.as_deref()) {
        (Some(about), Some(member)) => why += &format!(": {}", belonging(about, member)),
        _ if is_flow => why += &format!(": {}", assessment.why),
        _ => {}
    }
    if let Some(exception) = exception {
        let _ = write!(
            why,
            "; exception `{}` of {} lifts it up to {}: {}",
            exception.id, exception.owner, exception.expires, exception.reason
        );
    }
    let action = if exception.is_some() {
        Action::Allow
    } else {
        rule.action
    };
    Judgement {
        verdict: verdict(assessment.verdict, action, exception.is_some()),
        rule: Arc::clone(&rule.id),
        action: Some(action),
        exception: exception.map(|exception| Arc::clone(&exception.id)),
        why: why.into(),
        about,
        ..assessment
    }
}

/// An allowance changes what would be doubtful; it leaves what is fine anyway.
fn verdict(assessed: Verdict, action: Action, lifted: bool) -> Verdict {
    match (action, assessed) {
        (Action::Deny(_), _) => Verdict::Denied,
        (Action::Alert(_), _) => assessed,
        (Action::Allow, Verdict::Undeclared | Verdict::Unknown | Verdict::ExpectedUnverified) => {
            Verdict::Allowed
        }
        (Action::Allow, Verdict::NotJudged) if lifted => Verdict::Allowed,
        (Action::Allow, _) => assessed,
    }
}

/// The tool for which a rule about processes fits: the process's own, or one whose name it bears.
fn blamed<'a>(rule: &Rule, member: &'a Attribution) -> &'a Arc<Tool> {
    let fits = |tool: &&Arc<Tool>| {
        let parts = [
            (Word::Tool, &tool.id),
            (Word::Vendor, &tool.vendor),
            (Word::Jurisdiction, &tool.jurisdiction),
        ];
        parts.into_iter().all(|(word, text)| {
            let items = rule.when.words(word);
            items.is_empty() || items.iter().any(|item| rule::matches_glob(item, text))
        })
    };
    let mut tools = std::iter::once(&member.tool).chain(&member.namesakes);
    tools.find(fits).unwrap_or(&member.tool)
}

fn belonging(tool: &Tool, member: &Attribution) -> String {
    let name = &tool.name;
    if tool.id == member.tool.id {
        let evidence = member.evidence.first().map_or("none", Evidence::kind);
        let role = member.role.name();
        format!("the process belongs to {name} as {role}, evidence {evidence}")
    } else {
        let own = &member.tool.name;
        format!("the process, or one between it and {own}, bears the name of {name}")
    }
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

fn digest(config: &PolicyConfig) -> String {
    let PolicyConfig {
        rules,
        exceptions,
        addresses,
    } = config;
    let mut hash = Sha256::new();
    for rule in rules {
        let Rule {
            id,
            what: _,
            pack: _,
            when,
            unless,
            action,
        } = rule;
        hash.update(format!("{id:?} {when:?} {unless:?} {action:?}\n"));
    }
    for exception in exceptions {
        hash.update(format!("{exception:?}\n"));
    }
    let matchers = rules.iter().flat_map(|rule| [&rule.when, &rule.unless]);
    let excepted = exceptions.iter().map(|exception| &exception.when);
    let asked: Vec<&Matcher> = matchers.chain(excepted).collect();
    for (word, database) in [
        (Word::Asn, &addresses.asn),
        (Word::AddressCountry, &addresses.country),
    ] {
        if asked.iter().any(|matcher| !matcher.words(word).is_empty()) {
            hash.update(format!("{word:?} {database:?}\n"));
        }
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests;
