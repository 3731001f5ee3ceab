//! Files that are generated and committed are what the code says. `UPDATE=1` writes
//! them anew.

use std::{fs, path::Path};

use etcd_operator::{cli::crd_yaml, controller::rules};

fn same(path: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, wanted).expect("a writable work tree");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} is out of date; UPDATE=1 cargo test writes it",
        path.display()
    );
}

#[test]
fn the_crds_are_what_the_types_say() {
    for (file, text) in crd_yaml().unwrap() {
        same(&format!("crds/{file}.yaml"), &text);
    }
}

#[test]
fn x08_no_rule_is_wider_than_a_call_needs() {
    for rule in rules() {
        assert!(
            !rule.verbs.is_empty() && !rule.verbs.contains(&"*"),
            "{rule:?}"
        );
        assert!(rule.resource != "*" && rule.group != "*", "{rule:?}");
        let lists = rule.verbs.contains(&"list") || rule.verbs.contains(&"watch");
        assert!(
            rule.resource != "secrets" || !lists,
            "Secrets are read one by one"
        );
    }
}
