//! The last request of a closed lock manager. It is granted when the manager has drained.

use crate::backlog::Backlog;
use crate::budget::Budget;
use crate::reuse::Home;
use crate::sync::pin;
use crate::table::Entry;
use crate::waiter::{Awaited, Wait};
use std::task::{Context, Poll};

/// A request for the root, later than all others. It has no entries.
pub(crate) struct Last {
    table: Home,
    entry: Entry,
}

impl Last {
    /// The units of one step of its walk.
    const BUDGET: usize = 500;

    pub(crate) fn new(table: Home) -> Last {
        let entry = table.begin_last();
        Last { table, entry }
    }

    /// Ready once it is granted or watches another request. Must not be polled after that.
    pub(crate) fn poll_entered(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut backlog = Backlog::default();
        let guard = pin();
        let budget = &mut Budget::new(Last::BUDGET);
        let entered =
            (self.table).enter_in_part(&mut self.entry, None, &mut backlog, budget, &guard);
        // At once: the task may leave this future unpolled for a long time, and others must not wait for that.
        self.table.complete(backlog, guard);
        match entered {
            Some(_) => Poll::Ready(()),
            None => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    pub(crate) fn granted(&self) -> Wait<'_, impl Awaited> {
        Wait::new(&self.entry.request.granted)
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        let mut backlog = Backlog::default();
        self.table.end(&self.entry.request, &mut backlog);
        self.table.complete(backlog, pin());
    }
}
