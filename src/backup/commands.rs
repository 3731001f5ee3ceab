//! The commands of runs: `etcd-operator snapshot | verify | …`. Each reads its run from
//! the environment, serves how far it is, and leaves an answer.

use std::{
    fmt::Display,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use axum::{Json, Router, routing::get};
use serde::de::DeserializeOwned;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{error, info, warn};

use super::{
    context::{Context, Files, Tracker},
    delete, export, follow, import, list, restore,
    run::{
        Answer, EXIT_DONE, EXIT_PERMANENT, EXIT_TRANSIENT, Failure, PROGRESS_PATH, PROGRESS_PORT,
        RUN_VARIABLE, Reason, Stage, files,
    },
    snapshot, verify,
};

/// Where the kubelet reads a container's termination message.
const MESSAGE_PATH: &str = "/dev/termination-log";
/// How long a run that is asked to end may take to tidy up. The kubelet waits 30 s.
const TIDY: Duration = Duration::from_secs(15);

/// What all commands of runs are told.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// The run, as JSON.
    #[arg(long, env = RUN_VARIABLE, hide_env_values = true)]
    run: String,
    /// Where secrets and volumes are mounted.
    #[arg(long, default_value = files::ROOT)]
    files: PathBuf,
    /// File to leave the answer in, besides standard output; /dev/termination-log if it
    /// exists.
    #[arg(long)]
    termination_log: Option<PathBuf>,
    /// Address of /progress.
    #[arg(long, default_value_t = SocketAddr::from(([0, 0, 0, 0], PROGRESS_PORT)))]
    listen: SocketAddr,
    /// Seconds that what passes by itself is waited out before the run fails.
    #[arg(long, default_value_t = 240, value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience: u64,
    /// Let the endpoint of the store be on this machine. For tests.
    #[arg(long)]
    allow_loopback: bool,
}

/// Which run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// [`SnapshotRun`](super::run::SnapshotRun).
    Snapshot,
    /// [`VerifyRun`](super::run::VerifyRun).
    Verify,
    /// [`RestoreRun`](super::run::RestoreRun).
    Restore,
    /// [`FollowRun`](super::run::FollowRun).
    Follow,
    /// [`DeleteRun`](super::run::DeleteRun).
    Delete,
    /// [`ListRun`](super::run::ListRun).
    List,
    /// [`ExportRun`](super::run::ExportRun).
    Export,
    /// [`ImportRun`](super::run::ImportRun).
    Import,
}

/// Does a run to its end; the exit code says how it ended.
pub fn run(verb: Verb, args: RunArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let answer = runtime.block_on(answer(verb, &args));
    // A thread that still packs for a run that was given up has nothing to finish.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(ExitCode::from(leave(
        &answer,
        args.termination_log.as_deref(),
    )))
}

async fn answer(verb: Verb, args: &RunArgs) -> Answer {
    let context = Context {
        files: Files::new(args.files.clone()),
        tracker: Tracker::default(),
        patience: Duration::from_secs(args.patience),
        loopback: args.allow_loopback,
    };
    if let Err(failure) = serve(args.listen, context.tracker.clone()).await {
        return Answer::Failed(failure);
    }
    let done = work(verb, &args.run, &context).await;
    context.tracker.stage(Stage::Done, None);
    done.unwrap_or_else(Answer::Failed)
}

async fn work(verb: Verb, text: &str, context: &Context) -> Result<Answer, Failure> {
    // What is cut off in the middle is done again, or found by the next run.
    let nothing = || Box::pin(async { Ok(()) });
    match verb {
        Verb::Snapshot => {
            let told = told(text)?;
            let work = Box::pin(snapshot::run(&told, context));
            let tidy = Box::pin(snapshot::tidy(&told, context));
            unless_asked_to_end(work, tidy).await.map(Answer::Snapshot)
        }
        Verb::Verify => {
            let told = told(text)?;
            let work = Box::pin(verify::run(&told, context));
            unless_asked_to_end(work, nothing())
                .await
                .map(Answer::Verify)
        }
        Verb::Restore => {
            let told = told(text)?;
            let work = Box::pin(restore::run(&told, context));
            unless_asked_to_end(work, nothing())
                .await
                .map(Answer::Restore)
        }
        Verb::Follow => {
            let told = told(text)?;
            let (stop, stopped) = watch::channel(false);
            let work = Box::pin(follow::run(&told, context, stopped));
            until_asked_to_end(work, stop).await.map(Answer::Follow)
        }
        Verb::Delete => {
            let told = told(text)?;
            let work = Box::pin(delete::run(&told, context));
            unless_asked_to_end(work, nothing())
                .await
                .map(Answer::Delete)
        }
        Verb::List => {
            let told = told(text)?;
            let work = Box::pin(list::run(&told, context));
            unless_asked_to_end(work, nothing()).await.map(Answer::List)
        }
        Verb::Export => {
            let told = told(text)?;
            let work = Box::pin(export::run(&told, context));
            unless_asked_to_end(work, nothing())
                .await
                .map(Answer::Export)
        }
        Verb::Import => {
            let told = told(text)?;
            let work = Box::pin(import::run(&told, context));
            unless_asked_to_end(work, nothing())
                .await
                .map(Answer::Import)
        }
    }
}

/// Reads what a run is told.
fn told<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::new(
            Reason::InvalidRun,
            format!("{RUN_VARIABLE} cannot be read: {error}"),
        )
    })
}

/// Does `work` unless the process is asked to end; then `tidy`.
async fn unless_asked_to_end<T>(
    work: impl Future<Output = Result<T, Failure>>,
    tidy: impl Future<Output = Result<(), Failure>>,
) -> Result<T, Failure> {
    let which = tokio::select! {
        done = work => return done,
        which = asked_to_end() => which?,
    };
    warn!("ends early: {which}");
    match tokio::time::timeout(TIDY, tidy).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => warn!("leaves something behind: {failure}"),
        Err(_) => warn!("leaves something behind: it takes too long to tidy up"),
    }
    Err(Failure::new(
        Reason::Cancelled,
        format!("the run was asked to end by {which}"),
    ))
}

/// Does `work`, and tells it when the process is asked to end.
async fn until_asked_to_end<T>(
    work: impl Future<Output = Result<T, Failure>> + Unpin,
    stop: watch::Sender<bool>,
) -> Result<T, Failure> {
    let mut work = work;
    let which = tokio::select! {
        done = &mut work => return done,
        which = asked_to_end() => which?,
    };
    info!("ends: {which}");
    stop.send_replace(true);
    work.await
}

/// Waits for SIGTERM or SIGINT; its name.
async fn asked_to_end() -> Result<&'static str, Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Failure::new(Reason::DiskFailed, format!("listens for signals: {error}"))
        })
    };
    let mut term = listen(SignalKind::terminate())?;
    let mut int = listen(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    })
}

/// Serves [`PROGRESS_PATH`] from now on.
async fn serve(address: SocketAddr, tracker: Tracker) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::new(Reason::InvalidRun, format!("--listen {address}: {error}"))
    })?;
    let progress = move || {
        let shown = tracker.shown();
        async move { Json(shown) }
    };
    let router = Router::new().route(PROGRESS_PATH, get(progress));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            warn!(%error, "no longer tells how far it is");
        }
    });
    Ok(())
}

/// Leaves the answer where it is looked for; the exit code.
fn leave(answer: &Answer, log: Option<&Path>) -> u8 {
    let message = answer.message();
    let code = match answer {
        Answer::Failed(failure) => {
            error!(reason = ?failure.reason, transient = failure.transient, "failed: {failure}");
            match failure.transient {
                true => EXIT_TRANSIENT,
                false => EXIT_PERMANENT,
            }
        }
        _ => {
            info!("done");
            EXIT_DONE
        }
    };
    println!("{}", whole(answer));
    let path = match log {
        Some(path) => path,
        None if Path::new(MESSAGE_PATH).exists() => Path::new(MESSAGE_PATH),
        None => return code,
    };
    match std::fs::write(path, message) {
        Ok(()) => code,
        Err(error) => {
            unwritten(path, &error);
            // Whoever looks for the answer does not find it.
            code.max(EXIT_TRANSIENT)
        }
    }
}

fn unwritten(path: &Path, error: &dyn Display) {
    error!(path = %path.display(), %error, "the answer could not be left");
}

/// The answer with nothing left off.
fn whole(answer: &Answer) -> String {
    serde_json::to_string(answer).expect("plain data with string keys is JSON")
}
