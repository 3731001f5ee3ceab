//! The chart and the kustomize base grant exactly the rights that the operator's calls need.

use std::collections::BTreeSet;
use std::process::Command;

use etcd_e2e::kubernetes::Places;
use serde::Deserialize;
use serde_json::Value;

/// Group, resource, verb, and whether in the operator's own namespace only.
type Right = (String, String, String, bool);

/// The rights that the Roles and ClusterRoles among these documents grant.
fn granted(documents: &str) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for document in documents.split("\n---") {
        let object: Value = serde_saphyr::from_str(document).unwrap_or(Value::Null);
        let kind = object["kind"].as_str().unwrap_or_default();
        if kind != "Role" && kind != "ClusterRole" {
            continue;
        }
        for rule in object["rules"].as_array().unwrap() {
            let list = |field: &str| -> Vec<String> {
                rule[field]
                    .as_array()
                    .unwrap_or_else(|| panic!("{field} of {rule}"))
                    .iter()
                    .map(|item| item.as_str().unwrap().to_owned())
                    .collect()
            };
            for group in list("apiGroups") {
                for resource in list("resources") {
                    for verb in list("verbs") {
                        let own = kind == "Role";
                        rights.insert((group.clone(), resource.clone(), verb, own));
                    }
                }
            }
        }
    }
    rights
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    group: String,
    resource: String,
    verbs: Vec<String>,
    own_namespace: bool,
}

fn needed(places: &Places) -> BTreeSet<Right> {
    let table = Command::new(places.product.join("etcd-operator"))
        .arg("rbac")
        .output()
        .unwrap();
    let rules: Vec<Rule> = serde_json::from_slice(&table.stdout).unwrap();
    rules
        .into_iter()
        .flat_map(|rule| {
            let Rule {
                group,
                resource,
                verbs,
                own_namespace,
            } = rule;
            verbs
                .into_iter()
                .map(move |verb| (group.clone(), resource.clone(), verb, own_namespace))
        })
        .collect()
}

fn same(granted: &BTreeSet<Right>, needed: &BTreeSet<Right>) {
    let missing: Vec<_> = needed.difference(granted).collect();
    let too_much: Vec<_> = granted.difference(needed).collect();
    assert!(
        missing.is_empty() && too_much.is_empty(),
        "missing: {missing:?}; too much: {too_much:?}"
    );
}

#[test]
fn x08_the_chart_grants_what_the_operator_needs_and_no_more() {
    let places = Places::find().unwrap();
    let chart = places.repository.join("charts/etcd-operator");
    let rendered = Command::new(places.bin.join("helm"))
        .args(["template", "etcd-operator", "--kube-version=1.36.0"])
        .arg(chart)
        .output()
        .unwrap();
    assert!(
        rendered.status.success(),
        "{}",
        String::from_utf8_lossy(&rendered.stderr)
    );
    let text = String::from_utf8(rendered.stdout).unwrap();
    same(&granted(&text), &needed(&places));
}

#[test]
fn x08_the_kustomize_base_grants_what_the_operator_needs_and_no_more() {
    let places = Places::find().unwrap();
    let rendered = Command::new(places.bin.join("kubectl"))
        .arg("kustomize")
        .arg(places.repository.join("config/default"))
        .output()
        .unwrap();
    assert!(
        rendered.status.success(),
        "{}",
        String::from_utf8_lossy(&rendered.stderr)
    );
    let text = String::from_utf8(rendered.stdout).unwrap();
    same(&granted(&text), &needed(&places));
}
