//! What the operator used and asked for, between two looks at it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::http;
use anyhow::{Context, Result};

use super::ground::OPERATOR;

/// The operator at one time.
pub struct Look {
    at: Instant,
    cpu: Duration,
    /// Requests by verb and resource.
    requests: BTreeMap<(String, String), f64>,
    reconciles: f64,
}

/// What happened between two looks.
pub struct Usage {
    pub took: Duration,
    pub cpu: Duration,
    pub requests: BTreeMap<(String, String), f64>,
    pub reconciles: f64,
}

impl Look {
    /// Looks at the process and at its metrics.
    pub async fn at(pid: u32) -> Result<Look> {
        let (_, text) = http::get(&format!("http://{OPERATOR}/metrics")).await?;
        let mut requests = BTreeMap::new();
        let mut reconciles = 0.0;
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let Ok(value) = value.parse::<f64>() else {
                continue;
            };
            if series.starts_with("etcd_operator_api_requests_total{") {
                let label = |name: &str| {
                    let rest = series.split_once(&format!("{name}=\""))?.1;
                    Some(rest.split_once('"')?.0.to_owned())
                };
                let key = (
                    label("verb").context(series.to_owned())?,
                    label("resource").context(series.to_owned())?,
                );
                *requests.entry(key).or_insert(0.0) += value;
            }
            if series.starts_with("etcd_operator_reconciles_total{") {
                reconciles += value;
            }
        }
        Ok(Look {
            at: Instant::now(),
            cpu: cpu(pid)?,
            requests,
            reconciles,
        })
    }

    /// What happened since `before`.
    pub fn since(&self, before: &Look) -> Usage {
        let requests = self.requests.iter().map(|(key, count)| {
            let earlier = before.requests.get(key).copied().unwrap_or(0.0);
            (key.clone(), count - earlier)
        });
        Usage {
            took: self.at - before.at,
            cpu: self.cpu.saturating_sub(before.cpu),
            requests: requests.filter(|(_, count)| *count > 0.0).collect(),
            reconciles: self.reconciles - before.reconciles,
        }
    }
}

impl Usage {
    /// Share of one core, in percent.
    pub fn percent(&self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.took.as_secs_f64()
    }

    /// Requests that change something, beside the operator's own Lease.
    pub fn writes(&self) -> f64 {
        let writes = self.requests.iter().filter(|((verb, resource), _)| {
            !matches!(verb.as_str(), "get" | "list" | "watch") && resource != "leases"
        });
        writes.fold(0.0, |sum, (_, count)| sum + count)
    }

    /// All requests, beside those for the operator's own Lease.
    pub fn all(&self) -> f64 {
        let all = self.requests.iter();
        all.filter(|((_, resource), _)| resource != "leases")
            .fold(0.0, |sum, (_, count)| sum + count)
    }
}

/// Seconds of processor time a process has used.
fn cpu(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the operator")?;
    // The second field is the name, in parentheses, and may hold anything.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .context("no name in stat")?
        .1
        .split_whitespace()
        .collect();
    let ticks = |at: usize| -> Result<u64> { Ok(fields.get(at).context("short stat")?.parse()?) };
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(
        (ticks(11)? + ticks(12)?) as f64 / per_second as f64,
    ))
}

/// Memory of a process in MiB: what it has now, and the most it ever had.
pub fn memory(pid: u32) -> Result<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the operator")?;
    let kib = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|line| line.split_whitespace().next());
        Ok(value.with_context(|| name.to_owned())?.parse()?)
    };
    Ok((kib("VmRSS:")? / 1024.0, kib("VmHWM:")? / 1024.0))
}
