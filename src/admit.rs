//! In a member's pod: may it start, and how; then exec.
//!
//! A log on the disk starts at once, operator or not. An empty disk starts only with
//! a ticket, which is an annotation of this very pod; until it comes, `/livez` is
//! answered and `/admission` tells what was found. The use of a ticket is on disk
//! before etcd runs, so a container that restarts cannot use it again. A log beside
//! a store that the image's server cannot read is left alone, and reported; so is any
//! log while the cluster is being restored and the pod is held.

mod engine;
mod founder;
mod survivor;

pub use founder::{found, told};

use std::{
    convert::Infallible,
    fs::{self, File},
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use axum::{Json, Router, http::StatusCode, routing::get};
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing::{info, warn};

use engine::Held;

use crate::{
    admission::{Found, REPORT_PATH, Report, TicketPaper},
    api::{Engine, TicketKind},
    identity,
};

/// An emptyDir: as long-lived as the pod.
pub const STATE_DIR: &str = "/run/etcd-admission";
/// Where the init container puts this program.
pub const BIN_DIR: &str = "/run/etcd-admission/bin";
/// Where the kubelet puts the pod's annotation.
pub const TICKET_DIR: &str = "/run/etcd-ticket";
/// Name of the file with the annotation.
pub const TICKET_FILE: &str = "ticket";
/// Environment variable with the pod's UID.
pub const POD_UID: &str = "POD_UID";

/// Pause between two looks for the ticket.
const POLL: Duration = Duration::from_millis(200);
/// Pause after an attempt to make a new cluster that failed.
const HELD: Duration = Duration::from_secs(10);
/// Pause between two looks at a disk that could not be used.
const EXAMINE: Duration = Duration::from_secs(2);

/// What `admit` was told.
#[derive(Clone, Debug)]
pub struct Admission {
    /// etcd's data directory.
    pub data_dir: PathBuf,
    /// Directory that lives as long as the pod, for the record of a used ticket.
    pub state_dir: PathBuf,
    /// File the ticket appears in.
    pub ticket_file: PathBuf,
    /// UID of this pod.
    pub pod_uid: String,
    /// Port of the report.
    pub port: u16,
    /// etcd and its flags.
    pub command: Vec<String>,
    /// The restore that the pod is held for: a log is not started, but told.
    pub hold: Option<String>,
}

/// Why a member cannot even wait.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// No program was named after `--`.
    #[error("no program to start: `admit [flags] -- etcd [flags]`")]
    NoCommand,
    /// A file or socket failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// How it failed.
        source: io::Error,
    },
    /// The program could not be started.
    #[error("cannot start {program}: {source}")]
    Exec {
        /// The program.
        program: String,
        /// How it failed.
        source: io::Error,
    },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> AdmitError {
    let what = what.into();
    move |source| AdmitError::Io { what, source }
}

/// What the disk and the pod's own record allow.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// There is a log: start as it is.
    Start,
    /// No log: wait, and say so.
    Wait(Found),
}

/// Decides by what is on disk. No clock, no network, no API server.
pub fn decide(data_dir: &Path, state_dir: &Path) -> Result<Decision, AdmitError> {
    if has_log(data_dir)? {
        return Ok(Decision::Start);
    }
    let used = state_dir.join("used-ticket");
    let spent = used
        .try_exists()
        .map_err(io_error(format!("looks for {}", used.display())))?;
    Ok(Decision::Wait(if spent {
        Found::Spent
    } else {
        Found::Empty
    }))
}

/// Whether `data_dir` holds a log: a segment, in the place etcd keeps them.
fn has_log(data_dir: &Path) -> Result<bool, AdmitError> {
    let wal = data_dir.join("member").join("wal");
    let entries = match fs::read_dir(&wal) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => {
            return Err(AdmitError::Io {
                what: format!("reads {}", wal.display()),
                source,
            });
        }
    };
    for entry in entries {
        let entry = entry.map_err(io_error(format!("reads {}", wal.display())))?;
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "wal")
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads a ticket. `Ok(None)`: there is none yet.
pub fn read_ticket(text: &str, pod_uid: &str) -> Result<Option<TicketPaper>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let paper: TicketPaper = serde_json::from_str(text)
        .map_err(|error| format!("the ticket cannot be read: {error}"))?;
    if paper.pod_uid != pod_uid {
        return Err(format!(
            "the ticket is made out to pod {}, this is {pod_uid}",
            paper.pod_uid
        ));
    }
    Ok(Some(paper))
}

/// Runs until etcd takes over this process. Returns only with an error, or when the
/// pod is stopped while it waits.
pub async fn admit(admission: Admission) -> Result<(), AdmitError> {
    let Some(program) = admission.command.first().cloned() else {
        return Err(AdmitError::NoCommand);
    };
    let flags = &admission.command[1..];
    survivor::finish(&admission.data_dir)?;
    if let Some(hold) = &admission.hold
        && !survivor::is_done(&admission.data_dir, hold)?
    {
        return Box::pin(held(&admission, hold, &program, flags)).await;
    }
    let Some(report) = examine(&admission, &program) else {
        info!(data_dir = %admission.data_dir.display(), "found a log; starts the member");
        return exec(&program, flags, &[]).map(|never| match never {});
    };
    info!(found = ?report.found, version = report.version, message = report.message, "waits for a ticket");
    let report = Arc::new(Mutex::new(report));
    let told = Arc::clone(&report);
    serve(admission.port, move || told.lock().clone()).await?;
    let mut stop = signal(SignalKind::terminate()).map_err(io_error("listens for SIGTERM"))?;
    let ticket = tokio::select! {
        ticket = wait(&admission, &program, &report) => ticket,
        _ = stop.recv() => {
            info!("stopped while waiting for a ticket");
            return Ok(());
        }
    };
    let Some(ticket) = ticket else {
        info!("found a log after all; starts the member");
        return exec(&program, flags, &[]).map(|never| match never {});
    };
    record(&admission.state_dir, &ticket)?;
    info!(kind = ?ticket.kind, member = ticket.member_id, cluster = ticket.cluster_id, "admitted");
    exec(&program, flags, &ticket.flags()).map(|never| match never {})
}

/// Tells what lies on the disk, until a ticket says what becomes of it.
async fn held(
    admission: &Admission,
    hold: &str,
    program: &str,
    flags: &[String],
) -> Result<(), AdmitError> {
    let report = Arc::new(Mutex::new(holding(admission, hold)));
    let told = Arc::clone(&report);
    info!(hold, "is held");
    serve(admission.port, move || told.lock().clone()).await?;
    let mut stop = signal(SignalKind::terminate()).map_err(io_error("listens for SIGTERM"))?;
    let mut poll = tokio::time::interval(POLL);
    let mut examined = tokio::time::Instant::now();
    loop {
        tokio::select! {
            _ = poll.tick() => {}
            _ = stop.recv() => {
                info!("stopped while it was held");
                return Ok(());
            }
        }
        if report.lock().found != Found::Held {
            if examined.elapsed() >= EXAMINE {
                examined = tokio::time::Instant::now();
                *report.lock() = holding(admission, hold);
            }
            continue;
        }
        let text = fs::read_to_string(&admission.ticket_file).unwrap_or_default();
        let ticket = match read_ticket(&text, &admission.pod_uid) {
            Ok(Some(paper)) if paper.kind == TicketKind::Revive => paper,
            Ok(_) => continue,
            Err(message) => {
                refuse(&report, message);
                continue;
            }
        };
        info!(
            cluster = ticket.cluster_id,
            "makes a new cluster of what it has"
        );
        let (data_dir, paper) = (admission.data_dir.clone(), ticket.clone());
        let made = tokio::task::spawn_blocking(move || survivor::make(&data_dir, &paper));
        match made.await {
            Ok(Ok(())) => {
                record(&admission.state_dir, &ticket)?;
                return exec(program, flags, &[]).map(|never| match never {});
            }
            Ok(Err(failure)) => {
                warn!(reason = ?failure.reason, message = failure.message, "no new cluster");
                report.lock().failure = Some(failure);
            }
            Err(error) => warn!(%error, "no new cluster"),
        }
        tokio::time::sleep(HELD).await;
    }
}

/// What a pod that is held has.
fn holding(admission: &Admission, hold: &str) -> Report {
    let report = |found| Report {
        start: Some(format!("held:{hold}")),
        ..Report::new(&admission.pod_uid, found)
    };
    match decide(&admission.data_dir, &admission.state_dir) {
        Ok(Decision::Wait(found)) => report(found),
        Ok(Decision::Start) => match survivor::examine(&admission.data_dir) {
            Ok(log) => Report {
                log: Some(log),
                ..report(Found::Held)
            },
            Err(message) => Report {
                message: Some(message),
                ..report(Found::Unknown)
            },
        },
        Err(error) => Report {
            message: Some(error.to_string()),
            ..report(Found::Unknown)
        },
    }
}

fn refuse(report: &Mutex<Report>, message: String) {
    let mut report = report.lock();
    if report.message.as_ref() != Some(&message) {
        warn!(message, "refuses the ticket");
        report.message = Some(message);
    }
}

/// What is there; `None`: a log, so there is nothing to wait for. A report without
/// a version is of a pod that is not fit for a ticket.
fn examine(admission: &Admission, program: &str) -> Option<Report> {
    let report = |found, version, message| Report {
        version,
        message,
        ..Report::new(&admission.pod_uid, found)
    };
    let found = match decide(&admission.data_dir, &admission.state_dir) {
        Ok(Decision::Start) => {
            let (held, data) = other_engine(&admission.data_dir, program)?;
            let message = format!(
                "its data is of {}, but the image holds {}",
                data.name(),
                held.engine.name()
            );
            return Some(Report {
                engine: Some(held.engine),
                data: Some(data),
                ..report(Found::OtherEngine, None, Some(message))
            });
        }
        Ok(Decision::Wait(found)) => found,
        // A disk that cannot be read is neither empty nor spent; it may be mended.
        Err(error) => return Some(report(Found::Unknown, None, Some(error.to_string()))),
    };
    if found == Found::Spent {
        let message = "its ticket was used, and yet there is no log".to_owned();
        return Some(report(found, None, Some(message)));
    }
    // A volume that takes no files may be no volume at all, but what lies under one
    // that was not mounted: nothing is said about the data.
    if let Err(message) = writable(&admission.data_dir) {
        return Some(report(Found::Unknown, None, Some(message)));
    }
    Some(match engine::held(program) {
        Ok(held) => Report {
            engine: Some(held.engine),
            ..report(found, Some(held.version), None)
        },
        Err(message) => report(found, None, Some(message)),
    })
}

/// The server of the image and that of the data, if the one cannot read the other. Where
/// one is not known the member is started as ever, and says itself what is wrong.
fn other_engine(data_dir: &Path, program: &str) -> Option<(Held, Engine)> {
    let data = engine::wrote(data_dir)?;
    let held = engine::held(program).ok()?;
    (!held.engine.reads(data)).then_some((held, data))
}

/// Waits for a ticket that may be used. `None`: a log has turned up instead.
async fn wait(admission: &Admission, program: &str, report: &Mutex<Report>) -> Option<TicketPaper> {
    let mut poll = tokio::time::interval(POLL);
    let mut examined = tokio::time::Instant::now();
    loop {
        poll.tick().await;
        let now = report.lock().clone();
        if now.version.is_none() {
            // Not fit for a ticket: see whether that was mended.
            if examined.elapsed() >= EXAMINE {
                examined = tokio::time::Instant::now();
                *report.lock() = examine(admission, program)?;
            }
            continue;
        }
        let text = fs::read_to_string(&admission.ticket_file).unwrap_or_default();
        match read_ticket(&text, &admission.pod_uid) {
            Ok(Some(paper)) if matches!(paper.kind, TicketKind::Bootstrap | TicketKind::Join) => {
                return Some(paper);
            }
            Ok(Some(paper)) => {
                let message = format!(
                    "the ticket is for {:?}: nothing here is for that",
                    paper.kind
                );
                refuse(report, message);
            }
            Ok(None) => {}
            Err(message) => refuse(report, message),
        }
    }
}

/// Serves liveness and the report, in the background, until exec closes the socket.
async fn serve(
    port: u16,
    report: impl Fn() -> Report + Clone + Send + Sync + 'static,
) -> Result<(), AdmitError> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let listener = TcpListener::bind(address)
        .await
        .map_err(io_error(format!("listens on {address}")))?;
    let waiting = async || (StatusCode::SERVICE_UNAVAILABLE, "waits for its ticket\n");
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(waiting))
        .route("/health", get(waiting))
        .route(
            REPORT_PATH,
            get(move || {
                let report = report();
                async move { Json(report) }
            }),
        );
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            warn!(%error, "the report is served no more");
        }
    });
    Ok(())
}

/// Whether the volume takes files of ours, found out before a ticket is spent on it.
fn writable(data_dir: &Path) -> Result<(), String> {
    let probe = data_dir
        .parent()
        .unwrap_or(data_dir)
        .join(".admission-probe");
    fs::write(&probe, b"")
        .and_then(|()| fs::remove_file(&probe))
        .map_err(|error| format!("the volume cannot be written: {}: {error}", probe.display()))
}

/// Puts the use of a ticket on disk, synced, before etcd runs.
fn record(state_dir: &Path, ticket: &TicketPaper) -> Result<(), AdmitError> {
    let path = state_dir.join("used-ticket");
    let text = serde_json::to_vec(ticket).expect("a ticket is JSON");
    let write = || -> io::Result<()> {
        let mut file = File::create(&path)?;
        file.write_all(&text)?;
        file.sync_all()?;
        File::open(state_dir)?.sync_all()
    };
    write().map_err(io_error(format!(
        "records the use of the ticket in {}",
        path.display()
    )))
}

fn exec(program: &str, flags: &[String], more: &[String]) -> Result<Infallible, AdmitError> {
    let source = Command::new(program).args(flags).args(more).exec();
    Err(AdmitError::Exec {
        program: program.to_owned(),
        source,
    })
}

/// Copies the running program into `dir`: what the init container does.
pub fn install(dir: &Path) -> Result<(), AdmitError> {
    let program = std::env::current_exe().map_err(io_error("finds its own program"))?;
    fs::create_dir_all(dir).map_err(io_error(format!("makes {}", dir.display())))?;
    let target = dir.join("etcd-operator");
    fs::copy(&program, &target).map_err(io_error(format!(
        "copies {} to {}",
        program.display(),
        target.display()
    )))?;
    Ok(())
}

impl Admission {
    /// The admission of this pod, with the places fixed by the pod's manifest.
    pub fn of_this_pod(
        data_dir: PathBuf,
        pod_uid: String,
        hold: Option<String>,
        command: Vec<String>,
    ) -> Admission {
        Admission {
            data_dir,
            state_dir: STATE_DIR.into(),
            ticket_file: Path::new(TICKET_DIR).join(TICKET_FILE),
            pod_uid,
            port: identity::METRICS_PORT,
            command,
            hold,
        }
    }
}

#[cfg(test)]
mod tests;
