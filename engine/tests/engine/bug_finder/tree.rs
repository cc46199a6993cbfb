//! The resources of the bug finder: a small tree, with a cell for each node that shows who holds it.

use locktopus_engine::{Path, Resource};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const FANOUT: usize = 3;
const DEPTH: usize = 3;
const WRITER: u64 = 1 << 32;

/// Sets of resources that are often locked.
const HOT: usize = 8;

/// One node of the tree. All accesses are Relaxed: only the lock manager orders them.
#[derive(Default)]
struct Cell {
    /// The holders inside: 1 for each reader, WRITER for each writer.
    inside: AtomicU64,
    last_read: AtomicU64,
    last_write: AtomicU64,
    /// The number of writers so far, which each of them reads and stores as plain data.
    version: AtomicU64,
    /// The same number, but read and changed in one operation, so that it is never an old one.
    writers: AtomicU64,
}

impl Cell {
    fn enter(&self, token: u64, write: bool) {
        let last_write = self.last_write.load(Relaxed);
        assert!(
            last_write < token,
            "token {token} after the write {last_write}"
        );
        let inside = self
            .inside
            .fetch_add(if write { WRITER } else { 1 }, Relaxed);
        let writers = self.writers.fetch_add(u64::from(write), Relaxed);
        let version = self.version.load(Relaxed);
        assert_eq!(version, writers, "token {token} sees old data");
        if write {
            assert_eq!(inside, 0, "the writer {token} met others");
            let last_read = self.last_read.load(Relaxed);
            assert!(
                last_read < token,
                "token {token} after the read {last_read}"
            );
            self.last_write.store(token, Relaxed);
            self.version.store(version + 1, Relaxed);
        } else {
            assert!(inside < WRITER, "the reader {token} met a writer");
            self.last_read.fetch_max(token, Relaxed);
        }
    }

    /// Lets other readers in.
    fn become_reader(&self, token: u64) {
        self.last_read.fetch_max(token, Relaxed);
        self.inside.fetch_sub(WRITER - 1, Relaxed);
    }

    fn exit(&self, write: bool) {
        self.inside
            .fetch_sub(if write { WRITER } else { 1 }, Relaxed);
    }
}

pub(super) struct Tree {
    paths: Vec<Path>,
    cells: Vec<Cell>,
    hot: Vec<Vec<Resource>>,
}

impl Tree {
    /// The random numbers of this thread choose the hot sets.
    pub(super) fn new() -> Tree {
        let mut levels = vec![vec![Vec::<String>::new()]];
        for _ in 0..DEPTH {
            let parents = &levels[levels.len() - 1];
            let children = parents.iter().flat_map(|parent| {
                (0..FANOUT).map(|i| [parent.as_slice(), &[i.to_string()]].concat())
            });
            levels.push(children.collect());
        }
        let paths: Vec<Path> = levels.into_iter().flatten().map(Path::from).collect();
        let cells = paths.iter().map(|_| Cell::default()).collect();
        let hot = Vec::new();
        let mut tree = Tree { paths, cells, hot };
        tree.hot = (0..HOT).map(|_| tree.new_set()).collect();
        tree
    }

    /// A hot set, or any other one.
    pub(super) fn random_set(&self) -> Vec<Resource> {
        match fastrand::bool() {
            true => self.hot[fastrand::usize(..HOT)].clone(),
            false => self.new_set(),
        }
    }

    fn new_set(&self) -> Vec<Resource> {
        let count = [1, 1, 1, 2, 2, 3][fastrand::usize(..6)];
        let resource = |_| {
            // Mostly leaves, with a root lock now and then: otherwise every request would queue.
            let nodes = if fastrand::u8(..8) == 0 {
                0..self.paths.len()
            } else {
                13..self.paths.len()
            };
            let path = self.paths[fastrand::usize(nodes)].clone();
            if fastrand::bool() {
                Resource::write(path)
            } else {
                Resource::read(path)
            }
        };
        (0..count).map(resource).collect()
    }

    /// A random set that these resources cover. It may be empty.
    pub(super) fn random_part(&self, held: &[Resource]) -> Vec<Resource> {
        let part = |(path, _, write): (&Path, &Cell, bool)| {
            let path = path.clone();
            (fastrand::u8(..4) == 0).then(|| match write && fastrand::bool() {
                true => Resource::write(path),
                false => Resource::read(path),
            })
        };
        self.covered(held).filter_map(part).take(3).collect()
    }

    /// The paths that these resources cover, their cells, and whether for write.
    fn covered<'a>(
        &'a self,
        held: &'a [Resource],
    ) -> impl Iterator<Item = (&'a Path, &'a Cell, bool)> {
        let everything = self.paths.iter().zip(&self.cells);
        everything.filter_map(|(path, cell)| Some((path, cell, covers(held, path)?)))
    }

    /// Enters all cells, under a lock with this token.
    pub(super) fn enter(&self, token: u64, held: &[Resource]) {
        for (_, cell, write) in self.covered(held) {
            cell.enter(token, write);
        }
    }

    /// Enters and leaves, and lets other threads run now and then.
    pub(super) fn visit(&self, token: u64, held: &[Resource]) {
        self.enter(token, held);
        if fastrand::u8(..16) == 0 {
            std::thread::yield_now();
        }
        self.exit(held);
    }

    /// Leaves the cells that the part does not cover, and stays as a reader where it only covers a read.
    pub(super) fn give_up(&self, token: u64, held: &[Resource], part: &[Resource]) {
        for (path, cell, write) in self.covered(held) {
            match covers(part, path) {
                None => cell.exit(write),
                Some(stays_writer) if stays_writer == write => {}
                Some(_) => cell.become_reader(token),
            }
        }
    }

    pub(super) fn exit(&self, held: &[Resource]) {
        for (_, cell, write) in self.covered(held) {
            cell.exit(write);
        }
    }
}

/// Whether the resources cover the path, and if so, whether for write.
fn covers(held: &[Resource], path: &Path) -> Option<bool> {
    let mut covering = held.iter().filter(|r| r.path.contains(path)).peekable();
    covering.peek()?;
    Some(covering.any(|r| r.conflicts_with(&Resource::read(path.clone()))))
}
