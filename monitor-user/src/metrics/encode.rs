//! The two formats that metrics are served in: Prometheus text 0.0.4 and OpenMetrics 1.0.
//!
//! In: gathered families, exemplars, and what a scraper accepts. Out: text.
//!
//! The `prometheus` crate writes the first format only. One encoder here writes both, so that a
//! series is the same in both, its bucket bounds included.

use std::fmt::Write;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::exemplars::{Exemplars, OfFamily};

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4: what everything reads. It has no exemplars.
    Text,
    /// OpenMetrics 1.0, with units and exemplars.
    OpenMetrics,
}

impl Format {
    /// Its content type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format that an `Accept` header likes best; [`Format::Text`] if it says nothing that is
    /// understood, and where both are liked alike (`*/*`).
    #[must_use]
    pub fn of_accept(header: &str) -> Format {
        let mut best = (Format::Text, 0.0);
        for (format, weight) in header.split(',').filter_map(accepted) {
            // Of equal weights, the format that was named beats the default.
            if weight > best.1 || (weight == best.1 && weight > 0.0 && best.0 == Format::Text) {
                best = (format, weight);
            }
        }
        best.0
    }
}

/// One range of an `Accept` header: its format and weight. `None` if it is no format of ours.
fn accepted(range: &str) -> Option<(Format, f64)> {
    let mut parts = range.split(';').map(str::trim);
    let format = match parts.next()? {
        kind if kind.eq_ignore_ascii_case("application/openmetrics-text") => Format::OpenMetrics,
        kind if kind.eq_ignore_ascii_case("text/plain") => Format::Text,
        "*/*" | "text/*" => Format::Text,
        _ => return None,
    };
    let mut weight = 1.0;
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name.trim() {
            "q" => weight = value.trim().parse().ok()?,
            // 0.0.1 is the draft that became 1.0.0; anything else is another format.
            "version" if format == Format::OpenMetrics && !["1.0.0", "0.0.1"].contains(&value) => {
                return None;
            }
            _ => {}
        }
    }
    Some((format, weight))
}

/// Writes all families. `session` makes an exemplar's event number the id of the event log.
pub fn encode(
    families: &[MetricFamily],
    exemplars: &Exemplars,
    session: &str,
    format: Format,
) -> String {
    let mut out = String::new();
    for family in families {
        let exemplars = match format {
            Format::Text => OfFamily::default(),
            Format::OpenMetrics => exemplars.of(family.name()),
        };
        let mut writer = Writer {
            out: &mut out,
            family,
            exemplars,
            session,
        };
        writer.head(format);
        for metric in family.get_metric() {
            writer.metric(metric);
        }
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

/// Writes one family.
struct Writer<'a> {
    out: &'a mut String,
    family: &'a MetricFamily,
    exemplars: OfFamily,
    session: &'a str,
}

impl Writer<'_> {
    fn head(&mut self, format: Format) {
        let kind = match self.family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::HISTOGRAM => "histogram",
            _ => "gauge",
        };
        let mut name = self.family.name();
        if format == Format::OpenMetrics && kind == "counter" {
            name = name.strip_suffix("_total").unwrap_or(name);
        }
        let units = ["_seconds", "_bytes"];
        let unit = units.into_iter().find(|unit| name.ends_with(unit));
        self.put(&["# HELP ", name, " "]);
        escape(self.family.help(), format == Format::OpenMetrics, self.out);
        self.put(&["\n# TYPE ", name, " ", kind, "\n"]);
        if let (Format::OpenMetrics, Some(unit)) = (format, unit) {
            self.put(&["# UNIT ", name, " ", unit.trim_start_matches('_'), "\n"]);
        }
    }

    fn metric(&mut self, metric: &Metric) {
        let labels = metric.get_label();
        match self.family.get_field_type() {
            MetricType::COUNTER => {
                let exemplar = self.exemplars.text_of(labels, None, self.session);
                self.sample("", labels, None, metric.get_counter().get_value(), exemplar);
            }
            MetricType::HISTOGRAM => self.histogram(metric),
            _ => self.sample("", labels, None, metric.get_gauge().get_value(), None),
        }
    }

    fn histogram(&mut self, metric: &Metric) {
        let (labels, histogram) = (metric.get_label(), metric.get_histogram());
        let finite = histogram
            .get_bucket()
            .iter()
            .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
        let count = histogram.get_sample_count();
        let infinite = (f64::INFINITY, count);
        for (bound, below) in finite
            .filter(|(bound, _)| bound.is_finite())
            .chain([infinite])
        {
            let bound = bucket_bound(bound);
            let exemplar = self.exemplars.text_of(labels, Some(&bound), self.session);
            self.sample("_bucket", labels, Some(&bound), below as f64, exemplar);
        }
        self.sample("_sum", labels, None, histogram.get_sample_sum(), None);
        self.sample("_count", labels, None, count as f64, None);
    }

    fn sample(
        &mut self,
        suffix: &str,
        labels: &[LabelPair],
        bound: Option<&str>,
        value: f64,
        exemplar: Option<String>,
    ) {
        let family = self.family;
        self.put(&[family.name(), suffix]);
        let mut open = "{";
        for label in labels {
            self.put(&[open, label.name(), "=\""]);
            escape(label.value(), true, self.out);
            self.put(&["\""]);
            open = ",";
        }
        if let Some(bound) = bound {
            self.put(&[open, "le=\"", bound, "\""]);
            open = ",";
        }
        if open == "," {
            self.put(&["}"]);
        }
        // Writing to a string does not fail.
        let _ = match value {
            f64::INFINITY => write!(self.out, " +Inf"),
            f64::NEG_INFINITY => write!(self.out, " -Inf"),
            value => write!(self.out, " {value}"),
        };
        if let Some(exemplar) = exemplar {
            self.put(&[" # ", &exemplar]);
        }
        self.put(&["\n"]);
    }

    fn put(&mut self, parts: &[&str]) {
        self.out.extend(parts.iter().copied());
    }
}

/// A bucket's upper bound as OpenMetrics wants it: always with a fraction.
#[must_use]
pub fn bucket_bound(bound: f64) -> String {
    if bound == f64::INFINITY {
        "+Inf".to_owned()
    } else {
        format!("{bound:?}")
    }
}

/// Appends a text as formats want it: backslash, newline and, where asked for, quotes are escaped.
fn escape(text: &str, quotes: bool, out: &mut String) {
    let special = |it: char| it == '\\' || it == '\n' || (quotes && it == '"');
    let mut rest = text;
    while let Some(at) = rest.find(special) {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let mut tail = tail.chars();
        out.push_str(match tail.next() {
            Some('\n') => "\\n",
            Some('"') => "\\\"",
            _ => "\\\\",
        });
        rest = tail.as_str();
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::define::{Definer, Label};
    use crate::metrics::exemplars::Exemplar;

    #[track_caller]
    fn check_accept(header: &str, expect: Format) {
        assert_eq!(Format::of_accept(header), expect, "{header:?}");
    }

    #[test]
    fn a_scraper_gets_the_format_it_likes_best() {
        let (text, open) = (Format::Text, Format::OpenMetrics);
        check_accept("", text);
        check_accept("*/*", text);
        check_accept("text/html,application/xhtml+xml,*/*;q=0.8", text);
        check_accept("application/openmetrics-text", open);
        check_accept("application/openmetrics-text;version=2.0.0", text);
        check_accept("application/openmetrics-text;q=0, text/plain", text);
        check_accept("text/plain;q=0.5, application/openmetrics-text;q=0.4", text);
        check_accept("application/openmetrics-text;q=x", text);
        check_accept("*/*, application/openmetrics-text;version=1.0.0", open);
        // Prometheus 2.42.
        check_accept(
            "application/openmetrics-text;version=1.0.0,\
             application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,\
             */*;q=0.1",
            open,
        );
        // Prometheus 3.5.
        check_accept(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            open,
        );
    }

    /// One family of each kind, with awkward values.
    fn encoded(format: Format) -> String {
        let mut define = Definer::new("");
        let label = [Label::new("path", ""), Label::new("a", "")];
        let counter = define
            .counter("t_bytes_total", "Say \"b\\y\"\ntes.", label)
            .unwrap();
        let gauge = define.gauge("t_now", "Now.", []).unwrap();
        let buckets = [0.5, 60.0];
        let histogram = define
            .histogram("t_seconds", "Time.", [], &buckets)
            .unwrap();
        let exemplar = Exemplar {
            event: 17,
            unix_ns: 1_795_167_123_500_000_000,
        };
        counter.increment_with(["q\"\\\n", "z"], Some(exemplar));
        counter.add(["q\"\\\n", "z"], 2);
        gauge.set([], -3);
        histogram.observe_with([], 7.0, Some(exemplar));
        histogram.observe([], 70.0);
        let defined = define.finish();
        let families = defined.registry.gather();
        encode(&families, &defined.exemplars, "5f3c", format)
    }

    #[test]
    fn text_is_as_ever() {
        assert_eq!(
            encoded(Format::Text),
            "# HELP t_bytes_total Say \"b\\\\y\"\\ntes.\n# TYPE t_bytes_total counter\n\
             t_bytes_total{a=\"z\",path=\"q\\\"\\\\\\n\"} 3\n\
             # HELP t_now Now.\n# TYPE t_now gauge\nt_now -3\n\
             # HELP t_seconds Time.\n# TYPE t_seconds histogram\n\
             t_seconds_bucket{le=\"0.5\"} 0\nt_seconds_bucket{le=\"60.0\"} 1\n\
             t_seconds_bucket{le=\"+Inf\"} 2\nt_seconds_sum 77\nt_seconds_count 2\n"
        );
    }

    #[test]
    fn open_metrics_has_units_exemplars_and_an_end() {
        assert_eq!(
            encoded(Format::OpenMetrics),
            "# HELP t_bytes Say \\\"b\\\\y\\\"\\ntes.\n# TYPE t_bytes counter\n# UNIT t_bytes bytes\n\
             t_bytes_total{a=\"z\",path=\"q\\\"\\\\\\n\"} 3 # {event_id=\"5f3c-17\"} 1 1795167123.5\n\
             # HELP t_now Now.\n# TYPE t_now gauge\nt_now -3\n\
             # HELP t_seconds Time.\n# TYPE t_seconds histogram\n# UNIT t_seconds seconds\n\
             t_seconds_bucket{le=\"0.5\"} 0\n\
             t_seconds_bucket{le=\"60.0\"} 1 # {event_id=\"5f3c-17\"} 7 1795167123.5\n\
             t_seconds_bucket{le=\"+Inf\"} 2\nt_seconds_sum 77\nt_seconds_count 2\n# EOF\n"
        );
    }
}
