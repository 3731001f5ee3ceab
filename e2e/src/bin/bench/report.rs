//! The figures, side by side.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

/// One turn, or several put together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    pub(crate) operations: u64,
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) latencies: Vec<Duration>,
}

/// What a server takes up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) rss: u64,
    pub(crate) anonymous: u64,
    /// From its start to its first linearizable answer.
    pub(crate) ready: Option<Duration>,
}

#[derive(Debug, Default)]
struct Row {
    members: usize,
    name: String,
    samples: [Sample; 2],
}

/// Everything measured. Ours is first in each pair.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    memory: Vec<(String, [Memory; 2])>,
}

/// A row as it is written to a file.
#[derive(Serialize)]
struct Figures<'a> {
    members: usize,
    workload: &'a str,
    unit: &'a str,
    ours: f64,
    stock: f64,
    ratio: f64,
    floor: Option<f64>,
    ours_per_second: f64,
    stock_per_second: f64,
    ours_p50_ms: f64,
    ours_p99_ms: f64,
    stock_p50_ms: f64,
    stock_p99_ms: f64,
}

/// The ratio to stock that a workload has to stay below.
fn floor(name: &str) -> Option<f64> {
    Some(match name {
        "put" | "create-txn" | "update-txn" => 1.0,
        "get-linearizable" | "get-serializable" => 0.9,
        "list-10000" => 0.4,
        "page-first" | "page-next" => 0.02,
        "watch-100" | "watch-1000" => 0.6,
        "memory-loaded" => 0.8,
        _ => return None,
    })
}

impl Sample {
    fn micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.operations.max(1) as f64
    }

    fn per_second(&self) -> f64 {
        self.operations as f64 / self.wall.as_secs_f64().max(f64::EPSILON)
    }

    /// The latency in milliseconds that a part of the requests stayed below.
    fn percentile(&self, part: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let place = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
        sorted
            .get(place)
            .map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    }
}

impl Report {
    /// Adds a turn of ours (0) or stock's (1).
    pub(crate) fn add(&mut self, members: usize, name: &str, place: usize, sample: Sample) {
        eprintln!(
            "  {:5}: {:9.2} µs CPU, {:9.0} /s",
            ["ours", "stock"][place],
            sample.micros(),
            sample.per_second()
        );
        let at = match self
            .rows
            .iter()
            .position(|row| row.members == members && row.name == name)
        {
            Some(at) => at,
            None => {
                self.rows.push(Row {
                    members,
                    name: name.to_owned(),
                    ..Row::default()
                });
                self.rows.len() - 1
            }
        };
        let sum = &mut self.rows[at].samples[place];
        sum.operations += sample.operations;
        sum.wall += sample.wall;
        sum.cpu += sample.cpu;
        sum.latencies.extend(sample.latencies);
    }

    /// Notes memory; a later note replaces an earlier one.
    pub(crate) fn remember(&mut self, name: &str, place: usize, memory: Memory) {
        match self.memory.iter_mut().find(|(known, _)| known == name) {
            Some((_, pair)) => pair[place] = memory,
            None => {
                let mut pair = [Memory::default(); 2];
                pair[place] = memory;
                self.memory.push((name.to_owned(), pair));
            }
        }
    }

    fn figures(&self) -> Vec<Figures<'_>> {
        let mut figures = Vec::new();
        for row in &self.rows {
            let [ours, stock] = &row.samples;
            figures.push(Figures {
                members: row.members,
                workload: &row.name,
                unit: "µs/op",
                ours: ours.micros(),
                stock: stock.micros(),
                ratio: ours.micros() / stock.micros(),
                floor: floor(&row.name),
                ours_per_second: ours.per_second(),
                stock_per_second: stock.per_second(),
                ours_p50_ms: ours.percentile(0.5),
                ours_p99_ms: ours.percentile(0.99),
                stock_p50_ms: stock.percentile(0.5),
                stock_p99_ms: stock.percentile(0.99),
            });
        }
        let mut plain = |workload, unit, ours: f64, stock: f64, floor| {
            figures.push(Figures {
                members: 1,
                workload,
                unit,
                ours,
                stock,
                ratio: ours / stock,
                floor,
                ours_per_second: 0.0,
                stock_per_second: 0.0,
                ours_p50_ms: 0.0,
                ours_p99_ms: 0.0,
                stock_p50_ms: 0.0,
                stock_p99_ms: 0.0,
            });
        };
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        for (name, [ours, stock]) in &self.memory {
            plain(name, "MiB RSS", mib(ours.rss), mib(stock.rss), floor(name));
            plain(
                name,
                "MiB anon",
                mib(ours.anonymous),
                mib(stock.anonymous),
                None,
            );
            if let (Some(ours), Some(stock)) = (ours.ready, stock.ready) {
                plain(
                    name,
                    "s ready",
                    ours.as_secs_f64(),
                    stock.as_secs_f64(),
                    None,
                );
            }
        }
        figures
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        println!(
            "{:>7} {:<17} {:<9} {:>11} {:>11} {:>7} {:>6}  {:>10} {:>10}  {:>17}  {:>17}",
            "members",
            "workload",
            "unit",
            "ours",
            "stock",
            "ratio",
            "floor",
            "ours /s",
            "stock /s",
            "ours p50/p99 ms",
            "stock p50/p99 ms"
        );
        for row in self.figures() {
            let floor = row.floor.map_or(String::new(), |floor| format!("{floor}"));
            let mark = if row.floor.is_some_and(|floor| row.ratio > floor) {
                '!'
            } else {
                ' '
            };
            let mut line = format!(
                "{:>7} {:<17} {:<9} {:>11.2} {:>11.2} {:>7.3}{mark}{floor:>6}",
                row.members, row.workload, row.unit, row.ours, row.stock, row.ratio
            );
            if row.ours_per_second + row.stock_per_second > 0.0 {
                line += &format!(
                    "  {:>10.0} {:>10.0}  {:>8.2} {:>8.2}  {:>8.2} {:>8.2}",
                    row.ours_per_second,
                    row.stock_per_second,
                    row.ours_p50_ms,
                    row.ours_p99_ms,
                    row.stock_p50_ms,
                    row.stock_p99_ms
                );
            }
            println!("{line}");
        }
        println!(
            "\nratio = ours / stock; '!' marks one above its floor. µs/op is CPU time of the servers, all members."
        );
    }

    /// The table as JSON.
    pub(crate) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(&self.figures())?)
    }

    /// Whether a ratio is above its floor.
    pub(crate) fn above_floor(&self) -> bool {
        self.figures()
            .iter()
            .any(|row| row.floor.is_some_and(|floor| row.ratio > floor))
    }
}
