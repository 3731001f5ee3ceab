//! What goes wrong, when, and for how long.

use etcd_storage::simdisk::Fault as DiskFault;

use super::World;
use crate::event::{Event, Fault, MS, SECOND};

impl World {
    /// Lets one thing go wrong and plans the next.
    pub(super) fn chaos(&mut self) {
        if !self.storm {
            return;
        }
        let settings = self.env.settings;
        let (low, high) = settings.pause_ms;
        self.env.soon(low * MS, high * MS, Event::Chaos);
        let weights = [
            settings.kill,
            settings.power,
            settings.partition,
            settings.disk,
            settings.stall,
        ];
        let mut draw = self.env.random.below(weights.iter().sum());
        let mut what = 0;
        while what < weights.len() && draw >= weights[what] {
            draw -= weights[what];
            what += 1;
        }
        let Some(victim) = self.victim() else {
            return;
        };
        // A connection that breaks is at times taken for the end of its peer.
        if let Some(at) = self.env.random.pick(&self.map().members)
            && self.env.random.permille(200)
        {
            self.env.soon(0, 100 * MS, Event::Gone { at, peer: victim });
        }
        match what {
            0 => self.kill(victim),
            1 => self.power_trouble(victim),
            2 => self.cut(victim),
            3 => self.disk_trouble(victim),
            _ => self.slow_down(victim),
        }
    }

    /// Some member, the leader more often than others.
    fn victim(&mut self) -> Option<u64> {
        let leader = self.leader().map(|process| process.pid.member);
        if let Some(leader) = leader
            && self.env.random.permille(350)
        {
            return Some(leader);
        }
        let members: Vec<u64> = self.map().members;
        self.env.random.pick(&members)
    }

    fn power_trouble(&mut self, victim: u64) {
        match self.env.random.below(10) {
            0 => {
                self.env.note(format_args!("the power of all goes out"));
                for member in self.map().members {
                    self.power_loss(member);
                }
            }
            1..=4 => self.power_loss(victim),
            _ => {
                let within = self.env.random.between(1, 60);
                if let Some(slot) = self.slots.get(&victim) {
                    slot.disk.crash_at(slot.disk.ops() + within);
                    self.env.note(format_args!(
                        "the power of {victim:x} goes out within {within} operations"
                    ));
                }
            }
        }
    }

    fn disk_trouble(&mut self, victim: u64) {
        let kind = self.env.random.below(3);
        match kind {
            0 => self.fail_syncs(victim),
            1 => {
                let within = self.env.random.below(25);
                let Some(slot) = self.slots.get_mut(&victim) else {
                    return;
                };
                let at = slot.disk.ops() + within;
                slot.fails_at.insert(at);
                slot.disk.fail_op(at, DiskFault::Io);
                self.env.note(format_args!(
                    "{victim:x}: operation {within} from now fails"
                ));
            }
            _ => {
                self.fill_up(victim);
                self.env
                    .soon(SECOND, 6 * SECOND, Event::Mend(Fault::Full(victim)));
            }
        }
    }

    /// Lets every sync of a member fail until its process has ended by it.
    pub(crate) fn fail_syncs(&mut self, victim: u64) {
        if let Some(slot) = self.slots.get_mut(&victim) {
            slot.armed = true;
            slot.disk.fail_syncs(true);
            self.env.note(format_args!("{victim:x}: syncs fail"));
        }
    }

    /// Leaves little space on a member's disk.
    pub(crate) fn fill_up(&mut self, victim: u64) {
        let left = self.env.random.below(25_000);
        if let Some(slot) = self.slots.get_mut(&victim) {
            slot.full = true;
            slot.disk.set_capacity(Some(slot.disk.used() + left));
            self.env.note(format_args!("{victim:x}: the disk fills up"));
        }
    }

    fn slow_down(&mut self, victim: u64) {
        let fault = match self.env.random.below(2) {
            0 => {
                *self.env.stalled.entry(victim).or_insert(0) += 1;
                Fault::Stall(victim)
            }
            _ => {
                *self.env.slow_apply.entry(victim).or_insert(0) += 1;
                Fault::SlowApply(victim)
            }
        };
        self.env.note(format_args!("{fault:?}"));
        self.env.soon(500 * MS, 4 * SECOND, Event::Mend(fault));
    }

    fn cut(&mut self, victim: u64) {
        let members = self.map().members;
        let others = members.iter().copied().filter(|m| *m != victim);
        let mut links = Vec::new();
        match self.env.random.below(6) {
            0 | 1 => {
                for other in others {
                    links.push((victim, other));
                    links.push((other, victim));
                }
            }
            2 => links.extend(others.map(|other| (victim, other))),
            3 => links.extend(others.map(|other| (other, victim))),
            4 => {
                if let Some(other) = self.env.random.pick(&others.collect::<Vec<_>>()) {
                    links.push((victim, other));
                    links.push((other, victim));
                }
            }
            _ => {
                // Two halves.
                let sides: Vec<bool> = members
                    .iter()
                    .map(|_| self.env.random.permille(500))
                    .collect();
                for (a, left) in members.iter().zip(&sides) {
                    for (b, right) in members.iter().zip(&sides) {
                        if left != right {
                            links.push((*a, *b));
                        }
                    }
                }
            }
        }
        self.env.note(format_args!("cut: {links:x?}"));
        self.env.cut(&links);
        self.env
            .soon(300 * MS, 7 * SECOND, Event::Mend(Fault::Cut(links)));
    }

    pub(super) fn mend(&mut self, fault: Fault) {
        self.env.note(format_args!("mended: {fault:x?}"));
        match fault {
            Fault::Cut(links) => self.env.mend(&links),
            Fault::Full(member) => {
                if let Some(slot) = self.slots.get_mut(&member) {
                    slot.disk.set_capacity(None);
                    slot.full = false;
                }
            }
            Fault::Stall(member) => less(&mut self.env.stalled, member),
            Fault::SlowApply(member) => less(&mut self.env.slow_apply, member),
        }
    }
}

fn less(counts: &mut std::collections::BTreeMap<u64, u32>, member: u64) {
    if let Some(count) = counts.get_mut(&member) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&member);
        }
    }
}
