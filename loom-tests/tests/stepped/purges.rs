//! The watches of withdrawn requests do not pile up behind a held lock.

use crate::path::Path;
use crate::resource::{Resource, ResourceSet};
use crate::table::Table;
use crate::walker::Met;
use locktopus_loom_tests::{Mutation, with};
use std::panic::catch_unwind;

fn withdrawn_requests_do_not_pile_up() {
    let table = Table::new(1, 1);
    let enter = |resource| {
        let set = ResourceSet::collect([resource]).expect("one resource");
        let (request, _) = table.enter(set, &mut Met::default()).expect("open");
        request
    };
    let holder = enter(Resource::write(Path::from(["a"])));
    for _ in 0..1000 {
        table.leave(&enter(Resource::read(Path::from(["a"]))));
    }
    let left = holder.released.chained();
    table.leave(&holder);
    assert!(left < 10, "{left} watches of withdrawn requests are left");
}

#[test]
fn mutations_of_purges_are_noticed() {
    withdrawn_requests_do_not_pile_up();
    for mutation in [Mutation::NoPurge, Mutation::NoRetiring] {
        assert!(
            catch_unwind(|| with(mutation, withdrawn_requests_do_not_pile_up)).is_err(),
            "the property holds in spite of {mutation:?}"
        );
    }
}
