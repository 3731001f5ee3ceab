use super::*;

fn kv(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..KeyValue::default()
    }
}

fn prefix(acked: &[(i64, (usize, u64))], seen: &[(i64, (usize, u64))]) -> Prefix {
    let mut prefix = Prefix {
        highest: vec![0; KEYS],
        acked: acked.iter().copied().collect(),
        seen: seen.iter().copied().collect(),
        ..Prefix::default()
    };
    for (_, (key, sequence)) in acked {
        prefix.highest[*key] = *sequence;
    }
    prefix
}

fn lost(prefix: &Prefix, found: &[KeyValue]) -> usize {
    let mut figures = Figures::default();
    prefix.judge("t/", found, &mut figures);
    figures.lost.len()
}

#[test]
fn what_was_acknowledged_is_there_or_was_overwritten_later() {
    let writes = [(2, (0, 1)), (3, (1, 1)), (4, (0, 2))];
    let whole = prefix(&writes, &writes);
    assert_eq!(lost(&whole, &[kv("t/0", "2"), kv("t/1", "1")]), 0);
    // A later one that nobody acknowledged may have been applied.
    assert_eq!(lost(&whole, &[kv("t/0", "3"), kv("t/1", "1")]), 0);
    assert_eq!(lost(&whole, &[kv("t/0", "1"), kv("t/1", "1")]), 1);
    assert_eq!(lost(&whole, &[kv("t/0", "2")]), 1);
    assert_eq!(
        lost(&whole, &[kv("t/0", "2"), kv("t/1", "1"), kv("t/x", "1")]),
        1
    );
}

#[test]
fn another_write_at_an_acknowledged_revision_is_a_loss() {
    let swapped = prefix(&[(2, (0, 1))], &[(2, (0, 2))]);
    assert_eq!(lost(&swapped, &[kv("t/0", "2")]), 1);
}

#[test]
fn an_event_that_comes_twice_is_counted() {
    let shared = Shared {
        prefixes: vec![Mutex::new(Prefix::default())],
        ..Shared::default()
    };
    let mut event = kv("t/0", "1");
    event.mod_revision = 5;
    shared.saw(0, "t/", &event);
    assert!(shared.doubled.lock().is_empty());
    shared.saw(0, "t/", &event);
    assert_eq!(shared.doubled.lock().len(), 1);
}

#[test]
fn the_longest_gap_counts_both_ends() {
    let began = Instant::now();
    let at = |ms: u64| began + Duration::from_millis(ms);
    assert_eq!(longest_gap(&[], began, at(7)), Duration::from_millis(7));
    assert_eq!(
        longest_gap(&[at(3), at(4), at(20)], began, at(6)),
        Duration::from_millis(3)
    );
}
