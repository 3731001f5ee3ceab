use std::task::{Context, Poll, Waker};

use super::super::queue::{Push, Queue};
use super::append;

fn take(queue: &Queue, connection: u64) -> Poll<Option<usize>> {
    let mut taken = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    queue
        .poll_take(connection, &mut context, usize::MAX, &mut taken)
        .map(|some| some.map(|()| taken.len()))
}

#[test]
fn a_queue_is_bounded_in_bytes_and_needs_a_connection() {
    let queue = Queue::new(10_000);
    let push = |len| queue.push(append(1, 2, 5, len));
    assert!(matches!(push(1), Push::NotConnected { unsent, .. } if unsent.is_empty()));
    let (connection, unsent) = queue.attach();
    assert_eq!(unsent, []);
    assert!(
        matches!(push(20_000), Push::Queued),
        "one message always fits"
    );
    assert!(matches!(push(1), Push::Full(_)));
    assert_eq!(take(&queue, connection), Poll::Ready(Some(1)));
    assert_eq!(take(&queue, connection), Poll::Pending);
    for _ in 0..2 {
        assert!(matches!(push(4000), Push::Queued));
    }
    assert!(matches!(push(4000), Push::Full(back) if back == append(1, 2, 5, 4000)));
}

#[test]
fn a_new_connection_replaces_the_one_before() {
    let queue = Queue::new(10_000);
    let (first, _) = queue.attach();
    assert!(matches!(queue.push(append(1, 2, 5, 1)), Push::Queued));
    let (second, unsent) = queue.attach();
    assert_eq!(
        unsent,
        [append(1, 2, 5, 1)],
        "what waited for the first one"
    );
    assert_eq!(take(&queue, first), Poll::Ready(None));
    assert_eq!(queue.detach(first), None);
    assert_eq!(take(&queue, second), Poll::Pending);
    assert_eq!(queue.detach(second), Some(Vec::new()));
    assert!(matches!(
        queue.push(append(1, 2, 5, 1)),
        Push::NotConnected { .. }
    ));
}
