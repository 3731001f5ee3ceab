//! etcd's output formats.

use crate::error::Error;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Simple,
    Table,
    Json,
    Fields,
}

impl Format {
    /// Parses `--write-out`.
    pub(crate) fn parse(name: &str) -> Result<Format, Error> {
        match name {
            "simple" => Ok(Format::Simple),
            "table" => Ok(Format::Table),
            "json" => Ok(Format::Json),
            "fields" => Ok(Format::Fields),
            "protobuf" => Err(Error::Format("protobuf")),
            _ => Err(Error::UnknownFormat),
        }
    }
}

/// A header and one row, boxed; values are flush right, headers centred.
pub(crate) fn table(columns: &[(&str, String)]) -> String {
    let widths: Vec<usize> = columns
        .iter()
        .map(|(name, value)| name.chars().count().max(value.chars().count()))
        .collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let bars: Vec<String> = widths.iter().map(|w| "─".repeat(w + 2)).collect();
        format!("{left}{}{right}\n", bars.join(middle))
    };
    let row = |cells: Vec<String>| {
        let cells: Vec<String> = cells.into_iter().map(|cell| format!(" {cell} ")).collect();
        format!("│{}│\n", cells.join("│"))
    };
    let names = columns
        .iter()
        .zip(&widths)
        .map(|((name, _), width)| format!("{name:^width$}"))
        .collect();
    let values = columns
        .iter()
        .zip(&widths)
        .map(|((_, value), width)| format!("{value:>width$}"))
        .collect();
    [
        rule("┌", "┬", "┐"),
        row(names),
        rule("├", "┼", "┤"),
        row(values),
        rule("└", "┴", "┘"),
    ]
    .concat()
}
