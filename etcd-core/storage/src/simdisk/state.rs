use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path};

use super::Fault;
use super::node::{DirNode, FileNode, Node, NodeId};
use super::random::Random;

const ROOT: NodeId = 0;

/// Everything the disk is, behind one lock.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub random: Random,
    /// Number of crashes; handles and locks of an earlier life are void.
    pub life: u64,
    nodes: BTreeMap<NodeId, Node>,
    next_node: NodeId,
    pub locks: BTreeSet<NodeId>,
    /// Number of changing operations so far.
    pub ops: u64,
    /// Whether the power is out.
    pub down: bool,
    pub crash_at: Option<u64>,
    pub faults: BTreeMap<u64, Fault>,
    pub fail_syncs: bool,
    pub capacity: Option<u64>,
}

/// What is to become of a changing operation.
pub(super) enum Verdict {
    Proceed,
    /// Carry it out, then fail: the power went out meanwhile.
    ProceedAndFail,
    Fail(io::Error),
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        State {
            random: Random::new(seed),
            life: 0,
            nodes: BTreeMap::from([(ROOT, Node::Dir(DirNode::default()))]),
            next_node: ROOT + 1,
            locks: BTreeSet::new(),
            ops: 0,
            down: false,
            crash_at: None,
            faults: BTreeMap::new(),
            fail_syncs: false,
            capacity: None,
        }
    }

    pub(super) fn check_power(&self) -> io::Result<()> {
        if self.down {
            Err(power_is_out())
        } else {
            Ok(())
        }
    }

    /// Counts a changing operation and decides about it.
    pub(super) fn begin(&mut self) -> Verdict {
        if self.down {
            return Verdict::Fail(power_is_out());
        }
        let number = self.ops;
        self.ops += 1;
        if self.crash_at.is_some_and(|at| number >= at) {
            self.down = true;
            return match self.random.below(2) {
                0 => Verdict::Fail(power_is_out()),
                _ => Verdict::ProceedAndFail,
            };
        }
        match self.faults.remove(&number) {
            Some(Fault::Io) => Verdict::Fail(io::Error::from_raw_os_error(EIO)),
            Some(Fault::NoSpace) => Verdict::Fail(no_space()),
            None => Verdict::Proceed,
        }
    }

    pub(super) fn crash(&mut self) {
        let random = &mut self.random;
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.crash(random),
                Node::Dir(dir) => dir.crash(random),
            }
        }
        self.life += 1;
        self.down = false;
        self.crash_at = None;
        self.faults.clear();
        self.fail_syncs = false;
        self.locks.clear();
        self.collect();
    }

    /// Forgets nodes that nothing leads to any more.
    pub(super) fn collect(&mut self) {
        let mut reached = BTreeSet::new();
        let mut queue = vec![ROOT];
        while let Some(id) = queue.pop() {
            if reached.insert(id)
                && let Some(Node::Dir(dir)) = self.nodes.get(&id)
            {
                queue.extend(dir.nodes());
            }
        }
        self.nodes.retain(|id, node| {
            let open = matches!(node, Node::File(file) if file.handles > 0);
            open || reached.contains(id)
        });
    }

    /// Bytes that the named files take.
    pub(super) fn used(&self) -> u64 {
        let files = self.nodes.values().map(|node| match node {
            Node::File(file) => file.live.len(),
            Node::Dir(_) => 0,
        });
        files.sum()
    }

    /// How many of `grow` more bytes there is space for.
    pub(super) fn space_for(&self, grow: u64) -> u64 {
        match self.capacity {
            Some(capacity) => grow.min(capacity.saturating_sub(self.used())),
            None => grow,
        }
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut at = ROOT;
        for component in path.components() {
            match component {
                Component::Normal(name) => {
                    let dir = self.dir(at)?;
                    at = *dir.live.get(name).ok_or(io::ErrorKind::NotFound)?;
                }
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
            }
        }
        Ok(at)
    }

    /// The directory a path's last name is in, and that name.
    pub(super) fn find_parent<'p>(&self, path: &'p Path) -> io::Result<(NodeId, &'p OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = self.find(path.parent().unwrap_or(Path::new("")))?;
        Ok((parent, name))
    }

    /// Makes a node and names it; the name must be free.
    pub(super) fn make(&mut self, path: &Path, node: Node) -> io::Result<NodeId> {
        let (parent, name) = self.find_parent(path)?;
        let id = self.next_node;
        let dir = self.dir_mut(parent)?;
        if dir.live.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        dir.link(name.to_owned(), id);
        self.next_node += 1;
        self.nodes.insert(id, node);
        Ok(id)
    }

    pub(super) fn node(&self, id: NodeId) -> io::Result<&Node> {
        self.nodes
            .get(&id)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn file(&self, id: NodeId) -> io::Result<&FileNode> {
        match self.node(id)? {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn file_mut(&mut self, id: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn dir(&self, id: NodeId) -> io::Result<&DirNode> {
        match self.node(id)? {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn dir_mut(&mut self, id: NodeId) -> io::Result<&mut DirNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Makes the next failing sync of a file or directory lose what it was to save.
    pub(super) fn fail_sync(&mut self, id: NodeId) {
        let random = &mut self.random;
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => file.fail_sync(random),
            Some(Node::Dir(dir)) => dir.fail_sync(random),
            None => {}
        }
    }
}

const EIO: i32 = 5;

pub(super) fn io_error() -> io::Error {
    io::Error::from_raw_os_error(EIO)
}

pub(super) fn no_space() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

fn power_is_out() -> io::Error {
    io::Error::other("the power is out")
}
