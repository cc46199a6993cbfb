//! Requests that keep a token, and tokens that are skipped.

use super::LockManager;
use super::shared::{Outstanding, check_to_the_end, enqueue, set};
use loom::thread;

fn restore(locks: &LockManager, token: u64, text: &str) -> Option<Outstanding> {
    locks.restore(token, set(text)).ok().map(Outstanding::from)
}

/// Restores a request with this token while another thread enters one. The token is refused if the other one has it or a
/// larger one.
fn restore_beside_a_request(token: u64) {
    let locks = LockManager::new();
    let other = {
        let locks = locks.clone();
        thread::spawn(move || enqueue(&locks, "w:b"))
    };
    let restored = restore(&locks, token, "w:a w:b");
    let other = other.join().expect("no panic");
    let is_refused = restored.is_none();
    assert!(!is_refused || other.token() >= token, "refused");
    assert!(is_refused || other.token() != token, "one token for both");
    check_to_the_end(&locks, restored.into_iter().chain([other.into()]));
}

pub(crate) fn a_restored_request_races_a_later_one() {
    restore_beside_a_request(7);
}

pub(crate) fn a_restored_request_races_another_for_its_token() {
    restore_beside_a_request(1);
}

pub(crate) fn two_requests_are_restored_at_once() {
    let locks = LockManager::new();
    let other = {
        let locks = locks.clone();
        thread::spawn(move || restore(&locks, 5, "w:a/b"))
    };
    let later = restore(&locks, 7, "w:a").expect("the largest token");
    let other = other.join().expect("no panic");
    check_to_the_end(&locks, other.into_iter().chain([later]));
}

pub(crate) fn a_close_races_a_restored_request() {
    let locks = LockManager::new();
    let closes = {
        let locks = locks.clone();
        thread::spawn(move || locks.close())
    };
    let restored = restore(&locks, 7, "w:a");
    closes.join().expect("no panic");
    assert!(locks.is_closed());
    assert!(restore(&locks, 9, "w:b").is_none());
    check_to_the_end(&locks, restored);
}

pub(crate) fn skipped_tokens_race_a_request() {
    let locks = LockManager::new();
    let skips = {
        let locks = locks.clone();
        thread::spawn(move || locks.skip_to(5).expect("open"))
    };
    let first = enqueue(&locks, "w:a");
    skips.join().expect("no panic");
    let second = enqueue(&locks, "w:a");
    assert!(first.token() == 1 || first.token() == 6);
    assert!(second.token() > 5);
    check_to_the_end(&locks, [first, second]);
}
