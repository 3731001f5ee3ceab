//! Disks, one fault at a time.

use std::path::{Path, PathBuf};

use etcd_proto::raftpb::ConfChangeType;
use etcd_replica::Member;
use etcd_storage::disk::{Disk, OpenMode};

use super::{calm, conf_change, finish, get, is_done, put, quiet};
use crate::event::{Event, MS, SECOND};
use crate::member::{DIRECTORY, ELECTION_MS};
use crate::profile::Settings;
use crate::world::World;

#[test]
fn s15_a_leader_whose_disk_stalls_hands_over_within_two_election_timeouts() {
    for seed in 0..10 {
        let mut world = quiet(seed);
        let stalled = world.leader().unwrap().pid;
        world.env.frozen.insert(stalled.member);
        let probe = world.add_probe();
        // It has something to write: that is when the stall shows.
        let waiting = world.ask(probe, stalled.member, put("stalled"));
        world.run_for(2 * ELECTION_MS * MS);
        let leader = world.leader().unwrap().pid;
        assert_ne!(leader, stalled, "seed {seed}: it still leads");
        let number = world.ask(probe, leader.member, put("moved"));
        world.run_for(SECOND);
        assert!(is_done(world.answer(probe, number)), "seed {seed}");
        // It acknowledges nothing that it does not have, and leads no more.
        world.run_for(27 * SECOND);
        assert!(!is_done(world.answer(probe, waiting)));
        // Clients move leadership about, but nobody moves it there.
        let leads = world.leader().unwrap().pid.member;
        assert_ne!(leads, stalled.member, "seed {seed}");
        world.env.frozen.clear();
        finish(world, &format!("seed {seed}"));
    }
}

#[test]
fn s15_without_a_quorum_of_others_a_stalled_leader_stays() {
    // Alone, and with one follower of two cut off.
    let mut world = World::new(
        1,
        Settings {
            members: 1,
            ..calm()
        },
        None,
        true,
    );
    world.populate();
    world.run_for(5 * SECOND);
    stays(world, &[], "alone");
    let mut world = quiet(1);
    let links = links_of(&world, follower(&world));
    world.env.cut(&links);
    stays(world, &links, "one of two");
}

fn stays(mut world: World, cut: &[(u64, u64)], what: &str) {
    let leader = world.leader().unwrap().pid;
    let term = world.leader().unwrap().term;
    world.env.frozen.insert(leader.member);
    let probe = world.add_probe();
    let number = world.ask(probe, leader.member, put("stalled"));
    world.run_for(4 * SECOND);
    let still = world.leader().unwrap();
    assert_eq!((still.pid, still.term), (leader, term), "{what}");
    world.env.frozen.clear();
    world.run_for(SECOND);
    assert!(is_done(world.answer(probe, number)), "{what}");
    world.env.mend(cut);
    finish(world, what);
}

fn follower(world: &World) -> u64 {
    let leader = world.leader().map(|p| p.pid.member);
    let mut members = world.slots.keys().copied();
    members.find(|id| Some(*id) != leader).unwrap()
}

/// Isolates a follower until it needs a snapshot to catch up.
fn left_behind(seed: u64) -> (World, u64) {
    let mut world = quiet(seed);
    let member = follower(&world);
    let links = links_of(&world, member);
    world.env.cut(&links);
    world.run_for(12 * SECOND);
    world.env.mend(&links);
    (world, member)
}

fn links_of(world: &World, member: u64) -> Vec<(u64, u64)> {
    let others = world.slots.keys().filter(|id| **id != member);
    others
        .flat_map(|id| [(member, *id), (*id, member)])
        .collect()
}

fn has_image(world: &World, member: u64) -> bool {
    let snap = Path::new(DIRECTORY).join("snap");
    let names = world.slots[&member].disk.list(&snap).unwrap_or_default();
    !names.is_empty()
}

#[test]
fn s06_a_snapshot_that_is_cut_anywhere_is_installed_later() {
    let mut installed = 0;
    for within in 0..40 {
        let (mut world, member) = left_behind(1);
        for _ in 0..20_000 {
            if has_image(&world, member) || !world.is_sound() {
                break;
            }
            world.run_for(MS / 2);
        }
        installed += u64::from(has_image(&world, member));
        let disk = &world.slots[&member].disk;
        disk.crash_at(disk.ops() + within);
        world.run_for(3 * SECOND);
        // And again, before it has caught up.
        world.power_loss(member);
        world.run_for(100 * MS);
        world.power_loss(member);
        finish(world, &format!("within {within}"));
    }
    assert!(installed > 30, "{installed}");
}

fn log_files(world: &World, member: u64) -> Vec<PathBuf> {
    let wal = Path::new(DIRECTORY).join("wal");
    let names = world.slots[&member].disk.list(&wal).unwrap();
    let files = names.iter().map(|entry| wal.join(&entry.name));
    files
        .filter(|path| path.extension().is_some_and(|e| e == "wal"))
        .collect()
}

#[test]
fn s10_a_flipped_bit_stops_the_member_alters_nothing_and_spares_the_others() {
    for place in 1..12 {
        let mut world = quiet(place);
        let member = follower(&world);
        world.slots.get_mut(&member).unwrap().held = true;
        world.kill(member);
        let file = log_files(&world, member).pop().unwrap();
        let disk = world.slots[&member].disk.clone();
        let before = disk.open(&file, OpenMode::Read).unwrap().map().unwrap();
        let end = before.iter().rposition(|byte| *byte != 0).unwrap() as u64;
        disk.flip_bit(&file, end * place / 12, place as u8).unwrap();
        let flipped = disk.open(&file, OpenMode::Read).unwrap().map().unwrap();
        let error = world.start_error(member).expect("it does not start");
        let line = error.to_string();
        assert!(line.contains("is corrupt at offset"), "{line}");
        let after = disk.open(&file, OpenMode::Read).unwrap().map().unwrap();
        assert!(flipped == after, "the file stays as it is");
        replace(&mut world, member);
        finish(world, &format!("place {place}"));
    }
}

/// Removes a member that does not start, and adds another under a new ID.
fn replace(world: &mut World, member: u64) {
    let probe = world.add_probe();
    let leader = world.leader().unwrap().pid.member;
    let of = |id| Member {
        id,
        peer_urls: vec![format!("http://m{id}:2380")],
        ..Member::default()
    };
    let remove = conf_change(ConfChangeType::ConfChangeRemoveNode, of(member), false);
    let removed = world.ask(probe, leader, remove);
    world.run_for(SECOND);
    assert!(is_done(world.answer(probe, removed)));
    world.slots.get_mut(&member).unwrap().removed = true;
    let add = conf_change(ConfChangeType::ConfChangeAddNode, of(9), false);
    let added = world.ask(probe, leader, add);
    world.run_for(SECOND);
    assert!(is_done(world.answer(probe, added)));
    world.env.after(0, Event::Start(9));
    world.run_for(5 * SECOND);
    assert!(world.process(9).is_some_and(|p| p.applied_index() > 0));
}

#[test]
fn s13_a_full_disk_acknowledges_nothing_more_and_starts_once_there_is_space() {
    for seed in 0..8 {
        let mut world = quiet(seed);
        for id in [1, 2, 3] {
            world.fill_up(id);
        }
        // Who watches over it starts it again and again.
        let looks = (0..80).map(|_| {
            world.run_for(100 * MS);
            world.processes().count()
        });
        let fewest = looks.min();
        assert!(fewest < Some(3), "seed {seed}: none ends");
        finish(world, &format!("seed {seed}"));
    }
}

#[test]
fn s14_a_failed_sync_ends_the_member_before_it_acknowledges() {
    for seed in 0..15 {
        let mut world = quiet(seed);
        let leader = world.leader().unwrap().pid;
        let probe = world.add_probe();
        world.fail_syncs(leader.member);
        let number = world.ask(probe, leader.member, put("unsynced"));
        world.run_for(300 * MS);
        assert_ne!(world.pid(leader.member), Some(leader), "it ends");
        assert!(!is_done(world.answer(probe, number)));
        // It reads from memory what the disk never got, and then loses power.
        world.run_for(SECOND);
        world.start(leader.member);
        world.run_for(SECOND);
        world.power_loss(leader.member);
        world.run_for(SECOND);
        let leader = world.leader().map(|p| p.pid.member).unwrap_or(1);
        let read = world.ask(probe, leader, get("unsynced"));
        world.run_for(2 * SECOND);
        let _either_way = world.answer(probe, read);
        finish(world, &format!("seed {seed}"));
    }
}
