//! Whether a member's etcd ends because its files are damaged, by its last words.

use k8s_openapi::api::core::v1::Pod;

/// How often it must have ended so. A disk that failed once may be well again.
const TIMES: i32 = 2;

/// What our etcd and stock etcd say of files they cannot start on, and of nothing else.
const WORDS: [&str; 8] = [
    // ours: log, segments, manifest, rows; and a log that does not fit the store
    " is corrupt",
    "is damaged",
    "entries between are missing",
    "there is no log: refusing to start over beside it",
    // stock: log, snapshot, bbolt
    "crc mismatch",
    "failed to find database snapshot file",
    "invalid database",
    "failed to recover v3 backend from snapshot",
];

/// The line in which the pod's etcd names damaged files, if it ended so time and again.
pub(super) fn damage(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let etcd = statuses.iter().find(|container| container.name == "etcd")?;
    if etcd.restart_count < TIMES {
        return None;
    }
    let ended = [etcd.state.as_ref(), etcd.last_state.as_ref()]
        .into_iter()
        .flatten()
        .find_map(|state| state.terminated.as_ref())?;
    if ended.exit_code == 0 {
        return None;
    }
    let mut lines = ended.message.as_deref()?.lines().rev();
    let line = lines.find(|line| WORDS.iter().any(|word| line.contains(word)))?;
    Some(line.chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(restarts: i32, code: i32, message: &str) -> Pod {
        serde_json::from_value(serde_json::json!({
            "status": {"containerStatuses": [{
                "name": "etcd", "image": "", "imageID": "", "ready": false,
                "restartCount": restarts,
                "lastState": {"terminated": {"exitCode": code, "message": message}},
            }]}
        }))
        .unwrap()
    }

    #[test]
    fn o36_damage_is_believed_only_when_it_is_said_time_and_again() {
        let words = "starting\nwal: /data/member/wal/0.wal is corrupt at offset 8: crc\n";
        assert_eq!(damage(&pod(1, 1, words)), None);
        assert_eq!(damage(&pod(2, 0, words)), None);
        let said = damage(&pod(2, 1, words)).unwrap();
        assert!(said.starts_with("wal: "), "{said}");
        assert_eq!(damage(&pod(9, 137, "out of memory")), None);
        let stock = "{\"level\":\"panic\",\"msg\":\"failed to read WAL, cannot be repaired\",\"error\":\"wal: crc mismatch\"}";
        assert!(damage(&pod(3, 2, stock)).is_some());
    }
}
