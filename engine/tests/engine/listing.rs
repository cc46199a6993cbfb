//! Listings in parts. Properties:
//! 1. a request that is outstanding throughout is listed once, also if others come and go between the parts;
//! 2. the parts have the order of the whole listing;
//! 3. any bytes are a place, from which a listing continues in that order, or an error;
//! 4. a place reads back from its bytes.

use locktopus_engine::{LockManager, Pending, Place, RequestInfo, Resource};
use proptest::prelude::*;

/// The set number `name`: one or two resources, at a few paths that many sets share.
fn set(name: u8) -> Vec<Resource> {
    let path = [["a", "b", "c", "\0"][usize::from(name % 4)], "x"];
    let first = match name / 4 % 3 {
        0 => Resource::write(path),
        1 => Resource::read(path),
        _ => Resource::read(&path[..1]),
    };
    let second =
        (name >= 128).then(|| Resource::write(["z", "a-segment-that-is-kept-on-the-heap"]));
    [first].into_iter().chain(second).collect()
}

fn enqueue(locks: &LockManager, name: u8) -> Pending {
    locks.enqueue(set(name)).expect("open")
}

fn tokens(listed: &[RequestInfo]) -> Vec<u64> {
    listed.iter().map(|request| request.token).collect()
}

proptest! {
    #[test]
    fn a_request_that_stays_is_listed_once_while_others_come_and_go(
        staying in prop::collection::vec(any::<u8>(), 0..30),
        passing in prop::collection::vec(any::<u8>(), 1..30),
        size in 1_usize..5,
        budget in prop::option::of(0_usize..4),
    ) {
        let locks = LockManager::new();
        let mut staying: Vec<Pending> = staying.iter().map(|name| enqueue(&locks, *name)).collect();
        let mut passing = passing.iter().cycle();
        let mut visitor = None;
        let (mut listed, mut place) = (Vec::new(), Some(Place::START));
        while let Some(from) = place {
            let mut page = locks.requests_from(&from).within(budget.unwrap_or(usize::MAX));
            listed.extend(page.by_ref().take(size));
            place = page.place();
            // The former visitor leaves after the next one has come.
            let next = passing.next().map(|name| enqueue(&locks, *name));
            drop(std::mem::replace(&mut visitor, next));
            prop_assert!(listed.len() < 1000, "the listing comes to its end");
        }
        let mut listed = tokens(&listed);
        let mut expected: Vec<u64> = staying.iter().map(Pending::token).collect();
        listed.retain(|token| expected.contains(token));
        listed.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(listed, expected);
        staying.clear();
    }

    #[test]
    fn the_parts_of_a_listing_are_the_whole_in_its_order(
        names in prop::collection::vec(any::<u8>(), 0..40),
        size in 1_usize..5,
    ) {
        let locks = LockManager::new();
        let held: Vec<Pending> = names.iter().map(|name| enqueue(&locks, *name)).collect();
        let whole: Vec<RequestInfo> = locks.requests().collect();
        prop_assert_eq!(whole.len(), held.len());
        let order = |one: &RequestInfo| (one.resources[0].mode != locktopus_engine::Mode::Write, one.resources[0].path.clone());
        prop_assert!(whole.is_sorted_by_key(order));
        let (mut parts, mut place) = (Vec::new(), Some(Place::START));
        while let Some(from) = place {
            let mut part = locks.requests_from(&from);
            parts.extend(part.by_ref().take(size));
            place = part.place();
            prop_assert!(parts.len() < 1000, "the listing comes to its end");
        }
        prop_assert_eq!(parts, whole);
    }

    #[test]
    fn a_forged_place_is_an_error_or_a_place_in_the_order(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            (0_u8..3, prop::collection::vec(any::<u8>(), 16), prop::collection::vec(0_u8..4, 0..40))
                .prop_map(|(mode, numbers, path)| [vec![mode], numbers, path].concat()),
        ],
        names in prop::collection::vec(any::<u8>(), 0..10),
    ) {
        let locks = LockManager::new();
        let _held: Vec<Pending> = names.iter().map(|name| enqueue(&locks, *name)).collect();
        if let Ok(place) = Place::from_bytes(&bytes) {
            prop_assert_eq!(place.to_bytes(), bytes);
            let rest: Vec<RequestInfo> = locks.requests_from(&place).collect();
            let whole: Vec<RequestInfo> = locks.requests().collect();
            prop_assert!(whole.ends_with(&rest));
        }
    }
}

#[test]
fn bytes_that_are_no_place_are_refused() {
    let locks = LockManager::new();
    let _held = enqueue(&locks, 0);
    let mut listing = locks.requests();
    listing.next().unwrap();
    let bytes = listing.place().unwrap().to_bytes();
    assert!(Place::from_bytes(&bytes).is_ok());
    let cut = &bytes[..bytes.len() - 1];
    let long = [&bytes[..17], &b"x".repeat(16 * 1024), &[0]].concat();
    for bad in [&[][..], &[2], &[0, 1], &bytes[..16], cut, &long] {
        let error = Place::from_bytes(bad).unwrap_err();
        assert!(error.to_string().contains("not a place of a listing"));
    }
    assert_eq!(listing.next(), None);
    assert_eq!(listing.place(), None);
}
