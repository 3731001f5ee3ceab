//! The log, in the form that etcd's is read by people and machines: one JSON
//! object a line with `level`, `ts`, `caller`, `msg` and the event's fields.
//!
//! ```text
//! tracing event -> EtcdLayer -> line (json | console) -> Sink (stderr, stdout, file, journal)
//! ```
//!
//! A field whose value is a list or an object is given as `log::json(&value)`.
//! An event with a field `level = "fatal"` is written at that level; ending the
//! process is the caller's.

mod layer;
mod line;
mod lost_page;
mod rotate;
mod sink;

pub use layer::EtcdLayer;
pub use line::{Json, json};
pub use lost_page::tell_of_lost_page;
pub use sink::{Sink, SinkError};

use tracing_subscriber::layer::SubscriberExt;

use crate::config::LogConfig;

/// Makes `config`'s log the process's log. Of two calls the second does
/// nothing, which tests rely on.
pub fn init(config: &LogConfig) -> Result<(), SinkError> {
    let sink = Sink::open(config)?;
    let layer = EtcdLayer::new(config.level, config.format, sink);
    let subscriber = tracing_subscriber::registry().with(layer);
    // Fails only if a log is set already.
    let _already = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}
