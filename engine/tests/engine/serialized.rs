//! The optional feature `serde`: the JSON forms of resources, listings and statistics.

use locktopus_engine::{LockManager, Path, Resource};
use serde_json::json;

#[test]
fn resources_read_back_from_json() {
    let resource = Resource::write(["a/b", "", "\0"]);
    let value = json!({"path": ["a/b", "", "\0"], "mode": "write"});
    assert_eq!(serde_json::to_value(&resource).unwrap(), value);
    assert_eq!(serde_json::from_value::<Resource>(value).unwrap(), resource);
    assert_eq!(serde_json::from_str::<Path>("[]").unwrap(), Path::root());
    assert!(serde_json::from_str::<Path>("[1]").is_err());
}

#[test]
fn listings_and_statistics_serialize() {
    let locks = LockManager::new();
    let _held = locks.blocking_lock([Resource::write(["a"])]).unwrap();
    let _waits = locks.enqueue([Resource::read(["a"])]).unwrap();
    let listed = serde_json::to_value(locks.requests().collect::<Vec<_>>()).unwrap();
    assert_eq!(
        listed,
        json!([
            {"token": 1, "resources": [{"path": ["a"], "mode": "write"}], "state": "acquired", "waits_for": null},
            {"token": 2, "resources": [{"path": ["a"], "mode": "read"}], "state": "waiting", "waits_for": 1},
        ])
    );
    let stats = serde_json::to_value(locks.stats()).unwrap();
    assert_eq!(
        stats,
        json!({"acquired": 1, "waiting": 1, "resources": 2, "last_token": 2, "closed": false})
    );
}
