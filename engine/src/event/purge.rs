//! The removal of retired subscribers from the chain of an event.

use super::nodes::Node;
use super::{Event, Garbage, NODE, Nodes, Subscriber};
use crate::budget::Budget;
use crate::sync::Arc;
use std::mem;

/// Replaces the chain of an event by one without the retired subscribers, in steps.
///
/// An attempt that fails keeps its result, and the next attempt only looks at the newer subscribers. Several
/// purges of one event may be under way. A purge begins only when half of the chain has retired since the last
/// one began, so their number is at most logarithmic in the length of the chain.
pub(crate) struct Purge<T> {
    /// The chain to replace.
    head: Option<Arc<Node<T>>>,
    /// The next of its nodes to look at.
    at: Option<Arc<Node<T>>>,
    /// The chain of the last attempt. `purged` is that chain without the retired subscribers.
    seen: Option<Arc<Node<T>>>,
    /// The waiting subscribers that were found since then, the oldest first.
    kept: Nodes<T>,
    purged: Nodes<T>,
}

impl<T: Subscriber> Purge<T> {
    pub(super) fn of(head: Option<Arc<Node<T>>>) -> Purge<T> {
        Purge {
            at: head.clone(),
            head,
            seen: None,
            kept: Nodes::default(),
            purged: Nodes::default(),
        }
    }

    /// Does a part of the purge; `true` at its end.
    pub(crate) fn step(
        &mut self,
        event: &Event<T>,
        budget: &mut Budget,
        garbage: &mut Garbage<T>,
    ) -> bool {
        while self.look(budget) {
            if self.at.is_none() && self.seen.is_some() {
                if self.head.is_none() {
                    // The chain was taken, to be served.
                    self.end(garbage);
                    return true;
                }
                // Another purge has replaced the chain, perhaps before the subscribers of our reports retired.
                // We have looked at all of the new one.
                garbage.add(mem::take(&mut self.purged));
                garbage.add(Nodes::of(self.seen.take()));
            }
            while self.kept.move_first(&mut self.purged) {
                budget.spend(NODE);
                if budget.is_spent() {
                    return false;
                }
            }
            if event.chain.replace(&self.head, self.purged.first()) {
                self.end(garbage);
                return true;
            }
            let seen = mem::replace(&mut self.head, event.chain.load());
            self.at = self.head.clone();
            garbage.add(Nodes::of(mem::replace(&mut self.seen, seen)));
        }
        false
    }

    /// Looks for waiting subscribers; `true` at the end of the part that was not looked at before.
    fn look(&mut self, budget: &mut Budget) -> bool {
        let is_new = |node: &&Arc<Node<T>>| !is_same(Some(node), self.seen.as_ref());
        let mut rest = self.at.as_ref();
        while let Some(node) = rest.filter(is_new) {
            if !node.subscriber.is_retired() {
                self.kept.push(Arc::clone(&node.subscriber));
            }
            rest = node.next.as_ref();
            budget.spend(NODE);
            if budget.is_spent() {
                break;
            }
        }
        let has_ended = rest.filter(is_new).is_none();
        self.at = rest.cloned();
        has_ended
    }

    fn end(&mut self, garbage: &mut Garbage<T>) {
        self.at = None;
        garbage.add(Nodes::of(self.seen.take()));
        garbage.add(Nodes::of(self.head.take()));
        garbage.add(mem::take(&mut self.kept));
        garbage.add(mem::take(&mut self.purged));
    }
}

fn is_same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    one.map(Arc::as_ptr) == other.map(Arc::as_ptr)
}
