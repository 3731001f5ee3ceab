use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use super::content::{Content, SECTOR_BYTES};
use super::random::Random;

/// Number of a file or directory; it keeps it under every name.
pub(super) type NodeId = u64;

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
}

/// A file as processes see it, as a crash would leave it, and what lies between.
#[derive(Clone, Debug, Default)]
pub(super) struct FileNode {
    pub live: Content,
    durable: Content,
    pending: Vec<FileOp>,
    /// Open handles.
    pub handles: u32,
}

#[derive(Clone, Debug)]
enum FileOp {
    Write { offset: u64, data: Vec<u8> },
    Truncate(u64),
    Grow(u64),
}

impl FileNode {
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        self.live.write(offset, data);
        self.pending.push(FileOp::Write {
            offset,
            data: data.to_vec(),
        });
    }

    pub(super) fn truncate(&mut self, len: u64) {
        self.live.truncate(len);
        self.pending.push(FileOp::Truncate(len));
    }

    pub(super) fn grow(&mut self, len: u64) {
        self.live.grow(len);
        self.pending.push(FileOp::Grow(len));
    }

    pub(super) fn sync(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        for op in pending {
            op.apply(&mut self.durable, &mut |_| true);
        }
    }

    /// A sync that fails: some sectors reach the disk, and the rest count as clean from
    /// now on though they never will.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        let fate = Fate::draw(random);
        // A sector that a later write reached is written as it was in memory then, with
        // all earlier writes to it: of each sector the writes survive up to a point.
        let mut lost = BTreeSet::new();
        for op in std::mem::take(&mut self.pending) {
            op.apply(&mut self.durable, &mut |part| {
                if let Part::Sector(sector) = part
                    && lost.contains(&sector)
                {
                    return false;
                }
                let survives = fate.survives(random);
                if let Part::Sector(sector) = part
                    && !survives
                {
                    lost.insert(sector);
                }
                survives
            });
        }
    }

    pub(super) fn crash(&mut self, random: &mut Random) {
        self.fail_sync(random);
        self.live = self.durable.clone();
        self.handles = 0;
    }

    pub(super) fn flip(&mut self, offset: u64, bit: u8) {
        self.live.flip(offset, bit);
        self.durable.flip(offset, bit);
    }
}

/// What of an operation survives by itself.
#[derive(Clone, Copy)]
enum Part {
    Sector(u64),
    Length,
}

impl FileOp {
    /// Applies what survives of the operation: of a write each sector by itself.
    fn apply(self, content: &mut Content, survives: &mut dyn FnMut(Part) -> bool) {
        match self {
            FileOp::Write { offset, data } => {
                let mut done = 0;
                while done < data.len() {
                    let at = offset + done as u64;
                    let to_sector_end = (SECTOR_BYTES - at % SECTOR_BYTES) as usize;
                    let size = to_sector_end.min(data.len() - done);
                    if survives(Part::Sector(at / SECTOR_BYTES)) {
                        content.write(at, &data[done..done + size]);
                    }
                    done += size;
                }
            }
            FileOp::Truncate(len) => {
                if survives(Part::Length) {
                    content.truncate(len);
                }
            }
            FileOp::Grow(len) => {
                if survives(Part::Length) {
                    content.grow(len);
                }
            }
        }
    }
}

/// A directory, likewise.
#[derive(Clone, Debug, Default)]
pub(super) struct DirNode {
    pub live: BTreeMap<OsString, NodeId>,
    durable: BTreeMap<OsString, NodeId>,
    pending: Vec<DirOp>,
}

#[derive(Clone, Debug)]
enum DirOp {
    Link {
        name: OsString,
        node: NodeId,
    },
    Unlink {
        name: OsString,
        node: NodeId,
    },
    Rename {
        from: OsString,
        to: OsString,
        node: NodeId,
    },
}

impl DirNode {
    pub(super) fn link(&mut self, name: OsString, node: NodeId) {
        self.change(DirOp::Link { name, node });
    }

    pub(super) fn unlink(&mut self, name: OsString, node: NodeId) {
        self.change(DirOp::Unlink { name, node });
    }

    pub(super) fn rename(&mut self, from: OsString, to: OsString, node: NodeId) {
        self.change(DirOp::Rename { from, to, node });
    }

    fn change(&mut self, op: DirOp) {
        op.clone().apply(&mut self.live);
        self.pending.push(op);
    }

    pub(super) fn sync(&mut self) {
        for op in std::mem::take(&mut self.pending) {
            op.apply(&mut self.durable);
        }
    }

    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        let fate = Fate::draw(random);
        for op in std::mem::take(&mut self.pending) {
            if fate.survives(random) {
                op.apply(&mut self.durable);
            }
        }
    }

    pub(super) fn crash(&mut self, random: &mut Random) {
        self.fail_sync(random);
        self.live = self.durable.clone();
    }

    /// Every node that a name leads to, or may lead to after a crash.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        let pending = self.pending.iter().map(|op| match op {
            DirOp::Link { node, .. } | DirOp::Unlink { node, .. } | DirOp::Rename { node, .. } => {
                node
            }
        });
        self.live
            .values()
            .chain(self.durable.values())
            .chain(pending)
            .copied()
    }
}

impl DirOp {
    fn apply(self, names: &mut BTreeMap<OsString, NodeId>) {
        let remove = |name: &OsString, node: NodeId, names: &mut BTreeMap<_, _>| {
            if names.get(name) == Some(&node) {
                names.remove(name);
            }
        };
        match self {
            DirOp::Link { name, node } => {
                names.insert(name, node);
            }
            DirOp::Unlink { name, node } => remove(&name, node, names),
            DirOp::Rename { from, to, node } => {
                remove(&from, node, names);
                names.insert(to, node);
            }
        }
    }
}

/// How a crash treats what is not durable. The two extremes are drawn often, as most
/// mistakes show there.
enum Fate {
    AllLost,
    AllKept,
    /// Each operation, and each sector of a write, by itself; of 8 this many survive.
    Mixed(u64),
}

impl Fate {
    fn draw(random: &mut Random) -> Fate {
        match random.below(4) {
            0 => Fate::AllLost,
            1 => Fate::AllKept,
            _ => Fate::Mixed(1 + random.below(7)),
        }
    }

    fn survives(&self, random: &mut Random) -> bool {
        match self {
            Fate::AllLost => false,
            Fate::AllKept => true,
            Fate::Mixed(of_eight) => random.below(8) < *of_eight,
        }
    }
}
