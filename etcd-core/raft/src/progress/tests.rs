use super::*;

fn peer(matched: u64, next: u64) -> Peer {
    let mut peer = Peer::new(next, false, Inflights::new(2, 0));
    peer.progress.matched = matched;
    peer
}

#[test]
fn a_probe_with_entries_pauses_until_resumed() {
    let mut peer = peer(0, 5);
    peer.sent_entries(0, 0);
    assert!(!peer.is_paused());
    peer.sent_entries(1, 1);
    assert!(peer.is_paused());
    assert_eq!(peer.progress.next, 5);
    peer.resume();
    assert!(!peer.is_paused());
}

#[test]
fn replication_runs_ahead_until_the_window_is_full() {
    let mut peer = peer(4, 5);
    peer.become_replicate();
    peer.sent_entries(2, 10);
    assert_eq!((peer.progress.next, peer.is_paused()), (7, false));
    peer.sent_entries(1, 10);
    assert_eq!((peer.progress.next, peer.is_paused()), (8, true));
    assert!(peer.window_full());
    assert!(peer.acknowledged(6));
    peer.free_inflights(6);
    assert!(!peer.is_paused() && !peer.window_full());
}

#[test]
fn an_old_acknowledgement_is_no_news() {
    let mut peer = peer(4, 9);
    assert!(!peer.acknowledged(4));
    assert!(peer.acknowledged(5));
    assert_eq!((peer.progress.matched, peer.progress.next), (5, 9));
}

#[test]
fn a_refusal_while_replicating_falls_back_to_what_matched() {
    let mut peer = peer(4, 5);
    peer.become_replicate();
    peer.sent_entries(5, 0);
    assert!(!peer.rejected(4, 2), "stale");
    assert!(peer.rejected(9, 7));
    assert_eq!(peer.progress.next, 5);
}

#[test]
fn a_refused_probe_goes_back_to_the_hint_but_never_below_what_matched() {
    let mut probed = peer(0, 10);
    assert!(!probed.rejected(8, 3), "not the probe in flight");
    assert!(probed.rejected(9, 3));
    assert_eq!(probed.progress.next, 4);
    let mut probed = peer(6, 10);
    assert!(probed.rejected(9, 3));
    assert_eq!(probed.progress.next, 7);
    let mut probed = peer(0, 10);
    assert!(probed.rejected(9, u64::MAX));
    assert_eq!(probed.progress.next, 9);
}

#[test]
fn a_snapshot_pauses_and_is_probed_from_where_it_ended() {
    let mut peer = peer(0, 1);
    peer.become_snapshot(10);
    assert!(peer.is_paused());
    peer.resume();
    assert!(peer.is_paused());
    peer.snapshot_done(true);
    assert_eq!(peer.progress.state, ProgressState::Probe);
    assert_eq!(
        (peer.progress.next, peer.progress.pending_snapshot),
        (11, 0)
    );
    assert!(peer.is_paused(), "until it answers");
}

#[test]
fn s06_a_failed_snapshot_is_probed_from_what_matched() {
    let mut peer = peer(3, 4);
    peer.become_snapshot(10);
    peer.snapshot_done(false);
    assert_eq!((peer.progress.next, peer.progress.pending_snapshot), (4, 0));
    assert!(peer.is_paused());
}

#[test]
fn a_commit_index_is_worth_sending_once() {
    let mut peer = peer(4, 5);
    peer.become_replicate();
    assert!(peer.can_bump_commit(3));
    peer.sent_commit(3);
    assert!(!peer.can_bump_commit(3));
    assert!(peer.can_bump_commit(4));
    peer.sent_commit(4);
    assert!(!peer.can_bump_commit(9), "it has no entries beyond 4");
}
