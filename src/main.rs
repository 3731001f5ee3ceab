//! The operator's program; see the library for how it works.

use std::process::ExitCode;

use clap::Parser;
use etcd_operator::cli::Cli;

/// glibc's keeps what a burst of work has taken (ADR 46).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // One TLS stack in the process, chosen before any client asks for it.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("etcd-operator: another TLS provider was installed first");
        return ExitCode::FAILURE;
    }
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("etcd-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
