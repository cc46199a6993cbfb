//! The entering of a request, in steps.

use super::convert::to_engine;
use super::holder::Holder;
use locktopus_engine::{Entering, LockError, Work};
use locktopus_protocol::Resource;
use std::mem;
use std::sync::Arc;
use tokio::time::Instant;

/// A request that enters the lock table in steps.
#[derive(Debug)]
pub(super) struct Entry {
    /// Keeps the namespace.
    holder: Arc<Holder>,
    /// When the request arrived.
    since: Instant,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Collect(Vec<Resource>),
    Enter(Entering),
    /// The request is in its slot, or is withdrawn. Other requests that can move on now are served.
    Serve(Work),
    Done,
}

impl Entry {
    pub(super) fn new(holder: Arc<Holder>, resources: Vec<Resource>) -> Entry {
        Entry {
            holder,
            since: Instant::now(),
            stage: Stage::Collect(resources),
        }
    }

    /// Converts and sorts the set, in one piece: it is as long as one message.
    ///
    /// # Errors
    /// The errors of the engine. The slot is empty then, and nothing is left to do.
    pub(super) fn collect(&mut self) -> Result<(), LockError> {
        if let Stage::Collect(resources) = &mut self.stage {
            let resources = mem::take(resources).into_iter().map(to_engine);
            match self.holder.namespace().locks.enqueue_in_steps(resources) {
                Ok(entering) => self.stage = Stage::Enter(entering),
                Err(error) => {
                    self.stage = Stage::Done;
                    return self.holder.settle(Err(error), self.since);
                }
            }
        }
        Ok(())
    }

    /// Does a step; only after [`collect`](Entry::collect). Returns the result once, when the request has entered.
    ///
    /// A request whose connection has ended is withdrawn, entered or not.
    pub(super) fn step(&mut self, budget: usize) -> Option<Result<(), LockError>> {
        match mem::replace(&mut self.stage, Stage::Done) {
            Stage::Enter(entering) if self.holder.has_left() => {
                self.stage = Stage::Serve(entering.withdraw_in_steps());
            }
            Stage::Enter(mut entering) => match entering.step(budget) {
                None => self.stage = Stage::Enter(entering),
                Some(entered) => {
                    let entered = entered.map(|(pending, work)| {
                        if !work.is_done() {
                            self.stage = Stage::Serve(work);
                        }
                        pending
                    });
                    return Some(self.holder.settle(entered, self.since));
                }
            },
            Stage::Serve(mut work) => {
                if !work.step(budget) {
                    self.stage = Stage::Serve(work);
                }
            }
            other @ (Stage::Collect(_) | Stage::Done) => self.stage = other,
        }
        None
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }
}
