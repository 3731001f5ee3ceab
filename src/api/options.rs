//! Options of the etcd process: typed, and a closed set.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of etcd, named after its flags. What is left out keeps etcd's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = (
        "(has(self.electionTimeout) ? self.electionTimeout : 1000) >= 5 * (has(self.heartbeatInterval) ? self.heartbeatInterval : 100)",
        "options.electionTimeout (default 1000) must be at least five times options.heartbeatInterval (default 100)"
    ),
    validation = (
        "!has(self.autoCompactionMode) || has(self.autoCompactionRetention)",
        "options.autoCompactionMode needs options.autoCompactionRetention"
    ),
    validation = (
        "!(has(self.autoCompactionMode) && self.autoCompactionMode == 'Revision') || !has(self.autoCompactionRetention) || self.autoCompactionRetention.matches('^[0-9]+$')",
        "options.autoCompactionRetention must be a number of revisions, such as \"1000\", when the mode is Revision"
    ),
)]
pub struct OptionsSpec {
    /// Bytes the store may take before writes are refused; 0 is etcd's default of 2 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 109_951_162_777_600_i64))]
    pub quota_backend_bytes: Option<i64>,
    /// How old history is dropped on its own: by time or by revisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_compaction_mode: Option<AutoCompactionMode>,
    /// What is kept: a duration such as `30m` or `8h`, hours as a bare number, or,
    /// in mode `Revision`, a number of revisions. `0` turns it off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 32),
        regex(pattern = r"^([0-9]+|([0-9]+(\.[0-9]+)?(ms|s|m|h))+)$")
    )]
    pub auto_compaction_retention: Option<String>,
    /// Milliseconds between heartbeats of the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 10_000))]
    pub heartbeat_interval: Option<i64>,
    /// Milliseconds without a heartbeat before a follower stands for election.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 50_000))]
    pub election_timeout: Option<i64>,
    /// Bytes a single request may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 104_857_600))]
    pub max_request_bytes: Option<i64>,
    /// Operations a single transaction may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub max_txn_ops: Option<i64>,
    /// Log entries between two snapshots on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub snapshot_count: Option<i64>,
    /// How much the members log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
}

/// What history is measured by when it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AutoCompactionMode {
    /// Keep what is younger than the retention.
    Periodic,
    /// Keep as many revisions as the retention says.
    Revision,
}

/// How much a member logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// etcd's default.
    Info,
    /// What may need attention.
    Warn,
    /// What has failed.
    Error,
}

impl OptionsSpec {
    /// The flags these options stand for, in a fixed order.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        let mut push = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                flags.push(format!("--{name}={value}"));
            }
        };
        let number = |value: Option<i64>| value.map(|value| value.to_string());
        push("quota-backend-bytes", number(self.quota_backend_bytes));
        push(
            "auto-compaction-mode",
            self.auto_compaction_mode.map(|mode| match mode {
                AutoCompactionMode::Periodic => "periodic".to_owned(),
                AutoCompactionMode::Revision => "revision".to_owned(),
            }),
        );
        push(
            "auto-compaction-retention",
            self.auto_compaction_retention.clone(),
        );
        push("heartbeat-interval", number(self.heartbeat_interval));
        push("election-timeout", number(self.election_timeout));
        push("max-request-bytes", number(self.max_request_bytes));
        push("max-txn-ops", number(self.max_txn_ops));
        push("snapshot-count", number(self.snapshot_count));
        push(
            "log-level",
            self.log_level.map(|level| match level {
                LogLevel::Debug => "debug".to_owned(),
                LogLevel::Info => "info".to_owned(),
                LogLevel::Warn => "warn".to_owned(),
                LogLevel::Error => "error".to_owned(),
            }),
        );
        flags
    }
}
