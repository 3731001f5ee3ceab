//! Transactions as they are applied.

use etcd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcd_proto::etcdserverpb::request_op::Request;
use etcd_proto::etcdserverpb::response_op::Response;
use etcd_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use super::*;
use crate::ApplyError;

pub(super) fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

pub(super) fn put_op(key: &str) -> RequestOp {
    op(Request::RequestPut(put_request(key, "txn")))
}

pub(super) fn delete_op(key: &str, end: &str) -> RequestOp {
    op(Request::RequestDeleteRange(DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        prev_kv: false,
    }))
}

pub(super) fn txn_op(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    op(Request::RequestTxn(TxnRequest {
        compare: Vec::new(),
        success,
        failure,
    }))
}

fn range_op(key: &str, revision: i64) -> RequestOp {
    op(Request::RequestRange(RangeRequest {
        revision,
        ..range_request(key, "")
    }))
}

fn compare(key: &str, end: &str, target: CompareTarget, union: TargetUnion) -> Compare {
    Compare {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        result: CompareResult::Equal.into(),
        target: target.into(),
        target_union: Some(union),
    }
}

fn txn(compare: Vec<Compare>, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        compare,
        success,
        failure,
    }
}

#[test]
fn b048_b049_without_a_change_the_revision_stays() {
    let (mut store, _) = store();
    put(&mut store, "k", "v");
    let request = txn(
        vec![],
        vec![range_op("k", 0), delete_op("missing", "")],
        vec![],
    );
    let applied = store.txn(&request, &leases).unwrap();
    assert_eq!(applied.response.header.unwrap().revision, 2);
    assert!(applied.records.is_empty() && applied.response.succeeded);
}

#[test]
fn b050_several_puts_are_one_revision() {
    let (mut store, _) = store();
    let request = txn(
        vec![],
        vec![put_op("a"), put_op("b"), delete_op("a", "c"), put_op("c")],
        vec![],
    );
    let applied = store.txn(&request, &leases).unwrap();
    assert_eq!(
        (store.revision(), applied.response.header.unwrap().revision),
        (2, 2)
    );
    let revs: Vec<_> = applied
        .records
        .iter()
        .map(|record| (record.rev.main, record.rev.sub))
        .collect();
    assert_eq!(revs, [(2, 0), (2, 1), (2, 2), (2, 3), (2, 4)]);
}

#[test]
fn b051_b054_b055_comparisons() {
    let (mut store, _) = store();
    let attached = PutRequest {
        lease: 4,
        ..put_request("k", "v")
    };
    store.put(&attached, &leases).unwrap();
    let holds = |store: &mut Store, c: Compare| {
        store
            .txn(&txn(vec![c], vec![], vec![]), &leases)
            .unwrap()
            .response
            .succeeded
    };
    use CompareTarget as Target;
    assert!(holds(
        &mut store,
        compare("k", "", Target::Lease, TargetUnion::Lease(4))
    ));
    assert!(holds(
        &mut store,
        compare("k", "", Target::Value, TargetUnion::Value("v".into()))
    ));
    assert!(holds(
        &mut store,
        compare("missing", "", Target::Version, TargetUnion::Version(0))
    ));
    assert!(holds(
        &mut store,
        compare(
            "missing",
            "",
            Target::Create,
            TargetUnion::CreateRevision(0)
        )
    ));
    // A missing key has no value, neither equal nor different.
    let mut value = compare("missing", "", Target::Value, TargetUnion::Value("".into()));
    assert!(!holds(&mut store, value.clone()));
    value.result = CompareResult::NotEqual.into();
    assert!(!holds(&mut store, value));
    // A union of another target counts as zero.
    assert!(!holds(
        &mut store,
        compare("k", "", Target::Version, TargetUnion::Lease(1))
    ));
    let refused = txn(
        vec![compare("k", "", Target::Version, TargetUnion::Version(9))],
        vec![put_op("a")],
        vec![put_op("b")],
    );
    let applied = store.txn(&refused, &leases).unwrap();
    assert!(!applied.response.succeeded);
    assert_eq!(applied.response.header.unwrap().revision, 3);
    assert_eq!(applied.records[0].key, "b");
}

#[test]
fn b052_a_range_comparison_needs_every_key() {
    let (mut store, _) = store();
    put(&mut store, "a", "v");
    put(&mut store, "b", "v");
    let all = compare(
        "a",
        "c",
        CompareTarget::Value,
        TargetUnion::Value("v".into()),
    );
    let request = txn(vec![all], vec![], vec![]);
    assert!(store.txn(&request, &leases).unwrap().response.succeeded);
    put(&mut store, "b", "w");
    assert!(!store.txn(&request, &leases).unwrap().response.succeeded);
}

#[test]
fn b056_nested_transactions_see_the_state_before() {
    let (mut store, _) = store();
    let missing = compare("k", "", CompareTarget::Version, TargetUnion::Version(0));
    let nested = op(Request::RequestTxn(txn(
        vec![missing],
        vec![put_op("then")],
        vec![put_op("else")],
    )));
    let request = txn(vec![], vec![put_op("k"), nested], vec![]);
    let response = store.txn(&request, &leases).unwrap().response;
    let Some(Response::ResponseTxn(nested)) = &response.responses[1].response else {
        panic!("{response:?}");
    };
    assert!(nested.succeeded);
    assert_eq!(nested.header, Some(Default::default()));
    let Some(Response::ResponsePut(put)) = &nested.responses[0].response else {
        panic!("{nested:?}");
    };
    assert_eq!(put.header.as_ref().unwrap().revision, 2);
}

#[test]
fn b058_a_compacted_range_leaves_no_trace() {
    let (mut store, mut archive) = store();
    for value in ["1", "2", "3"] {
        put(&mut store, "k", value);
    }
    compact(&mut store, &mut archive, 3);
    let before = store.ring_bytes();
    for (revision, error) in [
        (2, ApplyError::Compacted),
        (-1, ApplyError::Compacted),
        (5, ApplyError::Future),
    ] {
        let nested = txn_op(vec![range_op("k", revision)], vec![]);
        let request = txn(vec![], vec![put_op("a"), nested], vec![]);
        assert_eq!(store.txn(&request, &leases).unwrap_err(), error);
    }
    // The branch that is not taken is not looked at.
    let request = txn(vec![], vec![], vec![range_op("k", 2)]);
    assert!(store.txn(&request, &leases).is_ok());
    assert_eq!((store.revision(), store.ring_bytes()), (4, before));
}

#[test]
fn b059_a_range_sees_earlier_operations() {
    let (mut store, _) = store();
    put(&mut store, "k", "old");
    let request = txn(
        vec![],
        vec![put_op("k"), range_op("k", 0), range_op("k", 2)],
        vec![],
    );
    let response = store.txn(&request, &leases).unwrap().response;
    let values: Vec<_> = response.responses[1..]
        .iter()
        .map(|response| match &response.response {
            Some(Response::ResponseRange(range)) => range.kvs[0].value.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(values, ["txn", "old"]);
}

#[test]
fn b060_a_refused_transaction_leaves_no_key() {
    let (mut store, _) = store();
    let lost = PutRequest {
        lease: 99,
        ..put_request("b", "")
    };
    let ignoring = PutRequest {
        ignore_value: true,
        ..put_request("b", "")
    };
    for (put, error) in [
        (lost, ApplyError::LeaseNotFound),
        (ignoring, ApplyError::KeyNotFound),
    ] {
        let request = txn(
            vec![],
            vec![put_op("a"), op(Request::RequestPut(put))],
            vec![],
        );
        assert_eq!(store.txn(&request, &leases).unwrap_err(), error);
    }
    assert_eq!((store.revision(), store.ring_bytes()), (1, 0));
    assert_eq!(store.view().get(b"a", 0), Ok(None));
}
