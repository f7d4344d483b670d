//! One scrape.
//!
//! In: the Prometheus text format. Out: sums of the series that have given labels.

use monitor_common::counter::HOOK_NAMES;

/// The samples of a scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    samples: Vec<Sample>,
    text: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Parses a scrape.
    ///
    /// # Panics
    ///
    /// If a line is not in the text format.
    #[must_use]
    pub fn parse(text: &str) -> Metrics {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let parse = |line| parse_sample(line).unwrap_or_else(|| panic!("not a sample: {line:?}"));
        Metrics {
            samples: lines.map(parse).collect(),
            text: text.to_owned(),
        }
    }

    /// Sum over the series of `name` that have all these labels; `None` if there is no such series.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &Sample| {
            labels
                .iter()
                .all(|&(key, value)| sample.labels.iter().any(|(k, v)| k == key && v == value))
        };
        self.samples
            .iter()
            .filter(|sample| sample.name == name && has(sample))
            .map(|sample| sample.value)
            .reduce(|sum, value| sum + value)
    }

    /// As [`Metrics::sum`], for a series that must be there.
    ///
    /// # Panics
    ///
    /// If it is not.
    #[must_use]
    #[track_caller]
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        match self.sum(name, labels) {
            Some(sum) => sum,
            None => panic!("no {name} with {labels:?} in\n{}", self.text),
        }
    }

    /// The values that a label has among the series of `name`.
    #[must_use]
    pub fn label_values(&self, name: &str, label: &str) -> Vec<&str> {
        let of_name = self.samples.iter().filter(|sample| sample.name == name);
        let labels = of_name.flat_map(|sample| &sample.labels);
        labels
            .filter(|(key, _)| key == label)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The rows of the kernel's books that do not balance: names of hooks, and `rings`.
    ///
    /// # Panics
    ///
    /// If there are not all rows.
    #[must_use]
    #[track_caller]
    pub fn unbalanced(&self) -> Vec<&str> {
        let name = "telltale_books_remainder";
        let rows = self.label_values(name, "hook");
        assert_eq!(rows.len(), HOOK_NAMES.len() + 1, "{rows:?}");
        let open = |hook: &&str| self.get(name, &[("hook", *hook)]) != 0.0;
        rows.into_iter().filter(open).collect()
    }

    /// The lines of `name`, for messages.
    #[must_use]
    pub fn lines(&self, name: &str) -> String {
        let lines = self.text.lines().filter(|line| line.starts_with(name));
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn parse_sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = series.split_once('{') else {
        return Some(Sample {
            name: series.to_owned(),
            labels: Vec::new(),
            value,
        });
    };
    let mut rest = labels.strip_suffix('}')?;
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (key, quoted) = rest.split_once("=\"")?;
        let (value, length) = unquote(quoted)?;
        labels.push((key.to_owned(), value));
        let after = quoted.get(length..)?;
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// A label value up to its closing quote, and the bytes it took with the quote.
fn unquote(quoted: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, at + 1)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP a_total Things.
# TYPE a_total counter
a_total{tool="claude-code",why="a \"b\", c}"} 2
a_total{tool="codex-cli",why=""} 3
up 1
"#;

    #[track_caller]
    fn check(name: &str, labels: &[(&str, &str)], expect: Option<f64>) {
        assert_eq!(Metrics::parse(TEXT).sum(name, labels), expect);
    }

    #[test]
    fn sums_series_with_the_labels() {
        check("up", &[], Some(1.0));
        check("a_total", &[], Some(5.0));
        check("a_total", &[("tool", "codex-cli")], Some(3.0));
        check("a_total", &[("why", "a \"b\", c}")], Some(2.0));
        check("a_total", &[("tool", "other")], None);
        check("b_total", &[], None);
        assert_eq!(
            Metrics::parse(TEXT).label_values("a_total", "tool"),
            ["claude-code", "codex-cli"]
        );
    }
}
