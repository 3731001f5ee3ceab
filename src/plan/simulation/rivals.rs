//! O6: a Lease was lost and its holder has not noticed, or what it sent before it ended
//! arrives late. Two operators tell the same story at once, cut in between by a seed.
//!
//! `OPERATOR_SEEDS=5000 cargo test -p etcd-operator two_operators` runs more seeds,
//! `OPERATOR_SEED=17` one of them.

use super::{
    After, DeleteRestore, End, Faults, MISCHIEF, NodesUp, SCRIPTS, Script, Seed, Settled, StoreUp,
    befall, mischief, seeds,
};
use crate::plan::world::{Rivals, World};

/// Looks and calls that count as a turn.
const TURN: usize = 12;

impl Script {
    /// Two operators play it, with caches that lag and nothing else that goes wrong.
    fn told_by_two(&self, seed: u64) -> (End, String) {
        let mut play = self.begin();
        let opening = format!("{}, two operators, seed {seed}", self.name);
        play.world.steps.push(opening);
        play.world.faults = Faults {
            seed: Seed(seed),
            lags: true,
            ..Faults::none()
        };
        let mut rivals = Rivals::new(play.world, seed);
        let mut acts = self.acts.iter().peekable();
        let mut turns = 0;
        loop {
            let settled = turns > 0 && rivals.with(|world| world.is_settled() && world.is_ready());
            match acts.peek() {
                Some((Settled, act)) if settled => {
                    rivals.with(|world| befall(world, *act));
                }
                Some((After(wait), act)) if turns >= *wait => {
                    rivals.with(|world| befall(world, *act));
                }
                None if settled => {
                    // What one of them still sends comes late, and a pod ends slowly.
                    rivals.rest();
                    (0..4 * TURN).for_each(|_| rivals.moment());
                    rivals.rest();
                    if rivals.with(|world| world.is_settled() && world.is_ready()) {
                        return rivals.with(|world| (self.ended(world), world.trace()));
                    }
                    turns += 1;
                    continue;
                }
                _ => {
                    (0..TURN).for_each(|_| rivals.moment());
                    turns += 1;
                    let trace =
                        || rivals.with(|world| format!("{}{}", world.trace(), world.tales()));
                    assert!(turns < 800, "{}: does not end{}", self.name, trace());
                    continue;
                }
            }
            acts.next();
            turns = 0;
        }
    }

    /// Two operators play it while everything else goes wrong, too.
    fn told_by_two_with_faults(&self, seed: u64) {
        let mut play = self.begin();
        let opening = format!("{}, two operators and faults, seed {seed}", self.name);
        play.world.steps.push(opening);
        play.world.faults = Faults {
            seed: Seed(seed),
            any: true,
            ..Faults::none()
        };
        let mut rivals = Rivals::new(play.world, seed);
        let acts = self.acts.iter().map(|(_, act)| Some(*act)).chain([None]);
        for act in acts {
            let turns = 10 + rivals.with(|world| world.faults.seed.below(50));
            for _ in 0..turns {
                let what = rivals.with(|world| world.faults.seed.below(100));
                if what < MISCHIEF {
                    // Whether a member dies just before it is acted upon is not theirs.
                    rivals.rest();
                    rivals.with(|world| mischief(world, what));
                }
                (0..TURN).for_each(|_| rivals.moment());
            }
            rivals.with(|world| {
                if let Some(act) = act.filter(|_| world.is_formed()) {
                    befall(world, act);
                }
            });
        }
        rivals.with(|world| {
            world.faults.any = false;
            befall(world, NodesUp);
            befall(world, StoreUp(true));
        });
        for _ in 0..800 {
            rivals.rest();
            let over = rivals.with(|world| {
                if world.is_settled() && world.is_ready() {
                    let replicas = usize::try_from(world.cluster.spec.replicas).unwrap();
                    world.forms_one_cluster_of(replicas);
                    return true;
                }
                world.gave_up()
            });
            if over {
                return;
            }
            (0..TURN).for_each(|_| rivals.moment());
        }
        rivals.with(|world| panic!("does not end{}{}", world.trace(), world.tales()));
    }
}

/// Runs every seed, and names all that fail.
fn each(count: u64, run: impl Fn(u64, &Script) + std::panic::RefUnwindSafe) {
    let mut failed = Vec::new();
    for seed in seeds(count) {
        let script = &SCRIPTS[(seed % SCRIPTS.len() as u64) as usize];
        if std::panic::catch_unwind(|| run(seed, script)).is_err() {
            failed.push(format!("OPERATOR_SEED={seed} ({})", script.name));
        }
    }
    assert!(failed.is_empty(), "replay them: {}", failed.join(", "));
}

/// Whatever they do to each other, it ends as it does with one.
#[test]
fn o06_two_operators_at_once_end_as_one_does() {
    each(3 * SCRIPTS.len() as u64, |seed, script| {
        let alone = script.end(script.begin());
        let (end, trace) = script.told_by_two(seed);
        let taken_back = |(_, act): &(_, _)| matches!(act, DeleteRestore(_));
        if script.acts.iter().any(taken_back) {
            // Whether it could be taken back any more is a matter of who came how far.
            assert!(end.ready && end.voters == alone.voters, "{end:?}{trace}");
            return;
        }
        assert_eq!(end, alone, "{}, seed {seed}{trace}", script.name);
    });
}

/// Nor do they break an invariant, or leave something undone, when all else goes wrong
/// as well.
#[test]
fn o06_two_operators_at_once_survive_whatever_goes_wrong_by_a_seed() {
    each(150, |seed, script| script.told_by_two_with_faults(seed));
}

/// One has recorded a ticket and stands still; the other hands it out, and the pod uses
/// it and dies with its volume. The first must not take it back as one that nobody had:
/// the member ID would start on an empty disk twice.
#[test]
fn o06_o10_a_ticket_that_another_operator_has_handed_out_is_not_taken_back() {
    let mut rivals = Rivals::new(World::new(3), 0);
    let recorded = |world: &World| {
        let last = world.steps.last();
        last.is_some_and(|step| step.contains("records Ticket { member: \"demo-0\""))
    };
    rivals.go_on(0, recorded);
    rivals.go_on(1, |world| world.revision_of("demo-0").is_some());
    rivals.with(|world| world.empty_volume("demo-0"));
    let line = |world: &World| {
        let members = &world.cluster.status.as_ref().unwrap().members;
        members.iter().find(|line| line.name == "demo-0").cloned()
    };
    let before = rivals.with(|world| line(world).unwrap().ticket.unwrap());
    rivals.finish(0);
    let after = rivals.with(|world| line(world).unwrap().ticket.unwrap());
    assert_eq!(after.pod_uid, before.pod_uid);
    rivals.finish(1);
    for _ in 0..8_000 {
        rivals.moment();
    }
    rivals.rest();
    rivals.with(|world| world.forms_one_cluster_of(3));
}
