//! X8: what the operator asked of the API server during a whole run of the Kubernetes tests,
//! compared with what its chart grants. Runs after them, on the audit log they left: `make e2e`.

#![allow(clippy::unwrap_used)] // a test ends where something fails

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use etcd_e2e::kubernetes::{Places, TEST_STATE};
use serde::Deserialize;

/// Rights that are granted and that no test makes the operator use, each with its reason.
const UNUSED: &[(&str, &str, &str, &str)] = &[];

/// Group, resource with subresource, verb.
type Right = (String, String, String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    user: User,
    object_ref: Option<ObjectRef>,
    response_status: Option<ResponseStatus>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectRef {
    resource: String,
    subresource: Option<String>,
    api_group: Option<String>,
}

#[derive(Deserialize)]
struct ResponseStatus {
    code: Option<u16>,
}

#[derive(Deserialize)]
struct Rule {
    group: String,
    resource: String,
    verbs: Vec<String>,
}

/// The rights that the operator's own table names; `x08_the_chart_grants_...` holds the chart to it.
fn granted(places: &Places) -> Vec<Right> {
    let table = Command::new(places.product.join("etcd-operator"))
        .arg("rbac")
        .output()
        .unwrap();
    let rules: Vec<Rule> = serde_json::from_slice(&table.stdout).unwrap();
    let rights = rules.into_iter().flat_map(|rule| {
        let Rule {
            group,
            resource,
            verbs,
        } = rule;
        verbs
            .into_iter()
            .map(move |verb| (group.clone(), resource.clone(), verb))
    });
    rights.collect()
}

#[test]
fn x08_what_the_operator_uses_is_what_it_is_granted() {
    let log = Path::new(TEST_STATE).join("log/audit.log");
    let text = std::fs::read_to_string(&log).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; the Kubernetes tests leave it: make e2e",
            log.display()
        )
    });
    let mut used: BTreeMap<Right, usize> = BTreeMap::new();
    for line in text.lines() {
        let event: Event = serde_json::from_str(line).unwrap();
        assert!(
            event
                .user
                .username
                .starts_with("system:serviceaccount:etcd-system:"),
            "only its service account is to be in the log: {line}"
        );
        // What has no object (/version, /readyz) anybody may read.
        let Some(object) = event.object_ref else {
            continue;
        };
        let resource = match object.subresource {
            Some(sub) => format!("{}/{sub}", object.resource),
            None => object.resource,
        };
        let group = object.api_group.unwrap_or_default();
        // An apply that makes its object has to be allowed to create it; the log calls it a patch.
        let made = event.response_status.and_then(|status| status.code) == Some(201);
        if event.verb == "patch" && made {
            let right = (group.clone(), resource.clone(), "create".to_owned());
            *used.entry(right).or_default() += 1;
        }
        *used.entry((group, resource, event.verb)).or_default() += 1;
    }
    println!("requests of the operator, by right:");
    for ((group, resource, verb), count) in &used {
        println!("{count:7}  {verb:6} {resource} {group}");
    }
    let granted = granted(&Places::find().unwrap());
    let over: Vec<_> = used
        .keys()
        .filter(|right| !granted.contains(right))
        .collect();
    let excused = |(group, resource, verb): &Right| {
        UNUSED
            .iter()
            .any(|(g, r, v, _)| (*g, *r, *v) == (group.as_str(), resource.as_str(), verb.as_str()))
    };
    let idle: Vec<_> = granted
        .iter()
        .filter(|right| !used.contains_key(right) && !excused(right))
        .collect();
    let excuses: Vec<_> = UNUSED
        .iter()
        .filter(|(g, r, v, _)| {
            let right = ((*g).to_owned(), (*r).to_owned(), (*v).to_owned());
            used.contains_key(&right) || !granted.contains(&right)
        })
        .collect();
    assert!(
        over.is_empty() && idle.is_empty() && excuses.is_empty(),
        "used and not in the table: {over:?}; granted and never used: {idle:?}; \
         excused without need: {excuses:?}"
    );
}
