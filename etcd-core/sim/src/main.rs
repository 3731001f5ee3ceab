//! `etcd-sim`: runs seeds and reports the first that breaks something.

use std::process::ExitCode;

use clap::Parser;
use etcd_sim::{Planted, Profile, Report, Run};

/// Runs the members of a cluster in a simulated world, seed by seed.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Run this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// The kind of world; by default every seed has its own.
    #[arg(long)]
    profile: Option<Profile>,
    /// Plant a bug.
    #[arg(long)]
    plant: Option<Planted>,
    /// Print the end of the trace also when nothing is wrong.
    #[arg(long)]
    trace: bool,
    /// Lines of the trace to print.
    #[arg(long, default_value_t = 60)]
    lines: usize,
    /// Go on after a failure, and list the seeds that fail.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = match arguments.seed {
        Some(seed) => seed..seed + 1,
        None => arguments.start..arguments.start + arguments.seeds,
    };
    let (mut failed, mut operations, mut seconds, mut events) = (0u64, 0, 0, 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let run = Run {
            seed,
            profile: arguments.profile.unwrap_or(Profile::of(seed)),
            planted: arguments.plant,
            text: arguments.trace,
        };
        let report = run.execute();
        operations += report.operations;
        seconds += report.seconds;
        events += report.events;
        if report.violation.is_some() {
            failed += 1;
            // The same again, with its text.
            let again = Run { text: true, ..run }.execute();
            print(run, &again, arguments.lines);
            if !arguments.keep_going {
                return ExitCode::FAILURE;
            }
        } else if arguments.trace {
            print(run, &report, arguments.lines);
        }
    }
    println!(
        "{count} seeds, {failed} failed: {seconds} s of virtual time, {events} events, {operations} operations checked"
    );
    if failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn print(run: Run, report: &Report, lines: usize) {
    let tail = report.trace.len().saturating_sub(lines);
    for line in &report.trace[tail..] {
        println!("{line}");
    }
    println!(
        "seed {} profile {:?}: {} (trace {:016x}, {} events)",
        run.seed,
        run.profile,
        report.violation.as_deref().unwrap_or("sound"),
        report.hash,
        report.events
    );
}
