//! The lists of the subscribers of an event.

use super::NODE;
use crate::budget::Budget;
use crate::sync::{Arc, into_inner};
use std::mem;

/// Subscribers that were taken from an event, the newest first. Their owner must serve them.
pub(crate) struct Subscribers<T> {
    pub(crate) chain: Nodes<T>,
    /// The oldest one.
    pub(crate) first: Option<Arc<T>>,
}

impl<T> Subscribers<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.chain.is_empty()
    }
}

impl<T> Iterator for Subscribers<T> {
    type Item = Arc<T>;

    fn next(&mut self) -> Option<Arc<T>> {
        self.chain.next().or_else(|| self.first.take())
    }
}

impl<T> Default for Subscribers<T> {
    fn default() -> Subscribers<T> {
        Subscribers {
            chain: Nodes::default(),
            first: None,
        }
    }
}

pub(super) struct Node<T> {
    pub(super) subscriber: Arc<T>,
    pub(super) next: Nodes<T>,
    /// The number of nodes from this one to the end.
    pub(super) len: u32,
}

/// A list of subscribers: a chain, or a part of it. Dropping a long list is not recursive.
pub(crate) struct Nodes<T>(Option<Arc<Node<T>>>);

impl<T> Nodes<T> {
    pub(super) fn of(first: Option<Arc<Node<T>>>) -> Nodes<T> {
        Nodes(first)
    }

    pub(super) fn first(&self) -> Option<Arc<Node<T>>> {
        self.0.clone()
    }

    pub(super) fn as_ref(&self) -> Option<&Arc<Node<T>>> {
        self.0.as_ref()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn len(&self) -> u32 {
        self.0.as_ref().map_or(0, |first| first.len)
    }

    pub(crate) fn push(&mut self, subscriber: Arc<T>) {
        *self = Nodes(Some(Arc::new(Node {
            subscriber,
            len: self.len() + 1,
            next: mem::take(self),
        })));
    }

    /// Makes the list go on at `head` after its first node, which no other thread has. Returns what followed it before.
    pub(super) fn put_before(&mut self, head: &Option<Arc<Node<T>>>) -> Nodes<T> {
        let node = self.0.as_mut().and_then(Arc::get_mut);
        let node = node.expect("ours alone until it is pushed");
        node.len = head.as_ref().map_or(0, |head| head.len) + 1;
        mem::replace(&mut node.next, Nodes(head.clone()))
    }

    /// Moves the first subscriber to the front of another list; `false` if there is none.
    pub(crate) fn move_first(&mut self, to: &mut Nodes<T>) -> bool {
        let Some(mut first) = self.0.take() else {
            return false;
        };
        match Arc::get_mut(&mut first) {
            Some(node) => {
                node.len = to.len() + 1;
                *self = mem::replace(&mut node.next, mem::take(to));
                to.0 = Some(first);
            }
            // A thread whose push or purge has not ended may still look at the node.
            None => {
                *self = Nodes(first.next.0.clone());
                to.push(Arc::clone(&first.subscriber));
            }
        }
        true
    }
}

impl<T> Iterator for Nodes<T> {
    type Item = Arc<T>;

    fn next(&mut self) -> Option<Arc<T>> {
        match Arc::try_unwrap(self.0.take()?) {
            Ok(Node {
                subscriber, next, ..
            }) => {
                *self = next;
                Some(subscriber)
            }
            // A thread whose push or purge has not ended may still look at the node.
            Err(shared) => {
                *self = Nodes(shared.next.0.clone());
                Some(Arc::clone(&shared.subscriber))
            }
        }
    }
}

impl<T> Default for Nodes<T> {
    fn default() -> Nodes<T> {
        Nodes(None)
    }
}

impl<T> Drop for Nodes<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(first) = self.0.take() {
            drop_list(first);
        }
    }
}

fn drop_list<T>(first: Arc<Node<T>>) {
    let mut rest = Some(first);
    while let Some(mut node) = rest.and_then(into_inner) {
        rest = node.next.0.take();
    }
}

/// Parts of chains that no thread needs any more, to be dropped in steps: they may be long.
pub(crate) struct Garbage<T>(Vec<Nodes<T>>);

impl<T> Garbage<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives up a list. Its nodes are left to the other owners of the list, if there are any.
    pub(super) fn add(&mut self, mut list: Nodes<T>) {
        if let Some(node) = list.0.take().and_then(into_inner)
            && !node.next.is_empty()
        {
            self.0.push(node.next);
        }
    }

    pub(crate) fn append(&mut self, mut other: Garbage<T>) {
        self.0.append(&mut other.0);
    }

    /// Drops a part of the lists.
    pub(crate) fn drop_some(&mut self, budget: &mut Budget) {
        while let Some(list) = self.0.last_mut()
            && !budget.is_spent()
        {
            match list.0.take().and_then(into_inner) {
                Some(node) => *list = node.next,
                None => drop(self.0.pop()),
            }
            budget.spend(NODE);
        }
    }
}

impl<T> Default for Garbage<T> {
    fn default() -> Garbage<T> {
        Garbage(Vec::new())
    }
}
