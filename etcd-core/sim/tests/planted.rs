//! Every planted bug is found: a checker that misses one is broken.

use etcd_sim::{Planted, Profile, Run};

/// Seeds within which a bug must be found.
const SEEDS: u64 = 2000;

fn assert_found(bug: Planted) {
    assert_found_by(bug, Profile::of);
}

fn assert_found_by(bug: Planted, profile: impl Fn(u64) -> Profile) {
    for seed in 0..SEEDS {
        let run = Run {
            planted: Some(bug),
            profile: profile(seed),
            ..Run::of(seed)
        };
        if let Some(violation) = run.execute().violation {
            println!("{bug:?} found with seed {seed}: {violation}");
            return;
        }
    }
    panic!("{bug:?} was not found within {SEEDS} seeds");
}

#[test]
fn acknowledging_before_the_sync_is_found() {
    assert_found(Planted::AckBeforeFsync);
}

#[test]
fn answering_before_the_disk_is_found() {
    assert_found(Planted::AnswerBeforePersist);
}

#[test]
fn a_read_without_an_index_is_found() {
    assert_found(Planted::ReadWithoutIndex);
}

#[test]
fn a_forgotten_vote_is_found() {
    // Two candidates and a voter that dies between them: there for whoever waits, but
    // sooner where elections are frequent.
    assert_found_by(Planted::ForgetVote, |_| Profile::Elections);
}

#[test]
fn a_leader_that_reads_without_a_quorum_is_found() {
    assert_found(Planted::SkipCheckQuorum);
}

#[test]
fn applying_twice_is_found() {
    assert_found(Planted::ApplyTwice);
}

#[test]
fn a_watch_that_misses_a_revision_is_found() {
    assert_found(Planted::DropOnResume);
}

#[test]
fn a_lease_that_is_renewed_without_a_quorum_is_found() {
    assert_found(Planted::RenewAlone);
}

#[test]
fn an_expiry_that_outlives_its_term_is_found() {
    assert_found(Planted::RevokeWithoutTerm);
}
