//! What a load counted.

use std::fmt;
use std::time::Duration;

/// What a load counted, from its start to its end.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// How long it ran.
    pub time: Duration,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Acknowledged writes that are not there.
    pub lost: Vec<String>,
    /// Events that watchers saw.
    pub events: usize,
    /// Revisions that no watcher saw.
    pub missed: Vec<String>,
    /// Events that a watcher saw twice or out of order.
    pub doubled: Vec<String>,
    /// How often a watcher resumed on another stream.
    pub resumed: usize,
    /// Linearizable reads that were answered.
    pub reads: usize,
    /// Reads that did not see a write acknowledged before they began.
    pub stale: Vec<String>,
    /// Requests that failed at first.
    pub retried: u64,
    /// Requests whose retry failed too.
    pub failed: u64,
    /// The first of those, in words.
    pub failures: Vec<String>,
    /// The longest time without an acknowledged write.
    pub longest_gap: Duration,
}

impl Figures {
    /// Checks that nothing was lost, missed, doubled or stale.
    ///
    /// # Panics
    /// If anything was.
    pub fn check(&self) {
        let faults = [&self.lost, &self.missed, &self.doubled, &self.stale];
        assert!(
            faults.iter().all(|list| list.is_empty()),
            "{self}\n{:?}",
            faults.map(|list| list.iter().take(5).collect::<Vec<_>>())
        );
        assert!(
            self.acknowledged > 0 && self.reads > 0,
            "no load at all: {self}"
        );
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1?}: {} writes acknowledged, {} lost; {} watch events, {} missed, {} doubled, streams resumed {} times; \
             {} reads, {} stale; {} requests retried, {} failed after one retry; longest write gap {} ms",
            self.time,
            self.acknowledged,
            self.lost.len(),
            self.events,
            self.missed.len(),
            self.doubled.len(),
            self.resumed,
            self.reads,
            self.stale.len(),
            self.retried,
            self.failed,
            self.longest_gap.as_millis()
        )?;
        if !self.failures.is_empty() {
            write!(f, " (failures: {})", self.failures.join("; "))?;
        }
        Ok(())
    }
}
