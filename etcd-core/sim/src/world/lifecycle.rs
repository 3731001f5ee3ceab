//! Processes that start and end, and what arrives at them.

use bytes::Bytes;
use etcd_proto::raftpb::Message;
use etcd_replica::{Boot, Input, OpenError};
use etcd_storage::wal::WalError;

use super::World;
use crate::env::Env;
use crate::event::{Event, MS, Pid};
use crate::member::{self, Death, Process};

impl World {
    /// Lets a process do something, if it still runs, and ends it if it has to.
    pub(super) fn with(
        &mut self,
        pid: Pid,
        action: impl FnOnce(&mut Process, &mut Env) -> Result<(), Death>,
    ) {
        let Some(slot) = self.slots.get_mut(&pid.member) else {
            return;
        };
        let Some(process) = slot.process.as_mut().filter(|p| p.pid == pid) else {
            return;
        };
        let result = action(process, &mut self.env);
        match result {
            Ok(()) if slot.disk.is_down() => self.ended(pid.member, "the power is out"),
            Ok(()) => {}
            Err(Death::Removed) => {
                slot.removed = true;
                self.ended(pid.member, "removed");
            }
            Err(Death::Disk(why)) if slot.is_faulty() => {
                self.ended(pid.member, &why);
            }
            Err(Death::Bug(why)) if slot.disk.is_down() => self.ended(pid.member, &why),
            Err(Death::Disk(why) | Death::Bug(why)) => {
                let what = format!("{:x} must stop: {why}", pid.member);
                self.env.check.report(what);
            }
        }
    }

    /// The process of a member has ended; a disk without power gets it back.
    fn ended(&mut self, member: u64, why: &str) {
        self.env.note(format_args!("{member:x} ends: {why}"));
        let Some(slot) = self.slots.get_mut(&member) else {
            return;
        };
        if let Some(process) = slot.process.take() {
            process.drop_streams(&mut self.env);
            process.drop_calls(&mut self.env);
            if !slot.disk.is_down() {
                self.tell_of_the_end(member);
            }
        }
        let Some(slot) = self.slots.get_mut(&member) else {
            return;
        };
        // A file system whose directories cannot be synced is given up by the kernel.
        let aborted = why.contains("fsync /") && why.contains("os error 5");
        if slot.disk.is_down() || aborted {
            slot.disk.crash();
        }
        slot.recover();
        if !slot.removed {
            let (low, high) = self.env.settings.restart_ms;
            self.env.soon(low * MS, high * MS, Event::Start(member));
        }
    }

    /// Connections to a process that has ended are refused, while its host can be reached:
    /// most of the others notice. A host that lost power may be up again before its member,
    /// and refuses them then; while the disk of one is without power, nobody hears of it.
    fn tell_of_the_end(&mut self, member: u64) {
        let others: Vec<u64> = self.processes().map(|process| process.pid.member).collect();
        for at in others {
            let reached = !self.env.is_cut(member, at) && !self.env.is_cut(at, member);
            for _ in 0..2 {
                if reached && self.env.random.permille(700) {
                    self.env.soon(0, 150 * MS, Event::Gone { at, peer: member });
                }
            }
        }
    }

    /// Ends a process at once; the disk keeps what was written.
    pub(crate) fn kill(&mut self, member: u64) {
        if self.pid(member).is_some() {
            self.ended(member, "killed");
        }
    }

    /// The power of a member goes out, and comes back.
    pub(crate) fn power_loss(&mut self, member: u64) {
        let runs = self.pid(member).is_some();
        let Some(slot) = self.slots.get_mut(&member) else {
            return;
        };
        // Whatever the process drops now is not seen by the disk as it was.
        slot.disk.crash();
        if runs {
            self.ended(member, "power loss");
        }
    }

    pub(crate) fn start(&mut self, member: u64) {
        if !self.slots.contains_key(&member) {
            // One that was added to the cluster, or may have been.
            let boot = Boot::Join {
                member_id: member,
                cluster_id: self.cluster_id,
            };
            self.add_slot(member, boot);
        }
        let Some(slot) = self.slots.get_mut(&member) else {
            return;
        };
        if slot.removed || slot.held || slot.process.is_some() {
            return;
        }
        slot.life += 1;
        let pid = Pid {
            member,
            life: slot.life,
        };
        match member::start(pid, &slot.disk, &slot.boot, self.quota, &mut self.env) {
            Ok(process) => slot.process = Some(process),
            Err(error) if slot.is_faulty() || is_no_space(&error) => {
                let why = error.to_string();
                self.ended(member, &why);
            }
            Err(error) => {
                let files = slot.listing();
                let what = format!("{member:x} cannot start: {error}; {files:?}");
                self.env.check.report(what);
            }
        }
    }

    /// Why a member does not start, if it does not. It is left as it is.
    #[cfg(test)]
    pub(crate) fn start_error(&mut self, member: u64) -> Option<OpenError> {
        let slot = self.slots.get_mut(&member)?;
        slot.life += 1;
        let pid = Pid {
            member,
            life: slot.life,
        };
        member::start(pid, &slot.disk, &slot.boot, self.quota, &mut self.env).err()
    }

    /// Lets a member rewrite its segments without what is dead.
    #[cfg(test)]
    pub(crate) fn defragment(&mut self, member: u64) {
        if let Some(pid) = self.pid(member) {
            self.with(pid, |process, env| {
                process.begin_checkpoint(true, env);
                Ok(())
            });
        }
    }

    pub(super) fn deliver(&mut self, message: Message) {
        let (from, to) = (message.from, message.to);
        // Astray: the wrong one gets it.
        let at = to & 0xffff_ffff;
        let Some(pid) = self.pid(at) else {
            return;
        };
        let removed = self
            .process(at)
            .is_some_and(|p| p.view.membership.is_removed(from));
        if removed {
            // The transport says so, and the sender ends.
            if let Some(slot) = self.slots.get_mut(&from)
                && slot.process.is_some()
            {
                slot.removed = true;
                self.ended(from, "removed, as a peer says");
            }
            return;
        }
        self.env.note(format_args!(
            "{from:x} -> {to:x} {} term {} index {} {}",
            message.r#type().as_str_name(),
            message.term,
            message.index,
            message.reject
        ));
        self.with(pid, |process, env| {
            process.receive(Input::Message(message), env);
            Ok(())
        });
    }

    pub(super) fn deliver_snapshot(&mut self, message: Message, image: &Bytes) {
        let (from, to) = (message.from, message.to);
        let cut = self.env.is_cut(from, to);
        let Some(pid) = self.pid(to).filter(|_| !cut) else {
            let fate = Event::SnapshotFate {
                at: from,
                to,
                ok: false,
            };
            return self.env.soon(MS, 100 * MS, fate);
        };
        self.env.note(format_args!(
            "{from:x} -> {to:x} snapshot of {} bytes",
            image.len()
        ));
        self.with(pid, |process, env| {
            process.receive_snapshot(message, image, env)
        });
        let ok = self.pid(to) == Some(pid);
        let fate = Event::SnapshotFate { at: from, to, ok };
        self.env.soon(MS, 50 * MS, fate);
    }
}

/// Whether it may start once there is space.
fn is_no_space(error: &OpenError) -> bool {
    match error {
        OpenError::Wal(WalError::Disk(e)) | OpenError::Disk(e) => e.is_no_space(),
        OpenError::Store(error) => error.to_string().contains("no storage space"),
        _ => false,
    }
}
