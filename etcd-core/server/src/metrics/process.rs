//! What the kernel knows of this process, read when somebody asks.

use std::fs;
use std::sync::OnceLock;

use super::registry::{head, sample};

/// Open files of this process, and how many it may have.
pub fn file_descriptors() -> (u64, u64) {
    let used = fs::read_dir("/proc/self/fd").map_or(0, |entries| {
        // Reading the directory opens it.
        (entries.count() as u64).saturating_sub(1)
    });
    (used, file_limit())
}

/// Most files this process may have open.
pub fn file_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(u64::MAX)
}

/// Appends the `process_` and `os_fd_` metrics; what cannot be read is left out.
pub(super) fn render(out: &mut String) {
    let (used, limit) = file_descriptors();
    let mut gauge = |name: &str, help: &str, kind: &str, value: f64| {
        head(out, name, help, kind);
        sample(out, name, "", value);
    };
    gauge(
        "os_fd_limit",
        "Most files that may be open.",
        "gauge",
        limit as f64,
    );
    gauge("os_fd_used", "Open files.", "gauge", used as f64);
    let stat = Stat::read();
    if let Some(stat) = &stat {
        gauge(
            "process_cpu_seconds_total",
            "Processor time spent, in seconds.",
            "counter",
            stat.cpu_seconds,
        );
    }
    gauge(
        "process_max_fds",
        "Most files that may be open.",
        "gauge",
        limit as f64,
    );
    if let Some((received, sent)) = network() {
        gauge(
            "process_network_receive_bytes_total",
            "Bytes received in this network namespace.",
            "counter",
            received,
        );
        gauge(
            "process_network_transmit_bytes_total",
            "Bytes sent in this network namespace.",
            "counter",
            sent,
        );
    }
    gauge("process_open_fds", "Open files.", "gauge", used as f64);
    let Some(stat) = stat else { return };
    gauge(
        "process_resident_memory_bytes",
        "Memory in use, in bytes.",
        "gauge",
        stat.resident_bytes,
    );
    gauge(
        "process_start_time_seconds",
        "Start of the process, in seconds since 1970.",
        "gauge",
        stat.start_seconds,
    );
    gauge(
        "process_virtual_memory_bytes",
        "Address space in use, in bytes.",
        "gauge",
        stat.virtual_bytes,
    );
    let most = rustix::process::getrlimit(rustix::process::Resource::As)
        .current
        .unwrap_or(u64::MAX);
    gauge(
        "process_virtual_memory_max_bytes",
        "Most address space that may be in use, in bytes.",
        "gauge",
        most as f64,
    );
}

/// What the kernel counts processor time in, towards programs.
const TICKS_PER_SECOND: f64 = 100.0;

struct Stat {
    cpu_seconds: f64,
    start_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    fn read() -> Option<Stat> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the name in parentheses and may contain anything.
        let rest = &text[text.rfind(')')? + 2..];
        let fields: Vec<&str> = rest.split(' ').collect();
        // Numbers of `man 5 proc`, which counts from 1 and has two more in front.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Stat {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            start_seconds: boot_time()? + field(22)? / TICKS_PER_SECOND,
            virtual_bytes: field(23)?,
            resident_bytes: resident_bytes()?,
        })
    }
}

/// Memory in use, in bytes.
fn resident_bytes() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().split(' ').next()?.parse().ok()?;
    Some(kilobytes * 1024.0)
}

/// Start of the machine, in seconds since 1970.
fn boot_time() -> Option<f64> {
    static BOOT: OnceLock<Option<f64>> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let text = fs::read_to_string("/proc/stat").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
        line.parse().ok()
    })
}

/// Bytes received and sent, by the network namespace's counters.
fn network() -> Option<(f64, f64)> {
    let text = fs::read_to_string("/proc/self/net/netstat").ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |wanted: &str| {
        let at = names.split(' ').position(|name| name == wanted)?;
        values.split(' ').nth(at)?.parse().ok()
    };
    Some((value("InOctets")?, value("OutOctets")?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_is_readable() {
        let mut out = String::new();
        super::render(&mut out);
        for name in [
            "os_fd_used",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
        ] {
            let line = out
                .lines()
                .find(|line| line.starts_with(&format!("{name} ")));
            let value: f64 = line.expect(name)[name.len() + 1..]
                .parse()
                .expect("a number");
            assert!(value > 0.0, "{name} {value}");
        }
    }
}
