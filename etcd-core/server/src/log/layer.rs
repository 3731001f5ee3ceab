//! The end of tracing that writes etcd's lines.

use std::time::SystemTime;

use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::line::{self, Origin, Parts};
use super::sink::Sink;
use crate::config::{LogFormat, LogLevel};

/// Writes every event that is loud enough.
pub struct EtcdLayer {
    level: LogLevel,
    format: LogFormat,
    sink: Sink,
}

impl EtcdLayer {
    /// Writes events of at least `level` to `sink`.
    pub fn new(level: LogLevel, format: LogFormat, sink: Sink) -> EtcdLayer {
        EtcdLayer {
            level,
            format,
            sink,
        }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        // Spans carry nothing that a line shows.
        if !metadata.is_event() {
            return false;
        }
        let loudness = level_of(metadata.level());
        // A library's chatter is not etcd's log; what worries it is.
        let ours = metadata.target().starts_with("etcd") || !metadata.target().contains("::");
        if !ours && loudness < LogLevel::Warn {
            return false;
        }
        // An error may turn out to be fatal, which is known by its fields only.
        loudness >= self.level || loudness == LogLevel::Error
    }
}

fn level_of(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG | Level::TRACE => LogLevel::Debug,
    }
}

impl<S: Subscriber> Layer<S> for EtcdLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.wants(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut parts = Parts::default();
        event.record(&mut parts);
        let own = level_of(metadata.level());
        let (level, named) = match parts.level.as_deref() {
            Some("fatal") => (LogLevel::Fatal, "fatal"),
            Some("panic") => (LogLevel::Panic, "panic"),
            _ => (own, own.as_str()),
        };
        if level < self.level {
            return;
        }
        // A target of one word is a logger's name: the others are modules' paths.
        let target = metadata.target();
        let origin = Origin {
            level: named,
            logger: (!target.contains("::") && !target.starts_with("etcd")).then_some(target),
            file: metadata.file().unwrap_or("unknown"),
            line: metadata.line().unwrap_or(0),
        };
        let now = SystemTime::now();
        let line = match self.format {
            LogFormat::Json => line::to_json(now, &origin, &parts),
            LogFormat::Console => line::to_console(now, &origin, &parts),
        };
        self.sink.write(&line, level);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::log::json;

    fn lines(level: LogLevel, format: LogFormat, run: impl FnOnce()) -> Vec<String> {
        let memory = Arc::new(Mutex::new(Vec::new()));
        let layer = EtcdLayer::new(level, format, Sink::memory(memory.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), run);
        std::mem::take(&mut *memory.lock())
    }

    #[test]
    fn a_line_is_etcds_json() {
        let lines = lines(LogLevel::Info, LogFormat::Json, || {
            let urls = ["http://a:1", "http://b:2"];
            tracing::info!(
                "listen-urls" = ?json(&urls), took = ?std::time::Duration::from_millis(3), n = 7u64, ok = true,
                "ready to serve \"client\" requests"
            );
            tracing::debug!("too quiet");
        });
        assert_eq!(lines.len(), 1);
        let value: serde_json::Value = serde_json::from_str(&lines[0]).expect("JSON");
        assert_eq!(value["level"], "info");
        assert_eq!(value["msg"], "ready to serve \"client\" requests");
        assert_eq!(value["listen-urls"][1], "http://b:2");
        assert_eq!(value["took"], "3ms");
        assert_eq!(value["n"], 7);
        assert_eq!(value["ok"], true);
        let caller = value["caller"].as_str().expect("a caller");
        assert!(caller.starts_with("log/layer.rs:"), "{caller}");
        let ts = value["ts"].as_str().expect("a time");
        assert_eq!(ts.len(), "2026-01-01T00:00:00.000000Z".len());
        assert!(ts.ends_with('Z') && lines[0].ends_with("}\n"));
    }

    #[test]
    fn fatal_and_named_loggers_are_shown() {
        let lines = lines(LogLevel::Fatal, LogFormat::Json, || {
            tracing::error!(target: "raft", level = "fatal", "the end");
            tracing::error!("only an error");
        });
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0].starts_with("{\"level\":\"fatal\","),
            "{}",
            lines[0]
        );
        assert!(lines[0].contains("\"logger\":\"raft\""), "{}", lines[0]);
    }

    #[test]
    fn columns_are_tabs() {
        let lines = lines(LogLevel::Info, LogFormat::Console, || {
            tracing::warn!(name = "default", "careful");
        });
        let columns: Vec<&str> = lines[0].trim_end().split('\t').collect();
        assert_eq!(columns[1], "warn");
        assert_eq!(columns[3..], ["careful", "{\"name\":\"default\"}"]);
    }

    #[test]
    fn a_text_cannot_pose_as_json() {
        let lines = lines(LogLevel::Info, LogFormat::Json, || {
            let evil = "\u{1}json:1,\"level\":\"error\"";
            tracing::info!(evil = %evil, control = "a\u{1}\n", "x");
        });
        let value: serde_json::Value = serde_json::from_str(&lines[0]).expect("JSON");
        assert_eq!(value["level"], "info");
        assert_eq!(value["control"], "a\u{1}\n");
    }
}
