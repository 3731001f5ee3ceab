//! One seed from beginning to end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::event::SECOND;
use crate::planted::Planted;
use crate::profile::Profile;
use crate::world::World;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Everything that happens follows from it.
    pub seed: u64,
    /// The kind of world.
    pub profile: Profile,
    /// A bug on purpose.
    pub planted: Option<Planted>,
    /// Whether to keep the trace as text.
    pub text: bool,
}

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The first thing that must not have happened.
    pub violation: Option<String>,
    /// Hash of the trace: equal seeds, equal hashes.
    pub hash: u64,
    /// Events of the trace.
    pub events: u64,
    /// Operations on keys whose order was checked.
    pub operations: usize,
    /// Changes of keys.
    pub changes: usize,
    /// Events that watches were given.
    pub watched: u64,
    /// Virtual time, in seconds.
    pub seconds: u64,
    /// The end of the trace, if it was to be kept.
    pub trace: Vec<String>,
}

/// Virtual time of the storm.
const STORM_US: u64 = 25 * SECOND;

impl Run {
    /// A run of a seed in the profile whose turn it is.
    pub fn of(seed: u64) -> Run {
        Run {
            seed,
            profile: Profile::of(seed),
            planted: None,
            text: false,
        }
    }

    /// Runs it. A panic counts as a violation.
    pub fn execute(self) -> Report {
        let settings = self.profile.settings();
        let mut world = World::new(self.seed, settings, self.planted, self.text);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            world.populate();
            world.begin_storm();
            world.run_for(STORM_US);
            if world.is_sound() {
                world.finish();
            }
        }));
        if let Err(panic) = ran {
            let what = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_default();
            world.env.check.report(format!("panic: {what}"));
        }
        let (watched, _) = world.watched();
        let env = world.env;
        Report {
            violation: env.check.violation().map(str::to_owned),
            hash: env.trace.hash(),
            events: env.trace.events(),
            operations: env.check.history.operations(),
            changes: env.check.state.changes(),
            watched,
            seconds: env.now / SECOND,
            trace: env.trace.into_lines(),
        }
    }
}
