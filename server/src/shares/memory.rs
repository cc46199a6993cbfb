//! The memory that a connection takes for messages.

use super::{Party, Pool, Refused, Taken};

/// How many bytes of a message, or of a request, belong to the place of the connection. Most messages are shorter, and
/// so need no step of the pool.
const WITHIN_PLACE: usize = 4 * 1024;

/// The steps in which memory is taken.
const STEP: usize = 4 * 1024;

/// About the memory of a request, from the bytes of its message and the numbers of its resources and segments.
pub(crate) fn request_bytes(message: usize, resources: usize, segments: usize) -> usize {
    /// About the entries of a resource in the lock table, besides its path.
    const RESOURCE: usize = 256;
    /// About a segment that was read, besides its text, until the request enters. It can be three bytes of a message.
    const SEGMENT: usize = 40;
    message.saturating_add(RESOURCE * resources + SEGMENT * segments)
}

/// Memory for one purpose of a connection. Dropping it gives the memory back.
#[derive(Debug)]
pub(crate) struct Memory {
    pool: Pool,
    party: Party,
    taken: Option<Taken>,
}

impl Memory {
    pub(crate) fn new(pool: &Pool, party: Party) -> Memory {
        Memory {
            pool: pool.clone(),
            party,
            taken: None,
        }
    }

    /// Takes more memory, until it is enough for this number of bytes.
    ///
    /// # Errors
    /// [`Refused`]. The memory that was taken before is kept then.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<(), Refused> {
        let wanted = bytes.saturating_sub(WITHIN_PLACE).next_multiple_of(STEP);
        match &mut self.taken {
            Some(taken) => taken.grow_to(wanted),
            None if wanted == 0 => Ok(()),
            taken @ None => {
                *taken = Some(self.pool.try_take(self.party, wanted)?);
                Ok(())
            }
        }
    }

    /// Gives all memory back.
    pub(crate) fn clear(&mut self) {
        self.taken = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::tests::pool;

    #[test]
    fn a_request_of_short_segments_counts_with_the_memory_that_they_take() {
        // 64 paths of 64 segments in a message of 14 KiB.
        let (message, segments) = (14 * 1024, 64 * 64);
        let strings = segments * size_of::<String>();
        assert!(request_bytes(message, 64, segments) >= message + strings);
    }

    #[test]
    fn only_large_messages_take_memory_and_all_of_it_comes_back() {
        let pool = pool(16 * STEP, 25);
        let mut memory = Memory::new(&pool, Party::of_token(1));
        memory.reserve(WITHIN_PLACE).expect("nothing");
        assert!(pool.ledger().is_empty());
        for bytes in [1, 2 * STEP, STEP, 12 * STEP] {
            memory.reserve(WITHIN_PLACE + bytes).expect("free");
        }
        let taken = memory.taken.as_ref().expect("some").amount;
        assert_eq!(taken, 12 * STEP, "the largest counts");
        let refused = memory.reserve(WITHIN_PLACE + 12 * STEP + 1);
        assert!(matches!(refused, Err(Refused::OverShare { .. })));
        let other = pool.try_take(Party::of_token(2), 4 * STEP);
        let other = other.expect("one share is free, and no more was taken");
        memory.clear();
        memory.reserve(WITHIN_PLACE + 4 * STEP).expect("free again");
        drop((memory, other));
        assert!(pool.ledger().is_empty());
    }
}
