//! Tests.
use super::*;
#[test]
fn dbg() {
    let (mut store, mut archive) = store();
    put(&mut store, "b", "");
    put(&mut store, "a", "");
    let mut job = store.compact(3).unwrap().job;
    let view = store.view();
    println!("{:?}", view.range(&range_request("a", "l")));
    archive.step(&mut store, &mut job, 4);
    println!("{:?}", view.range(&range_request("a", "l")));
    archive.take(&mut store, 3);
    println!("{:?}", view.range(&range_request("a", "l")));
}
