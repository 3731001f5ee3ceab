//! Counters, gauges and histograms. A handle is an `Arc` of atomics: cheap to
//! clone, cheap to use from any thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

/// A count that only grows.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Counts one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Counts `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes over a count that somebody else keeps.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A whole number that goes up and down.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Sets the number.
    pub fn set(&self, n: i64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Sets the number; what does not fit is the largest that does.
    pub fn set_u64(&self, n: u64) {
        self.set(i64::try_from(n).unwrap_or(i64::MAX));
    }

    /// Sets 1 for true and 0 for false.
    pub fn set_bool(&self, on: bool) {
        self.set(i64::from(on));
    }

    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.add(-1);
    }

    /// The number.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct HistogramInner {
    bounds: Vec<f64>,
    /// One more than `bounds`: the last is for what exceeds them all.
    counts: Vec<AtomicU64>,
    /// Bits of an f64.
    sum: AtomicU64,
}

/// How often values fell below each bound.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<HistogramInner>);

impl Histogram {
    /// A histogram of these ascending bounds.
    pub fn new(bounds: &[f64]) -> Histogram {
        Histogram(Arc::new(HistogramInner {
            bounds: bounds.to_vec(),
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0f64.to_bits()),
        }))
    }

    /// Counts a value.
    pub fn observe(&self, value: f64) {
        let inner = &*self.0;
        let bucket = inner.bounds.partition_point(|bound| *bound < value);
        inner.counts[bucket].fetch_add(1, Ordering::Relaxed);
        // A closure that always answers never fails.
        let _always = inner
            .sum
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| {
                Some((f64::from_bits(bits) + value).to_bits())
            });
    }

    /// Counts a span of time, in seconds.
    pub fn observe_seconds(&self, span: Duration) {
        self.observe(span.as_secs_f64());
    }

    /// The bounds with the number of values at or below each, then sum and count.
    pub(super) fn read(&self) -> (Vec<(f64, u64)>, f64, u64) {
        let inner = &*self.0;
        let mut total = 0;
        let mut cumulative = Vec::with_capacity(inner.bounds.len());
        for (bound, count) in inner.bounds.iter().zip(&inner.counts) {
            total += count.load(Ordering::Relaxed);
            cumulative.push((*bound, total));
        }
        total += inner.counts[inner.bounds.len()].load(Ordering::Relaxed);
        (
            cumulative,
            f64::from_bits(inner.sum.load(Ordering::Relaxed)),
            total,
        )
    }
}

/// `count` bounds from `start`, each `factor` times the one before.
pub fn exponential(start: f64, factor: f64, count: usize) -> Vec<f64> {
    let mut bound = start;
    (0..count)
        .map(|_| {
            let this = bound;
            bound *= factor;
            this
        })
        .collect()
}

/// Instruments of one name, told apart by labels.
#[derive(Debug, Clone)]
pub struct Family<T>(Arc<FamilyInner<T>>);

#[derive(Debug)]
struct FamilyInner<T> {
    labels: &'static [&'static str],
    blank: T,
    bounds: Vec<f64>,
    children: RwLock<BTreeMap<Vec<String>, T>>,
}

/// What a family can be made of.
pub trait Instrument: Clone {
    /// A new one beside `self`, at zero.
    fn another(&self, bounds: &[f64]) -> Self;
}

impl Instrument for Counter {
    fn another(&self, _: &[f64]) -> Counter {
        Counter::default()
    }
}

impl Instrument for Gauge {
    fn another(&self, _: &[f64]) -> Gauge {
        Gauge::default()
    }
}

impl Instrument for Histogram {
    fn another(&self, bounds: &[f64]) -> Histogram {
        Histogram::new(bounds)
    }
}

impl<T: Instrument> Family<T> {
    pub(super) fn new(labels: &'static [&'static str], blank: T, bounds: &[f64]) -> Family<T> {
        Family(Arc::new(FamilyInner {
            labels,
            blank,
            bounds: bounds.to_vec(),
            children: RwLock::default(),
        }))
    }

    /// The instrument of these label values, in the order of the labels. Made
    /// at zero if it is new; keep the handle where this is asked often.
    pub fn with(&self, values: &[&str]) -> T {
        debug_assert_eq!(values.len(), self.0.labels.len());
        let key: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        if let Some(child) = self.0.children.read().get(&key) {
            return child.clone();
        }
        let mut children = self.0.children.write();
        let made = || self.0.blank.another(&self.0.bounds);
        children.entry(key).or_insert_with(made).clone()
    }

    /// Forgets the instrument of these label values.
    pub fn remove(&self, values: &[&str]) {
        let key: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        self.0.children.write().remove(&key);
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        self.0.children.write().clear();
    }

    pub(super) fn each(&self, mut visit: impl FnMut(&[&'static str], &[String], &T)) {
        for (values, child) in self.0.children.read().iter() {
            visit(self.0.labels, values, child);
        }
    }
}
