//! Where lines go. A line is one write, so lines of two threads do not mix.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::rotate::Rotating;
use crate::config::{LogConfig, LogLevel, LogOutput};

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A file.
    #[error("open sink {path:?}: open {path}: {reason}", path = path.display().to_string())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// systemd's journal.
    #[error("can't find journal ({0})")]
    Journal(String),
}

enum Output {
    Stderr,
    Stdout,
    File(Mutex<File>),
    Rotating(Mutex<Rotating>),
    Journal(UnixDatagram),
    Memory(Arc<Mutex<Vec<String>>>),
}

/// All outputs of the log.
pub struct Sink {
    outputs: Vec<Output>,
}

const JOURNAL: &str = "/run/systemd/journal/socket";

impl Sink {
    /// Opens what `config` names.
    pub fn open(config: &LogConfig) -> Result<Sink, SinkError> {
        let mut outputs = Vec::with_capacity(config.outputs.len());
        for output in &config.outputs {
            outputs.push(match output {
                LogOutput::Stderr => Output::Stderr,
                LogOutput::Stdout => Output::Stdout,
                LogOutput::Journal => Output::Journal(journal()?),
                LogOutput::File(path) => match &config.rotation {
                    Some(rotation) => {
                        let rotating = Rotating::open(path, rotation.clone());
                        Output::Rotating(Mutex::new(rotating.map_err(file_error(path))?))
                    }
                    None => {
                        let file = OpenOptions::new().create(true).append(true).open(path);
                        Output::File(Mutex::new(file.map_err(file_error(path))?))
                    }
                },
            });
        }
        Ok(Sink { outputs })
    }

    /// Collects lines instead of writing them, for tests.
    pub fn memory(lines: Arc<Mutex<Vec<String>>>) -> Sink {
        Sink {
            outputs: vec![Output::Memory(lines)],
        }
    }

    /// Writes a line everywhere. A log that cannot be written is no reason to
    /// stop serving, and there is nowhere to say so.
    pub fn write(&self, line: &str, level: LogLevel) {
        for output in &self.outputs {
            let _lost = match output {
                Output::Stderr => io::stderr().write_all(line.as_bytes()),
                Output::Stdout => {
                    let mut out = io::stdout().lock();
                    out.write_all(line.as_bytes()).and_then(|()| out.flush())
                }
                Output::File(file) => file.lock().write_all(line.as_bytes()),
                Output::Rotating(file) => file.lock().write(line.as_bytes()),
                Output::Journal(socket) => socket.send(&entry(line, level)).map(drop),
                Output::Memory(lines) => {
                    lines.lock().push(line.to_owned());
                    Ok(())
                }
            };
        }
    }
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> SinkError {
    let path = path.to_owned();
    move |error| SinkError::File {
        path,
        reason: crate::go::io_error(&error),
    }
}

fn journal() -> Result<UnixDatagram, SinkError> {
    let open = || {
        let socket = UnixDatagram::unbound()?;
        socket.connect(JOURNAL)?;
        Ok(socket)
    };
    open().map_err(|error: io::Error| SinkError::Journal(crate::go::io_error(&error)))
}

/// A line as an entry of the journal's native protocol. Lines have no line
/// break inside, so the simple form of a field is enough.
fn entry(line: &str, level: LogLevel) -> Vec<u8> {
    // syslog's priorities.
    let priority = match level {
        LogLevel::Debug => 7,
        LogLevel::Info => 6,
        LogLevel::Warn => 4,
        LogLevel::Error => 3,
        LogLevel::Panic | LogLevel::Fatal => 2,
    };
    let text = line.trim_end().replace('\n', " ");
    format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER=etcd\nMESSAGE={text}\n").into_bytes()
}
