//! The simulation of the operator: scripts of what users do and what befalls a cluster,
//! run in [`World`]. For each, the operator is stopped before and after every call it
//! makes and starts again with an empty memory; it must end in the same state, and
//! break no invariant on the way. Then seeds let everything go wrong at once.
//!
//! `OPERATOR_SEEDS=5000 cargo test -p etcd-operator simulation` runs more seeds,
//! `OPERATOR_SEED=17` one of them.

mod rivals;

use super::{
    Call, EtcdCall, Kind,
    world::{Faults, Seed, Stop, World},
};
use crate::identity;

/// What a user does, or what befalls the cluster.
#[derive(Clone, Copy, Debug)]
enum Act {
    Scale(i32),
    /// A change of spec that restarts members.
    Template(i64),
    EmptyVolume(&'static str),
    CorruptVolume(&'static str),
    DeleteClaim(&'static str),
    DeleteAllClaims,
    KillAllPods,
    /// The node of this member loses power.
    NodeDown(&'static str),
    /// Every node has power again, and every cable is mended.
    NodesUp,
    /// The node of this member is cut off.
    NodeCut(&'static str),
    /// The EtcdCluster is deleted and made again.
    Recreate,
    /// An EtcdBackup is made; what is stored goes with it if it says `true`.
    BackUp(&'static str, bool),
    /// It is deleted.
    DeleteBackup(&'static str),
    /// It is to be verified once more.
    Verify(&'static str),
    /// A schedule is made that is due every two minutes and keeps two.
    Schedule,
    /// An EtcdRestore of a backup is made.
    Restore(&'static str, &'static str),
    /// One of what is left.
    Survivor(&'static str),
    /// It is deleted.
    DeleteRestore(&'static str),
    /// Whether the operator decides over a lost quorum.
    Automatic,
    /// The store does not answer, or does again.
    StoreUp(bool),
    /// All volumes are to be twice as large, and their file systems grow only when they
    /// are mounted.
    Grow,
}

use Act::*;

/// When something happens.
#[derive(Clone, Copy, Debug)]
enum When {
    /// When nothing is left to do.
    Settled,
    /// So many turns after the act before.
    After(usize),
}

use When::*;

/// A story. It ends when the operator has settled.
struct Script {
    name: &'static str,
    replicas: i32,
    acts: &'static [(When, Act)],
}

const SCRIPTS: &[Script] = &[
    Script {
        name: "create one",
        replicas: 1,
        acts: &[],
    },
    Script {
        name: "create three",
        replicas: 3,
        acts: &[],
    },
    Script {
        name: "create five",
        replicas: 5,
        acts: &[],
    },
    Script {
        name: "1 to 3 to 5 to 3 to 1",
        replicas: 1,
        acts: &[
            (Settled, Scale(3)),
            (Settled, Scale(5)),
            (Settled, Scale(3)),
            (Settled, Scale(1)),
        ],
    },
    Script {
        name: "asleep and awake",
        replicas: 3,
        acts: &[(Settled, Scale(0)), (Settled, Scale(3))],
    },
    Script {
        name: "3 to 5 and back in mid-flight",
        replicas: 3,
        acts: &[(Settled, Scale(5)), (After(8), Scale(3))],
    },
    Script {
        name: "3 to 5 while a member is down",
        replicas: 3,
        acts: &[
            (Settled, NodeDown("demo-1")),
            (After(2), Scale(5)),
            (After(2), NodesUp),
        ],
    },
    Script {
        name: "another template",
        replicas: 3,
        acts: &[(Settled, Template(5))],
    },
    Script {
        name: "another template, edited in mid-flight",
        replicas: 3,
        acts: &[
            (Settled, Template(5)),
            (After(4), Template(6)),
            (After(3), Scale(5)),
        ],
    },
    Script {
        name: "larger volumes that must be mounted anew",
        replicas: 3,
        // Each is given five minutes to grow while it is mounted.
        acts: &[(Settled, Grow), (After(330), Scale(3))],
    },
    Script {
        name: "a lost volume",
        replicas: 3,
        acts: &[(Settled, EmptyVolume("demo-1"))],
    },
    Script {
        name: "a damaged volume",
        replicas: 3,
        acts: &[(Settled, CorruptVolume("demo-0")), (After(0), KillAllPods)],
    },
    Script {
        name: "a deleted claim",
        replicas: 3,
        acts: &[(Settled, DeleteClaim("demo-2"))],
    },
    Script {
        name: "all claims deleted",
        replicas: 3,
        acts: &[(Settled, DeleteAllClaims)],
    },
    Script {
        name: "a dead node",
        replicas: 3,
        acts: &[(Settled, NodeDown("demo-0"))],
    },
    Script {
        name: "a node cut off, and back",
        replicas: 3,
        acts: &[(Settled, NodeCut("demo-2")), (After(60), NodesUp)],
    },
    Script {
        name: "all pods at once",
        replicas: 3,
        acts: &[(Settled, KillAllPods)],
    },
    Script {
        name: "deleted and made again",
        replicas: 3,
        acts: &[(Settled, Recreate)],
    },
    Script {
        name: "a backup, verified again, and deleted",
        replicas: 1,
        acts: &[
            (Settled, BackUp("once", true)),
            (Settled, Verify("once")),
            (Settled, DeleteBackup("once")),
        ],
    },
    Script {
        name: "a backup while the store is away",
        replicas: 1,
        acts: &[
            (Settled, StoreUp(false)),
            (After(0), BackUp("once", false)),
            (After(12), StoreUp(true)),
        ],
    },
    Script {
        name: "backups by a schedule",
        replicas: 1,
        acts: &[(Settled, Schedule), (After(90), Scale(1))],
    },
    Script {
        name: "restored in place",
        replicas: 3,
        acts: &[
            (Settled, BackUp("once", false)),
            (Settled, Restore("back", "once")),
        ],
    },
    Script {
        name: "restored, and again from the same",
        replicas: 1,
        acts: &[
            (Settled, BackUp("once", false)),
            (Settled, Restore("back", "once")),
            (Settled, Restore("again", "once")),
        ],
    },
    Script {
        name: "a restore taken back",
        replicas: 3,
        acts: &[
            (Settled, BackUp("once", false)),
            (Settled, Restore("back", "once")),
            (After(12), DeleteRestore("back")),
        ],
    },
    Script {
        name: "restored while the store is away, and the backup deleted",
        replicas: 1,
        acts: &[
            (Settled, BackUp("once", true)),
            (Settled, Restore("back", "once")),
            (After(9), StoreUp(false)),
            (After(0), DeleteBackup("once")),
            (After(12), StoreUp(true)),
        ],
    },
    Script {
        name: "two volumes lost, and a survivor restored",
        replicas: 3,
        acts: &[
            (Settled, EmptyVolume("demo-0")),
            (After(0), EmptyVolume("demo-1")),
            (After(8), Survivor("back")),
        ],
    },
    Script {
        name: "two volumes lost, and the operator decides",
        replicas: 3,
        acts: &[
            (Settled, Automatic),
            (After(2), EmptyVolume("demo-1")),
            (After(0), EmptyVolume("demo-2")),
        ],
    },
];

/// A script being played.
#[derive(Clone)]
struct Play {
    world: World,
    next: usize,
    turns: usize,
}

/// What must be the same, wherever the operator was stopped.
#[derive(Debug, PartialEq, Eq)]
struct End {
    voters: usize,
    members: Vec<String>,
    claims: Vec<(String, bool)>,
    sizes: Vec<String>,
    ready: bool,
    phase: String,
    ancestors: usize,
    backups: Vec<String>,
    restores: Vec<String>,
    stored: usize,
}

impl Script {
    fn begin(&self) -> Play {
        let mut world = World::new(self.replicas);
        world.cluster.spec.recovery.replace_member_after = "30s".to_owned();
        Play {
            world,
            next: 0,
            turns: 0,
        }
    }

    /// One turn; `false`: the story has ended.
    fn step(&self, play: &mut Play) -> bool {
        if let Some((when, act)) = self.acts.get(play.next) {
            let due = match when {
                Settled => play.turns > 0 && play.world.is_settled() && play.world.is_ready(),
                After(turns) => play.turns >= *turns,
            };
            if due {
                befall(&mut play.world, *act);
                play.next += 1;
                play.turns = 0;
            }
        } else if play.turns > 0 && play.world.is_settled() && play.world.is_ready() {
            return false;
        }
        let before = play.world.calls;
        play.world.settle();
        play.world.turn(None);
        if play.world.calls == before {
            play.world.pass(4);
        }
        play.turns += 1;
        assert!(
            play.turns < 500,
            "{}: does not end{}",
            self.name,
            play.world.trace()
        );
        true
    }

    fn end(&self, mut play: Play) -> End {
        while self.step(&mut play) {}
        self.ended(&play.world)
    }

    /// How it has ended.
    fn ended(&self, world: &World) -> End {
        let replicas = usize::try_from(world.cluster.spec.replicas).unwrap();
        world.forms_one_cluster_of(replicas);
        let mut members = world.members();
        members.sort();
        let status = world.cluster.status.clone().unwrap();
        // What is left of members that are gone depends on how far they came.
        let mut claims = world.claims();
        claims.retain(|(claim, _)| members.iter().any(|m| identity::claim_name(m) == *claim));
        let sizes = claims.iter().map(|(claim, _)| world.size_of(claim));
        let sizes: Vec<String> = sizes.collect();
        let asked = &world.cluster.spec.storage.persistent_volume_claim;
        let asked = &asked.as_ref().unwrap().size;
        assert!(sizes.iter().all(|size| size == asked), "{sizes:?}");
        End {
            voters: world.voters(),
            sizes,
            claims,
            members,
            ready: world.is_ready(),
            phase: format!("{:?}", status.phase),
            ancestors: status.lineage.len(),
            backups: backups(world),
            restores: world.restores(),
            stored: world.artifacts.folders.len(),
        }
    }

    /// Stops the operator before and after every call it makes in this story.
    fn stop_everywhere(&self) {
        let mut play = self.begin();
        let mut ends = Vec::new();
        loop {
            let before = play.clone();
            if !self.step(&mut play) {
                break;
            }
            for call in 0..play.world.calls - before.world.calls {
                for stop in [Stop::Before(call), Stop::After(call)] {
                    let mut cut = before.clone();
                    let at = format!("stopped at call {} {stop:?}", before.world.calls + call);
                    cut.world.steps.push(at.clone());
                    cut.world.faults.stop = Some(stop);
                    ends.push((at, self.end(cut)));
                }
            }
        }
        let expected = self.end(play);
        assert!(ends.len() > 4, "{}: hardly a call was made", self.name);
        for (at, end) in ends {
            assert_eq!(end, expected, "{}: {at}", self.name);
        }
    }

    /// Plays it while everything goes wrong by `seed`; then the faults end.
    fn with_faults(&self, seed: u64) {
        let mut play = self.begin();
        play.world.steps.push(format!("{}, seed {seed}", self.name));
        play.world.faults = Faults {
            seed: Seed(seed),
            any: true,
            ..Faults::none()
        };
        // Under faults a story moves on after a while, settled or not.
        let acts = self.acts.iter().map(|(_, act)| Some(*act)).chain([None]);
        for act in acts {
            let turns = 10 + play.world.faults.seed.below(50);
            for _ in 0..turns {
                let what = play.world.faults.seed.below(100);
                mischief(&mut play.world, what);
                play.world.settle();
                play.world.turn(None);
            }
            if let Some(act) = act.filter(|_| play.world.is_formed()) {
                befall(&mut play.world, act);
            }
        }
        play.world.faults.any = false;
        befall(&mut play.world, NodesUp);
        befall(&mut play.world, StoreUp(true));
        play.next = self.acts.len();
        play.turns = 0;
        // What can be lost for good is more than a quorum now and then; then it says so.
        for _ in 0..500 {
            if play.world.is_settled() && play.world.is_ready() {
                let replicas = usize::try_from(play.world.cluster.spec.replicas).unwrap();
                play.world.forms_one_cluster_of(replicas);
                return;
            }
            if play.world.gave_up() || play.world.lacks_its_backup() {
                return;
            }
            play.world.settle();
            play.world.turn(None);
            play.world.pass(4);
        }
        panic!("does not end{}{}", play.world.trace(), play.world.tales());
    }
}

/// Something happens, by a number below a hundred; from [`MISCHIEF`] on nothing.
fn mischief(world: &mut World, what: usize) {
    let nth = world.faults.seed.below(8);
    match what {
        0..3 => world.kill_pod(nth),
        3..5 => world.kill_container(nth),
        5 => world.delete_set(nth),
        6 => world.power(nth, false),
        7 => world.cable(nth, true),
        8..13 => world.mend_nodes(),
        13..MISCHIEF => world.evict_run(nth),
        _ => {}
    }
}

const MISCHIEF: usize = 16;

fn befall(world: &mut World, act: Act) {
    let pod_of = |world: &World, member: &str| world.members().iter().any(|name| name == member);
    match act {
        Scale(replicas) => world.cluster.spec.replicas = replicas,
        Template(count) => world.cluster.spec.options.snapshot_count = Some(count),
        EmptyVolume(member) => world.empty_volume(member),
        CorruptVolume(member) => world.corrupt_volume(member),
        DeleteClaim(member) => world.delete_claim(member),
        DeleteAllClaims => {
            for member in world.members() {
                world.delete_claim(&member);
            }
        }
        KillAllPods => (0..9).for_each(|_| world.kill_pod(0)),
        NodeDown(member) | NodeCut(member) if pod_of(world, member) => {
            if let Some(node) = world.node(member) {
                match act {
                    NodeDown(_) => world.power(node, false),
                    _ => world.cable(node, true),
                }
            }
        }
        NodeDown(_) | NodeCut(_) => {}
        NodesUp => world.mend_nodes(),
        Recreate => world.recreate(),
        BackUp(name, delete) => world.back_up(name, delete),
        DeleteBackup(name) => world.delete_backup(name),
        Verify(name) => world.verify(name, "again"),
        Schedule => world.back_up_by(
            "often",
            serde_json::json!({"schedule": "*/2 * * * *", "retention": {"keepLast": 2},
                "drill": {"schedule": "*/10 * * * *"}}),
        ),
        Restore(name, backup) => {
            // Under faults the story may not have come to it yet.
            if world.backup(backup).is_none() {
                world.back_up(backup, false);
            }
            world.restore_from(name, Some(backup));
        }
        Survivor(name) => world.restore_from(name, None),
        DeleteRestore(name) => world.delete_restore(name),
        Automatic => {
            let loss = &mut world.cluster.spec.recovery.quorum_loss;
            loss.policy = crate::api::QuorumLossPolicy::Automatic;
            loss.max_lost_revisions = 1_000_000;
        }
        Grow => {
            world.stores.unmounted = true;
            let claim = world.cluster.spec.storage.persistent_volume_claim.as_mut();
            claim.unwrap().size = "16Gi".to_owned();
        }
        StoreUp(true) => world.artifacts.trouble = None,
        StoreUp(false) => {
            world.artifacts.trouble = Some(crate::backup::run::Reason::StoreUnreachable);
        }
    }
}

/// What backups are at, but for those whose time depends on when a turn was cut off.
fn backups(world: &World) -> Vec<String> {
    let backups = world.backups().into_iter();
    let named = backups.filter(|(name, _)| !name.starts_with("often"));
    named
        .map(|(name, phase)| format!("{name}: {phase:?}"))
        .collect()
}

/// One test per story, so that they run beside each other and are named.
macro_rules! stories {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                script($name).stop_everywhere();
            }
        )*

        #[test]
        fn every_story_is_told() {
            let told = [$($name),*];
            for script in SCRIPTS {
                assert!(told.contains(&script.name), "{} is not", script.name);
            }
        }
    };
}

stories! {
    o02_stopped_anywhere_while_one_is_made: "create one",
    o02_o10_stopped_anywhere_while_three_are_made: "create three",
    o02_stopped_anywhere_while_five_are_made: "create five",
    o02_o14_stopped_anywhere_while_it_is_scaled_up_and_down: "1 to 3 to 5 to 3 to 1",
    o02_o15_stopped_anywhere_while_it_sleeps_and_wakes: "asleep and awake",
    o02_stopped_anywhere_in_a_change_of_mind: "3 to 5 and back in mid-flight",
    o02_stopped_anywhere_while_it_grows_with_a_member_down: "3 to 5 while a member is down",
    o02_o40_stopped_anywhere_in_a_rollout: "another template",
    o02_o13_stopped_anywhere_in_a_rollout_that_is_edited: "another template, edited in mid-flight",
    o02_o30_stopped_anywhere_while_volumes_grow_and_are_mounted_anew: "larger volumes that must be mounted anew",
    o02_o08_stopped_anywhere_while_a_lost_volume_is_replaced: "a lost volume",
    o02_o08_stopped_anywhere_while_a_damaged_member_is_replaced: "a damaged volume",
    o02_o08_stopped_anywhere_while_a_deleted_claim_is_replaced: "a deleted claim",
    o02_o09_stopped_anywhere_while_all_claims_are_replaced: "all claims deleted",
    o02_o36_stopped_anywhere_while_a_dead_node_is_left_behind: "a dead node",
    o02_o36_stopped_anywhere_while_a_node_is_cut_off: "a node cut off, and back",
    o02_o12_stopped_anywhere_while_all_pods_return: "all pods at once",
    o02_o41_stopped_anywhere_while_it_is_made_again: "deleted and made again",
    o02_o24_stopped_anywhere_while_a_backup_comes_and_goes: "a backup, verified again, and deleted",
    o02_o26_stopped_anywhere_while_the_store_is_away: "a backup while the store is away",
    o02_o34_stopped_anywhere_in_a_schedule: "backups by a schedule",
    o02_o21_o22_stopped_anywhere_in_a_restore: "restored in place",
    o02_o21_stopped_anywhere_in_a_restore_after_another: "restored, and again from the same",
    o02_o22_stopped_anywhere_in_a_restore_that_is_taken_back: "a restore taken back",
    o02_o26_stopped_anywhere_in_a_restore_without_a_store: "restored while the store is away, and the backup deleted",
    o02_o09_stopped_anywhere_while_a_survivor_is_restored: "two volumes lost, and a survivor restored",
    o02_o09_stopped_anywhere_while_the_operator_decides: "two volumes lost, and the operator decides",
}

fn script(name: &str) -> &'static Script {
    let found = SCRIPTS.iter().find(|script| script.name == name);
    found.unwrap_or_else(|| panic!("no script is called {name}"))
}

/// Seeds to run: those that the environment names, or so many.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    match (number("OPERATOR_SEED"), number("OPERATOR_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, named) => 0..named.unwrap_or(count),
    }
}

/// O1, O2, O4, O5: stale caches, conflicts, lost and wrong answers, crashes, pods that
/// die and objects that vanish, all by a seed.
#[test]
fn o01_o02_o04_o05_whatever_goes_wrong_by_a_seed_it_ends_as_specified() {
    for seed in seeds(300) {
        let script = &SCRIPTS[(seed % SCRIPTS.len() as u64) as usize];
        let run = std::panic::catch_unwind(|| script.with_faults(seed));
        if let Err(panic) = run {
            eprintln!("OPERATOR_SEED={seed} ({}) replays this:", script.name);
            std::panic::resume_unwind(panic);
        }
    }
}

/// A checker that finds nothing is broken: calls that no operator may make are found.
#[test]
fn calls_that_must_never_be_made_are_found() {
    let found = |name: &str, call: fn(&World) -> Call| {
        let mut world = World::new(3);
        world.converge();
        let call = call(&world);
        let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.guard(&call)));
        assert!(judged.is_err(), "{name} was let through: {call:?}");
    };
    fn delete(kind: Kind, name: &str) -> Call {
        Call::Delete {
            kind,
            name: name.to_owned(),
            uid: "u".to_owned(),
            resource_version: None,
        }
    }
    found("a StatefulSet before its member", |_| {
        delete(Kind::StatefulSet, "demo-1")
    });
    found("a claim with data", |_| delete(Kind::Claim, "data-demo-1"));
    found("the leader's pod", |world| {
        delete(Kind::Pod, &identity::pod_name(&world.leader().unwrap()))
    });
    found("the leader's removal", |world| {
        Call::Etcd(EtcdCall::Remove {
            member: world.leader().unwrap(),
            id: world.leader_id().unwrap(),
        })
    });
    // And with one of three down, none of the others may be touched.
    let mut world = World::new(3);
    world.converge();
    let victim = ["demo-1", "demo-2"].map(|name| world.node(name).unwrap());
    world.power(victim[0], false);
    world.settle();
    let call = delete(Kind::Pod, "demo-2-0");
    let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.guard(&call)));
    assert!(judged.is_err(), "two would be down");
}
