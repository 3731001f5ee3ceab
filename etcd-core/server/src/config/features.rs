//! Feature gates: `--feature-gates=Name=true,Other=false`.

use std::collections::BTreeMap;
use std::fmt;

use super::number::parse_bool;

/// How mature a gate is; decides which group switch reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Off by default; `AllAlpha` reaches it.
    Alpha,
    /// On by default; `AllBeta` reaches it.
    Beta,
}

impl Stage {
    /// The stage as etcd's metrics and help spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
        }
    }
}

/// A gate etcd 3.7 knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// Its name.
    pub name: &'static str,
    /// Its stage.
    pub stage: Stage,
    /// Its value when nobody sets it.
    pub default: bool,
}

const fn gate(name: &'static str, stage: Stage, default: bool) -> Gate {
    Gate {
        name,
        stage,
        default,
    }
}

/// Every gate, in alphabetical order.
pub static GATES: &[Gate] = &[
    gate("AllAlpha", Stage::Alpha, false),
    gate("AllBeta", Stage::Beta, false),
    gate("CompactHashCheck", Stage::Alpha, false),
    gate("FastLeaseKeepAlive", Stage::Beta, true),
    gate("InitialCorruptCheck", Stage::Alpha, false),
    gate("LeaseCheckpoint", Stage::Alpha, false),
    gate("LeaseCheckpointPersist", Stage::Alpha, false),
    gate("PriorityRequest", Stage::Alpha, false),
    gate("SetMemberLocalAddr", Stage::Alpha, false),
    gate("StopGRPCServiceOnDefrag", Stage::Alpha, false),
    gate("TxnModeWriteWithSharedBuffer", Stage::Beta, true),
];

/// The gates somebody set, and through them the value of every gate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeatureGates {
    explicit: BTreeMap<&'static str, bool>,
}

/// Why a list of gates was refused. The messages are etcd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// A name without `=value`.
    #[error("missing bool value for {0}")]
    MissingValue(String),
    /// A value that is no boolean.
    #[error(
        "invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax"
    )]
    InvalidValue {
        /// The gate.
        name: String,
        /// What was given.
        value: String,
    },
    /// A gate etcd does not know.
    #[error("unrecognized feature gate: {0}")]
    Unknown(String),
}

impl FeatureGates {
    /// Adds a list to what is set already; the last value of a name wins.
    pub fn set(&mut self, list: &str) -> Result<(), GateError> {
        let mut given = BTreeMap::new();
        for item in list.split(',').filter(|item| !item.is_empty()) {
            let (name, value) = match item.split_once('=') {
                Some((name, value)) => (name.trim(), value.trim()),
                None => return Err(GateError::MissingValue(item.trim().to_owned())),
            };
            let value = parse_bool(value).map_err(|_| GateError::InvalidValue {
                name: name.to_owned(),
                value: value.to_owned(),
            })?;
            given.insert(name, value);
        }
        for (name, value) in given {
            self.set_one(name, value)?;
        }
        Ok(())
    }

    /// Sets one gate.
    pub fn set_one(&mut self, name: &str, value: bool) -> Result<(), GateError> {
        let known = GATES
            .iter()
            .find(|gate| gate.name == name)
            .ok_or_else(|| GateError::Unknown(name.to_owned()))?;
        self.explicit.insert(known.name, value);
        Ok(())
    }

    /// The value of a gate: what was set, else what its group switch says,
    /// else its default. An unknown name is off.
    pub fn enabled(&self, name: &str) -> bool {
        if let Some(value) = self.explicit.get(name) {
            return *value;
        }
        let Some(gate) = GATES.iter().find(|gate| gate.name == name) else {
            return false;
        };
        let group = match gate.stage {
            Stage::Alpha => "AllAlpha",
            Stage::Beta => "AllBeta",
        };
        self.explicit.get(group).copied().unwrap_or(gate.default)
    }

    /// Whether somebody set this gate by name.
    pub fn is_set(&self, name: &str) -> bool {
        self.explicit.contains_key(name)
    }
}

impl fmt::Display for FeatureGates {
    /// What was set, `Name=value` joined by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.explicit.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{name}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_outranks_its_group() {
        let mut gates = FeatureGates::default();
        gates
            .set("AllAlpha=true,InitialCorruptCheck=false")
            .expect("known gates");
        assert!(gates.enabled("CompactHashCheck"));
        assert!(!gates.enabled("InitialCorruptCheck"));
        assert!(gates.enabled("FastLeaseKeepAlive"));
        gates.set("InitialCorruptCheck=true").expect("a known gate");
        assert!(gates.enabled("InitialCorruptCheck"));
        assert_eq!(gates.to_string(), "AllAlpha=true,InitialCorruptCheck=true");
    }

    #[test]
    fn refuses_in_etcds_words() {
        for (list, message) in [
            ("Foo=true", "unrecognized feature gate: Foo"),
            ("Foo", "missing bool value for Foo"),
            (
                "InitialCorruptCheck=x",
                "invalid value of InitialCorruptCheck=x, err: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
        ] {
            let error = FeatureGates::default().set(list).expect_err(list);
            assert_eq!(error.to_string(), message);
        }
    }
}
