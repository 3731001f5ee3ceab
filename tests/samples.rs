//! Every sample is a good one: no field of it is unknown, and the rules accept it.

use std::{fs, path::Path};

use etcd_operator::{api::EtcdCluster, render::first_difference};
use kube::core::crd::CustomResourceExt;
use serde_json::Value;

#[test]
fn the_samples_are_accepted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples");
    let mut clusters = 0;
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
            if written["kind"] != EtcdCluster::api_resource().kind {
                continue;
            }
            let cluster: EtcdCluster =
                serde_json::from_value(written.clone()).expect("a readable EtcdCluster");
            let kept = serde_json::to_value(&cluster).expect("an EtcdCluster is JSON");
            let lost = first_difference(&written, &kept);
            assert_eq!(lost, None, "{}: this field is unknown", path.display());
            if let Err(errors) = cluster.validate_cel() {
                panic!("{}: {errors}", path.display());
            }
            clusters += 1;
        }
    }
    assert!(clusters > 0, "there are no samples in {}", folder.display());
}
