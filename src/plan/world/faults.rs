//! What goes wrong on the operator's way to the world: by a seed, or at one call.

use super::api::Refusal;

/// Numbers that follow from a seed.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Seed(pub(in crate::plan) u64);

impl Seed {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(in crate::plan) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// True `percent` times of a hundred.
    pub(in crate::plan) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Where the operator is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Stop {
    /// Before its nth call from now.
    Before(usize),
    /// After it, without having seen the answer.
    After(usize),
}

/// What is wrong, and with what chance.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Faults {
    pub(in crate::plan) seed: Seed,
    /// Whether anything but `stop` goes wrong.
    pub(in crate::plan) any: bool,
    /// Whether caches lag, if nothing else goes wrong.
    pub(in crate::plan) lags: bool,
    pub(in crate::plan) stop: Option<Stop>,
    pub(in crate::plan) dead: bool,
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done and answered.
    Done,
    /// It is not done, and that is the answer.
    Refused,
    /// It is done, and the answer is lost.
    Unanswered,
    /// Someone else changes the object first.
    Overtaken,
    /// The world moves on before it is done.
    Late,
}

impl Faults {
    pub(in crate::plan) fn none() -> Faults {
        Faults {
            seed: Seed(0),
            any: false,
            lags: false,
            stop: None,
            dead: false,
        }
    }

    /// How many snapshots a cache is behind.
    pub(super) fn lag(&mut self) -> usize {
        if (self.any || self.lags) && self.seed.chance(60) {
            self.seed.below(12)
        } else {
            0
        }
    }

    /// Whether a member does not answer a probe, this once.
    pub(super) fn unheard(&mut self) -> bool {
        self.any && self.seed.chance(3)
    }

    /// What becomes of the next call; an error if the operator is dead before it.
    pub(super) fn fate(&mut self) -> Result<Fate, Refusal> {
        if self.dead {
            return Err(Refusal::Dead);
        }
        match &mut self.stop {
            Some(Stop::Before(0)) => {
                self.stop = None;
                self.dead = true;
                return Err(Refusal::Dead);
            }
            Some(Stop::After(0)) => {
                self.stop = None;
                self.dead = true;
                return Ok(Fate::Unanswered);
            }
            Some(Stop::Before(left) | Stop::After(left)) => *left -= 1,
            None => {}
        }
        if !self.any {
            return Ok(Fate::Done);
        }
        Ok(match self.seed.below(100) {
            0..6 => Fate::Refused,
            6..12 => Fate::Unanswered,
            12..18 => Fate::Overtaken,
            18..30 => Fate::Late,
            30..32 => {
                self.dead = true;
                return Err(Refusal::Dead);
            }
            32..34 => {
                self.dead = true;
                Fate::Unanswered
            }
            _ => Fate::Done,
        })
    }
}
