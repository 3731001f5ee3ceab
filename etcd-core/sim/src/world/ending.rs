//! After the storm: everything works again, and everybody agrees.

use super::World;
use crate::client::Client;
use crate::event::{Event, SECOND};

/// Time in which the cluster must have come to rest, once nothing goes wrong.
const REST_US: u64 = 90 * SECOND;

impl World {
    /// Ends the storm, lets clients go on for a while, and then everything come to rest.
    pub(crate) fn finish(&mut self) {
        self.storm = false;
        self.env.note(format_args!("the storm is over"));
        self.env.settings.drop = 0;
        let members: Vec<u64> = self.slots.keys().copied().collect();
        for member in members {
            if let Some(slot) = self.slots.get_mut(&member) {
                slot.disk.set_capacity(None);
                slot.full = false;
                slot.held = false;
                slot.disk.crash_at(u64::MAX);
                slot.recover();
            }
            self.env.after(SECOND, Event::Start(member));
        }
        // Faults under way end by themselves meanwhile.
        self.run_for(10 * SECOND);
        self.ending = true;
        for client in 0..self.clients.len() {
            self.env.after(0, Event::Wake(client));
        }
        let end = self.env.now + REST_US;
        while self.is_sound() && self.env.now < end {
            self.run_for(SECOND / 2);
            if self.unrest().is_none() {
                break;
            }
        }
        if !self.is_sound() {
            return;
        }
        if let Some(what) = self.unrest() {
            self.env.check.report(format!("liveness: {what}"));
            return;
        }
        self.final_checks();
    }

    /// Why the cluster is not at rest.
    fn unrest(&self) -> Option<String> {
        let Some(leader) = self.leader() else {
            return Some("there is no leader".to_owned());
        };
        let status = leader.consensus.status();
        if status.commit != status.last_index {
            let voters: Vec<_> = self
                .processes()
                .map(|process| process.consensus.status())
                .collect();
            return Some(format!(
                "index {} of {} is committed: {status:x?}, {voters:x?}",
                status.commit, status.last_index
            ));
        }
        for member in leader.view.membership.iter() {
            let Some(process) = self.process(member.id) else {
                return Some(format!("{:x} does not run", member.id));
            };
            if process.applied_index() != status.commit || process.view.index != status.commit {
                return Some(format!(
                    "{:x} has applied {} of {}: {:?}, {:?}",
                    member.id,
                    process.applied_index(),
                    status.commit,
                    process.consensus.status(),
                    status.progress.get(&member.id),
                ));
            }
            if process.lease_count() > 0 {
                return Some(format!("{} leases do not end", process.lease_count()));
            }
        }
        for client in &self.clients {
            if !client.is_idle() {
                return Some("a client waits".to_owned());
            }
            if let Client::Watch(watch) = client {
                let state = &self.env.check.state;
                if let Some(record) = watch.watcher.missing(state, state.revision()) {
                    return Some(format!(
                        "watch: revision {} is not delivered",
                        record.rev.main
                    ));
                }
            }
        }
        None
    }

    fn final_checks(&mut self) {
        let views: Vec<_> = self
            .processes()
            .map(|process| (process.pid.member, process.view.clone()))
            .collect();
        for (member, view) in views {
            let result = self.env.check.state.hash(member, &view);
            self.env.check.take(result);
        }
        let result = self.env.check.history.check();
        self.env.check.take(result);
        let newest = self.leader().map_or(0, |leader| leader.view.kv.revision());
        if newest < self.env.check.floor() {
            let floor = self.env.check.floor();
            self.env.check.report(format!(
                "acknowledged writes: the cluster ends at revision {newest}, clients were told of {floor}"
            ));
        }
        for client in &self.clients {
            if let Client::Watch(watch) = client {
                let result = watch.watcher.check_complete(&self.env.check.state);
                self.env.check.take(result);
            }
        }
    }

    /// Events and compactions that watches were told of, for the report.
    pub(crate) fn watched(&self) -> (u64, u64) {
        let watches = self.clients.iter().filter_map(|client| match client {
            Client::Watch(watch) => Some((watch.watcher.events, watch.watcher.compactions)),
            _ => None,
        });
        watches.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}
