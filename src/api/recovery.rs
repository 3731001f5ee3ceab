//! What the operator does about members that do not come back.

use jiff::SignedDuration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is done about members that do not come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = (
        "duration(self.replaceMemberAfter) >= duration('10s') && duration(self.replaceMemberAfter) <= duration('720h')",
        "recovery.replaceMemberAfter must be between 10s and 720h, such as 5m"
    )
)]
pub struct RecoverySpec {
    /// How long a member may be away, while a quorum serves, before another takes its
    /// place: `90s`, `5m`, `1h30m`. One whose data is gone for certain is replaced at
    /// once.
    #[serde(default = "five_minutes")]
    #[schemars(
        length(max = 16),
        regex(pattern = r"^([0-9]{1,3}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$")
    )]
    pub replace_member_after: String,
    /// What is done when so many members are lost that no quorum can come back.
    #[serde(default)]
    pub quorum_loss: QuorumLossSpec,
}

/// What is done when no quorum can come back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = (
        "self.maxLostRevisions == 0 || self.policy == 'Automatic'",
        "recovery.quorumLoss.maxLostRevisions goes with policy Automatic"
    )
)]
pub struct QuorumLossSpec {
    /// Who decides.
    #[serde(default)]
    pub policy: QuorumLossPolicy,
    /// Revisions that may be lost by a decision of the operator. At 0 nothing that was
    /// acknowledged may be: the member that is left must be the one that led last.
    /// Otherwise it counts what the lost members were seen to have beyond it, which is
    /// only as recent as the last look at them.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub max_lost_revisions: i64,
}

/// Who decides when no quorum can come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum QuorumLossPolicy {
    /// A human. What is left is kept, and nothing is changed.
    #[default]
    Manual,
    /// The operator, if the loss is certain and for ever, those that are left are held
    /// and compared, and no more is lost than `maxLostRevisions`. Otherwise it waits for
    /// a human, and says what for.
    Automatic,
}

fn five_minutes() -> String {
    "5m".to_owned()
}

impl Default for RecoverySpec {
    fn default() -> Self {
        RecoverySpec {
            replace_member_after: five_minutes(),
            quorum_loss: QuorumLossSpec::default(),
        }
    }
}

impl RecoverySpec {
    /// How long a member may be away before another takes its place. What the API
    /// server would refuse counts as the default.
    pub fn replace_member_after(&self) -> SignedDuration {
        duration_seconds(&self.replace_member_after)
            .filter(|seconds| *seconds > 0)
            .map_or(SignedDuration::from_mins(5), SignedDuration::from_secs)
    }
}

/// Seconds of a duration such as `1h30m`.
pub fn duration_seconds(text: &str) -> Option<i64> {
    let mut total = 0_i64;
    let mut digits = String::new();
    for c in text.chars() {
        let unit = match c {
            '0'..='9' => {
                digits.push(c);
                continue;
            }
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        let count: i64 = digits.parse().ok()?;
        total = total.checked_add(count.checked_mul(unit)?)?;
        digits.clear();
    }
    digits.is_empty().then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{EtcdCluster, EtcdClusterSpec};

    fn rules(after: &str) -> Result<(), String> {
        let spec = EtcdClusterSpec {
            recovery: RecoverySpec {
                replace_member_after: after.to_owned(),
                ..RecoverySpec::default()
            },
            ..EtcdClusterSpec::default()
        };
        let mut cluster = EtcdCluster::new("demo", spec);
        cluster.spec.replicas = 3;
        cluster.validate_cel().map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_duration_is_read_as_kubernetes_reads_it() {
        for (text, expected) in [
            ("90s", 90),
            ("5m", 300),
            ("1h30m", 5400),
            ("720h", 2_592_000),
        ] {
            let recovery = RecoverySpec {
                replace_member_after: text.to_owned(),
                ..RecoverySpec::default()
            };
            assert_eq!(recovery.replace_member_after().as_secs(), expected);
            assert_eq!(rules(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn too_short_and_too_long_are_refused_with_a_sentence() {
        for text in ["9s", "721h", "0s"] {
            let error = rules(text).unwrap_err();
            assert!(error.contains("between 10s and 720h"), "{text}: {error}");
        }
    }

    #[test]
    fn a_loss_is_allowed_to_the_operator_only_if_it_decides() {
        let rules = |policy, max_lost_revisions| {
            let mut spec = EtcdClusterSpec::default();
            spec.recovery.quorum_loss = QuorumLossSpec {
                policy,
                max_lost_revisions,
            };
            let mut cluster = EtcdCluster::new("demo", spec);
            cluster.spec.replicas = 3;
            cluster.validate_cel().map_err(|errors| errors.to_string())
        };
        assert_eq!(rules(QuorumLossPolicy::Automatic, 100), Ok(()));
        assert_eq!(rules(QuorumLossPolicy::Manual, 0), Ok(()));
        let error = rules(QuorumLossPolicy::Manual, 1).unwrap_err();
        assert!(error.contains("goes with policy Automatic"), "{error}");
    }
}
