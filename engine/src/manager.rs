//! The public face: one independent space of paths.

use crate::blockers::Blockers;
use crate::error::LockError;
use crate::last::Last;
use crate::listing::{Place, Requests};
use crate::lock::{Lock, Pending};
use crate::options::Options;
use crate::resource::{Requested, Resource, ResourceSet};
use crate::reuse::{Home, Homes, PreparedSet, Space};
use crate::stats::Stats;
use crate::sync::Arc;
use crate::waiter::Wait;
use crate::work::{Entering, Work};
use std::borrow::Borrow;
use std::fmt;
use std::future::poll_fn;
use std::time::Duration;

/// A lock manager: one independent space of paths to lock.
///
/// Cheap to clone; clones share the space. See the [crate] documentation for the guarantees.
///
/// # Examples
/// ```
/// use locktopus_engine::{LockManager, Resource};
///
/// let locks = LockManager::new();
/// let lock = locks.blocking_lock([Resource::write(["user", "it", "42"]), Resource::read(["reports"])])?;
/// // … we hold `user/it/42` and everything below it, and no other lock can write to `reports` …
/// lock.release();
/// # Ok::<(), locktopus_engine::LockError>(())
/// ```
///
/// The future of [`lock`](LockManager::lock) must be awaited, or there is no lock:
///
/// ```
/// # use locktopus_engine::{LockError, LockManager, Resource};
/// # fn work() {}
/// # async fn right(locks: LockManager) -> Result<(), LockError> {
/// let _guard = locks.lock([Resource::write(["account"])]).await?;
/// work();
/// # Ok(())
/// # }
/// # let future = std::pin::pin!(right(LockManager::new()));
/// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// # assert!(future.poll(&mut context).is_ready());
/// ```
///
/// Without the `.await` it does not compile:
///
/// ```compile_fail,E0277
/// # use locktopus_engine::{LockError, LockManager, Resource};
/// # fn work() {}
/// # async fn wrong(locks: LockManager) -> Result<(), LockError> {
/// let _guard = locks.lock([Resource::write(["account"])])?;
/// work();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LockManager {
    homes: Arc<Homes>,
}

impl LockManager {
    /// A lock manager without locks. Its tokens start at 1.
    #[must_use]
    pub fn new() -> LockManager {
        LockManager::with_last_token(0)
    }

    /// A lock manager whose tokens start after `last_token`. It can replace another manager, since
    /// fencing tokens must never go back.
    ///
    /// # Panics
    /// If `last_token` is 2⁶¹ or more. Tokens have 62 bits, so at least 2⁶¹ of them are left.
    #[must_use]
    pub fn with_last_token(last_token: u64) -> LockManager {
        LockManager::with(Options::new().last_token(last_token))
    }

    /// A lock manager without locks.
    #[must_use]
    pub fn with(options: Options) -> LockManager {
        let Options {
            last_token,
            places,
            is_eager,
        } = options;
        LockManager {
            homes: Arc::new(Homes::new(Space::new(last_token + 1, places, is_eager))),
        }
    }

    #[inline]
    fn home(&self) -> Home {
        self.homes.of_thread().clone()
    }

    /// Prepares a set of resources that is locked again and again: the fastest way to lock.
    ///
    /// The first lock of the set enters its request into the lock table. From then on the request rests there between
    /// two locks, unless it had to wait, and locking it again costs the same beside any number of held locks. See
    /// [`PreparedSet`].
    ///
    /// # Errors
    /// As [`lock`](LockManager::lock), except for [`LockError::Closed`]: a closed manager refuses the locks of the
    /// prepared set.
    pub fn prepare<R: Borrow<Resource> + Into<Resource>>(
        &self,
        resources: impl IntoIterator<Item = R>,
    ) -> Result<PreparedSet, LockError> {
        let resources = Requested::collect(resources)?.into_set();
        Ok(PreparedSet::new(self.home(), resources))
    }

    /// Locks a set of resources, in async code. Works in any runtime, needs no timer and no reactor.
    ///
    /// # Fairness
    /// The set is collected at the call. The request takes its place in line when the future is first
    /// polled, as in tokio's mutex; [`enqueue`](LockManager::enqueue) takes it at the call. The set is
    /// granted as a whole, once no earlier conflicting request is outstanding: conflicting requests are
    /// granted in the order of their tokens. Resources of one set never conflict with one another.
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the request, so a new call goes to the end of the line. A lock that
    /// was granted but not returned yet is released. To keep the place in line across a `select!`, use
    /// [`enqueue`](LockManager::enqueue) and poll `&mut pending`.
    ///
    /// # Cost
    /// O(resources × log outstanding). Each ancestor of a path costs at most one more search, and only if a path of
    /// its depth was ever locked. Ancestors that two neighbours of the set share are searched once. Often a
    /// search, or a step from the last ancestor, shows that several ancestors have no entries. A set with 4,096
    /// segments in its paths took 1 to 3 ms beside one locked sibling of each segment, 4 to 12 ms beside eight.
    /// The cost depends neither on the length of the queue that the request joins, nor on the number of readers
    /// that share a path. Memory: about 250 bytes for each resource while the request is outstanding, and
    /// about 100 more while it waits.
    ///
    /// # Errors
    /// The future resolves to [`LockError::NoResources`] for an empty set, to [`LockError::Closed`] after
    /// [`close`](LockManager::close), and to an error of its own for each limit
    /// ([`MAX_RESOURCES`](crate::MAX_RESOURCES), [`MAX_DEPTH`](crate::MAX_DEPTH),
    /// [`MAX_PATH_BYTES`](crate::MAX_PATH_BYTES)). A refused request leaves nothing behind.
    pub fn lock<I>(
        &self,
        resources: I,
    ) -> impl Future<Output = Result<Lock, LockError>> + Send + 'static + use<I>
    where
        I: IntoIterator<Item: Borrow<Resource> + Into<Resource>>,
    {
        // Owned: the future does not borrow the items.
        let requested = Requested::<Resource>::collect(resources.into_iter().map(Into::into));
        let space = self.home();
        async move { Ok(Pending::enter(space, requested?)?.await) }
    }

    /// Locks a set of resources, and blocks the thread until it is granted.
    ///
    /// Do not call this in async code: it stalls every task of the runtime's thread, perhaps also the
    /// task that holds the lock. Fairness and cost: as [`lock`](LockManager::lock), with the place in
    /// line taken at the call.
    ///
    /// # Errors
    /// As [`lock`](LockManager::lock).
    pub fn blocking_lock(
        &self,
        resources: impl IntoIterator<Item: Borrow<Resource> + Into<Resource>>,
    ) -> Result<Lock, LockError> {
        Lock::enter(self.homes.of_thread(), Requested::collect(resources)?)
    }

    /// Locks a set of resources, and blocks the thread until it is granted or until about `timeout` has
    /// passed.
    ///
    /// After the timeout the result is `None`, and the request is withdrawn. A zero timeout acquires a
    /// free lock. Unlike [`try_lock`](LockManager::try_lock), a request with a zero timeout always takes
    /// a place in line for a moment. Do not call this in async code; see
    /// [`blocking_lock`](LockManager::blocking_lock).
    ///
    /// # Errors
    /// As [`lock`](LockManager::lock).
    pub fn blocking_lock_timeout(
        &self,
        resources: impl IntoIterator<Item: Borrow<Resource> + Into<Resource>>,
        timeout: Duration,
    ) -> Result<Option<Lock>, LockError> {
        Ok(self.enqueue(resources)?.wait_timeout(timeout).ok())
    }

    /// Locks a set of resources if that is possible at once. Never blocks.
    ///
    /// It never overtakes: the result is also `None` if an earlier conflicting request only waits.
    ///
    /// # Races
    /// It looks first, and leaves nothing behind if the set is not free. If the set looks free, it enters
    /// as any request does, and withdraws if another request came between the look and the entering.
    /// It has a place in line for that moment, so a later request may have to wait for it. Therefore two
    /// tries for conflicting sets may both fail: the later one because of the earlier one, and the
    /// earlier one because of a third request.
    ///
    /// Cost: as [`lock`](LockManager::lock), and one more walk over the conflicting entries for the look.
    ///
    /// # Errors
    /// As [`lock`](LockManager::lock).
    pub fn try_lock(
        &self,
        resources: impl IntoIterator<Item: Borrow<Resource> + Into<Resource>>,
    ) -> Result<Option<Lock>, LockError> {
        let requested = Requested::collect(resources)?;
        Ok(Pending::try_enter(self.homes.of_thread(), requested)?
            .and_then(|pending| pending.try_acquired().ok()))
    }

    /// Takes a place in line for a set of resources, and returns at once.
    ///
    /// The result becomes a [`Lock`] when the request is granted; see [`Pending`] for the ways to wait.
    /// Fairness and cost: as [`lock`](LockManager::lock), with the place in line taken at the call.
    ///
    /// # Errors
    /// As [`lock`](LockManager::lock).
    pub fn enqueue(
        &self,
        resources: impl IntoIterator<Item: Borrow<Resource> + Into<Resource>>,
    ) -> Result<Pending, LockError> {
        Pending::enter(self.home(), Requested::collect(resources)?)
    }

    /// Takes a place in line for a set of resources, in steps of bounded length.
    ///
    /// For async code with large sets or deep paths, as [`Work`] is for what ends. The set is collected at the call;
    /// the request enters during the steps of the result. Fairness and cost: as [`lock`](LockManager::lock), with the
    /// place in line taken in one of the steps.
    ///
    /// # Errors
    /// As [`lock`](LockManager::lock).
    pub fn enqueue_in_steps(
        &self,
        resources: impl IntoIterator<Item: Borrow<Resource> + Into<Resource>>,
    ) -> Result<Entering, LockError> {
        Entering::new(self.home(), Requested::collect(resources)?)
    }

    /// Takes the place in line of this token, and returns at once. It rebuilds the table of another lock manager, whose
    /// requests keep their tokens.
    ///
    /// Apart from its token the request is like any other: it is granted once no earlier conflicting request is
    /// outstanding. So a table is rebuilt in the order of its tokens, and requests that held their locks are granted
    /// again. Later requests get larger tokens. Cost: as [`lock`](LockManager::lock).
    ///
    /// # Races
    /// If the token is refused because another thread got the same or a larger one during the call, the request was in
    /// line for that moment, and a later request may have had to wait for it.
    ///
    /// # Errors
    /// [`LockError::TokenOutOfRange`] if the token is not larger than each token that was given out, restored or
    /// [skipped](LockManager::skip_to) before, or if it is 2⁶¹ or more. Otherwise as [`lock`](LockManager::lock). A
    /// refused request leaves nothing behind.
    ///
    /// # Examples
    /// ```
    /// # use locktopus_engine::{LockManager, Resource};
    /// let former = LockManager::with_last_token(40);
    /// let _held = former.enqueue([Resource::write(["a"])])?;
    /// let _waiting = former.enqueue([Resource::write(["a", "b"])])?;
    ///
    /// let locks = LockManager::new();
    /// let mut requests: Vec<_> = former.requests().collect();
    /// requests.sort_by_key(|request| request.token);
    /// let restored = requests.into_iter().map(|request| locks.restore(request.token, request.resources));
    /// let restored = restored.collect::<Result<Vec<_>, _>>()?;
    /// assert!(restored[0].is_acquired() && !restored[1].is_acquired());
    /// assert_eq!(restored[1].token(), 42);
    /// # Ok::<(), locktopus_engine::LockError>(())
    /// ```
    pub fn restore(
        &self,
        token: u64,
        resources: impl IntoIterator<Item: Borrow<Resource> + Into<Resource>>,
    ) -> Result<Pending, LockError> {
        let resources = ResourceSet::collect(resources)?;
        Pending::restore(self.home(), token, resources)
    }

    /// Makes all later tokens larger than this one. Tokens never go back: a token that is not larger than the last one
    /// changes nothing. Outstanding requests keep their tokens. Cost: constant.
    ///
    /// # Errors
    /// [`LockError::TokenOutOfRange`] if the token is 2⁶¹ or more: tokens have 62 bits, so at least 2⁶¹ of them are left.
    /// [`LockError::Closed`] after [`close`](LockManager::close), when there are no later tokens. Nothing is changed
    /// then.
    pub fn skip_to(&self, token: u64) -> Result<(), LockError> {
        self.homes.of_thread().skip_to(token)
    }

    /// The number of held and of waiting requests, and other figures.
    ///
    /// Cost: independent of the number of requests; two swaps for each place of the manager, and one step for each
    /// prepared set.
    ///
    /// Exact while no other thread is inside a call to this lock manager. Otherwise each figure may be
    /// off by the requests that are entering or leaving; a lock that is being narrowed counts twice.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.homes.of_thread().stats()
    }

    /// Lists the outstanding requests, with their states and the requests that they wait for: first those whose
    /// first resource is for write, then those whose first resource is for read. Both are ordered by the path of
    /// that resource; at one path the request that entered the table last comes first. A request that had rested entered
    /// it before its first lock.
    ///
    /// The listing is not a snapshot. A request that is outstanding throughout is listed once; a request that
    /// enters or leaves meanwhile may be missing. A lock that is narrowed meanwhile may be listed with the old set, the
    /// new one, both, or not at all. The iterator blocks no operation, and can be read slowly.
    /// Cost: O(log outstanding) for each request, and one step for each entry that is not the first entry
    /// of its request.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.requests_from(&Place::START)
    }

    /// Continues a listing at a place, which another [`Requests`] of this manager has [named](Requests::place).
    ///
    /// A request that is outstanding from the first part of the listing to the last is listed once in all parts
    /// together. A place remains valid when the request at that place ends. A forged place, or a place of another
    /// manager, also names some place in the order, and does no harm.
    ///
    /// # Examples
    /// ```
    /// # use locktopus_engine::{LockManager, Place, Resource};
    /// let locks = LockManager::new();
    /// let _held = ["a", "b", "c"].map(|name| locks.enqueue([Resource::read([name])]).unwrap());
    ///
    /// let mut first = locks.requests();
    /// assert_eq!(first.by_ref().take(2).count(), 2);
    /// let place = first.place().expect("not at the end").to_bytes();
    /// let rest = locks.requests_from(&Place::from_bytes(&place)?);
    /// assert_eq!(rest.count(), 1);
    /// # Ok::<(), locktopus_engine::BadPlace>(())
    /// ```
    #[must_use]
    pub fn requests_from(&self, place: &Place) -> Requests {
        Requests::new(self.home(), place)
    }

    /// The outstanding requests that a new request for this set would have to wait for. Nothing enters the table.
    ///
    /// [`Pending::blockers`] lists those of a request in line. Cost: see [`Blockers`].
    ///
    /// # Errors
    /// As [`lock`](LockManager::lock).
    pub fn blockers_of(
        &self,
        resources: impl IntoIterator<Item: Borrow<Resource> + Into<Resource>>,
    ) -> Result<Blockers, LockError> {
        let resources = ResourceSet::collect(resources)?;
        let token = self.homes.of_thread().next_ticket()?;
        Ok(Blockers::of_set(self.home(), resources, token))
    }

    /// The outstanding requests that conflict with this set and have a smaller token: those that a listed request waits
    /// for. Cost: see [`Blockers`].
    ///
    /// # Errors
    /// As [`lock`](LockManager::lock), but not after a [`close`](LockManager::close): outstanding requests go on waiting.
    ///
    /// # Examples
    /// ```
    /// # use locktopus_engine::{LockManager, RequestState, Resource};
    /// # let locks = LockManager::new();
    /// # let _requests = [locks.enqueue([Resource::write(["a"])])?, locks.enqueue([Resource::write(["a"])])?];
    /// for request in locks.requests().filter(|request| request.state == RequestState::Waiting) {
    ///     let blockers = locks.blockers_before(request.token, request.resources)?;
    ///     let root = blockers.within(50).root_holder().expect("no other thread releases it");
    ///     println!("{} waits until {} is released", request.token, root.token);
    /// }
    /// # Ok::<(), locktopus_engine::LockError>(())
    /// ```
    pub fn blockers_before(
        &self,
        token: u64,
        resources: impl IntoIterator<Item: Borrow<Resource> + Into<Resource>>,
    ) -> Result<Blockers, LockError> {
        let resources = ResourceSet::collect(resources)?;
        Ok(Blockers::of_set(self.home(), resources, token))
    }

    /// Refuses new requests from now on, in all clones. Outstanding requests are not affected: they are
    /// granted in their turn, and released as usual.
    pub fn close(&self) {
        drop(self.close_in_steps());
    }

    /// Refuses new requests from now on, as [`close`](LockManager::close) does. The result wakes the tasks that wait
    /// in [`drained`](LockManager::drained), in steps.
    pub fn close_in_steps(&self) -> Work {
        Work::of(self.home(), self.homes.of_thread().close())
    }

    /// Whether the lock manager was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.homes.of_thread().closed.is_set()
    }

    /// Waits until the lock manager is closed and no request is outstanding. Yields to other tasks during the search
    /// for outstanding requests.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing; `drained` can be called again.
    pub fn drained(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let space = self.home();
        async move {
            Wait::new(&space.closed).await;
            let mut last = Last::new(space.clone());
            poll_fn(|context| last.poll_entered(context)).await;
            last.granted().await;
        }
    }
}

impl Default for LockManager {
    fn default() -> LockManager {
        LockManager::new()
    }
}

impl fmt::Debug for LockManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockManager")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::thread_number;

    #[test]
    fn a_lock_counts_a_reference_to_the_home_of_its_thread() {
        let locks = LockManager::new();
        let unused = locks.homes.references();
        let lock_once = || {
            let lock = locks.blocking_lock([Resource::write(["a"])]).unwrap();
            let mut with_lock = unused;
            with_lock[thread_number() % unused.len()] += 1;
            assert_eq!(locks.homes.references(), with_lock);
            drop(lock);
            assert_eq!(locks.homes.references(), unused);
        };
        lock_once();
        for _ in 0..unused.len() {
            std::thread::scope(|scope| scope.spawn(lock_once).join().unwrap());
        }
    }
}
