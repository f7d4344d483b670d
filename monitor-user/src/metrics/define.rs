//! How a metric is defined: registered and documented by the same call.
//!
//! In: name, help and labels, each label with the bound of its values. Out: typed handles whose
//! number of labels is checked at compile time, and the text of `docs/metrics.md`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    CounterVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use super::encode::bucket_bound;
use super::exemplars::{Exemplar, Exemplars};

/// One label of a metric.
#[derive(Clone, Copy)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// What bounds its values: one sentence part for the reference.
    pub values: &'static str,
}

impl Label {
    /// A label with these values.
    #[must_use]
    pub const fn new(name: &'static str, values: &'static str) -> Self {
        Label { name, values }
    }
}

/// Registers metrics and writes the reference as it goes.
pub struct Definer {
    registry: Registry,
    exemplars: Arc<Exemplars>,
    reference: String,
}

/// Everything that was defined.
pub struct Defined {
    /// All metrics.
    pub registry: Registry,
    /// What they counted last.
    pub exemplars: Arc<Exemplars>,
    /// The text of `docs/metrics.md`.
    pub reference: String,
}

impl Definer {
    /// Starts with the introduction of the reference and an empty registry.
    #[must_use]
    pub fn new(introduction: &str) -> Self {
        Definer {
            registry: Registry::new(),
            exemplars: Arc::default(),
            reference: introduction.to_owned(),
        }
    }

    /// Starts a section of the reference.
    pub fn section(&mut self, title: &str, text: &str) {
        self.reference.push_str(&format!("\n## {title}\n"));
        if !text.is_empty() {
            self.reference.push_str(&format!("\n{text}\n"));
        }
    }

    /// Registers a collector that documents itself elsewhere.
    ///
    /// # Errors
    ///
    /// If one of its names is taken.
    pub fn register(&mut self, collector: impl Collector + 'static) -> prometheus::Result<()> {
        self.registry.register(Box::new(collector))
    }

    /// Defines a counter.
    ///
    /// # Errors
    ///
    /// If the name is taken or is no metric name.
    pub fn counter<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [Label; N],
    ) -> prometheus::Result<Counter<N>> {
        let counter = IntCounterVec::new(Opts::new(name, help), &labels.map(|label| label.name))?;
        self.register(counter.clone())?;
        self.document(name, "Counter", help, &labels);
        let counter = Counter {
            counter,
            noted: self.noted(name, &labels),
        };
        if N == 0 {
            counter.add([""; N], 0);
        }
        Ok(counter)
    }

    /// Defines a counter whose value is kept elsewhere and copied here.
    ///
    /// # Errors
    ///
    /// If the name is taken or is no metric name.
    pub fn mirror<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [Label; N],
    ) -> prometheus::Result<Mirror<N>> {
        Ok(Mirror {
            counter: self.counter(name, help, labels)?,
            last: Mutex::default(),
        })
    }

    /// Defines a counter of seconds that follows a time kept elsewhere.
    ///
    /// # Errors
    ///
    /// If the name is taken or is no metric name.
    pub fn stopwatch<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [Label; N],
    ) -> prometheus::Result<Stopwatch<N>> {
        let counter = CounterVec::new(Opts::new(name, help), &labels.map(|label| label.name))?;
        self.register(counter.clone())?;
        self.document(name, "Counter", help, &labels);
        Ok(Stopwatch {
            counter,
            last: Mutex::default(),
        })
    }

    /// Defines a gauge of whole numbers.
    ///
    /// # Errors
    ///
    /// If the name is taken or is no metric name.
    pub fn gauge<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [Label; N],
    ) -> prometheus::Result<Gauge<N>> {
        let gauge = IntGaugeVec::new(Opts::new(name, help), &labels.map(|label| label.name))?;
        self.register(gauge.clone())?;
        self.document(name, "Gauge", help, &labels);
        let gauge = Gauge(gauge);
        if N == 0 {
            gauge.set([""; N], 0);
        }
        Ok(gauge)
    }

    /// Defines a histogram.
    ///
    /// # Errors
    ///
    /// If the name is taken or is no metric name, or the buckets are not in order.
    pub fn histogram<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [Label; N],
        buckets: &[f64],
    ) -> prometheus::Result<Histogram<N>> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let histogram = HistogramVec::new(options, &labels.map(|label| label.name))?;
        self.register(histogram.clone())?;
        self.document(name, "Histogram", help, &labels);
        Ok(Histogram {
            histogram,
            buckets: buckets.to_vec(),
            noted: self.noted(name, &labels),
        })
    }

    /// All that was defined.
    #[must_use]
    pub fn finish(self) -> Defined {
        Defined {
            registry: self.registry,
            exemplars: self.exemplars,
            reference: self.reference,
        }
    }

    fn noted<const N: usize>(&self, name: &str, labels: &[Label; N]) -> Noted<N> {
        let mut order = std::array::from_fn(|index| index);
        order.sort_by_key(|index| labels.get(*index).map(|label| label.name));
        Noted {
            family: name.to_owned(),
            order,
            exemplars: Arc::clone(&self.exemplars),
        }
    }

    fn document(&mut self, name: &str, kind: &str, help: &str, labels: &[Label]) {
        self.reference
            .push_str(&format!("\n### `{name}`\n\n{kind}.\n{help}\n"));
        for (index, label) in labels.iter().enumerate() {
            let gap = if index == 0 { "\n" } else { "" };
            self.reference
                .push_str(&format!("{gap}- `{}`: {}.\n", label.name, label.values));
        }
    }
}

/// Where a metric notes its exemplars.
struct Noted<const N: usize> {
    family: String,
    /// The labels by name, as they are served.
    order: [usize; N],
    exemplars: Arc<Exemplars>,
}

impl<const N: usize> Noted<N> {
    fn note(&self, labels: [&str; N], bucket: Option<&str>, exemplar: Exemplar, value: f64) {
        let values = self
            .order
            .iter()
            .filter_map(|index| labels.get(*index).copied());
        self.exemplars
            .note(&self.family, values.chain(bucket), exemplar, value);
    }
}

/// A counter with `N` labels.
pub struct Counter<const N: usize> {
    counter: IntCounterVec,
    noted: Noted<N>,
}

impl<const N: usize> Counter<N> {
    /// Adds to the series with these label values; adding 0 makes the series exist.
    pub fn add(&self, labels: [&str; N], by: u64) {
        // The lookup fails on a wrong number of labels only, which the type rules out.
        if let Ok(counter) = self.counter.get_metric_with_label_values(&labels) {
            counter.inc_by(by);
        }
    }

    /// Adds 1; `exemplar` is the event that was counted, if there is one to look up.
    pub fn increment_with(&self, labels: [&str; N], exemplar: Option<Exemplar>) {
        self.increment(labels);
        if let Some(exemplar) = exemplar {
            self.noted.note(labels, None, exemplar, 1.0);
        }
    }

    /// Adds 1.
    pub fn increment(&self, labels: [&str; N]) {
        self.add(labels, 1);
    }
}

/// A gauge with `N` labels.
pub struct Gauge<const N: usize>(IntGaugeVec);

impl<const N: usize> Gauge<N> {
    /// Sets the series with these label values.
    pub fn set(&self, labels: [&str; N], value: i64) {
        if let Ok(gauge) = self.0.get_metric_with_label_values(&labels) {
            gauge.set(value);
        }
    }

    /// Takes the series with these label values away.
    pub fn remove(&self, labels: [&str; N]) {
        // It fails if the series is not there, which is as wanted.
        let _ = self.0.remove_label_values(&labels);
    }

    /// Adds to the series with these label values, or takes away.
    pub fn add(&self, labels: [&str; N], by: i64) {
        if let Ok(gauge) = self.0.get_metric_with_label_values(&labels) {
            gauge.add(by);
        }
    }
}

/// A histogram with `N` labels.
pub struct Histogram<const N: usize> {
    histogram: HistogramVec,
    buckets: Vec<f64>,
    noted: Noted<N>,
}

impl<const N: usize> Histogram<N> {
    /// Adds one observation.
    pub fn observe(&self, labels: [&str; N], value: f64) {
        if let Ok(histogram) = self.histogram.get_metric_with_label_values(&labels) {
            histogram.observe(value);
        }
    }

    /// Adds one observation; `exemplar` is the event that was observed, if there is one to look up.
    pub fn observe_with(&self, labels: [&str; N], value: f64, exemplar: Option<Exemplar>) {
        self.observe(labels, value);
        let Some(exemplar) = exemplar else { return };
        let bucket = self.buckets.iter().find(|bound| value <= **bound);
        let bound = bucket_bound(bucket.copied().unwrap_or(f64::INFINITY));
        self.noted.note(labels, Some(&bound), exemplar, value);
    }
}

/// A counter that follows a value kept elsewhere.
///
/// The value there may start again from 0, for instance when the kernel programs are loaded
/// anew; the counter here then goes on from where it was, as counters must.
pub struct Mirror<const N: usize> {
    counter: Counter<N>,
    last: Mutex<HashMap<[String; N], u64>>,
}

impl<const N: usize> Mirror<N> {
    /// Adds what the value has grown by since the last call for these labels.
    pub fn follow(&self, labels: [&str; N], value: u64) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.entry(labels.map(str::to_owned)).or_default();
        let grown = if value >= *last { value - *last } else { value };
        *last = value;
        self.counter.add(labels, grown);
    }
}

/// A counter of seconds that follows a time kept elsewhere, as [`Mirror`] does.
pub struct Stopwatch<const N: usize> {
    counter: CounterVec,
    last: Mutex<HashMap<[String; N], Duration>>,
}

impl<const N: usize> Stopwatch<N> {
    /// Adds what the time has grown by since the last call for these labels.
    pub fn follow(&self, labels: [&str; N], value: Duration) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.entry(labels.map(str::to_owned)).or_default();
        let grown = value.checked_sub(*last).unwrap_or(value);
        *last = value;
        if let Ok(counter) = self.counter.get_metric_with_label_values(&labels) {
            counter.inc_by(grown.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    const COLOUR: Label = Label::new("colour", "`red`, `blue`");

    #[test]
    fn a_mirror_goes_on_when_its_value_starts_again() {
        let mut define = Definer::new("");
        let mirror = define.mirror("x_total", "X.", [COLOUR]).unwrap();
        let registry = define.finish().registry;
        let text = || {
            TextEncoder::new()
                .encode_to_string(&registry.gather())
                .unwrap()
        };
        for (value, expect) in [(0, 0), (5, 5), (5, 5), (7, 7), (3, 10), (4, 11)] {
            mirror.follow(["red"], value);
            assert!(
                text().contains(&format!("x_total{{colour=\"red\"}} {expect}\n")),
                "{}",
                text()
            );
        }
    }

    #[test]
    fn a_stopwatch_goes_on_when_its_time_starts_again() {
        let mut define = Definer::new("");
        let watch = define.stopwatch("x_seconds_total", "X.", [COLOUR]).unwrap();
        for milliseconds in [0, 500, 1500, 250] {
            watch.follow(["red"], Duration::from_millis(milliseconds));
        }
        let registry = define.finish().registry;
        let text = TextEncoder::new().encode_to_string(&registry.gather());
        let expect = "x_seconds_total{colour=\"red\"} 1.75\n";
        assert!(text.unwrap().contains(expect));
    }

    #[test]
    fn metrics_without_labels_exist_at_zero_and_are_documented() {
        let mut define = Definer::new("Intro.\n");
        define.section("One", "");
        define.counter("a_total", "All a.", []).unwrap();
        define.gauge("b", "One b.", [COLOUR]).unwrap();
        assert!(define.counter("a_total", "Again.", []).is_err());
        let Defined {
            registry,
            reference,
            ..
        } = define.finish();
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        assert_eq!(
            text,
            "# HELP a_total All a.\n# TYPE a_total counter\na_total 0\n"
        );
        let expect = "Intro.\n\n## One\n\n### `a_total`\n\nCounter.\nAll a.\n\
                      \n### `b`\n\nGauge.\nOne b.\n\n- `colour`: `red`, `blue`.\n";
        assert_eq!(reference, expect);
    }
}
