//! The flags about logging.

use std::path::PathBuf;

use serde::Deserialize;

use super::number::parse_bool;
use super::raw::RawConfig;
use super::typed::{LogConfig, LogFormat, LogLevel, LogOutput, LogRotation};

/// Why the log cannot be set up as told. The messages are etcd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A logger that etcd used to have.
    #[error("--logger=capnslog is removed in v3.5")]
    Capnslog,
    /// A logger that never was.
    #[error("unknown logger option {0:?}")]
    Logger(String),
    /// `default` among others.
    #[error("multi logoutput for \"default\" is not supported yet")]
    DefaultAmongOthers,
    /// The journal among others.
    #[error(
        "running with systemd/journal but other '--log-outputs' values ({0:?}) are configured with 'default'; override 'default' value with something else"
    )]
    JournalAmongOthers(Vec<String>),
    /// Rotation without one file to rotate.
    #[error("--log-outputs requires a single file path when --log-rotate-config-json is defined")]
    RotationOutput,
    /// Rotation options that are no JSON.
    #[error("improperly formatted log rotation config: {0}")]
    RotationSyntax(String),
    /// Rotation options of the wrong type.
    #[error("invalid log rotation config: {0}")]
    RotationType(String),
    /// Rotation with compression.
    #[error("log rotation with \"compress\": true is not implemented by this server yet")]
    RotationCompress,
    /// A format there is not.
    #[error("unknown log format: {0}, supported values json, console")]
    Format(String),
    /// A level there is not.
    #[error("unrecognized level: {0:?}")]
    Level(String),
}

/// Reads the log options out of `raw`.
pub fn read(raw: &RawConfig) -> Result<LogConfig, LogError> {
    match raw.get("logger") {
        "zap" => {}
        "capnslog" => return Err(LogError::Capnslog),
        other => return Err(LogError::Logger(other.to_owned())),
    }
    let given: Vec<&str> = match raw.get("log-outputs") {
        "" => vec!["default"],
        text => text.split(',').collect(),
    };
    if given.len() > 1 && given.contains(&"default") {
        return Err(LogError::DefaultAmongOthers);
    }
    let rotation = match parse_bool(raw.get("enable-log-rotation")) {
        Ok(true) => Some(rotation(&given, raw.get("log-rotation-config-json"))?),
        _ => None,
    };
    let mut outputs: Vec<LogOutput> = given
        .iter()
        .map(|output| match *output {
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            "systemd/journal" => LogOutput::Journal,
            path => LogOutput::File(PathBuf::from(path)),
        })
        .collect();
    outputs.sort();
    outputs.dedup();
    if outputs.contains(&LogOutput::Journal) && given.len() > 1 {
        let texts = given.iter().map(|text| (*text).to_owned()).collect();
        return Err(LogError::JournalAmongOthers(texts));
    }
    // A line to nowhere discards all the others too.
    let nowhere = LogOutput::File(PathBuf::from("/dev/null"));
    if outputs.contains(&nowhere) {
        outputs = vec![nowhere];
    }
    Ok(LogConfig {
        level: level(raw.get("log-level"))?,
        format: match raw.get("log-format") {
            "json" | "" => LogFormat::Json,
            "console" => LogFormat::Console,
            other => return Err(LogError::Format(other.to_owned())),
        },
        outputs,
        rotation,
    })
}

fn level(text: &str) -> Result<LogLevel, LogError> {
    match text {
        "debug" | "DEBUG" => Ok(LogLevel::Debug),
        "info" | "INFO" | "" => Ok(LogLevel::Info),
        "warn" | "WARN" => Ok(LogLevel::Warn),
        "error" | "ERROR" => Ok(LogLevel::Error),
        "dpanic" | "DPANIC" | "panic" | "PANIC" => Ok(LogLevel::Panic),
        "fatal" | "FATAL" => Ok(LogLevel::Fatal),
        other => Err(LogError::Level(other.to_owned())),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Rotation {
    maxsize: u64,
    maxage: u64,
    maxbackups: u64,
    localtime: bool,
    compress: bool,
}

fn rotation(outputs: &[&str], json: &str) -> Result<LogRotation, LogError> {
    let files = outputs
        .iter()
        .filter(|output| !matches!(**output, "default" | "stderr" | "stdout"))
        .count();
    if files > 1 || (outputs.len() == 1 && files == 0) {
        return Err(LogError::RotationOutput);
    }
    let options: Rotation = serde_json::from_str(json).map_err(|error| {
        if error.is_eof() {
            LogError::RotationSyntax("unexpected end of JSON input".to_owned())
        } else if error.is_data() {
            LogError::RotationType(error.to_string())
        } else {
            LogError::RotationSyntax(error.to_string())
        }
    })?;
    if options.compress {
        return Err(LogError::RotationCompress);
    }
    Ok(LogRotation {
        max_size_mb: if options.maxsize == 0 {
            100
        } else {
            options.maxsize
        },
        max_age_days: options.maxage,
        max_backups: options.maxbackups,
        local_time: options.localtime,
    })
}
