//! The configuration, from the command line to types.
//!
//! ```text
//! arguments -> command_line ─┐
//! ETCD_*    -> environment ──┼─> RawConfig (texts) -> validate -> default_host -> Config
//! YAML      -> file ─────────┘
//! ```
//!
//! With a file, flags and environment count for nothing. What is wrong is said
//! in etcd's words and with etcd's exit codes.

use std::collections::BTreeMap;
use std::path::Path;

pub mod command_line;
pub mod default_host;
pub mod duration;
pub mod environment;
pub mod features;
pub mod file;
pub mod flag;
pub mod initial_cluster;
pub mod log_options;
pub mod note;
pub mod number;
pub mod raw;
pub mod typed;
pub mod url;
pub mod validate;

#[cfg(test)]
mod tests;

pub use initial_cluster::{BootstrapError, InitialCluster};
pub use note::Note;
pub use raw::RawConfig;
pub use typed::{
    AutoCompaction, ClusterState, Config, LogConfig, LogFormat, LogLevel, LogOutput, LogRotation,
    RaftTimeouts, SocketOptions, TlsInfo, TlsSide, TlsVersion,
};
pub use url::{Scheme, Url};
pub use validate::ValidateError;

/// What a command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Run a server.
    Run(Box<Loaded>),
    /// Print something and exit.
    Print {
        /// For standard output.
        stdout: String,
        /// For standard error.
        stderr: String,
        /// Exit code.
        code: i32,
    },
    /// Say why not, and exit with code 1.
    Refuse(Box<Refusal>),
}

/// A configuration, and what reading it had to say.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// For the log, once there is one.
    pub notes: Vec<Note>,
}

/// Why no server is run.
#[derive(Debug)]
pub struct Refusal {
    /// The reason.
    pub error: ConfigError,
    /// For the log.
    pub notes: Vec<Note>,
    /// The log to say it in: the one that was asked for, if that much was clear.
    pub log: LogConfig,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A word that is no flag.
    #[error("{0:?} is not a valid flag")]
    Argument(String),
    /// The environment.
    #[error(transparent)]
    Environment(#[from] environment::EnvironmentError),
    /// The file.
    #[error(transparent)]
    File(#[from] file::FileError),
    /// The values.
    #[error(transparent)]
    Validate(#[from] ValidateError),
}

/// Reads everything: `arguments` without the program's name, `environment`,
/// and the file they may name.
pub fn load(arguments: &[String], environment: &BTreeMap<String, String>) -> Command {
    let mut raw = RawConfig::default();
    let argument = match command_line::parse(arguments, &mut raw) {
        Ok(command_line::Parsed::Flags) => None,
        Ok(command_line::Parsed::Argument(word)) => Some(word),
        Ok(command_line::Parsed::Help) => {
            return Command::Print {
                stdout: flag::help(),
                stderr: format!("{}\n", flag::USAGE),
                code: 0,
            };
        }
        Err(error) => {
            return Command::Print {
                stdout: String::new(),
                stderr: format!("{error}\n{}\n", flag::USAGE),
                code: 2,
            };
        }
    };
    let mut notes = Vec::new();
    let refuse = |error: ConfigError, raw: &RawConfig, notes: Vec<Note>| {
        Command::Refuse(Box::new(Refusal {
            error,
            notes,
            log: log_options::read(raw).unwrap_or_default(),
        }))
    };
    if let Some(word) = argument {
        return refuse(ConfigError::Argument(word), &raw, notes);
    }
    if number::parse_bool(raw.get("version")) == Ok(true) {
        return Command::Print {
            stdout: crate::version::text(),
            stderr: String::new(),
            code: 0,
        };
    }
    let file = match raw.get("config-file") {
        "" => environment
            .get("ETCD_CONFIG_FILE")
            .cloned()
            .unwrap_or_default(),
        path => path.to_owned(),
    };
    let from_file = !file.is_empty();
    let read = if from_file {
        notes.push(Note::info(
            "loaded server configuration, other configuration command line flags and environment variables will be ignored if provided",
            file.clone(),
        ));
        raw = RawConfig::default();
        file::load(Path::new(&file), &mut raw).map_err(ConfigError::from)
    } else {
        environment::apply(environment, &mut raw, &mut notes).map_err(ConfigError::from)
    };
    let validated = read
        .and_then(|()| validate::validate(&raw, from_file, &mut notes).map_err(ConfigError::from));
    match validated {
        Ok(mut config) => {
            default_host::complete(&mut config, default_host::default_host(), &mut notes);
            Command::Run(Box::new(Loaded { config, notes }))
        }
        Err(error) => refuse(error, &raw, notes),
    }
}
