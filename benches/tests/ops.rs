//! The alerts and the dashboard in `ops/` use the metrics that there are.

use std::collections::BTreeMap;

use seawall::observe::{METRICS, MetricKind};

const FILES: [(&str, &str); 3] = [
    ("alerts.yml", include_str!("../../ops/alerts.yml")),
    ("alerts_test.yml", include_str!("../../ops/alerts_test.yml")),
    ("dashboard.json", include_str!("../../ops/dashboard.json")),
];

/// The series of all metrics, by the names that a scrape has, with their labels.
fn series() -> BTreeMap<String, Vec<&'static str>> {
    let mut series = BTreeMap::new();
    for metric in METRICS {
        let suffixes: &[&str] = match metric.kind {
            MetricKind::Histogram => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        for suffix in suffixes {
            let mut labels = vec!["job", "instance", "layer", "name"];
            labels.extend(metric.labels);
            series.insert(format!("{}{suffix}", metric.name), labels);
        }
    }
    series
}

/// The names in a text that begin as those of the metrics do, and the labels in the braces after
/// them.
fn selectors(text: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices("seawall_").filter_map(move |(at, _)| {
        if text[..at].ends_with(is_part) {
            return None;
        }
        let rest = &text[at..];
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let labels = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split('}').next());
        let labels = labels.into_iter().flat_map(|labels| labels.split(','));
        let labels = labels.filter_map(|label| label.split(['=', '!']).next());
        Some((name, labels.map(str::trim).collect()))
    })
}

/// A name or a label that does not exist matches nothing, without an error.
#[test]
fn every_name_and_every_label_is_one_of_the_table() {
    let series = series();
    for (file, text) in FILES {
        let mut found = 0;
        for (name, labels) in selectors(text) {
            let Some(known) = series.get(name) else {
                panic!("{file}: no metric {name}");
            };
            for label in labels {
                assert!(
                    known.contains(&label),
                    "{file}: {name} has no label {label}"
                );
            }
            found += 1;
        }
        assert!(found > 10, "{file}: only {found} names are found");
    }
}
