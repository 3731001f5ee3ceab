//! Seeds in their profiles, and that a seed always does the same.

use etcd_sim::{Profile, Report, Run};

/// Seeds that once broke something, in their profile of then.
const REGRESSIONS: &str = include_str!("seeds.txt");

fn assert_sound(run: Run, report: &Report) {
    if let Some(violation) = &report.violation {
        panic!(
            "etcd-sim --seed {} --profile {:?}: {violation}",
            run.seed, run.profile
        );
    }
}

/// Two threads, as the seeds know nothing of one another.
fn run_all(runs: &[Run]) -> Vec<Report> {
    let halves = runs.split_at(runs.len() / 2);
    let execute = |runs: &[Run]| -> Vec<Report> {
        let execute = |run: &Run| {
            let report = run.execute();
            assert_sound(*run, &report);
            report
        };
        runs.iter().map(execute).collect()
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| execute(halves.0));
        let mut reports = execute(halves.1);
        match first.join() {
            Ok(first) => reports.extend(first),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        reports
    })
}

#[test]
fn three_hundred_and_sixty_seeds_break_nothing() {
    let runs: Vec<Run> = (0..360).map(Run::of).collect();
    let reports = run_all(&runs);
    let operations: usize = reports.iter().map(|r| r.operations).sum();
    let watched: u64 = reports.iter().map(|r| r.watched).sum();
    assert!(operations > 50_000, "{operations} operations");
    assert!(watched > 50_000, "{watched} events watched");
}

#[test]
fn seeds_that_once_broke_something_are_sound() {
    let runs: Vec<Run> = REGRESSIONS
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let mut words = line.split_whitespace();
            let seed = words.next().and_then(|word| word.parse().ok());
            let name = words.next().unwrap_or_default().to_lowercase();
            let profile = Profile::ALL
                .into_iter()
                .find(|p| format!("{p:?}").to_lowercase() == name);
            Run {
                profile: profile.unwrap_or_else(|| panic!("a profile: {line}")),
                ..Run::of(seed.unwrap_or_else(|| panic!("a seed: {line}")))
            }
        })
        .collect();
    assert!(!runs.is_empty());
    run_all(&runs);
}

#[test]
fn a_seed_replays_to_an_identical_trace() {
    for (seed, profile) in (7..).zip(Profile::ALL) {
        let run = Run {
            profile,
            text: true,
            ..Run::of(seed)
        };
        let (a, b) = (run.execute(), run.execute());
        assert_eq!(a.trace, b.trace);
        assert_eq!((a.hash, a.events), (b.hash, b.events));
        let silent = Run { text: false, ..run }.execute();
        assert_eq!(a.hash, silent.hash, "the text changes nothing");
        let other = Run {
            seed: seed + 1000,
            ..run
        };
        assert_ne!(a.hash, other.execute().hash);
    }
}
