//! `etcd`: reads what it is told, and runs a server or says why not.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::exit;

use etcd_server::config::{self, Command, ConfigError, Loaded, Refusal, ValidateError};
use etcd_server::log::{self, json};
use etcd_server::run::{End, run};
use etcd_storage::disk::on_lost_page;

fn main() {
    let arguments: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let own = arguments.get(1..).unwrap_or_default();
    if let Some(subcommand @ ("gateway" | "grpc-proxy")) = own.first().map(String::as_str) {
        print(
            &mut std::io::stderr(),
            &format!("etcd {subcommand} is not implemented by this server\n"),
        );
        exit(1);
    }
    match config::load(own, &environment) {
        Command::Print {
            stdout,
            stderr,
            code,
        } => {
            print(&mut std::io::stderr(), &stderr);
            print(&mut std::io::stdout(), &stdout);
            exit(code);
        }
        Command::Refuse(refusal) => refuse(&refusal, &arguments),
        Command::Run(loaded) => start(*loaded, &arguments),
    }
}

fn print(out: &mut impl Write, text: &str) {
    // Whoever closes our output does not want it.
    let _unwanted = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn open_log(config: &config::LogConfig, arguments: &[String], notes: &[config::Note]) {
    if let Err(error) = log::init(config) {
        // The usual log is all there is left to say it in.
        let _usual = log::init(&config::LogConfig::default());
        tracing::warn!(%error, "failed to verify flags");
        exit(1);
    }
    notes.iter().for_each(config::Note::tell);
    // By its own name: inside the macro `log` may be the crate of that name, if another package asks tracing for it.
    tracing::info!(args = ?json(&arguments), "Running: ");
}

fn refuse(refusal: &Refusal, arguments: &[String]) -> ! {
    let error = &refusal.error;
    if let ConfigError::File(file @ config::file::FileError::Urls { .. }) = error {
        print(&mut std::io::stderr(), &format!("{file}\n"));
        exit(1);
    }
    open_log(&refusal.log, arguments, &refusal.notes);
    if let ConfigError::Environment(config::environment::EnvironmentError::Conflict { variable }) =
        error
    {
        tracing::error!(level = "fatal", "environment-variable" = %variable, "{error}");
        exit(1);
    }
    tracing::warn!(%error, "failed to verify flags");
    if matches!(
        error,
        ConfigError::Validate(ValidateError::UnsetAdvertiseClientUrls)
    ) {
        tracing::warn!(%error, "advertise client URLs are not set");
    }
    exit(1);
}

fn start(loaded: Loaded, arguments: &[String]) -> ! {
    open_log(&loaded.config.log, arguments, &loaded.notes);
    if let Err(error) = on_lost_page(log::tell_of_lost_page) {
        tracing::warn!(%error, "a mapped page that is lost will end the process without a word");
    }
    match run(loaded.config) {
        Ok(End::Removed) => exit(0),
        // The kernel does not end process 1 for us.
        Ok(End::Signal(_)) if std::process::id() == 1 => exit(0),
        Ok(End::Signal(number)) => {
            // Ends the process as the signal would have, so that whoever waits
            // for it sees that.
            let _ended = signal_hook::low_level::emulate_default_handler(number);
            exit(128 + number);
        }
        Err(error) => {
            tracing::error!(level = "fatal", %error, "failed to start etcd");
            exit(1);
        }
    }
}
