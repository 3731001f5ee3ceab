//! The command line in the manner of Go's `flag` package: one dash or two,
//! `--flag value` or `--flag=value`, booleans alone or with `=`; a repeated
//! flag is no error, the last one wins.

use super::flag::Named;
use super::raw::RawConfig;

/// What stands on a command line besides flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// Nothing.
    Flags,
    /// `-h` or `--help`.
    Help,
    /// A word that is no flag; parsing stopped there.
    Argument(String),
}

/// Why a command line cannot be read. The messages are Go's; usage follows
/// them, and the exit code is 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    /// Three dashes, or `-=`.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// A name etcd does not have.
    #[error("flag provided but not defined: -{0}")]
    Undefined(String),
    /// A flag at the end without its value.
    #[error("flag needs an argument: -{0}")]
    NeedsArgument(String),
    /// A value that does not fit.
    #[error("invalid value {value:?} for flag -{name}: {reason}")]
    Value {
        /// The flag.
        name: String,
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A boolean that is none.
    #[error("invalid boolean value {value:?} for -{name}: {reason}")]
    Boolean {
        /// The flag.
        name: String,
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads the arguments (without the program's name) into `raw`.
pub fn parse(arguments: &[String], raw: &mut RawConfig) -> Result<Parsed, CommandLineError> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(dashless) = argument.strip_prefix('-').filter(|a| !a.is_empty()) else {
            return Ok(Parsed::Argument(argument.clone()));
        };
        if argument == "--" {
            return Ok(match rest.next() {
                Some(word) => Parsed::Argument(word.clone()),
                None => Parsed::Flags,
            });
        }
        let body = dashless.strip_prefix('-').unwrap_or(dashless);
        if body.starts_with(['-', '=']) {
            return Err(CommandLineError::Syntax(argument.clone()));
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some(named) = Named::find(name) else {
            if name == "help" || name == "h" {
                return Ok(Parsed::Help);
            }
            return Err(CommandLineError::Undefined(name.to_owned()));
        };
        if named.is_bool() {
            let value = value.unwrap_or("true");
            raw.set(named, value)
                .map_err(|error| CommandLineError::Boolean {
                    name: name.to_owned(),
                    value: value.to_owned(),
                    reason: error.to_string(),
                })?;
            continue;
        }
        let value = match value {
            Some(value) => value,
            None => rest
                .next()
                .ok_or_else(|| CommandLineError::NeedsArgument(name.to_owned()))?,
        };
        raw.set(named, value)
            .map_err(|error| CommandLineError::Value {
                name: name.to_owned(),
                value: value.to_owned(),
                reason: error.to_string(),
            })?;
    }
    Ok(Parsed::Flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> (RawConfig, Result<Parsed, CommandLineError>) {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let mut raw = RawConfig::default();
        let parsed = parse(&arguments, &mut raw);
        (raw, parsed)
    }

    #[test]
    fn dashes_and_equals_are_free_and_the_last_wins() {
        let (raw, parsed) = read(&[
            "-name",
            "a",
            "--name=b",
            "--pre-vote",
            "--pre-vote=false",
            "-name",
            "c",
            "--experimental-watch-progress-notify-interval=5s",
            "--experimental-initial-corrupt-check",
            "--vv",
        ]);
        assert_eq!(parsed, Ok(Parsed::Flags));
        assert_eq!(raw.get("name"), "c");
        assert_eq!(raw.get("pre-vote"), "false");
        assert_eq!(raw.get("watch-progress-notify-interval"), "5s");
        assert_eq!(
            raw.alias("experimental-initial-corrupt-check"),
            Some("true")
        );
        assert_eq!(raw.ignored, ["vv"]);
        assert!(raw.is_set("name") && !raw.is_set("data-dir"));
    }

    #[test]
    fn an_empty_list_of_urls_changes_nothing() {
        let (raw, _) = read(&["--listen-client-urls="]);
        assert_eq!(raw.get("listen-client-urls"), "http://localhost:2379");
    }

    #[test]
    fn stops_at_the_first_word() {
        assert_eq!(
            read(&["--pre-vote", "false"]).1,
            Ok(Parsed::Argument("false".to_owned()))
        );
        assert_eq!(read(&["-"]).1, Ok(Parsed::Argument("-".to_owned())));
        assert_eq!(read(&["--", "x"]).1, Ok(Parsed::Argument("x".to_owned())));
        assert_eq!(read(&["--help", "--nope"]).1, Ok(Parsed::Help));
    }

    /// Each text was read off stock etcd 3.7.3.
    #[test]
    fn refuses_in_gos_words() {
        for (arguments, message) in [
            (&["--nope"][..], "flag provided but not defined: -nope"),
            (&["---x"], "bad flag syntax: ---x"),
            (&["--=5"], "bad flag syntax: --=5"),
            (&["--name"], "flag needs an argument: -name"),
            (
                &["--heartbeat-interval", "abc"],
                "invalid value \"abc\" for flag -heartbeat-interval: parse error",
            ),
            (
                &["--heartbeat-interval=99999999999999999999"],
                "invalid value \"99999999999999999999\" for flag -heartbeat-interval: value out of range",
            ),
            (
                &["--corrupt-check-time=5"],
                "invalid value \"5\" for flag -corrupt-check-time: parse error",
            ),
            (
                &["--pre-vote=maybe"],
                "invalid boolean value \"maybe\" for -pre-vote: parse error",
            ),
            (
                &["--initial-cluster-state=foo"],
                "invalid value \"foo\" for flag -initial-cluster-state: invalid value",
            ),
            (
                &["--v2-deprecation=foo"],
                "invalid value \"foo\" for flag -v2-deprecation: invalid value \"foo\"",
            ),
            (
                &["--max-concurrent-streams=-1"],
                "invalid value \"-1\" for flag -max-concurrent-streams: strconv.ParseUint: parsing \"-1\": invalid syntax",
            ),
            (
                &["--max-concurrent-streams=99999999999"],
                "invalid value \"99999999999\" for flag -max-concurrent-streams: strconv.ParseUint: parsing \"99999999999\": value out of range",
            ),
            (
                &["--listen-client-urls=foo"],
                "invalid value \"foo\" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: foo",
            ),
            (
                &["--feature-gates=Foo=true"],
                "invalid value \"Foo=true\" for flag -feature-gates: unrecognized feature gate: Foo",
            ),
            (
                &["--cors=foo"],
                "invalid value \"foo\" for flag -cors: URL scheme must be http, https, unix, or unixs: foo",
            ),
        ] {
            let error = read(arguments).1.expect_err(message);
            assert_eq!(error.to_string(), message);
        }
    }
}
