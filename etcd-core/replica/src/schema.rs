//! Everything durable besides the keys, as rows of etcd's buckets. The one place
//! that knows their keys and values.

use std::collections::BTreeSet;

use bytes::Bytes;
use etcd_proto::etcdserverpb::AlarmMember;
use etcd_proto::raftpb::ConfState;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::alarms::Alarms;
use crate::member::Member;
use crate::membership::Membership;

/// Names of etcd's buckets, in the order of an image.
pub const BUCKETS: [&str; 10] = [
    "alarm",
    "auth",
    "authRoles",
    "authUsers",
    "cluster",
    "key",
    "lease",
    "members",
    "members_removed",
    "meta",
];

/// A row of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// One of [`BUCKETS`], never `key`.
    pub bucket: String,
    /// The row's key.
    pub key: Bytes,
    /// The row's value.
    pub value: Bytes,
}

/// Downgrade of the cluster under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downgrade {
    /// Where to, as `X.Y`.
    #[serde(rename = "target-version", default)]
    pub target: String,
    /// Whether one is under way.
    #[serde(default)]
    pub enabled: bool,
}

/// What the rows say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Members and removed IDs.
    pub membership: Membership,
    /// Raised alarms.
    pub alarms: Alarms,
    /// Cluster version as `X.Y.0`, once decided.
    pub cluster_version: Option<String>,
    /// Downgrade state.
    pub downgrade: Downgrade,
    /// Rows of the bucket `lease`, as the lessor wrote them.
    pub leases: Vec<(Bytes, Bytes)>,
    /// Rows of the auth buckets, kept verbatim.
    pub auth: Vec<Row>,
    /// Index and term of the last entry applied.
    pub consistent_index: u64,
    /// Term of that entry.
    pub term: u64,
    /// Raft membership.
    pub conf_state: ConfState,
    /// Revision of the last compaction that was asked for; 0 if none.
    pub scheduled_compact: i64,
    /// Revision of the last compaction that has ended; 0 if none.
    pub finished_compact: i64,
    /// Storage version; `3.7.0` where we write.
    pub storage_version: Option<String>,
}

/// A row that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bucket {bucket:?}: row {key:?} cannot be read: {reason}")]
pub struct RowError {
    /// Bucket of the row.
    pub bucket: String,
    /// Key of the row, printable.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
struct ConfStateJson {
    #[serde(default)]
    voters: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    #[serde(default)]
    auto_leave: bool,
}

impl Rows {
    /// All rows, in the order of buckets and of keys within a bucket.
    pub fn encode(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut put = |bucket: &str, key: Vec<u8>, value: Vec<u8>| {
            rows.push(Row {
                bucket: bucket.into(),
                key: key.into(),
                value: value.into(),
            });
        };
        for alarm in self.alarms.of(etcd_proto::etcdserverpb::AlarmType::None) {
            put("alarm", alarm.encode_to_vec(), Vec::new());
        }
        for row in &self.auth {
            put(&row.bucket, row.key.to_vec(), row.value.to_vec());
        }
        if let Some(version) = &self.cluster_version {
            put(
                "cluster",
                b"clusterVersion".to_vec(),
                version.clone().into_bytes(),
            );
        }
        put("cluster", b"downgrade".to_vec(), json(&self.downgrade));
        for (key, value) in &self.leases {
            put("lease", key.to_vec(), value.to_vec());
        }
        for member in self.membership.iter() {
            put("members", hex(member.id), json(member));
        }
        for id in self.membership.removed() {
            put("members_removed", hex(id), b"removed".to_vec());
        }
        let conf_state = ConfStateJson {
            voters: self.conf_state.voters.clone(),
            learners: self.conf_state.learners.clone(),
            auto_leave: self.conf_state.auto_leave,
        };
        put("meta", b"confState".to_vec(), json(&conf_state));
        put(
            "meta",
            b"consistent_index".to_vec(),
            self.consistent_index.to_be_bytes().to_vec(),
        );
        if self.finished_compact > 0 {
            put(
                "meta",
                b"finishedCompactRev".to_vec(),
                revision_bytes(self.finished_compact),
            );
        }
        if self.scheduled_compact > 0 {
            put(
                "meta",
                b"scheduledCompactRev".to_vec(),
                revision_bytes(self.scheduled_compact),
            );
        }
        if let Some(version) = &self.storage_version {
            put(
                "meta",
                b"storageVersion".to_vec(),
                version.clone().into_bytes(),
            );
        }
        put("meta", b"term".to_vec(), self.term.to_be_bytes().to_vec());
        rows.sort_by(|a, b| (&a.bucket, &a.key).cmp(&(&b.bucket, &b.key)));
        rows
    }

    /// Reads rows of any order. Rows of `meta` that are unknown are passed over, as
    /// etcd does; anything malformed is an error.
    pub fn decode(rows: impl IntoIterator<Item = Row>) -> Result<Rows, RowError> {
        let mut out = Rows::default();
        let mut members = Vec::new();
        let mut removed = BTreeSet::new();
        for row in rows {
            match row.bucket.as_str() {
                "alarm" => {
                    let alarm = AlarmMember::decode(row.key.clone()).map_err(|e| fault(&row, e))?;
                    out.alarms.activate(alarm);
                }
                "auth" | "authRoles" | "authUsers" => out.auth.push(row),
                "cluster" if row.key == "clusterVersion" => out.cluster_version = Some(text(&row)?),
                "cluster" if row.key == "downgrade" => {
                    out.downgrade =
                        serde_json::from_slice(&row.value).map_err(|e| fault(&row, e))?;
                }
                "lease" => out.leases.push((row.key, row.value)),
                "members" => {
                    let member: Member =
                        serde_json::from_slice(&row.value).map_err(|e| fault(&row, e))?;
                    members.push(member);
                }
                "members_removed" => {
                    let id = std::str::from_utf8(&row.key).map_err(|e| fault(&row, e))?;
                    removed.insert(u64::from_str_radix(id, 16).map_err(|e| fault(&row, e))?);
                }
                "meta" => out.meta(&row)?,
                _ => {}
            }
        }
        out.membership = Membership::restore(members, removed);
        Ok(out)
    }

    /// Whether the rows say that authentication is on.
    pub fn auth_enabled(&self) -> bool {
        let enabled = |row: &&Row| row.bucket == "auth" && row.key == "authEnabled";
        self.auth
            .iter()
            .find(enabled)
            .is_some_and(|row| row.value == [1u8][..])
    }

    fn meta(&mut self, row: &Row) -> Result<(), RowError> {
        match row.key.as_ref() {
            b"consistent_index" => self.consistent_index = number(row)?,
            b"term" => self.term = number(row)?,
            b"scheduledCompactRev" => self.scheduled_compact = revision_main(row)?,
            b"finishedCompactRev" => self.finished_compact = revision_main(row)?,
            b"storageVersion" => self.storage_version = Some(text(row)?),
            b"confState" => {
                let json: ConfStateJson =
                    serde_json::from_slice(&row.value).map_err(|e| fault(row, e))?;
                self.conf_state = ConfState {
                    voters: json.voters,
                    learners: json.learners,
                    auto_leave: json.auto_leave,
                    ..ConfState::default()
                };
            }
            _ => {}
        }
        Ok(())
    }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data has a JSON form")
}

fn hex(id: u64) -> Vec<u8> {
    format!("{id:x}").into_bytes()
}

/// The 17 bytes of a revision without a sub: main, `_`, zero.
pub(crate) fn revision_bytes(main: i64) -> Vec<u8> {
    let mut bytes = main.to_be_bytes().to_vec();
    bytes.push(b'_');
    bytes.extend_from_slice(&0i64.to_be_bytes());
    bytes
}

fn revision_main(row: &Row) -> Result<i64, RowError> {
    match row.value.first_chunk::<8>() {
        Some(main) if row.value.len() == 17 => Ok(i64::from_be_bytes(*main)),
        _ => Err(fault(row, "not a revision of 17 bytes")),
    }
}

fn number(row: &Row) -> Result<u64, RowError> {
    <[u8; 8]>::try_from(row.value.as_ref())
        .map(u64::from_be_bytes)
        .map_err(|_| fault(row, "not a number of 8 bytes"))
}

fn text(row: &Row) -> Result<String, RowError> {
    String::from_utf8(row.value.to_vec()).map_err(|e| fault(row, e))
}

fn fault(row: &Row, reason: impl std::fmt::Display) -> RowError {
    RowError {
        bucket: row.bucket.clone(),
        key: row.key.escape_ascii().to_string(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_as_written() {
        let mut rows = Rows {
            cluster_version: Some("3.7.0".into()),
            consistent_index: 12,
            term: 3,
            conf_state: ConfState {
                voters: vec![1, 2],
                learners: vec![9],
                ..ConfState::default()
            },
            scheduled_compact: 5,
            finished_compact: 5,
            storage_version: Some("3.7.0".into()),
            ..Rows::default()
        };
        rows.alarms.activate(AlarmMember {
            member_id: 7,
            alarm: 1,
        });
        rows.membership = Membership::restore(
            [Member {
                id: 0xab,
                peer_urls: vec!["http://a".into()],
                name: "a".into(),
                ..Member::default()
            }],
            BTreeSet::from([0xcd]),
        );
        let encoded = rows.encode();
        assert!(encoded.is_sorted_by(|a, b| (&a.bucket, &a.key) < (&b.bucket, &b.key)));
        assert_eq!(Rows::decode(encoded).unwrap(), rows);
    }

    #[test]
    fn a_malformed_row_is_named() {
        let row = Row {
            bucket: "meta".into(),
            key: "term".into(),
            value: "xx".into(),
        };
        let error = Rows::decode([row]).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"bucket "meta": row "term" cannot be read: not a number of 8 bytes"#
        );
    }
}
