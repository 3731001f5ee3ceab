//! Who is named when members differ.

use etcd_mvcc::KvHash;

use super::verdict::{ANYBODY, Asked, Periodic, Verdict, compare, compare_all, witnesses};
use super::{PeerHash, PeerHashError};

const OWN: KvHash = KvHash {
    hash: 7,
    compact_revision: 3,
    revision: 10,
};

fn says(id: u64, hash: u32, compact_revision: i64) -> Asked {
    Asked {
        id,
        peer_urls: Vec::new(),
        answer: Ok(PeerHash {
            current_revision: 10,
            compact_revision,
            hash,
        }),
    }
}

fn silent(id: u64) -> Asked {
    Asked {
        answer: Err(PeerHashError::Future),
        ..says(id, 0, 0)
    }
}

#[test]
fn s46_equal_members_are_left_alone() {
    let same = [says(2, 7, 3), says(3, 7, 3)];
    assert_eq!(compare(1, &OWN, &same), Verdict::Same);
    // What cannot be compared proves nothing: another compaction, no answer.
    let other_compaction = [says(2, 7, 3), says(3, 8, 2)];
    assert_eq!(compare(1, &OWN, &other_compaction), Verdict::Incomplete);
    let unreachable = [says(2, 7, 3), silent(3)];
    assert_eq!(compare(1, &OWN, &unreachable), Verdict::Incomplete);
    assert_eq!(compare(1, &OWN, &[]), Verdict::Same);
}

#[test]
fn s46_the_minority_is_named_even_if_it_leads() {
    let follower = [says(2, 8, 3), says(3, 7, 3)];
    assert_eq!(compare(1, &OWN, &follower), Verdict::Corrupt(vec![2]));
    let leader = [says(2, 8, 3), says(3, 8, 3)];
    assert_eq!(compare(1, &OWN, &leader), Verdict::Corrupt(vec![1]));
    let two_of_five = [says(2, 7, 3), says(3, 7, 3), says(4, 8, 3), says(5, 9, 3)];
    assert_eq!(compare(1, &OWN, &two_of_five), Verdict::Corrupt(vec![4, 5]));
}

#[test]
fn s46_without_a_majority_nobody_is_named() {
    let anybody = Verdict::Corrupt(vec![ANYBODY]);
    assert_eq!(compare(1, &OWN, &[says(2, 8, 3)]), anybody);
    assert_eq!(compare(1, &OWN, &[says(2, 8, 3), silent(3)]), anybody);
    assert_eq!(compare(1, &OWN, &[says(2, 8, 3), says(3, 9, 3)]), anybody);
}

#[test]
fn s46_a_member_that_is_known_to_be_corrupt_is_no_reason_to_suspect_the_others() {
    assert_eq!(witnesses(1, &[2, 3], &[]), Some(vec![2, 3]));
    assert_eq!(witnesses(1, &[2, 3], &[3]), Some(vec![2]));
    assert_eq!(witnesses(3, &[1, 2], &[3]), None);
    // Nobody could be named: everybody is asked again.
    assert_eq!(witnesses(1, &[2, 3], &[ANYBODY]), Some(vec![2, 3]));
    // While 2 is away, 3's hash says what the alarm says. That of 4 is news.
    let away = |id| Asked {
        answer: Err(PeerHashError::Other("no response".to_owned())),
        ..silent(id)
    };
    assert_eq!(compare(1, &OWN, &[away(2)]), Verdict::Incomplete);
    let news = [away(2), says(4, 9, 3), says(5, 7, 3)];
    assert_eq!(compare(1, &OWN, &news), Verdict::Corrupt(vec![ANYBODY]));
    // Those that are known count as silent: a majority is one of all members, and what
    // was not compared with all is compared again.
    let known = |id| away(id);
    let two_of_five = [says(2, 7, 3), known(3), known(4), says(5, 9, 3)];
    let anybody = Verdict::Corrupt(vec![ANYBODY]);
    assert_eq!(compare(1, &OWN, &two_of_five), anybody);
    let rest = [says(2, 7, 3), known(3)];
    assert_eq!(compare(1, &OWN, &rest), Verdict::Incomplete);
}

#[test]
fn s46_nobody_is_ahead_of_a_leader() {
    let own = Periodic {
        before: OWN,
        after: KvHash {
            revision: 12,
            hash: 99,
            ..OWN
        },
    };
    let ahead = |revision, compact_revision| {
        let mut peer = says(2, 7, compact_revision);
        if let Ok(answer) = &mut peer.answer {
            answer.current_revision = revision;
        }
        [peer, says(3, 7, 3)]
    };
    assert_eq!(compare_all(1, &own, &ahead(12, 3)), Verdict::Same);
    assert_eq!(
        compare_all(1, &own, &ahead(13, 3)),
        Verdict::Corrupt(vec![2])
    );
    assert_eq!(
        compare_all(1, &own, &ahead(12, 4)),
        Verdict::Corrupt(vec![2])
    );
    // The leader's keys changed without a revision.
    let restless = Periodic {
        before: OWN,
        after: KvHash { hash: 99, ..OWN },
    };
    let peers = [says(2, 7, 3), says(3, 7, 3)];
    assert_eq!(compare_all(1, &restless, &peers), Verdict::Corrupt(vec![1]));
}
