//! Exemplars: for a series, the event in the log that it last counted.
//!
//! In: an event's number, each time it is counted. Out: the text behind a sample of OpenMetrics.
//! There is at most one for each series, so the bound is that of the series.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use prometheus::proto::LabelPair;

/// Between the label values of a key; no label value of ours holds it.
const SEPARATOR: char = '\u{1f}';

/// An event that a series counted.
#[derive(Clone, Copy, Debug)]
pub struct Exemplar {
    /// Its number in this run of Telltale.
    pub event: u64,
    /// When, unix time in nanoseconds.
    pub unix_ns: u64,
}

/// The latest exemplar of each series.
#[derive(Debug, Default)]
pub struct Exemplars(Mutex<HashMap<String, OfFamily>>);

/// The exemplars of one family, by label values in the order of label names, and the bucket.
#[derive(Clone, Debug, Default)]
pub struct OfFamily(HashMap<String, (Exemplar, f64)>);

impl Exemplars {
    /// Notes what a series counted last. `values` are in the order of the label names.
    pub fn note<'v>(
        &self,
        family: &str,
        values: impl Iterator<Item = &'v str>,
        exemplar: Exemplar,
        value: f64,
    ) {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !families.contains_key(family) {
            families.insert(family.to_owned(), OfFamily::default());
        }
        if let Some(OfFamily(series)) = families.get_mut(family) {
            series.insert(key(values), (exemplar, value));
        }
    }

    /// Those of a family.
    #[must_use]
    pub fn of(&self, family: &str) -> OfFamily {
        let families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        families.get(family).cloned().unwrap_or_default()
    }
}

impl OfFamily {
    /// What to write behind the `# ` of a sample, if it has an exemplar.
    #[must_use]
    pub fn text_of(
        &self,
        labels: &[LabelPair],
        bucket: Option<&str>,
        session: &str,
    ) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let values = labels.iter().map(LabelPair::value).chain(bucket);
        let (Exemplar { event, unix_ns }, value) = self.0.get(&key(values))?;
        // Whole nanoseconds do not fit into a float; milliseconds do.
        let seconds = (unix_ns / 1_000_000) as f64 / 1_000.0;
        Some(format!(
            "{{event_id=\"{session}-{event}\"}} {value} {seconds}"
        ))
    }
}

fn key<'v>(values: impl Iterator<Item = &'v str>) -> String {
    let mut key = String::new();
    for value in values {
        key.push_str(value);
        key.push(SEPARATOR);
    }
    key
}
