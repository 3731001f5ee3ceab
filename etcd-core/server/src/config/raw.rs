//! The configuration as texts: flags, environment and file all end here, each
//! value checked for its kind alone. `Config` gives them types and checks
//! them against each other.

use std::collections::{BTreeMap, BTreeSet};

use super::duration::GoDuration;
use super::features::{FeatureGates, GateError};
use super::flag::{FLAGS, Kind, Named};
use super::number::{NumberError, parse_bool, parse_int, parse_uint};
use super::url::{UrlError, parse_list};

/// Texts by flag, and who set them.
#[derive(Debug, Clone, Default)]
pub struct RawConfig {
    values: BTreeMap<&'static str, String>,
    aliases: BTreeMap<&'static str, String>,
    /// Feature gates, which add up over repeated flags.
    pub gates: FeatureGates,
    /// Names that were set, as they were spelled.
    pub explicit: BTreeSet<String>,
    /// Names that are taken and ignored, in the order met.
    pub ignored: Vec<&'static str>,
}

/// Why a value does not fit its flag. The messages are those of Go's `flag`
/// package and of etcd's own value types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A number or boolean.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// A number of a kind that etcd reads by itself.
    #[error("strconv.ParseUint: parsing {text:?}: {reason}")]
    Uint32 {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A span of time.
    #[error("parse error")]
    Duration,
    /// A URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Not one of the texts there are.
    #[error("invalid value")]
    Selective,
    /// Not one of the texts there are, in a list.
    #[error("invalid value {0:?}")]
    SelectiveList(String),
    /// A feature gate.
    #[error(transparent)]
    Gate(#[from] GateError),
}

impl RawConfig {
    /// Sets a value by name, the last one wins.
    pub fn set(&mut self, named: Named, value: &str) -> Result<(), ValueError> {
        match named {
            Named::Flag(flag) => {
                self.check(flag.kind, value)?;
                match flag.kind {
                    Kind::FeatureGates => self.gates.set(value)?,
                    // An empty list of URLs is allowed and leaves what was there.
                    Kind::Urls if value.is_empty() => {}
                    Kind::UniqueStrings => {
                        let sorted: BTreeSet<&str> = value.split(',').collect();
                        let mut joined = sorted.into_iter().collect::<Vec<_>>().join(",");
                        if joined.is_empty() && !value.is_empty() {
                            // One empty item is not no items.
                            joined.push(',');
                        }
                        self.values.insert(flag.name, joined);
                    }
                    _ => {
                        self.values.insert(flag.name, value.to_owned());
                    }
                }
            }
            Named::Alias(alias, flag) => {
                self.check(flag.kind, value)?;
                self.aliases.insert(alias, value.to_owned());
                self.values.insert(flag.name, value.to_owned());
            }
            Named::Gate(alias, _) => {
                parse_bool(value)?;
                self.aliases.insert(alias, value.to_owned());
            }
            Named::Ignored(name) => self.ignored.push(name),
        }
        self.explicit.insert(named.name().to_owned());
        Ok(())
    }

    /// Stores a text without a check; for the configuration file, whose values
    /// were checked as JSON and may be refused later in other words.
    pub fn set_unchecked(&mut self, name: &'static str, value: String) {
        self.values.insert(name, value);
    }

    fn check(&self, kind: Kind, value: &str) -> Result<(), ValueError> {
        match kind {
            Kind::String | Kind::Strings | Kind::UniqueStrings | Kind::FeatureGates => {}
            Kind::Bool => drop(parse_bool(value)?),
            Kind::Uint => drop(parse_uint(value, 64)?),
            Kind::Uint32 => {
                parse_uint(value, 32).map_err(|error| ValueError::Uint32 {
                    text: value.to_owned(),
                    reason: match error {
                        NumberError::Syntax => "invalid syntax",
                        NumberError::Range => "value out of range",
                    },
                })?;
            }
            Kind::Int | Kind::Int64 => drop(parse_int(value)?),
            Kind::Duration => {
                GoDuration::parse(value).map_err(|_| ValueError::Duration)?;
            }
            Kind::Urls if value.is_empty() => {}
            Kind::Cors if value == "*" => {}
            Kind::Urls | Kind::Cors => drop(parse_list(value)?),
            Kind::Selective(texts) if !texts.contains(&value) => {
                return Err(ValueError::Selective);
            }
            Kind::Selective(_) => {}
            Kind::SelectiveList(texts) => {
                for item in value.split(',') {
                    if !texts.contains(&item) {
                        return Err(ValueError::SelectiveList(item.to_owned()));
                    }
                }
            }
        }
        Ok(())
    }

    /// A flag's text: what was set, or its default.
    pub fn get(&self, name: &str) -> &str {
        if let Some(value) = self.values.get(name) {
            return value;
        }
        FLAGS
            .iter()
            .find(|flag| flag.name == name)
            .map_or("", |flag| flag.default)
    }

    /// Whether a name was set, by whatever way.
    pub fn is_set(&self, name: &str) -> bool {
        self.explicit.contains(name)
    }

    /// The value given under an `experimental-` name.
    pub fn alias(&self, name: &str) -> Option<&str> {
        self.aliases.get(name).map(String::as_str)
    }

    /// The `experimental-` names that were used.
    pub fn used_aliases(&self) -> impl Iterator<Item = &'static str> {
        self.aliases.keys().copied()
    }
}
