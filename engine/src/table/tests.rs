use super::*;
use crate::resource::Mode;

fn enter(table: &Table, mode: Mode) -> Arc<Request> {
    let path = Path::from(["a"]);
    enter_one(table, Resource { path, mode })
}

fn enter_one(table: &Table, resource: Resource) -> Arc<Request> {
    let entered = table.enter(ResourceSet::One(resource), &mut Met::default());
    entered.unwrap().0
}

#[test]
fn withdrawn_requests_do_not_pile_up_behind_a_held_lock() {
    let table = Table::new(1, 1);
    let holder = enter(&table, Mode::Write);
    for _ in 0..10_000 {
        table.leave(&enter(&table, Mode::Read));
        assert!(holder.released.chained() < 40);
    }
    let waiting: Vec<_> = (0..10_000).map(|_| enter(&table, Mode::Read)).collect();
    assert!(holder.released.chained() >= 10_000);
    for request in &waiting {
        table.leave(request);
    }
    assert!(
        holder.released.chained() < 40,
        "no request has entered since"
    );
    table.leave(&holder);
}

#[test]
fn the_requests_of_a_long_queue_leave_in_any_order() {
    let table = Table::new(1, 1);
    let mut queue: Vec<_> = (0..50_000).map(|_| enter(&table, Mode::Write)).collect();
    for request in queue.drain(..).rev() {
        table.leave(&request);
    }
    assert_eq!(table.stats((0, 0)).resources, 0);
}

#[test]
fn a_parent_waits_for_its_children_one_after_another() {
    let table = Table::new(1, 1);
    let child = |i: u32| Resource::write(["a".to_owned(), i.to_string()]);
    let children: Vec<_> = (0..1000).map(|i| enter_one(&table, child(i))).collect();
    let parent = enter(&table, Mode::Write);
    for child in &children {
        assert!(!parent.granted.is_set());
        table.leave(child);
    }
    assert!(parent.granted.is_set());
    table.leave(&parent);
}
