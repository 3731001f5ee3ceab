//! What reading the configuration has to say. The log it belongs into exists
//! only once the configuration is read, so notes are kept and told later.

/// How loud a note is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For the record.
    Info,
    /// Somebody may want to change something.
    Warn,
}

/// One line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// How loud it is.
    pub level: Level,
    /// The line.
    pub message: String,
    /// The thing it is about; empty if there is none.
    pub subject: String,
}

impl Note {
    /// A note for the record.
    pub fn info(message: impl Into<String>, subject: impl Into<String>) -> Note {
        Note {
            level: Level::Info,
            message: message.into(),
            subject: subject.into(),
        }
    }

    /// A note somebody may want to act on.
    pub fn warn(message: impl Into<String>, subject: impl Into<String>) -> Note {
        Note {
            level: Level::Warn,
            message: message.into(),
            subject: subject.into(),
        }
    }

    /// Writes the note to the log.
    pub fn tell(&self) {
        let (message, subject) = (self.message.as_str(), self.subject.as_str());
        match (self.level, subject.is_empty()) {
            (Level::Info, true) => tracing::info!("{message}"),
            (Level::Info, false) => tracing::info!(subject, "{message}"),
            (Level::Warn, true) => tracing::warn!("{message}"),
            (Level::Warn, false) => tracing::warn!(subject, "{message}"),
        }
    }
}
