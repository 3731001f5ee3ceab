//! `docs/compatibility.md` says only what is so: the tests it names exist, what it calls working has
//! one, and nothing that etcd has is left out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const WORKS: &str = "●";
const PARTLY: &str = "◐";
const NOT_YET: &str = "○";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("e2e lies in the workspace")
        .to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A row of a table with a state: `| what | state | tests | notes |`.
struct Row {
    line: usize,
    section: String,
    what: String,
    state: String,
    tests: Vec<String>,
}

fn quoted(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn rows() -> Vec<Row> {
    let mut section = String::new();
    let mut rows = Vec::new();
    for (number, line) in read("docs/compatibility.md").lines().enumerate() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.to_owned();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, what, state, tests, _, _] = cells.as_slice() else {
            assert!(
                !line.starts_with('|'),
                "line {}: a row has four cells: {line}",
                number + 1
            );
            continue;
        };
        if *state == "state" || state.starts_with('-') {
            continue;
        }
        assert!(
            [WORKS, PARTLY, NOT_YET].contains(state),
            "line {}: {state:?} is no state",
            number + 1
        );
        rows.push(Row {
            line: number + 1,
            section: section.clone(),
            what: (*what).to_owned(),
            state: (*state).to_owned(),
            tests: quoted(tests),
        });
    }
    assert!(rows.len() > 150, "only {} rows were found", rows.len());
    rows
}

/// Names of all functions in the tree's Rust files, this file's aside.
fn functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders: Vec<PathBuf> = ["e2e", "etcd-core", "src", "tests"]
        .map(|folder| root().join(folder))
        .into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}")) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|ext| ext == "rs")
                && !path.ends_with("e2e/tests/docs.rs")
            {
                let text = fs::read_to_string(&path).expect("Rust is text");
                names.extend(text.split("fn ").skip(1).filter_map(|rest| {
                    let (name, _) = rest.split_once('(')?;
                    Some(name.to_owned())
                }));
            }
        }
    }
    names
}

#[test]
fn named_tests_exist_and_what_works_names_one() {
    let functions = functions();
    let mut wrong = Vec::new();
    for row in rows() {
        if row.state == WORKS && row.tests.is_empty() {
            wrong.push(format!(
                "line {}: {} works, and no test is named",
                row.line, row.what
            ));
        }
        for test in row.tests.iter().filter(|test| !functions.contains(*test)) {
            wrong.push(format!(
                "line {}: {}: there is no test {test}",
                row.line, row.what
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rpc_has_its_row() {
    let rows = rows();
    let named: BTreeSet<String> = rows.iter().flat_map(|row| quoted(&row.what)).collect();
    let mut missing = Vec::new();
    for file in [
        "etcdserverpb/rpc.proto",
        "v3lockpb/v3lock.proto",
        "v3electionpb/v3election.proto",
    ] {
        let mut service = String::new();
        for line in read(&format!("etcd-core/proto/proto/{file}")).lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("service") => service = words.next().expect("a name").to_owned(),
                Some("rpc") => {
                    let rest = words.next().expect("a name");
                    let name = rest.split('(').next().expect("never empty");
                    let rpc = format!("{service}.{name}");
                    if !named.contains(&rpc) {
                        missing.push(rpc);
                    }
                }
                _ => {}
            }
        }
    }
    assert!(missing.is_empty(), "no row: {missing:?}");
}

/// Flags by name, with what the server's own table says it makes of them.
fn flags() -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    for line in read("etcd-core/server/src/config/flag.rs").lines() {
        let Some(rest) = line.trim_start().strip_prefix("flag(\"") else {
            continue;
        };
        let (name, rest) = rest.split_once('"').expect("a name ends");
        let support = ["Works", "Accepted(", "Missing"]
            .into_iter()
            .find(|support| rest.contains(&format!(", {support}")))
            .expect("a flag says what it is worth");
        flags.insert(name.to_owned(), support.to_owned());
    }
    assert!(flags.len() > 100, "only {} flags were found", flags.len());
    flags
}

#[test]
fn every_flag_has_its_row_and_no_better_state_than_the_server_gives_it() {
    let flags = flags();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for row in rows().iter().filter(|row| row.section == "Flags") {
        for flag in quoted(&row.what) {
            let name = flag.trim_start_matches("--").to_owned();
            let state = row.state.as_str();
            let fits = match flags.get(&name).map(String::as_str) {
                Some("Works") => state != NOT_YET,
                Some("Accepted(") => state != WORKS,
                Some(_) => state == NOT_YET,
                None => false,
            };
            if !fits {
                wrong.push(format!(
                    "line {}: {flag} is {state}, and the server says {:?}",
                    row.line,
                    flags.get(&name)
                ));
            }
            seen.insert(name);
        }
    }
    let missing: Vec<&String> = flags.keys().filter(|flag| !seen.contains(*flag)).collect();
    assert!(missing.is_empty(), "no row: {missing:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn documents_name_files_that_exist() {
    let mut wrong = Vec::new();
    for document in ["ARCHITECTURE.md", "README.md", "CONTRIBUTING.md"] {
        for link in read(document).split("](").skip(1) {
            let target = link.split([')', '#']).next().expect("never empty");
            if !target.is_empty() && !target.contains("://") && !root().join(target).exists() {
                wrong.push(format!("{document}: {target}"));
            }
        }
    }
    let paths = quoted(&read("ARCHITECTURE.md"));
    let known = ["src/", "etcd-core/", "e2e/", "docs/", "charts/", "config/"];
    for path in paths {
        let is_path = known.iter().any(|folder| path.starts_with(folder)) && !path.contains('{');
        if is_path && !root().join(&path).exists() {
            wrong.push(format!("ARCHITECTURE.md: {path}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
