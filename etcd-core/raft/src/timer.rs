//! Counting ticks: election timeouts with jitter, and heartbeats.

/// The logical clock of a member.
#[derive(Debug)]
pub(crate) struct Timer {
    election_tick: u32,
    heartbeat_tick: u32,
    /// Ticks since the leader was heard of, an election began or, on a leader, since
    /// the last check of its quorum.
    election_elapsed: u32,
    heartbeat_elapsed: u32,
    /// What the current election waits for, in `[election_tick, 2 * election_tick)`.
    timeout: u32,
    jitter: Jitter,
}

impl Timer {
    pub(crate) fn new(election_tick: u32, heartbeat_tick: u32, seed: u64, id: u64) -> Timer {
        let mut timer = Timer {
            election_tick,
            heartbeat_tick,
            election_elapsed: 0,
            heartbeat_elapsed: 0,
            timeout: 0,
            jitter: Jitter::new(seed, id),
        };
        timer.reset();
        timer
    }

    /// Starts both counts anew, with a new random timeout.
    pub(crate) fn reset(&mut self) {
        self.election_elapsed = 0;
        self.heartbeat_elapsed = 0;
        self.timeout = self
            .election_tick
            .saturating_add(self.jitter.below(self.election_tick));
    }

    /// Counts the election timeout from now, without a new random timeout.
    pub(crate) fn heard(&mut self) {
        self.election_elapsed = 0;
    }

    /// Lets the timeout end after so many ticks, if it does not end before.
    pub(crate) fn hurry(&mut self, ticks: u32) {
        let elapsed = self.timeout.saturating_sub(ticks);
        self.election_elapsed = self.election_elapsed.max(elapsed);
    }

    /// Counts one tick of a member that does not lead; true once its timeout is over.
    pub(crate) fn tick_follower(&mut self) -> bool {
        self.election_elapsed = self.election_elapsed.saturating_add(1);
        self.election_elapsed >= self.timeout
    }

    /// Counts one tick of a leader: (a heartbeat is due, its quorum is to be checked).
    pub(crate) fn tick_leader(&mut self) -> (bool, bool) {
        self.election_elapsed += 1;
        self.heartbeat_elapsed += 1;
        let check = self.election_elapsed >= self.election_tick;
        if check {
            self.election_elapsed = 0;
        }
        let beat = self.heartbeat_elapsed >= self.heartbeat_tick;
        if beat {
            self.heartbeat_elapsed = 0;
        }
        (beat, check)
    }

    /// Whether the leader was heard of within the shortest election timeout.
    pub(crate) fn in_lease(&self) -> bool {
        self.election_elapsed < self.election_tick
    }
}

/// SplitMix64: enough to keep members from campaigning in step.
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    fn new(seed: u64, id: u64) -> Jitter {
        // Members of one cluster may be given one seed: the ID keeps them apart.
        let mut jitter = Jitter(seed);
        jitter.0 = jitter.next() ^ id;
        jitter
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u32) -> u32 {
        let bound = u64::from(bound.max(1));
        u32::try_from(self.next() % bound).expect("the remainder is below a u32")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_stay_within_one_and_two_election_ticks_and_vary() {
        let mut timer = Timer::new(10, 1, 7, 1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            timer.reset();
            assert!((10..20).contains(&timer.timeout));
            seen.insert(timer.timeout);
        }
        assert!(seen.len() > 5, "jitter must vary: {seen:?}");
    }

    #[test]
    fn who_hurries_is_never_later_than_before() {
        let ticks = |timer: &mut Timer| (1..).find(|_| timer.tick_follower()).unwrap();
        for waited in 0..12 {
            let timer = || {
                let mut timer = Timer::new(10, 1, 7, 1);
                for _ in 0..waited {
                    timer.tick_follower();
                }
                timer
            };
            let left = ticks(&mut timer());
            let mut hurried = timer();
            hurried.hurry(3);
            assert_eq!(ticks(&mut hurried), left.min(3));
        }
    }

    #[test]
    fn the_same_seed_differs_between_members_and_repeats_for_one() {
        let draw = |id| {
            let mut jitter = Jitter::new(42, id);
            (0..8).map(|_| jitter.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn a_leader_beats_every_heartbeat_and_checks_every_election_timeout() {
        let mut timer = Timer::new(4, 2, 0, 1);
        let ticks: Vec<_> = (0..4).map(|_| timer.tick_leader()).collect();
        assert_eq!(
            ticks,
            [(false, false), (true, false), (false, false), (true, true)]
        );
    }
}
