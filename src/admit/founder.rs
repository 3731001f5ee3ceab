//! In the init container of a member that founds a cluster made of a backup: once it has
//! its ticket, the data directory is made, whole or not at all. Then the member starts
//! as any member does that has a log.

use std::{fs, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::{
    Admission, AdmitError, Decision, decide, io_error, read_ticket, record, serve, writable,
};
use crate::{
    admission::{Found, Report, TicketPaper},
    api::TicketKind,
    backup::{
        context::{Context, Files, Tracker},
        restore,
        run::{Answer, Failure, Reason, RestoreReport, RestoreRun, Stage, files},
    },
};

/// Where the kubelet reads how the container ended.
const MESSAGE: &str = "/dev/termination-log";
/// How long a store that is away is waited for within one attempt.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause after an attempt that failed for what may pass.
const SOON: Duration = Duration::from_secs(5);
/// Pause after one that failed for what somebody has to mend.
const LATER: Duration = Duration::from_secs(30);
/// Pause between two looks for the ticket.
const POLL: Duration = Duration::from_millis(200);

/// Makes the data directory. Returns when it is there, or when the pod is stopped.
///
/// # Errors
/// The pod's own files cannot be used. What is wrong with the backup is told in the
/// report, and tried again.
pub async fn found(admission: Admission, run: RestoreRun) -> Result<(), AdmitError> {
    let start = format!("restored:{}", run.token);
    let report = Arc::new(Mutex::new(look(&admission, &start)?));
    let tracker = Tracker::default();
    let told = {
        let (report, tracker) = (Arc::clone(&report), tracker.clone());
        move || tell(&report.lock(), &tracker)
    };
    serve(admission.port, told).await?;
    let mut stop = signal(SignalKind::terminate()).map_err(io_error("listens for SIGTERM"))?;
    let work = make(&admission, &run, &start, &report, &tracker);
    tokio::select! {
        done = Box::pin(work) => done,
        _ = stop.recv() => {
            info!("stopped before the data directory was there");
            Ok(())
        }
    }
}

/// What is there before anything is made.
fn look(admission: &Admission, start: &str) -> Result<Report, AdmitError> {
    let found = match decide(&admission.data_dir, &admission.state_dir)? {
        Decision::Start => Found::Empty, // ended at once, nobody reads it
        Decision::Wait(found) => found,
    };
    let message = writable(&admission.data_dir).err();
    Ok(Report {
        start: Some(start.to_owned()),
        found: if message.is_some() {
            Found::Unknown
        } else {
            found
        },
        message,
        ..Report::new(&admission.pod_uid, found)
    })
}

/// The report, with how far the work is.
fn tell(report: &Report, tracker: &Tracker) -> Report {
    let shown = tracker.shown();
    let done = shown.total_bytes.filter(|total| *total > 0).map(|total| {
        let percent = shown.done_bytes.min(total).saturating_mul(100) / total;
        format!(", {percent} %")
    });
    let message = (shown.stage != Stage::Preparing || shown.trouble.is_some()).then(|| {
        let trouble = shown
            .trouble
            .as_ref()
            .map(|it| format!(" ({})", it.message));
        format!(
            "its data directory is being made of the backup: {:?}{}{}",
            shown.stage,
            done.unwrap_or_default(),
            trouble.unwrap_or_default()
        )
    });
    Report {
        message: report.message.clone().or(message),
        ..report.clone()
    }
}

async fn make(
    admission: &Admission,
    run: &RestoreRun,
    start: &str,
    report: &Mutex<Report>,
    tracker: &Tracker,
) -> Result<(), AdmitError> {
    loop {
        let now = look(admission, start)?;
        if decide(&admission.data_dir, &admission.state_dir)? == Decision::Start {
            info!("found a log; the member may start");
            return Ok(());
        }
        {
            let mut report = report.lock();
            *report = Report {
                failure: report.failure.clone(),
                ..now
            };
        }
        if report.lock().found != Found::Empty {
            tokio::time::sleep(SOON).await;
            continue;
        }
        let Some(ticket) = ticket(admission, run, report) else {
            tokio::time::sleep(POLL).await;
            continue;
        };
        let context = Context {
            files: Files::new(files::ROOT.into()),
            tracker: tracker.clone(),
            patience: PATIENCE,
            loopback: false,
        };
        match Box::pin(restore::run(run, &context)).await {
            Ok(done) => {
                // From here on an empty disk under this pod is a lost one.
                record(&admission.state_dir, &ticket)?;
                info!(
                    revision = done.reach.revision,
                    cluster = done.cluster_id,
                    "restored"
                );
                return leave(done);
            }
            Err(failure) => {
                warn!(reason = ?failure.reason, message = failure.message, "not restored");
                let pause = if failure.transient { SOON } else { LATER };
                tracker.stage(Stage::Preparing, None);
                report.lock().failure = Some(failure);
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// The ticket, if it is there and is for this.
fn ticket(admission: &Admission, run: &RestoreRun, report: &Mutex<Report>) -> Option<TicketPaper> {
    let text = fs::read_to_string(&admission.ticket_file).unwrap_or_default();
    let refused = match read_ticket(&text, &admission.pod_uid) {
        Ok(None) => return None,
        Ok(Some(paper)) if paper.kind == TicketKind::Restore && paper.token == run.token => {
            return Some(paper);
        }
        Ok(Some(paper)) => format!("the ticket is for {:?} and {}", paper.kind, paper.token),
        Err(message) => message,
    };
    let mut report = report.lock();
    if report.message.as_ref() != Some(&refused) {
        warn!(refused, "refuses the ticket");
        report.message = Some(refused);
    }
    None
}

/// Leaves what was restored where the kubelet finds it.
fn leave(done: RestoreReport) -> Result<(), AdmitError> {
    let message = Answer::Restore(done).message();
    fs::write(MESSAGE, message).map_err(io_error(format!("writes {MESSAGE}")))
}

/// What a run would be told, read from its variable.
///
/// # Errors
/// It is no run.
pub fn told(text: &str) -> Result<RestoreRun, Failure> {
    serde_json::from_str(text).map_err(|error| {
        let why = format!("what the pod is told to restore cannot be read: {error}");
        Failure::new(Reason::InvalidRun, why)
    })
}
