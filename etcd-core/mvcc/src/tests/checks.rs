//! What is refused before it is proposed.

use etcd_proto::etcdserverpb::request_op::Request;
use etcd_proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};

use super::transactions::{delete_op, op, put_op, txn_op};
use super::{put_request, range_request};
use crate::{
    RequestError, check_delete, check_put, check_range, check_txn, is_read_only, is_serializable,
    put_cost, txn_cost,
};

fn txn(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        success,
        ..Default::default()
    }
}

fn check(success: Vec<RequestOp>) -> Result<(), RequestError> {
    check_txn(&txn(success), 128)
}

#[test]
fn b002_b007_b010_single_requests() {
    assert_eq!(
        check_put(&put_request("", "v")),
        Err(RequestError::EmptyKey)
    );
    assert_eq!(
        check_range(&range_request("", "")),
        Err(RequestError::EmptyKey)
    );
    assert_eq!(
        check_delete(&Default::default()),
        Err(RequestError::EmptyKey)
    );
    let value = PutRequest {
        ignore_value: true,
        ..put_request("k", "v")
    };
    assert_eq!(check_put(&value), Err(RequestError::ValueProvided));
    let lease = PutRequest {
        ignore_lease: true,
        lease: 1,
        ..put_request("k", "v")
    };
    assert_eq!(check_put(&lease), Err(RequestError::LeaseProvided));
    for (sort_order, sort_target) in [(3, 0), (0, 5), (-1, 0)] {
        let request = RangeRequest {
            sort_order,
            sort_target,
            ..range_request("k", "")
        };
        assert_eq!(check_range(&request), Err(RequestError::InvalidSortOption));
    }
    assert_eq!(
        check(vec![RequestOp { request: None }]),
        Err(RequestError::KeyNotFound)
    );
    let compare = TxnRequest {
        compare: vec![Compare::default()],
        ..Default::default()
    };
    assert_eq!(check_txn(&compare, 128), Err(RequestError::EmptyKey));
    assert_eq!(check(vec![put_op("")]), Err(RequestError::EmptyKey));
}

#[test]
fn b042_operations_are_counted_at_every_depth() {
    let puts = |n: usize| (0..n).map(|i| put_op(&format!("{i}"))).collect::<Vec<_>>();
    assert_eq!(check(puts(128)), Ok(()));
    assert_eq!(check(puts(129)), Err(RequestError::TooManyOps));
    let failure = TxnRequest {
        failure: puts(129),
        ..Default::default()
    };
    assert_eq!(check_txn(&failure, 128), Err(RequestError::TooManyOps));
    let compares = TxnRequest {
        compare: vec![
            Compare {
                key: "k".into(),
                ..Default::default()
            };
            129
        ],
        ..Default::default()
    };
    assert_eq!(check_txn(&compares, 128), Err(RequestError::TooManyOps));
    // A nested transaction gets what its parent leaves.
    assert_eq!(check(vec![txn_op(puts(127), vec![])]), Ok(()));
    assert_eq!(
        check(vec![txn_op(puts(128), vec![])]),
        Err(RequestError::TooManyOps)
    );
}

#[test]
fn b043_b044_b045_overlaps() {
    let duplicate = Err(RequestError::DuplicateKey);
    assert_eq!(check(vec![put_op("k"), put_op("k")]), duplicate);
    assert_eq!(check(vec![put_op("k"), delete_op("k", "")]), duplicate);
    assert_eq!(check(vec![delete_op("a", "z"), put_op("k")]), duplicate);
    assert_eq!(check(vec![delete_op("a", "k"), put_op("k")]), Ok(()));
    assert_eq!(check(vec![delete_op("z", "a"), put_op("k")]), Ok(()));
    assert_eq!(
        check(vec![
            delete_op("a", "m"),
            delete_op("c", "z"),
            delete_op("a", "")
        ]),
        Ok(())
    );
    assert_eq!(
        check(vec![
            delete_op("m", "p"),
            delete_op("a", "n"),
            delete_op("x", "z"),
            put_op("o")
        ]),
        duplicate
    );
    assert_eq!(
        check(vec![
            delete_op("m", "p"),
            delete_op("a", "n"),
            delete_op("x", "z"),
            put_op("q")
        ]),
        Ok(())
    );
    // From a key on: etcd lets it pass, for whoever replaces everything at once.
    assert_eq!(check(vec![delete_op("\0", "\0"), put_op("k")]), Ok(()));
}

#[test]
fn b047_overlaps_at_any_depth() {
    let duplicate = Err(RequestError::DuplicateKey);
    assert_eq!(
        check(vec![txn_op(vec![put_op("k")], vec![]), put_op("k")]),
        duplicate
    );
    assert_eq!(
        check(vec![txn_op(vec![], vec![put_op("k")]), put_op("k")]),
        duplicate
    );
    assert_eq!(
        check(vec![txn_op(vec![], vec![delete_op("a", "z")]), put_op("k")]),
        duplicate
    );
    assert_eq!(
        check(vec![delete_op("a", "z"), txn_op(vec![put_op("k")], vec![])]),
        duplicate
    );
    // Branches exclude each other.
    assert_eq!(
        check(vec![txn_op(vec![put_op("k")], vec![put_op("k")])]),
        Ok(())
    );
    assert_eq!(
        check(vec![txn_op(vec![put_op("k")], vec![delete_op("k", "")])]),
        Ok(())
    );
    let twice = vec![
        txn_op(vec![put_op("k")], vec![]),
        txn_op(vec![], vec![put_op("k")]),
    ];
    assert_eq!(check(twice), duplicate);
    // Only deletions that stand before a nested put are held against it.
    let put = || txn_op(vec![put_op("k")], vec![]);
    let delete = || txn_op(vec![delete_op("k", "")], vec![]);
    assert_eq!(check(vec![delete(), put()]), duplicate);
    assert_eq!(check(vec![put(), delete()]), Ok(()));
    let failure = TxnRequest {
        failure: vec![put_op("k"), put_op("k")],
        ..Default::default()
    };
    assert_eq!(check_txn(&failure, 128), duplicate);
}

#[test]
fn transactions_tell_what_they_need() {
    let range = |serializable| {
        op(Request::RequestRange(RangeRequest {
            serializable,
            ..range_request("k", "")
        }))
    };
    assert!(is_read_only(&txn(vec![range(false)])) && !is_serializable(&txn(vec![range(false)])));
    assert!(is_serializable(&txn(vec![range(true)])));
    assert!(!is_read_only(&txn(vec![txn_op(vec![], vec![])])));
    assert!(is_read_only(&txn(vec![])) && is_serializable(&txn(vec![])));
}

#[test]
fn the_dearer_branch_counts() {
    assert_eq!(put_cost(&put_request("key", "value")), 256 + 3 + 5);
    let put = 256 + 1 + 3;
    let request = TxnRequest {
        success: vec![put_op("a"), delete_op("x", "")],
        failure: vec![txn_op(vec![put_op("b"), put_op("c")], vec![]), put_op("d")],
        ..Default::default()
    };
    assert_eq!(txn_cost(&request), 3 * put);
    assert_eq!(txn_cost(&txn(vec![delete_op("x", "")])), 0);
}
