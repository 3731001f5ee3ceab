//! Calls for the objects of these kinds.

use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};

use crate::plan::{Call, Kind, Manifest};

/// Applies a whole object.
pub(crate) fn apply<K>(kind: Kind, object: &K, seen: bool) -> Call
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let mut body = serde_json::to_value(object).expect("manifests are JSON");
    body["apiVersion"] = K::api_version(&()).into();
    body["kind"] = K::kind(&()).into();
    Call::Apply(Manifest {
        kind,
        name: object.name_any(),
        body,
        seen,
    })
}

/// Changes a part of an object, if it still is the one that was looked at. `strict`:
/// and if nothing of it has changed since.
pub(crate) fn patch<K>(kind: Kind, object: &K, mut patch: Value, strict: bool) -> Call
where
    K: Resource<DynamicType = ()>,
{
    let metadata = &mut patch["metadata"];
    metadata["uid"] = json!(object.uid());
    if strict {
        metadata["resourceVersion"] = json!(object.resource_version());
    }
    Call::Patch {
        kind,
        name: object.name_any(),
        patch,
        otherwise: None,
    }
}

/// Deletes an object, if it still is the one that was looked at.
pub(crate) fn delete(kind: Kind, name: &str, uid: &str) -> Call {
    Call::Delete {
        kind,
        name: name.to_owned(),
        uid: uid.to_owned(),
        resource_version: None,
    }
}
