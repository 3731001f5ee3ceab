//! All instruments by name, and their text form: Prometheus' exposition format
//! 0.0.4 with numbers as Go prints them.

use std::fmt::Write;

use super::instrument::{Counter, Family, Gauge, Histogram};

enum Kind {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
    Counters(Family<Counter>),
    Gauges(Family<Gauge>),
    Histograms(Family<Histogram>),
}

struct Entry {
    name: &'static str,
    help: &'static str,
    kind: Kind,
}

/// All instruments.
#[derive(Default)]
pub struct Registry {
    entries: Vec<Entry>,
}

impl Registry {
    fn add(&mut self, name: &'static str, help: &'static str, kind: Kind) {
        let at = self.entries.partition_point(|entry| entry.name < name);
        debug_assert!(
            self.entries.get(at).is_none_or(|entry| entry.name != name),
            "{name} twice"
        );
        self.entries.insert(at, Entry { name, help, kind });
    }

    /// A counter under exactly this name.
    pub fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        let made = Counter::default();
        self.add(name, help, Kind::Counter(made.clone()));
        made
    }

    /// A gauge under exactly this name.
    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> Gauge {
        let made = Gauge::default();
        self.add(name, help, Kind::Gauge(made.clone()));
        made
    }

    /// A histogram of these bounds.
    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        bounds: &[f64],
    ) -> Histogram {
        let made = Histogram::new(bounds);
        self.add(name, help, Kind::Histogram(made.clone()));
        made
    }

    /// Counters told apart by `labels`, which are in alphabetical order.
    pub fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Family<Counter> {
        let made = Family::new(labels, Counter::default(), &[]);
        self.add(name, help, Kind::Counters(made.clone()));
        made
    }

    /// Gauges told apart by `labels`, which are in alphabetical order.
    pub fn gauges(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Family<Gauge> {
        let made = Family::new(labels, Gauge::default(), &[]);
        self.add(name, help, Kind::Gauges(made.clone()));
        made
    }

    /// Histograms told apart by `labels`, which are in alphabetical order.
    pub fn histograms(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        bounds: &[f64],
    ) -> Family<Histogram> {
        let made = Family::new(labels, Histogram::new(bounds), bounds);
        self.add(name, help, Kind::Histograms(made.clone()));
        made
    }

    /// Every instrument as text. A family without members is left out.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(64 << 10);
        for entry in &self.entries {
            let start = out.len();
            let kind = match entry.kind {
                Kind::Counter(_) | Kind::Counters(_) => "counter",
                Kind::Gauge(_) | Kind::Gauges(_) => "gauge",
                Kind::Histogram(_) | Kind::Histograms(_) => "histogram",
            };
            let name = entry.name;
            head(&mut out, name, entry.help, kind);
            let body = out.len();
            match &entry.kind {
                Kind::Counter(counter) => sample(&mut out, name, "", counter.get() as f64),
                Kind::Gauge(gauge) => sample(&mut out, name, "", gauge.get() as f64),
                Kind::Histogram(histogram) => buckets(&mut out, name, "", histogram),
                Kind::Counters(family) => family.each(|labels, values, counter| {
                    sample(&mut out, name, &pairs(labels, values), counter.get() as f64);
                }),
                Kind::Gauges(family) => family.each(|labels, values, gauge| {
                    sample(&mut out, name, &pairs(labels, values), gauge.get() as f64);
                }),
                Kind::Histograms(family) => family.each(|labels, values, histogram| {
                    buckets(&mut out, name, &pairs(labels, values), histogram);
                }),
            }
            if out.len() == body {
                out.truncate(start);
            }
        }
        out
    }
}

/// The two comment lines above a metric.
pub(super) fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a String cannot fail, here and below.
    let _infallible = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

/// One line; `pairs` are labels without braces.
pub(super) fn sample(out: &mut String, name: &str, pairs: &str, value: f64) {
    let (open, close) = if pairs.is_empty() {
        ("", "")
    } else {
        ("{", "}")
    };
    let _infallible = writeln!(out, "{name}{open}{pairs}{close} {}", number(value));
}

fn buckets(out: &mut String, name: &str, pairs: &str, histogram: &Histogram) {
    let (cumulative, sum, count) = histogram.read();
    let comma = if pairs.is_empty() { "" } else { "," };
    for (bound, at_or_below) in cumulative {
        let bound = number(bound);
        let labels = format!("{pairs}{comma}le=\"{bound}\"");
        sample(out, &format!("{name}_bucket"), &labels, at_or_below as f64);
    }
    let labels = format!("{pairs}{comma}le=\"+Inf\"");
    sample(out, &format!("{name}_bucket"), &labels, count as f64);
    sample(out, &format!("{name}_sum"), pairs, sum);
    sample(out, &format!("{name}_count"), pairs, count as f64);
}

fn pairs(labels: &[&'static str], values: &[String]) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .zip(values)
        .map(|(label, value)| {
            let escaped = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            format!("{label}=\"{escaped}\"")
        })
        .collect();
    pairs.join(",")
}

/// A number in Go's shortest `%g`: an exponent from a million up and below
/// 0.0001.
pub(super) fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::instrument::exponential;

    #[test]
    fn numbers_are_gos() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-1.0, "-1"),
            (20480.0, "20480"),
            (2147483648.0, "2.147483648e+09"),
            (1e6, "1e+06"),
            (0.001, "0.001"),
            (0.0001, "0.0001"),
            (0.00005, "5e-05"),
            (52.4288, "52.4288"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn names_and_labels_are_kept() {
        let mut registry = Registry::default();
        registry.counter("b_total", "Counts.").add(3);
        registry.gauge("a", "A gauge.").set(-1);
        let family = registry.counters("c", "By label.", &["x", "y"]);
        assert!(!registry.render().contains("# TYPE c"));
        family.with(&["1", "q\"\n"]).inc();
        family.with(&["1", "q\"\n"]).inc();
        assert_eq!(
            registry.render(),
            "# HELP a A gauge.\n# TYPE a gauge\na -1\n\
             # HELP b_total Counts.\n# TYPE b_total counter\nb_total 3\n\
             # HELP c By label.\n# TYPE c counter\nc{x=\"1\",y=\"q\\\"\\n\"} 2\n"
        );
    }

    #[test]
    fn buckets_are_cumulative() {
        let mut registry = Registry::default();
        let histogram = registry.histogram("h", "H.", &exponential(1.0, 2.0, 3));
        for value in [0.5, 1.0, 3.0, 100.0] {
            histogram.observe(value);
        }
        assert_eq!(
            registry.render(),
            "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"2\"} 2\n\
             h_bucket{le=\"4\"} 3\nh_bucket{le=\"+Inf\"} 4\nh_sum 104.5\nh_count 4\n"
        );
    }
}
