//! `ETCD_*`: every flag that the command line does not set may come from the
//! environment. A flag set in both places ends the start, because whoever set
//! the one that loses would never find out.

use std::collections::BTreeMap;

use super::flag::{Named, names, variable};
use super::note::Note;
use super::raw::RawConfig;

/// Why the environment cannot be used. The messages are etcd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// A value that does not fit its flag.
    #[error("invalid value {value:?} for {variable}: {reason}")]
    Value {
        /// The variable.
        variable: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A flag that the command line sets too.
    #[error(
        "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))"
    )]
    Conflict {
        /// The variable.
        variable: String,
    },
}

/// Takes what the command line left open from `environment`.
pub fn apply(
    environment: &BTreeMap<String, String>,
    raw: &mut RawConfig,
    notes: &mut Vec<Note>,
) -> Result<(), EnvironmentError> {
    // `--version` in the environment would make every start print and exit.
    let given = |variable: &str| {
        environment
            .get(variable)
            .filter(|value| !value.is_empty() && variable != "ETCD_VERSION")
    };
    let mut known = BTreeMap::new();
    let on_command_line: Vec<String> = raw.explicit.iter().map(|name| variable(name)).collect();
    let mut sorted: Vec<&str> = names().collect();
    sorted.sort_unstable();
    let mut error = None;
    for name in sorted {
        let variable = variable(name);
        known.insert(variable.clone(), ());
        if on_command_line.contains(&variable) {
            continue;
        }
        let (Some(value), Some(named)) = (given(&variable), Named::find(name)) else {
            continue;
        };
        match raw.set(named, value) {
            Ok(()) => notes.push(Note::info(
                "recognized and used environment variable",
                format!("{variable}={value}"),
            )),
            Err(reason) => {
                error = Some(EnvironmentError::Value {
                    variable,
                    value: value.clone(),
                    reason: reason.to_string(),
                });
            }
        }
    }
    if environment
        .get("ETCD_VERSION")
        .is_some_and(|v| !v.is_empty())
    {
        notes.push(Note::warn(
            "cannot set special environment variable",
            "ETCD_VERSION",
        ));
    }
    for (variable, value) in environment {
        if on_command_line.contains(variable) {
            return Err(EnvironmentError::Conflict {
                variable: variable.clone(),
            });
        }
        let used = known.contains_key(variable) && !value.is_empty();
        if variable.starts_with("ETCD_") && variable != "ETCD_VERSION" && !used {
            notes.push(Note::warn(
                "unrecognized environment variable",
                format!("{variable}={value}"),
            ));
        }
    }
    error.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::command_line;

    fn run(
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> (RawConfig, Vec<Note>, Result<(), EnvironmentError>) {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let mut raw = RawConfig::default();
        command_line::parse(&arguments, &mut raw).expect("valid flags");
        let environment = environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let mut notes = Vec::new();
        let result = apply(&environment, &mut raw, &mut notes);
        (raw, notes, result)
    }

    #[test]
    fn fills_what_the_command_line_leaves() {
        let (raw, notes, result) = run(
            &["--name=a"],
            &[
                ("ETCD_DATA_DIR", "/d"),
                ("ETCD_FOO", "1"),
                ("ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME", "1h"),
                ("HOME", "/"),
                ("ETCD_VERSION", "3"),
            ],
        );
        assert_eq!(result, Ok(()));
        assert_eq!(raw.get("data-dir"), "/d");
        assert_eq!(raw.get("corrupt-check-time"), "1h");
        assert!(!raw.is_set("version"));
        let warnings: Vec<&str> = notes
            .iter()
            .filter(|note| note.message.starts_with("unrecognized"))
            .map(|note| note.subject.as_str())
            .collect();
        assert_eq!(warnings, ["ETCD_FOO=1"]);
    }

    #[test]
    fn refuses_conflicts_and_bad_values() {
        let (_, _, result) = run(&["--name=a"], &[("ETCD_NAME", "b")]);
        let error = result.expect_err("set twice");
        assert!(
            matches!(&error, EnvironmentError::Conflict { variable } if variable == "ETCD_NAME")
        );
        let (_, _, result) = run(&[], &[("ETCD_HEARTBEAT_INTERVAL", "abc")]);
        assert_eq!(
            result.expect_err("not a number").to_string(),
            "invalid value \"abc\" for ETCD_HEARTBEAT_INTERVAL: parse error"
        );
    }
}
