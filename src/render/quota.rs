//! How much of a volume the store may take.

use crate::api::{EtcdCluster, Quantity};

/// The most that etcd suggests; more must be asked for.
const MOST: i64 = 8 << 30;
/// What log and temporary files may need of a volume that is not tiny.
const RESERVE: i64 = 512 << 20;

/// `--quota-backend-bytes`: as the spec says, else by the size of the volume; `None`
/// leaves it to etcd.
///
/// It is half of what the log leaves, since a defragmentation and a received snapshot
/// each write the store once more before the old one goes. A volume that grows counts
/// only once all of them have grown.
pub fn quota(cluster: &EtcdCluster) -> Option<i64> {
    if let Some(set) = cluster.spec.options.quota_backend_bytes {
        return Some(set);
    }
    let storage = &cluster.spec.storage;
    let grown = cluster.status.as_ref().and_then(|s| s.volume_size.clone());
    let size = match (&storage.persistent_volume_claim, &storage.empty_dir) {
        (Some(claim), _) => Quantity(grown.unwrap_or_else(|| claim.size.clone())),
        (None, Some(dir)) => dir.size_limit.clone()?,
        (None, None) => return None,
    };
    let bytes = i64::try_from(size.millis().ok()? / 1000).ok()?;
    let reserve = RESERVE.min(bytes / 4);
    Some(((bytes - reserve) / 2).clamp(1, MOST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(spec: serde_json::Value, grown: Option<&str>) -> Option<i64> {
        let mut cluster: EtcdCluster = serde_json::from_value(json!({
            "apiVersion": "etcd-core.io/v1alpha1", "kind": "EtcdCluster",
            "metadata": {"name": "demo"}, "spec": spec,
        }))
        .unwrap();
        cluster.status.get_or_insert_default().volume_size = grown.map(str::to_owned);
        quota(&cluster)
    }

    #[test]
    fn o30_the_quota_follows_the_volume_unless_it_is_set() {
        let claim = |size: &str| json!({"storage": {"persistentVolumeClaim": {"size": size}}});
        assert_eq!(of(claim("8Gi"), None), Some((7680 << 20) / 2));
        assert_eq!(of(claim("1Gi"), None), Some(384 << 20));
        assert_eq!(of(claim("100Gi"), None), Some(8 << 30));
        let wanted = claim("4Gi");
        assert_eq!(
            of(wanted.clone(), Some("2Gi")),
            Some(768 << 20),
            "not grown yet"
        );
        assert_eq!(of(wanted, Some("4Gi")), Some(1792 << 20));
        let mut set = claim("8Gi");
        set["options"] = json!({"quotaBackendBytes": 5});
        assert_eq!(of(set, None), Some(5));
        assert_eq!(of(json!({"storage": {"emptyDir": {}}}), None), None);
        let memory = json!({"storage": {"emptyDir": {"sizeLimit": "1Gi"}}});
        assert_eq!(of(memory, None), Some(384 << 20));
    }
}
