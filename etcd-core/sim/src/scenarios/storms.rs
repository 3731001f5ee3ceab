//! One kind of fault at a time, again and again, for several seeds.

use super::finish;
use crate::event::SECOND;
use crate::profile::{Profile, Settings};
use crate::world::World;

/// Runs seeds under these settings; what watches were given, and told of compactions.
fn storm(seeds: std::ops::Range<u64>, settings: Settings) -> (u64, u64) {
    let mut sum = (0, 0);
    for seed in seeds {
        let mut world = World::new(seed, settings, None, true);
        world.populate();
        world.begin_storm();
        world.run_for(15 * SECOND);
        let watched = world.watched();
        sum = (sum.0 + watched.0, sum.1 + watched.1);
        finish(world, &format!("seed {seed}"));
    }
    sum
}

fn calm() -> Settings {
    Settings {
        stall: 0,
        drop: 0,
        duplicate: 0,
        pause_ms: (100, 1200),
        restart_ms: (10, 800),
        ..Profile::Calm.settings()
    }
}

#[test]
fn s01_s02_power_losses_lose_nothing_acknowledged() {
    for members in [1, 3] {
        let settings = Settings {
            members,
            power: 1,
            ..calm()
        };
        storm(0..25, settings);
    }
}

#[test]
fn s03_power_losses_while_files_are_begun_and_given_up() {
    let settings = Settings {
        power: 1,
        segment_bytes: 2048,
        ..calm()
    };
    storm(100..120, settings);
}

#[test]
fn s07_kills_and_power_losses_apply_nothing_twice() {
    let settings = Settings {
        kill: 1,
        power: 1,
        ..calm()
    };
    storm(200..220, settings);
}

#[test]
fn s08_power_losses_during_compactions() {
    let settings = Settings {
        kill: 1,
        power: 1,
        compactions: 200,
        ..calm()
    };
    storm(300..320, settings);
}

#[test]
fn s13_s14_disks_that_fail_and_fill_up() {
    let settings = Settings {
        disk: 2,
        power: 1,
        ..calm()
    };
    storm(400..425, settings);
}

#[test]
fn s18_s20_partitions_of_every_kind() {
    let settings = Settings {
        partition: 1,
        ..calm()
    };
    storm(500..520, settings);
}

#[test]
fn s21_a_network_that_loses_repeats_reorders_and_misdirects() {
    let settings = Settings {
        drop: 150,
        duplicate: 200,
        slow: 100,
        stall: 1,
        ..calm()
    };
    storm(600..615, settings);
}

#[test]
fn s22_members_come_and_go_while_others_are_down() {
    let settings = Settings {
        kill: 1,
        power: 1,
        partition: 1,
        admin: true,
        ..calm()
    };
    storm(700..725, settings);
}

#[test]
fn s26_leases_under_leaders_that_fall() {
    storm(800..820, Profile::Elections.settings());
}

#[test]
fn s28_s30_watches_resume_and_hear_of_progress_under_compactions() {
    let settings = Settings {
        kill: 1,
        compactions: 150,
        ..calm()
    };
    let (events, compactions) = storm(900..915, settings);
    assert!(events > 1000, "{events}");
    assert!(compactions > 10, "{compactions}");
}

#[test]
fn s29_watches_across_partitions_and_snapshots() {
    let settings = Settings {
        partition: 3,
        stall: 1,
        pause_ms: (1000, 4000),
        ..calm()
    };
    let (events, _) = storm(1000..1015, settings);
    assert!(events > 1000, "{events}");
}
