//! `etcdutl`: looks at snapshot files and makes data directories of them, with etcd's
//! commands, flags, outputs and exit codes. It never writes to the file it is given.
//!
//! ```text
//!  arguments -> cli -> snapshot | hashkv -> replica (SnapshotFile, restore) -> output
//! ```

mod cli;
mod error;
mod hashkv;
mod initial_cluster;
mod output;
mod size;
mod snapshot;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command, SnapshotCommand};
use crate::error::Error;
use crate::output::Format;

/// The version of etcd whose commands these are.
const VERSION: &str = "3.7.3";

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Help goes to standard output and is no error; etcd's tools exit with 1 otherwise.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        let text = error.render().to_string();
        eprintln!("Error: {}", text.trim_start_matches("error: ").trim_end());
        return ExitCode::FAILURE;
    }
    print!("{}", error.render());
    ExitCode::SUCCESS
}

fn run(cli: &Cli) -> Result<(), Error> {
    let format = Format::parse(&cli.write_out)?;
    match &cli.command {
        Command::Snapshot(SnapshotCommand::Status { files }) => snapshot::status(files, format),
        Command::Snapshot(SnapshotCommand::Restore(restore)) => snapshot::restore(restore),
        Command::Hashkv { file, rev } => hashkv::hashkv(file, *rev, format),
        Command::Version => {
            println!(
                "etcdutl version: {VERSION}\nAPI version: 3.7\netcd-core version: {}",
                env!("CARGO_PKG_VERSION")
            );
            Ok(())
        }
    }
}
