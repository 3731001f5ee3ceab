//! Where watchers stand, kept in step in every place that says so: the watcher,
//! its range's lists, its stream's counters and the set of the ready.

use super::hub::WatchHub;
use super::watcher::Standing;

impl WatchHub {
    /// Gives a watcher a cursor at main revision `next`, ready to be served.
    pub(super) fn fall_behind(&mut self, index: u32, next: i64) {
        self.leave_standing(index);
        self.stand(index, Standing::Ready(next));
        self.ready.insert((next, index));
    }

    /// Takes a ready watcher out of service until its stream has room.
    pub(super) fn park(&mut self, index: u32) {
        let watcher = &mut self.watchers[index];
        if let Standing::Ready(next) = watcher.standing {
            watcher.standing = Standing::Parked(next);
            self.ready.remove(&(next, index));
            self.streams[watcher.stream].parked.insert(index);
        }
    }

    /// Lets a watcher that has had everything follow the head again.
    pub(super) fn rejoin(&mut self, index: u32) {
        self.leave_standing(index);
        self.stand(index, Standing::Synced);
    }

    /// Takes a watcher out of the set that its standing keeps it in.
    fn leave_standing(&mut self, index: u32) {
        let watcher = &self.watchers[index];
        match watcher.standing {
            Standing::Synced | Standing::Feeding(_) => {}
            Standing::Ready(next) => {
                self.ready.remove(&(next, index));
            }
            Standing::Parked(_) => {
                self.streams[watcher.stream].parked.remove(&index);
            }
        }
    }

    /// Changes a watcher's standing, and its list in its range with it.
    fn stand(&mut self, index: u32, standing: Standing) {
        let was_synced = self.watchers[index].is_synced();
        let is_synced = standing == Standing::Synced;
        if was_synced == is_synced {
            self.watchers[index].standing = standing;
            return;
        }
        self.delist(index);
        self.watchers[index].standing = standing;
        self.enlist(index);
        let open = &mut self.streams[self.watchers[index].stream];
        if is_synced {
            open.lagging -= 1;
            self.slow -= 1;
        } else {
            open.lagging += 1;
            self.slow += 1;
        }
    }

    /// Adds a watcher to the list of its range that its standing asks for.
    pub(super) fn enlist(&mut self, index: u32) {
        let watcher = &mut self.watchers[index];
        let range = &mut self.ranges[watcher.range];
        let list = if watcher.is_synced() {
            &mut range.synced
        } else {
            &mut range.lagging
        };
        watcher.place = list.len() as u32;
        list.push(index);
    }

    /// Takes a watcher off its range's list.
    fn delist(&mut self, index: u32) {
        let watcher = &self.watchers[index];
        let place = watcher.place as usize;
        let range = &mut self.ranges[watcher.range];
        let list = if watcher.is_synced() {
            &mut range.synced
        } else {
            &mut range.lagging
        };
        list.swap_remove(place);
        if let Some(&moved) = list.get(place) {
            self.watchers[moved].place = place as u32;
        }
    }

    /// Forgets a watcher that its stream no longer lists.
    pub(super) fn drop_watcher(&mut self, index: u32) {
        self.leave_standing(index);
        self.delist(index);
        let Some(watcher) = self.watchers.remove(index) else {
            return;
        };
        if self.ranges[watcher.range].is_unwatched() {
            self.ranges.remove(watcher.range);
        }
        let open = &mut self.streams[watcher.stream];
        open.notified -= usize::from(watcher.progress_notify);
        if !watcher.is_synced() {
            open.lagging -= 1;
            self.slow -= 1;
        }
    }
}
