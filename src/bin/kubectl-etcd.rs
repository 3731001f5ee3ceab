//! `kubectl etcd`; see the library's `plugin` for how it works.

use std::process::ExitCode;

use clap::Parser;
use etcd_operator::plugin::Cli;

fn main() -> ExitCode {
    // One TLS stack in the process, chosen before any client asks for it.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("kubectl etcd: another TLS provider was installed first");
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("kubectl etcd: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(cli.run());
    // A thread may still wait for standard input.
    runtime.shutdown_background();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("kubectl etcd: {error}");
            ExitCode::FAILURE
        }
    }
}
