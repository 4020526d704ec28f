//! Reads the text in which metrics are exposed.

use std::collections::BTreeMap;

/// What `/metrics` said at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape {
    series: Vec<Series>,
}

#[derive(Clone, Debug, PartialEq)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Scrape {
    /// Takes every sample; lines that are none are left out.
    pub fn parse(text: &str) -> Self {
        Self { series: text.lines().filter(|line| !line.starts_with('#')).filter_map(series).collect() }
    }

    /// The sum of all series of this name that have these labels; 0 if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        // Not `sum()`, for which nothing at all is -0.
        self.matching(name, labels).fold(0.0, |sum, series| sum + series.value)
    }

    /// Whether there is a series of this name with these labels.
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(move |series| {
            let has = |(key, value): &(&str, &str)| series.labels.get(*key).is_some_and(|is| is == value);
            series.name == name && labels.iter().all(has)
        })
    }
}

/// `name{key="value",…} 7`. Values of ours hold no quote, comma or brace.
fn series(line: &str) -> Option<Series> {
    let (series, rest) = match line.split_once('}') {
        Some((series, rest)) => (series, rest),
        None => line.split_once(' ')?,
    };
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = labels.split(',').filter_map(|label| {
        let (key, value) = label.split_once('=')?;
        Some((key.to_owned(), value.trim_matches('"').to_owned()))
    });
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Series { name: name.to_owned(), labels: labels.collect(), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_what_has_the_labels() {
        let scrape = Scrape::parse(
            "# TYPE spotalis_evictions counter\n\
             spotalis_evictions_total{reason=\"balance\",result=\"evicted\"} 3\n\
             spotalis_evictions_total{reason=\"balance\",result=\"gone\"} 1\n\
             spotalis_leader 1\n# EOF\n",
        );
        let sum = |labels: &[(&str, &str)]| scrape.sum("spotalis_evictions_total", labels).to_string();
        assert_eq!(sum(&[]), "4");
        assert_eq!(sum(&[("result", "evicted")]), "3");
        assert_eq!(sum(&[("result", "lost")]), "0");
        assert!(scrape.has("spotalis_leader", &[]));
        assert!(!scrape.has("spotalis_leader", &[("a", "b")]));
    }
}
