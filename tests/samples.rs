//! Every sample is a good one: no field of it is unknown, and the rules accept it.

use std::{collections::BTreeSet, fs, path::Path};

use etcd_operator::{
    api::{EtcdBackup, EtcdBackupSchedule, EtcdCluster, EtcdRestore},
    render::first_difference,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// What is wrong with a sample, if something is.
fn judge<K: Serialize + DeserializeOwned>(
    written: &Value,
    rules: impl Fn(&K) -> Result<(), String>,
) -> Result<(), String> {
    let object: K = serde_json::from_value(written.clone()).map_err(|error| error.to_string())?;
    let kept = serde_json::to_value(&object).map_err(|error| error.to_string())?;
    match first_difference(written, &kept) {
        Some(path) => Err(format!("the field {path} is unknown")),
        None => rules(&object),
    }
}

fn words<E: std::fmt::Display>(result: Result<(), E>) -> Result<(), String> {
    result.map_err(|errors| errors.to_string())
}

#[test]
fn the_samples_are_accepted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples");
    let mut kinds = BTreeSet::new();
    for entry in fs::read_dir(&folder).expect("config/samples") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a readable sample");
        for document in text.split("\n---") {
            let document = document.trim_start_matches("---");
            let written: Value = match serde_saphyr::from_str(document) {
                Ok(Value::Null) => continue,
                Ok(written) => written,
                Err(error) => panic!("{}: {error}", path.display()),
            };
            let kind = written["kind"].as_str().unwrap_or_default().to_owned();
            let judged = match kind.as_str() {
                "EtcdCluster" => judge(&written, |it: &EtcdCluster| words(it.validate_cel())),
                "EtcdBackup" => judge(&written, |it: &EtcdBackup| words(it.validate_cel())),
                "EtcdBackupSchedule" => {
                    judge(&written, |it: &EtcdBackupSchedule| words(it.validate_cel()))
                }
                "EtcdRestore" => judge(&written, |it: &EtcdRestore| words(it.validate_cel())),
                _ => continue,
            };
            assert_eq!(judged, Ok(()), "{}: {kind}", path.display());
            kinds.insert(kind);
        }
    }
    let all = [
        "EtcdBackup",
        "EtcdBackupSchedule",
        "EtcdCluster",
        "EtcdRestore",
    ];
    assert!(kinds.iter().eq(all), "there are samples of {kinds:?} only");
}
