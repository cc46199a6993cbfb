//! Prototype quick.
use crossbeam_skiplist::SkipMap;
use locktopus_engine::*;
use std::cmp::Reverse;
use std::time::Instant;
fn path(depth: usize, last: &str) -> Path {
    let mut s: Vec<&str> = vec!["org", "eu", "t1", "user", "it"][..depth - 1].to_vec();
    s.push(last);
    Path::from(s)
}
fn main() {
    for n in [0usize, 10, 30, 100, 300] {
        for depth in [3] {
            let locks = LockManager::new();
            let map: SkipMap<(Path, Reverse<u64>, usize), u64> = SkipMap::new();
            let lean: crossbeam_skiplist::base::SkipList<(Path, Reverse<u64>, usize), u64> =
                crossbeam_skiplist::base::SkipList::new(
                    crossbeam_epoch::default_collector().clone(),
                );
            let held: Vec<_> = (0..n)
                .map(|i| {
                    locks
                        .lock([Resource::write(path(depth, &i.to_string()))])
                        .unwrap()
                })
                .collect();
            for i in 0..n {
                map.insert((path(depth, &i.to_string()), Reverse(i as u64), i), 1);
                let g = crossbeam_epoch::pin();
                lean.insert((path(depth, &i.to_string()), Reverse(i as u64), i), 1, &g)
                    .release(&g);
            }
            let p = path(depth, "42x");
            let k = 20_000u32;
            let (mut a, mut b, mut c, mut r) = (vec![], vec![], vec![], vec![]);
            for round in 0..15 {
                let t = Instant::now();
                for _ in 0..k {
                    drop(std::hint::black_box(
                        locks.lock([Resource::write(p.clone())]).unwrap(),
                    ));
                }
                let x = t.elapsed().as_nanos() as f64 / k as f64;
                let t = Instant::now();
                for i in 0..k {
                    let key = (p.clone(), Reverse((i + round) as u64), 7);
                    map.insert(key.clone(), 1);
                    map.remove(&key);
                }
                let y = t.elapsed().as_nanos() as f64 / k as f64;
                let t = Instant::now();
                for i in 0..k {
                    let key = (p.clone(), Reverse((i + round) as u64), 7);
                    {
                        let g = crossbeam_epoch::pin();
                        lean.insert(key.clone(), 1, &g).release(&g);
                    }
                    {
                        let g = crossbeam_epoch::pin();
                        lean.remove(&key, &g).unwrap().release(&g);
                    }
                }
                let z = t.elapsed().as_nanos() as f64 / k as f64;
                a.push(x);
                b.push(y);
                c.push(z);
                r.push(x / y);
            }
            let m = |v: &mut Vec<f64>| {
                v.sort_by(f64::total_cmp);
                v[v.len() / 2]
            };
            println!(
                "n {n} depth {depth}: ours {:.0} floor {:.0} lean {:.0} ratio {:.2} to lean {:.2}",
                m(&mut a),
                m(&mut b),
                m(&mut c),
                m(&mut r),
                m(&mut a) / m(&mut c)
            );
            drop(held);
        }
    }
}
