//! Resources: paths and modes, which of them conflict, and the set of a request.

use crate::error::{LockError, MAX_DEPTH, MAX_PATH_BYTES, MAX_RESOURCES};
use crate::path::Path;
use std::ops::Deref;

/// The mode of a lock: exclusive or shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Mode {
    /// Exclusive: conflicts with every other lock at the path, above it and below it.
    Write,
    /// Shared: conflicts only with writes.
    Read,
}

/// A path to lock and the mode: an element of the set of a request.
///
/// # Examples
/// ```
/// use locktopus_engine::Resource;
///
/// let account = Resource::write(["accounts", "7"]);
/// assert!(account.conflicts_with(&Resource::read(["accounts"])));
/// assert!(!account.conflicts_with(&Resource::write(["accounts", "8"])));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Resource {
    /// The root of the subtree to lock.
    pub path: Path,
    /// The mode in which to lock it.
    pub mode: Mode,
}

impl Resource {
    /// A read of the subtree at `path`, shared with other reads.
    pub fn read(path: impl Into<Path>) -> Resource {
        Resource {
            path: path.into(),
            mode: Mode::Read,
        }
    }

    /// A write of the subtree at `path`, exclusive.
    pub fn write(path: impl Into<Path>) -> Resource {
        Resource {
            path: path.into(),
            mode: Mode::Write,
        }
    }

    /// Whether two requests cannot hold these resources at the same time: one path contains the other, and
    /// at least one mode is [`Mode::Write`].
    #[must_use]
    pub fn conflicts_with(&self, other: &Resource) -> bool {
        (self.mode == Mode::Write || other.mode == Mode::Write)
            && (self.path.contains(&other.path) || other.path.contains(&self.path))
    }

    /// Whether a lock of this resource is a lock of `other` as well.
    fn covers(&self, other: &Resource) -> bool {
        self.path.contains(&other.path) && (self.mode == Mode::Write || other.mode == Mode::Read)
    }

    #[inline]
    fn check(&self) -> Result<(), LockError> {
        let (depth, bytes) = (self.path.depth(), self.path.as_bytes().len());
        if depth > MAX_DEPTH {
            Err(LockError::PathTooDeep {
                depth,
                limit: MAX_DEPTH,
            })
        } else if bytes > MAX_PATH_BYTES {
            Err(LockError::PathTooLong {
                bytes,
                limit: MAX_PATH_BYTES,
            })
        } else {
            Ok(())
        }
    }
}

/// The resources of one request: within the limits, ordered by path, without redundant ones.
///
/// A set of one resource, the most frequent case, needs no allocation.
#[derive(Debug)]
pub(crate) enum ResourceSet {
    One(Resource),
    Many(Box<[Resource]>),
}

impl ResourceSet {
    #[inline]
    pub(crate) fn collect(
        resources: impl IntoIterator<Item = Resource>,
    ) -> Result<ResourceSet, LockError> {
        let mut resources = resources.into_iter();
        let first = resources.next().ok_or(LockError::NoResources)?;
        first.check()?;
        match resources.next() {
            None => Ok(ResourceSet::One(first)),
            Some(second) => ResourceSet::collect_many(vec![first, second], resources),
        }
    }

    fn collect_many(
        mut all: Vec<Resource>,
        rest: impl Iterator<Item = Resource>,
    ) -> Result<ResourceSet, LockError> {
        for resource in rest {
            if all.len() == MAX_RESOURCES {
                return Err(LockError::TooManyResources {
                    limit: MAX_RESOURCES,
                });
            }
            all.push(resource);
        }
        all.iter().try_for_each(Resource::check)?;
        Ok(ResourceSet::reduce(all))
    }

    /// Drops each resource that another one of the set covers: the request would only meet itself there.
    fn reduce(mut all: Vec<Resource>) -> ResourceSet {
        all.sort_unstable_by(|a, b| a.path.cmp(&b.path).then(a.mode.cmp(&b.mode)));
        // A resource sorts behind all resources that cover it. Above any path, at most two are kept: a read
        // and, below it, a write. So there are two resources to look back at.
        let mut above: [Option<Resource>; 2] = [None, None];
        all.retain(|resource| {
            for kept in &mut above {
                kept.take_if(|kept| !kept.path.contains(&resource.path));
            }
            if above.iter().flatten().any(|kept| kept.covers(resource)) {
                return false;
            }
            let free = usize::from(above[0].is_some());
            above[free] = Some(resource.clone());
            true
        });
        match <[Resource; 1]>::try_from(all) {
            Ok([only]) => ResourceSet::One(only),
            Err(all) => ResourceSet::Many(all.into_boxed_slice()),
        }
    }
}

impl Deref for ResourceSet {
    type Target = [Resource];

    fn deref(&self) -> &[Resource] {
        match self {
            ResourceSet::One(only) => std::slice::from_ref(only),
            ResourceSet::Many(all) => all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reduced(resources: impl IntoIterator<Item = Resource>) -> Vec<Resource> {
        ResourceSet::collect(resources).unwrap().to_vec()
    }

    #[test]
    fn a_resource_covered_by_a_write_is_redundant() {
        let all = [
            Resource::read(["a", "b"]),
            Resource::write(["a"]),
            Resource::write(["a", "b", "c"]),
            Resource::read(["a"]),
        ];
        assert_eq!(reduced(all), [Resource::write(["a"])]);
    }

    #[test]
    fn a_write_below_a_read_stays() {
        let all = [
            Resource::write(["a", "b"]),
            Resource::read(["a"]),
            Resource::read(["a", "c"]),
            Resource::write(["a", "d", "e"]),
            Resource::read(["a", "d", "e", "f"]),
        ];
        let kept = [
            Resource::read(["a"]),
            Resource::write(["a", "b"]),
            Resource::write(["a", "d", "e"]),
        ];
        assert_eq!(reduced(all), kept);
    }
}
