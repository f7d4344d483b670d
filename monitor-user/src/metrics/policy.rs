//! By which policy is judged, and what its rules decided.
//!
//! In: the policy, each time it is another, and judged flows and processes. Out: the metrics of
//! the section Policy.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::define::{Counter, Definer, Gauge};
use super::labels::*;
use crate::core::policy::Policy as Rules;
use crate::core::policy::judgement::Judgement;
use crate::core::policy::rule::Word;

/// Rules that have series of their own; what further ones decide is counted as `other`. With one
/// series a rule here and two in alerts, a policy costs at most a thousand.
const RULES_MAX: usize = 256;

/// By which policy is judged.
pub(super) struct Policy {
    info: Gauge<2>,
    rules: Gauge<0>,
    exceptions: Gauge<0>,
    databases: Gauge<1>,
    decisions: Counter<2>,
    reloads: Counter<1>,
    reload_successful: Gauge<0>,
    reload_timestamp: Gauge<0>,
    shown: Mutex<Shown>,
}

/// What has series now.
#[derive(Default)]
struct Shown {
    digests: Option<[String; 2]>,
    /// Ids of rules; they stay when the policy changes, as counters must.
    rules: BTreeSet<String>,
}

impl Policy {
    pub(super) fn define(define: &mut Definer) -> prometheus::Result<Self> {
        define.section("Policy", "");
        let policy = Policy {
            info: define.gauge(
                "telltale_policy_info",
                "1, with what judges: two hosts with the same digests judge alike.",
                [DIGEST, CATALOG_DIGEST],
            )?,
            rules: define.gauge("telltale_policy_rules", "Rules of the policy.", [])?,
            exceptions: define.gauge(
                "telltale_policy_exceptions",
                "Exceptions of the policy, those included that are over.",
                [],
            )?,
            databases: define.gauge(
                "telltale_address_database_build_timestamp_seconds",
                "When the operator's databases of addresses were made, by the key of rules that \
                 they are for; not there without one.",
                [ADDRESS_KEY],
            )?,
            decisions: define.counter(
                "telltale_policy_decisions_total",
                "Processes that started and connections that opened, by the rule that decided and \
                 what it asks for. What an exception lifts counts as `allow`.",
                [POLICY_RULE, ACTION],
            )?,
            reloads: define.counter(
                "telltale_reloads_total",
                "Times that policy and catalog were read again, by what became of it.",
                [RELOAD_OUTCOME],
            )?,
            reload_successful: define.gauge(
                "telltale_reload_successful",
                "1 if what was written last judges, 0 if it was rejected and the last good one \
                 stays in force.",
                [],
            )?,
            reload_timestamp: define.gauge(
                "telltale_reload_success_timestamp_seconds",
                "When what judges was put in force while Telltale ran; 0 if it is what judged from its start.",
                [],
            )?,
            shown: Mutex::default(),
        };
        for outcome in ["loaded", "rejected"] {
            policy.reloads.add([outcome], 0);
        }
        policy.reload_successful.set([], 1);
        Ok(policy)
    }

    /// Policy and catalog were read again.
    pub(super) fn reloaded(&self, successful: bool, unix_seconds: i64) {
        let outcome = if successful { "loaded" } else { "rejected" };
        self.reloads.increment([outcome]);
        self.reload_successful.set([], i64::from(successful));
        if successful {
            self.reload_timestamp.set([], unix_seconds);
        }
    }

    /// Says by which policy is judged from now on. Out: the ids that alerts may have, each with
    /// whether it may raise one.
    pub(super) fn set(&self, policy: &Rules, catalog_digest: &str) -> Vec<String> {
        let digests = [policy.digest().to_string(), catalog_digest.to_owned()];
        self.rules.set([], policy.rules().len() as i64);
        self.exceptions.set([], policy.exceptions().len() as i64);
        let addresses = policy.addresses();
        for (word, database) in [
            (Word::Asn, &addresses.asn),
            (Word::AddressCountry, &addresses.country),
        ] {
            match database {
                Some(database) => {
                    let built = i64::try_from(database.built_seconds()).unwrap_or(i64::MAX);
                    self.databases.set([word.key()], built);
                }
                None => self.databases.remove([word.key()]),
            }
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some([policy, catalog]) = &shown.digests {
            self.info.remove([policy, catalog]);
        }
        self.info.set([&*digests[0], &*digests[1]], 1);
        shown.digests = Some(digests);
        let mut raising = Vec::new();
        for rule in policy.rules() {
            if shown.rules.len() >= RULES_MAX && !shown.rules.contains(&*rule.id) {
                continue;
            }
            shown.rules.insert(rule.id.to_string());
            // At 0 from the start, so that the first decision is an increase.
            self.decisions.add([&*rule.id, rule.action.name()], 0);
            if rule.action.severity().is_some() {
                raising.push(rule.id.to_string());
            }
        }
        raising
    }

    /// Counts what a rule decided, if one did.
    pub(super) fn decided(&self, judgement: &Judgement) {
        let Some(action) = judgement.action else {
            return;
        };
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = shown
            .rules
            .get(&*judgement.rule)
            .map_or(OTHER, String::as_str);
        self.decisions.increment([rule, action.name()]);
    }
}
