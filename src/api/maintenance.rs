//! When the operator may restart members of its own accord.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When the operator may restart members of its own accord. What the user changes in
/// the spec is never held back by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceSpec {
    /// Times at which voluntary restarts and defragmentation may begin. Without any,
    /// pods that a newer operator would render differently wait for the next planned
    /// restart, and defragmentation is done when it is due.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub windows: Vec<MaintenanceWindow>,
}

/// A time that comes again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = ("self.duration.matches('[1-9]')", "maintenance.windows[].duration must be longer than 0"),
)]
pub struct MaintenanceWindow {
    /// When it opens, as five fields of cron: minute, hour, day of month, month, day
    /// of week. `0 2 * * SUN` is every Sunday at two.
    #[schemars(
        length(max = 64),
        regex(pattern = r"^[0-9A-Za-z*,/#?-]+( [0-9A-Za-z*,/#?-]+){4}$")
    )]
    pub schedule: String,
    /// Time zone of the schedule by its IANA name, such as `Europe/Berlin`; UTC if
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: Option<String>,
    /// How long it stays open: hours and minutes, such as `4h` or `1h30m`. What has
    /// begun is finished; nothing new is begun after it.
    #[schemars(length(max = 8), regex(pattern = r"^([0-9]{1,3}h)?([0-9]{1,4}m)?$"))]
    pub duration: String,
}
