//! Resources: paths and modes, which of them conflict, and the set of a request.

use crate::error::{LockError, MAX_DEPTH, MAX_PATH_BYTES, MAX_RESOURCES};
use crate::path::Path;
use std::borrow::Borrow;
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

impl Mode {
    /// The modes that conflict with this one.
    pub(crate) fn met(self) -> &'static [Mode] {
        match self {
            Mode::Write => &[Mode::Write, Mode::Read],
            Mode::Read => &[Mode::Write],
        }
    }
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

    #[inline(always)]
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

/// A resource by reference, as an element of a set. Cloned only if no request for the set rests.
impl From<&Resource> for Resource {
    fn from(resource: &Resource) -> Resource {
        resource.clone()
    }
}

/// The set of a request as its caller gave it, by value or by reference: within the limits, ordered by path, without
/// redundant resources.
pub(crate) enum Requested<R> {
    One(R),
    Many(Vec<R>),
}

impl<R: Borrow<Resource> + Into<Resource>> Requested<R> {
    #[inline(always)]
    pub(crate) fn collect(
        resources: impl IntoIterator<Item = R>,
    ) -> Result<Requested<R>, LockError> {
        let mut resources = resources.into_iter();
        let first = resources.next().ok_or(LockError::NoResources)?;
        first.borrow().check()?;
        match resources.next() {
            None => Ok(Requested::One(first)),
            Some(second) => Requested::collect_many(first, second, resources),
        }
    }

    fn collect_many(
        first: R,
        second: R,
        rest: impl Iterator<Item = R>,
    ) -> Result<Requested<R>, LockError> {
        let mut all = Vec::with_capacity(2 + rest.size_hint().0.clamp(2, 62));
        all.extend([first, second]);
        for resource in rest {
            if all.len() == MAX_RESOURCES {
                return Err(LockError::TooManyResources {
                    limit: MAX_RESOURCES,
                });
            }
            all.push(resource);
        }
        all.iter().try_for_each(|one| one.borrow().check())?;
        Ok(Requested::reduce(all))
    }

    /// Drops each resource that another one of the set covers: the request would only meet itself there.
    fn reduce(mut all: Vec<R>) -> Requested<R> {
        let are_apart = |pair: &[R]| {
            let (one, next) = (&pair[0].borrow().path, &pair[1].borrow().path);
            one < next && !one.contains(next)
        };
        // A subtree is one range of the order, so it is enough to look at neighbours.
        if all.windows(2).all(are_apart) {
            return Requested::Many(all);
        }
        // A resource sorts behind all resources that cover it.
        all.sort_unstable_by(|a, b| {
            let (a, b) = (a.borrow(), b.borrow());
            a.path.cmp(&b.path).then(a.mode.cmp(&b.mode))
        });
        let mut above = Above::<Resource>([None, None]);
        all.retain(|resource| {
            let resource = resource.borrow();
            let is_kept = !above.covers(resource);
            if is_kept {
                above.add(resource.clone());
            }
            is_kept
        });
        match <[R; 1]>::try_from(all) {
            Ok([only]) => Requested::One(only),
            Err(all) => Requested::Many(all),
        }
    }

    /// The resources of a new request.
    #[inline]
    pub(crate) fn into_set(self) -> ResourceSet {
        match self {
            Requested::One(only) => ResourceSet::One(only.into()),
            Requested::Many(all) => ResourceSet::Many(all.into_iter().map(Into::into).collect()),
        }
    }
}

impl<R> Deref for Requested<R> {
    type Target = [R];

    #[inline]
    fn deref(&self) -> &[R] {
        match self {
            Requested::One(only) => std::slice::from_ref(only),
            Requested::Many(all) => all,
        }
    }
}

/// The resources of one request: within the limits, ordered by path, without redundant ones.
///
/// A set of one resource, the most frequent case, needs no allocation.
#[derive(Debug, Clone)]
pub(crate) enum ResourceSet {
    One(Resource),
    Many(Box<[Resource]>),
}

impl ResourceSet {
    #[inline]
    pub(crate) fn collect<R: Borrow<Resource> + Into<Resource>>(
        resources: impl IntoIterator<Item = R>,
    ) -> Result<ResourceSet, LockError> {
        Ok(Requested::collect(resources)?.into_set())
    }

    /// Whether the set may rest in a place: it takes a bounded amount of memory.
    pub(crate) fn are_small(&self) -> bool {
        self.len() <= ResourceSet::FEW && self.iter().all(|resource| resource.path.is_inline())
    }

    const FEW: usize = 16;
}

impl ResourceSet {
    /// The first of the other resources that this set does not cover.
    pub(crate) fn first_not_covered<'a>(&self, others: &'a ResourceSet) -> Option<&'a Resource> {
        let mut above = Above::<&Resource>([None, None]);
        let mut own = self.iter().peekable();
        others.iter().find(|other| {
            while let Some(next) = own.next_if(|own| own.path <= other.path) {
                above.add(next);
            }
            !above.covers(other)
        })
    }
}

/// The resources of a set above the last one, in the order of the set. Above any path there are at most two: a read
/// and, below it, a write.
struct Above<R>([Option<R>; 2]);

impl<R: Borrow<Resource>> Above<R> {
    /// Adds the next resource of the set, which none of those above covers.
    fn add(&mut self, next: R) {
        self.forget_beside(next.borrow());
        let free = usize::from(self.0[0].is_some());
        self.0[free] = Some(next);
    }

    fn covers(&mut self, other: &Resource) -> bool {
        self.forget_beside(other);
        self.0
            .iter()
            .flatten()
            .any(|above| above.borrow().covers(other))
    }

    fn forget_beside(&mut self, other: &Resource) {
        for above in &mut self.0 {
            above.take_if(|above| !(*above).borrow().path.contains(&other.path));
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
