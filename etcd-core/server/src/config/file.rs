//! The configuration file: YAML, read as JSON the way Go does. Keys match
//! without regard to case, unknown keys are ignored, durations are integers in
//! nanoseconds.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::flag::{Kind, Named};
use super::raw::RawConfig;

/// Why a file cannot be used. The messages are etcd's.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("open {path}: {reason}")]
    Open {
        /// The file.
        path: String,
        /// What the operating system says.
        reason: String,
    },
    /// It is not YAML.
    #[error("error converting YAML to JSON: yaml: {0}")]
    Yaml(String),
    /// It is not a mapping.
    #[error(
        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {0} into Go value of type embed.configYAML"
    )]
    NotAMap(&'static str),
    /// A value of the wrong type.
    #[error(
        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {given} into Go struct field {field} of type {wanted}"
    )]
    Type {
        /// What stands there.
        given: String,
        /// Where.
        field: String,
        /// What should.
        wanted: &'static str,
    },
    /// A value of the right type that does not fit.
    #[error("{0}")]
    Value(String),
    /// A list of URLs that is none; etcd prints this one without a log line.
    #[error("unexpected error setting up {key}: {reason}")]
    Urls {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// Flags that have no key of their own in the file: they live in a section,
/// or only on the command line.
const SECTIONED: &[&str] = &[
    "cert-file",
    "key-file",
    "client-cert-file",
    "client-key-file",
    "client-cert-auth",
    "trusted-ca-file",
    "auto-tls",
    "client-crl-file",
    "client-cert-allowed-hostname",
    "peer-cert-file",
    "peer-key-file",
    "peer-client-cert-file",
    "peer-client-key-file",
    "peer-client-cert-auth",
    "peer-trusted-ca-file",
    "peer-auto-tls",
    "peer-crl-file",
    "peer-cert-allowed-cn",
    "peer-cert-allowed-hostname",
    "peer-skip-client-san-verification",
    "socket-reuse-port",
    "socket-reuse-address",
    "raft-read-timeout",
    "raft-write-timeout",
    "discovery-endpoints",
    "discovery-token",
    "discovery-fallback",
    "config-file",
    "version",
];

/// A key of a section: its name there, the flag it stands for, its kind.
type Key = (&'static str, &'static str, Kind);

const CLIENT_TLS: &[Key] = &[
    ("cert-file", "cert-file", Kind::String),
    ("key-file", "key-file", Kind::String),
    ("client-cert-file", "client-cert-file", Kind::String),
    ("client-key-file", "client-key-file", Kind::String),
    ("client-cert-auth", "client-cert-auth", Kind::Bool),
    ("trusted-ca-file", "trusted-ca-file", Kind::String),
    ("auto-tls", "auto-tls", Kind::Bool),
    ("allowed-cn", "client-cert-allowed-cn", Kind::Strings),
    (
        "allowed-hostname",
        "client-cert-allowed-hostname",
        Kind::Strings,
    ),
    (
        "skip-client-san-verification",
        "client-skip-client-san-verification",
        Kind::Bool,
    ),
];

const PEER_TLS: &[Key] = &[
    ("cert-file", "peer-cert-file", Kind::String),
    ("key-file", "peer-key-file", Kind::String),
    ("client-cert-file", "peer-client-cert-file", Kind::String),
    ("client-key-file", "peer-client-key-file", Kind::String),
    ("client-cert-auth", "peer-client-cert-auth", Kind::Bool),
    ("trusted-ca-file", "peer-trusted-ca-file", Kind::String),
    ("auto-tls", "peer-auto-tls", Kind::Bool),
    ("allowed-cn", "peer-cert-allowed-cn", Kind::Strings),
    (
        "allowed-hostname",
        "peer-cert-allowed-hostname",
        Kind::Strings,
    ),
    (
        "skip-client-san-verification",
        "peer-skip-client-san-verification",
        Kind::Bool,
    ),
];

const SOCKET: &[Key] = &[
    ("reuse-port", "socket-reuse-port", Kind::Bool),
    ("reuse-address", "socket-reuse-address", Kind::Bool),
];

const DISCOVERY: &[Key] = &[
    ("endpoints", "discovery-endpoints", Kind::Strings),
    ("token", "discovery-token", Kind::String),
    ("dial-timeout", "discovery-dial-timeout", Kind::Duration),
    (
        "request-timeout",
        "discovery-request-timeout",
        Kind::Duration,
    ),
    ("keepalive-time", "discovery-keepalive-time", Kind::Duration),
    (
        "keepalive-timeout",
        "discovery-keepalive-timeout",
        Kind::Duration,
    ),
];

const DISCOVERY_SECURE: &[Key] = &[
    ("cert", "discovery-cert", Kind::String),
    ("key", "discovery-key", Kind::String),
    ("cacert", "discovery-cacert", Kind::String),
    (
        "insecure-transport",
        "discovery-insecure-transport",
        Kind::Bool,
    ),
    (
        "insecure-skip-tls-verify",
        "discovery-insecure-skip-tls-verify",
        Kind::Bool,
    ),
];

const DISCOVERY_AUTH: &[Key] = &[
    ("username", "discovery-user", Kind::String),
    ("password", "discovery-password", Kind::String),
];

/// Reads a file into `raw`, which then holds nothing else.
pub fn load(path: &Path, raw: &mut RawConfig) -> Result<(), FileError> {
    let text = std::fs::read_to_string(path).map_err(|error| FileError::Open {
        path: path.display().to_string(),
        reason: crate::go::io_error(&error),
    })?;
    read(&text, raw)
}

/// Reads the text of a file into `raw`.
pub fn read(text: &str, raw: &mut RawConfig) -> Result<(), FileError> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
    };
    let value: Value = if text.trim().is_empty() {
        Value::Null
    } else {
        serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| FileError::Yaml(error.to_string()))?
    };
    let top = match value {
        Value::Null => Map::new(),
        Value::Object(map) => map,
        other => return Err(FileError::NotAMap(kind_of(&other))),
    };
    for key in top.keys() {
        raw.explicit.insert(key.clone());
    }
    let by_name: BTreeMap<String, &Value> = top
        .iter()
        .map(|(key, value)| (key.to_ascii_lowercase(), value))
        .collect();
    for (key, value) in &by_name {
        match Named::find(key) {
            Some(Named::Flag(flag)) if !SECTIONED.contains(&flag.name) => {
                let place = match flag.kind {
                    Kind::Urls if flag.name == "listen-metrics-urls" => "configYAML.Config",
                    Kind::Urls | Kind::Cors | Kind::FeatureGates => "configYAML.configJSON",
                    Kind::UniqueStrings if flag.name == "host-whitelist" => "configYAML.configJSON",
                    _ => "configYAML.Config",
                };
                set(raw, flag.name, flag.kind, place, key, value)?;
            }
            Some(named @ (Named::Alias(..) | Named::Gate(..))) => {
                let kind = match named {
                    Named::Alias(_, flag) => flag.kind,
                    _ => Kind::Bool,
                };
                if let Some(text) = text_of(kind, "configYAML.Config", key, value)? {
                    raw.set(named, &text)
                        .map_err(|error| FileError::Value(error.to_string()))?;
                }
            }
            _ => {}
        }
    }
    section(raw, &by_name, "client-transport-security", CLIENT_TLS)?;
    section(raw, &by_name, "peer-transport-security", PEER_TLS)?;
    section(raw, &by_name, "socket-options", SOCKET)?;
    discovery(raw, &by_name)
}

fn discovery(raw: &mut RawConfig, top: &BTreeMap<String, &Value>) -> Result<(), FileError> {
    section(raw, top, "discovery-config", DISCOVERY)?;
    let Some(Value::Object(config)) = top.get("discovery-config") else {
        return Ok(());
    };
    // etcd 3.7 keeps all but the token one level down, in `client`.
    for outer in [
        config.get("client").and_then(Value::as_object),
        Some(config),
    ] {
        let Some(outer) = outer else { continue };
        let map: BTreeMap<String, &Value> = outer.iter().map(|(k, v)| (k.clone(), v)).collect();
        for (key, flag, kind) in DISCOVERY {
            if let Some(value) = map.get(*key) {
                set(raw, flag, *kind, "ConfigSpec.discovery-config", key, value)?;
            }
        }
        section(raw, &map, "secure", DISCOVERY_SECURE)?;
        section(raw, &map, "auth", DISCOVERY_AUTH)?;
    }
    Ok(())
}

fn section(
    raw: &mut RawConfig,
    top: &BTreeMap<String, &Value>,
    name: &str,
    keys: &[Key],
) -> Result<(), FileError> {
    let map = match top.get(name) {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(map)) => map,
        Some(other) => {
            return Err(FileError::Type {
                given: kind_of(other).to_owned(),
                field: format!("configYAML.configJSON.{name}"),
                wanted: "embed.securityConfig",
            });
        }
    };
    for (key, value) in map {
        let lower = key.to_ascii_lowercase();
        if let Some((key, flag, kind)) = keys.iter().find(|(k, _, _)| *k == lower) {
            let place = format!("securityConfig.configJSON.{name}");
            set(raw, flag, *kind, &place, key, value)?;
            raw.explicit.insert((*flag).to_owned());
        }
    }
    Ok(())
}

fn set(
    raw: &mut RawConfig,
    name: &'static str,
    kind: Kind,
    place: &str,
    key: &str,
    value: &Value,
) -> Result<(), FileError> {
    let Some(text) = text_of(kind, place, key, value)? else {
        return Ok(());
    };
    match kind {
        Kind::Urls | Kind::Cors | Kind::FeatureGates => {
            if text.is_empty() {
                return Ok(());
            }
            let Some(named) = Named::find(name) else {
                return Ok(());
            };
            raw.set(named, &text).map_err(|error| match kind {
                Kind::Urls => FileError::Urls {
                    key: named.name(),
                    reason: error.to_string(),
                },
                _ => FileError::Value(error.to_string()),
            })
        }
        Kind::UniqueStrings if name == "host-whitelist" && text.is_empty() => Ok(()),
        _ => {
            raw.set_unchecked(name, text);
            Ok(())
        }
    }
}

/// A JSON value as the text a flag would have; `None` for null.
fn text_of(kind: Kind, place: &str, key: &str, value: &Value) -> Result<Option<String>, FileError> {
    let is_list = match kind {
        Kind::Strings => true,
        Kind::UniqueStrings => key != "host-whitelist",
        _ => false,
    };
    let wanted = match kind {
        Kind::Strings | Kind::UniqueStrings if is_list => "[]string",
        Kind::Bool => "bool",
        Kind::Uint if matches!(key, "snapshot-count" | "snapshot-catchup-entries") => "uint64",
        Kind::Uint => "uint",
        Kind::Uint32 => "uint32",
        Kind::Int => "int",
        Kind::Int64 => "int64",
        Kind::Duration => "time.Duration",
        _ => "string",
    };
    let refuse = |given: &Value, wanted: &'static str| {
        let given = match (given, wanted) {
            (Value::Number(n), w) if w != "string" && w != "bool" => format!("number {n}"),
            (other, _) => kind_of(other).to_owned(),
        };
        Err(FileError::Type {
            given,
            field: format!("{place}.{key}"),
            wanted,
        })
    };
    let text = match (wanted, value) {
        (_, Value::Null) => return Ok(None),
        ("[]string", Value::Array(items)) => {
            let mut texts = Vec::with_capacity(items.len());
            for item in items {
                match item {
                    Value::String(text) => texts.push(text.clone()),
                    other => return refuse(other, "string"),
                }
            }
            if kind == Kind::UniqueStrings {
                texts.sort();
                texts.dedup();
            }
            texts.join(",")
        }
        ("string", Value::String(text)) => text.clone(),
        ("bool", Value::Bool(flag)) => flag.to_string(),
        ("uint" | "uint64", Value::Number(n)) if n.as_u64().is_some() => n.to_string(),
        ("uint32", Value::Number(n)) if n.as_u64().is_some_and(|n| n <= u64::from(u32::MAX)) => {
            n.to_string()
        }
        ("int" | "int64", Value::Number(n)) if n.as_i64().is_some() => n.to_string(),
        ("time.Duration", Value::Number(n)) if n.as_i64().is_some() => format!("{n}ns"),
        (wanted, other) => return refuse(other, wanted),
    };
    Ok(Some(text))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<RawConfig, FileError> {
        let mut raw = RawConfig::default();
        read(text, &mut raw).map(|()| raw)
    }

    #[test]
    fn reads_a_deployers_file() {
        let raw = read_text(
            "NAME: m1\nheartbeat-interval: 500\npre-vote: no\nexperimental-watch-progress-notify-interval: 5000000000\n\
             listen-client-urls: https://127.0.0.1:2379,https://10.0.0.1:2379\nlog-outputs: [stderr]\n\
             client-transport-security: {cert-file: /c, client-cert-auth: true}\n\
             peer-transport-security:\n  allowed-cn: [a, b]\nmember-name-prefix: etcd\n\
             socket-options: {reuse-port: true}\nfeature-gates: InitialCorruptCheck=true\n",
        )
        .expect("a valid file");
        assert_eq!(raw.get("name"), "m1");
        assert_eq!(raw.get("heartbeat-interval"), "500");
        assert_eq!(raw.get("pre-vote"), "false");
        assert_eq!(raw.get("watch-progress-notify-interval"), "5000000000ns");
        assert_eq!(raw.get("cert-file"), "/c");
        assert_eq!(raw.get("client-cert-auth"), "true");
        assert_eq!(raw.get("peer-cert-allowed-cn"), "a,b");
        assert_eq!(raw.get("socket-reuse-port"), "true");
        assert!(raw.gates.enabled("InitialCorruptCheck"));
    }

    /// Each text was read off stock etcd 3.7.3.
    #[test]
    fn refuses_in_etcds_words() {
        const PREFIX: &str =
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal ";
        for (text, message) in [
            (
                "watch-progress-notify-interval: 5s",
                "string into Go struct field configYAML.Config.watch-progress-notify-interval of type time.Duration",
            ),
            (
                "heartbeat-interval: -1",
                "number -1 into Go struct field configYAML.Config.heartbeat-interval of type uint",
            ),
            (
                "name: 5",
                "number into Go struct field configYAML.Config.name of type string",
            ),
            (
                "pre-vote: \"true\"",
                "string into Go struct field configYAML.Config.pre-vote of type bool",
            ),
            (
                "log-outputs: stderr",
                "string into Go struct field configYAML.Config.log-outputs of type []string",
            ),
            (
                "cipher-suites: [1]",
                "number into Go struct field configYAML.Config.cipher-suites of type string",
            ),
            (
                "peer-transport-security: 5",
                "number into Go struct field configYAML.configJSON.peer-transport-security of type embed.securityConfig",
            ),
            (
                "peer-transport-security:\n  cert-file: 5",
                "number into Go struct field securityConfig.configJSON.peer-transport-security.cert-file of type string",
            ),
            ("[1,2]", "array into Go value of type embed.configYAML"),
            ("foo", "string into Go value of type embed.configYAML"),
            (
                "max-request-bytes: 1.5",
                "number 1.5 into Go struct field configYAML.Config.max-request-bytes of type uint",
            ),
        ] {
            let error = read_text(text).expect_err(text);
            assert_eq!(error.to_string(), format!("{PREFIX}{message}"));
        }
        for (text, message) in [
            (
                "listen-peer-urls: foo",
                "unexpected error setting up listen-peer-urls: URL scheme must be http, https, unix, or unixs: foo",
            ),
            ("feature-gates: Foo=true", "unrecognized feature gate: Foo"),
        ] {
            assert_eq!(read_text(text).expect_err(text).to_string(), message);
        }
        assert!(matches!(read_text("a: [b"), Err(FileError::Yaml(_))));
    }

    #[test]
    fn an_empty_file_sets_nothing() {
        assert!(read_text("").expect("empty").explicit.is_empty());
        assert!(
            read_text("# nothing\n")
                .expect("a comment")
                .explicit
                .is_empty()
        );
    }
}
