//! One line of the log, in JSON or in columns.

use std::fmt::{self, Write};
use std::time::SystemTime;

use tracing::field::{Field, Visit};

/// Opens a value that is JSON already. No text that people write starts so,
/// and what follows is checked before it is believed.
const MARK: &str = "\u{1}json:";

/// A list or an object for a field; see [`json`].
#[derive(Clone)]
pub struct Json(String);

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MARK)?;
        f.write_str(&self.0)
    }
}

/// Makes a list or an object a field's value: `info!(urls = ?json(&urls))`.
pub fn json(value: &impl serde::Serialize) -> Json {
    Json(serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()))
}

/// What an event says, as the parts of a line.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// The event's message.
    pub message: String,
    /// A level that outranks the event's own.
    pub level: Option<String>,
    /// Fields as `"name":value,` without braces.
    pub fields: String,
}

impl Parts {
    fn field(&mut self, name: &str) -> &mut String {
        // `r#type` and the like lose their prefix.
        push_string(&mut self.fields, name.strip_prefix("r#").unwrap_or(name));
        self.fields.push(':');
        &mut self.fields
    }

    fn number(&mut self, field: &Field, value: impl fmt::Display) {
        let out = self.field(field.name());
        // Writing to a String cannot fail.
        let _infallible = write!(out, "{value},");
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "level" => self.level = Some(value.to_owned()),
            name => {
                let out = self.field(name);
                push_string(out, value);
                out.push(',');
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        let is_json =
            |json: &&str| serde_json::from_str::<&serde_json::value::RawValue>(json).is_ok();
        match text.strip_prefix(MARK).filter(is_json) {
            Some(json) => {
                let out = self.field(field.name());
                out.push_str(json);
                out.push(',');
            }
            None => self.record_str(field, &text),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_str(field, &value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.number(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.number(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() {
            true => self.number(field, value),
            false => self.record_str(field, &value.to_string()),
        }
    }
}

/// Who said it: level, logger, place in the source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    /// The level, by etcd's name.
    pub level: &'a str,
    /// A part of the server that has a name of its own, such as raft.
    pub logger: Option<&'a str>,
    /// File of the source.
    pub file: &'a str,
    /// Line of the source.
    pub line: u32,
}

/// A line of JSON, with its end.
pub(super) fn to_json(now: SystemTime, origin: &Origin<'_>, parts: &Parts) -> String {
    let mut out = String::with_capacity(128 + parts.message.len() + parts.fields.len());
    out.push_str("{\"level\":");
    push_string(&mut out, origin.level);
    // Writing to a String cannot fail.
    let _infallible = write!(out, ",\"ts\":\"{}\"", Timestamp(now));
    if let Some(logger) = origin.logger {
        out.push_str(",\"logger\":");
        push_string(&mut out, logger);
    }
    let _infallible = write!(
        out,
        ",\"caller\":\"{}:{}\"",
        short(origin.file),
        origin.line
    );
    out.push_str(",\"msg\":");
    push_string(&mut out, &parts.message);
    let fields = parts.fields.trim_end_matches(',');
    if !fields.is_empty() {
        out.push(',');
        out.push_str(fields);
    }
    out.push_str("}\n");
    out
}

/// A line in columns, with its end.
pub(super) fn to_console(now: SystemTime, origin: &Origin<'_>, parts: &Parts) -> String {
    let logger = origin
        .logger
        .map(|logger| format!("{logger}\t"))
        .unwrap_or_default();
    let fields = match parts.fields.trim_end_matches(',') {
        "" => String::new(),
        fields => format!("\t{{{fields}}}"),
    };
    format!(
        "{}\t{}\t{logger}{}:{}\t{}{fields}\n",
        Timestamp(now),
        origin.level,
        short(origin.file),
        origin.line,
        parts.message
    )
}

/// The last directory and the file, as in etcd's lines.
fn short(file: &str) -> &str {
    let mut slashes = file.rmatch_indices('/');
    match (slashes.next(), slashes.next()) {
        (Some(_), Some((at, _))) => &file[at + 1..],
        _ => file,
    }
}

/// UTC with microseconds: `2026-01-01T00:00:00.000000Z`.
struct Timestamp(SystemTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = jiff::Timestamp::try_from(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(f, "{}", now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ"))
    }
}

fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' || c == '\u{7f}' => {
                // Writing to a String cannot fail.
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
