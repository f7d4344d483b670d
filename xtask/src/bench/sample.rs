//! A handful of measurements of one thing.
//!
//! In: numbers. Out: their median and range.

use std::fmt;

/// Measurements of one thing.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// Adds one measurement.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one, or the mean of the two in the middle; 0 without any.
    pub fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match (
            self.0.len() % 2,
            self.0.get(middle),
            self.0.get(middle.wrapping_sub(1)),
        ) {
            (1, Some(value), _) => *value,
            (_, Some(above), Some(below)) => f64::midpoint(*above, *below),
            _ => 0.0,
        }
    }
}

/// `median [least … most]`, with as many decimals as are asked for, or two.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(2);
        let least = self.0.first().copied().unwrap_or_default();
        let most = self.0.last().copied().unwrap_or_default();
        let median = self.median();
        write!(
            f,
            "{median:.decimals$} [{least:.decimals$} … {most:.decimals$}]"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[f64], expect: &str) {
        let mut sample = Sample::default();
        values.iter().for_each(|value| sample.push(*value));
        assert_eq!(format!("{sample:.1}"), expect);
    }

    #[test]
    fn a_sample_shows_its_median_and_range() {
        check(&[3.0, 1.0, 2.0], "2.0 [1.0 … 3.0]");
        check(&[4.0, 1.0, 2.0, 3.0], "2.5 [1.0 … 4.0]");
        check(&[7.0], "7.0 [7.0 … 7.0]");
        check(&[], "0.0 [0.0 … 0.0]");
    }
}
