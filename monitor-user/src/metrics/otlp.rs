//! The metrics in OpenTelemetry's data model.
//!
//! In: gathered families. Out: cumulative sums, gauges and histograms, under the same names.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
};
use prometheus::proto::{self, MetricFamily, MetricType};

/// The families as metrics that began at `started_ns` and are as of `now_ns`, both unix time.
pub fn convert(families: &[MetricFamily], started_ns: u64, now_ns: u64) -> Vec<Metric> {
    let times = Times { started_ns, now_ns };
    families.iter().map(|family| times.metric(family)).collect()
}

struct Times {
    started_ns: u64,
    now_ns: u64,
}

impl Times {
    fn metric(&self, family: &MetricFamily) -> Metric {
        let all = family.get_metric();
        let cumulative = AggregationTemporality::Cumulative.into();
        let data = match family.get_field_type() {
            MetricType::COUNTER => Data::Sum(Sum {
                data_points: all
                    .iter()
                    .map(|it| self.point(it, it.get_counter().get_value()))
                    .collect(),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
            MetricType::HISTOGRAM => Data::Histogram(Histogram {
                data_points: all.iter().map(|it| self.histogram(it)).collect(),
                aggregation_temporality: cumulative,
            }),
            _ => Data::Gauge(Gauge {
                data_points: all
                    .iter()
                    .map(|it| self.point(it, it.get_gauge().get_value()))
                    .collect(),
            }),
        };
        Metric {
            name: family.name().to_owned(),
            description: family.help().to_owned(),
            unit: unit(family.name()).to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }

    fn point(&self, metric: &proto::Metric, value: f64) -> NumberDataPoint {
        NumberDataPoint {
            attributes: attributes(metric),
            start_time_unix_nano: self.started_ns,
            time_unix_nano: self.now_ns,
            value: Some(Number::AsDouble(value)),
            ..NumberDataPoint::default()
        }
    }

    fn histogram(&self, metric: &proto::Metric) -> HistogramDataPoint {
        let histogram = metric.get_histogram();
        let mut point = HistogramDataPoint {
            attributes: attributes(metric),
            start_time_unix_nano: self.started_ns,
            time_unix_nano: self.now_ns,
            count: histogram.get_sample_count(),
            sum: Some(histogram.get_sample_sum()),
            ..HistogramDataPoint::default()
        };
        // There, a bucket counts what is in it; here, all up to its bound.
        let mut below = 0;
        for bucket in histogram.get_bucket() {
            let count = bucket.cumulative_count();
            point.bucket_counts.push(count.saturating_sub(below));
            point.explicit_bounds.push(bucket.upper_bound());
            below = count;
        }
        point.bucket_counts.push(point.count.saturating_sub(below));
        point
    }
}

fn attributes(metric: &proto::Metric) -> Vec<KeyValue> {
    let pair = |label: &proto::LabelPair| KeyValue {
        key: label.name().to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(label.value().to_owned())),
        }),
        ..KeyValue::default()
    };
    metric.get_label().iter().map(pair).collect()
}

/// The unit that a name ends in, as UCUM has it.
fn unit(name: &str) -> &'static str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    match name.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        _ => "1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixture::everything;

    #[test]
    fn every_family_is_there_and_buckets_add_up() {
        let metrics = everything().otlp(1, 2);
        let text = everything();
        let families = text.encode(crate::metrics::encode::Format::Text);
        let heads = families.lines().filter(|line| line.starts_with("# TYPE"));
        assert_eq!(metrics.len(), heads.count());
        let mut histograms = 0;
        for metric in &metrics {
            if let Some(Data::Histogram(histogram)) = &metric.data {
                for point in &histogram.data_points {
                    histograms += 1;
                    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
                    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
                }
            }
        }
        assert!(histograms > 0);
        let seconds = metrics
            .iter()
            .find(|it| it.name.ends_with("_duration_seconds"));
        assert_eq!(seconds.map(|it| it.unit.as_str()), Some("s"));
    }
}
