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

/// What `helm template` makes of the chart with these values.
fn rendered(places: &Places, set: &[&str]) -> Vec<Value> {
    let mut helm = Command::new(places.bin.join("helm"));
    helm.args(["template", "etcd-operator", "--kube-version=1.36.0"])
        .arg(places.repository.join("charts/etcd-operator"));
    for value in set {
        helm.args(["--set", value]);
    }
    documents(helm)
}

fn documents(mut command: Command) -> Vec<Value> {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .split("\n---")
        .map(|document| serde_saphyr::from_str(document).unwrap_or(Value::Null))
        .filter(|object| object["kind"].is_string())
        .collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .collect()
}

/// Fields of podTemplate.spec that place a pod or size it, and lend no power.
const HARMLESS: [&str; 8] = [
    "affinity",
    "nodeSelector",
    "priorityClassName",
    "resources",
    "schedulerName",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
];

#[test]
fn x06_chart_and_kustomize_guard_the_same_fields() {
    let places = Places::find().unwrap();
    let chart = rendered(&places, &[]);
    let mut kustomize = Command::new(places.bin.join("kubectl"));
    kustomize
        .arg("kustomize")
        .arg(places.repository.join("config/default"));
    let base = documents(kustomize);
    let policies = [&chart, &base].map(|objects| {
        let bindings = of_kind(objects, "ValidatingAdmissionPolicyBinding");
        let policies = of_kind(objects, "ValidatingAdmissionPolicy");
        assert_eq!((bindings.len(), policies.len()), (2, 2));
        let mut specs: Vec<Value> = Vec::new();
        for policy in policies {
            let metadata = &policy["metadata"];
            assert!(metadata["namespace"].is_null(), "it has none: {metadata}");
            let mut bindings = bindings.iter().map(|binding| &binding["spec"]);
            let binding = bindings.find(|spec| spec["policyName"] == metadata["name"]);
            let spec = binding.expect("every policy is bound");
            assert_eq!(spec["validationActions"], serde_json::json!(["Deny"]));
            assert!(spec["matchResources"].is_null(), "{spec}");
            // Who the operator is depends on where it is installed.
            let text = policy["spec"].to_string();
            let text = text.replace("serviceaccount:default:", "serviceaccount:etcd-system:");
            specs.push(serde_json::from_str(&text).unwrap());
        }
        specs.sort_by_key(|spec| spec["variables"].as_array().map(Vec::len));
        specs
    });
    assert_eq!(policies[0], policies[1]);
    let [template, runs] = &policies[0][..] else {
        panic!("two policies");
    };
    assert_eq!(template["failurePolicy"], "Fail");
    assert_eq!(runs["failurePolicy"], "Fail");
    let policies = [template];
    let powers = policies[0]["variables"][0]["expression"].as_str().unwrap();
    let named: Vec<&str> = powers.split('"').skip(1).step_by(2).collect();
    assert_eq!(named, HARMLESS);
}

#[test]
fn x06_the_harmless_fields_are_fields_of_the_crd() {
    let places = Places::find().unwrap();
    let crd = places.repository.join("crds/etcdclusters.yaml");
    let crd: Value = serde_saphyr::from_str(&std::fs::read_to_string(crd).unwrap()).unwrap();
    let fields = crd
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/podTemplate/properties/spec/properties")
        .and_then(Value::as_object)
        .unwrap();
    for field in HARMLESS {
        assert!(fields.contains_key(field), "{field} is no field");
    }
    // Whoever adds a field decides: one that lends power needs nothing here but its name.
    let powers: Vec<&str> = fields
        .keys()
        .map(String::as_str)
        .filter(|field| !HARMLESS.contains(field))
        .collect();
    let known = [
        "containers",
        "initContainers",
        "serviceAccountName",
        "sidecars",
        "volumeMounts",
        "volumes",
    ];
    for field in powers {
        assert!(known.contains(&field), "is {field} harmless?");
    }
}

#[test]
fn x06_the_policy_can_be_switched_off_and_keeps_to_watched_namespaces() {
    let places = Places::find().unwrap();
    let off = rendered(&places, &["podTemplatePolicy.enabled=false"]);
    assert!(of_kind(&off, "ValidatingAdmissionPolicy").is_empty());
    let some = rendered(&places, &["watchNamespaces={a,b}"]);
    let bindings = of_kind(&some, "ValidatingAdmissionPolicyBinding");
    assert_eq!(bindings.len(), 2);
    for binding in bindings {
        let names = &binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(names["values"], serde_json::json!(["a", "b"]));
    }
}

#[test]
fn what_the_chart_offers_is_off_until_it_is_asked_for() {
    let places = Places::find().unwrap();
    let kinds = [
        "NetworkPolicy",
        "PodDisruptionBudget",
        "ServiceMonitor",
        "PodMonitor",
        "PrometheusRule",
    ];
    let plain = rendered(&places, &[]);
    let all = rendered(
        &places,
        &[
            "networkPolicy.enabled=true",
            "networkPolicy.members.namespaces={a}",
            "podDisruptionBudget.enabled=true",
            "metrics.serviceMonitor.enabled=true",
            "metrics.podMonitor.enabled=true",
            "metrics.prometheusRule.enabled=true",
        ],
    );
    for kind in kinds {
        assert!(of_kind(&plain, kind).is_empty(), "{kind}");
        assert!(!of_kind(&all, kind).is_empty(), "{kind}");
    }
    let rules = &of_kind(&all, "PrometheusRule")[0]["spec"]["groups"][0]["rules"];
    for rule in rules.as_array().unwrap() {
        let expression = rule["expr"].as_str().unwrap();
        assert!(expression.contains("etcd_operator_"), "{rule}");
    }
}
