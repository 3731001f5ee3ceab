//! JSON under /v3/, as `curl` asks it.

use etcd_e2e::Options;
use etcd_e2e::http::{self, Answering};
use etcd_e2e::watch::ANSWER_WITHIN;
use serde_json::{Value, json};

use crate::pool::{Server, fresh, server};

/// Of `foo` and `bar`.
const FOO: &str = "Zm9v";
const BAR: &str = "YmFy";

async fn post(server: &Server, path: &str, body: &str) -> (u16, Value) {
    let url = format!("{}{path}", server.client_url());
    let (status, text) = http::post(&url, &[], body).await.unwrap();
    let json = serde_json::from_str(&text);
    (
        status,
        json.unwrap_or_else(|error| panic!("{error}: {text}")),
    )
}

/// An answer without its header, whose IDs differ.
async fn ask(server: &Server, path: &str, body: &Value) -> Value {
    let (status, mut answer) = post(server, path, &body.to_string()).await;
    assert_eq!(status, 200, "{path}: {answer}");
    let header = answer.as_object_mut().unwrap().remove("header").unwrap();
    for name in ["cluster_id", "member_id", "raft_term"] {
        let text = header[name].as_str().unwrap();
        assert!(text.parse::<u64>().unwrap() > 0, "{header}");
    }
    answer
}

async fn stream(server: &Server, path: &str, body: &str) -> Answering {
    let url = format!("{}{path}", server.client_url());
    http::post_and_read(&url, body).await.unwrap()
}

/// The next message of a stream, without its header.
async fn next(answer: &mut Answering) -> Value {
    let line = tokio::time::timeout(ANSWER_WITHIN, answer.line()).await;
    let line = line.expect("a line in time").unwrap().expect("a line");
    let mut message: Value = serde_json::from_str(&line).unwrap();
    let mut result = message["result"].take();
    result.as_object_mut().unwrap().remove("header");
    result
}

#[tokio::test]
async fn gateway_keys_are_put_read_and_deleted() {
    let server = server().await;
    let put = json!({"key": FOO, "value": BAR});
    assert_eq!(ask(&server, "/v3/kv/put", &put).await, json!({}));
    let found = ask(&server, "/v3/kv/range", &json!({"key": FOO})).await;
    assert_eq!(found["count"], "1");
    let kv = &found["kvs"][0];
    assert_eq!((&kv["key"], &kv["value"]), (&json!(FOO), &json!(BAR)));
    assert_eq!(kv["version"], "1");
    assert_eq!(kv["create_revision"], kv["mod_revision"]);
    assert!(kv.get("lease").is_none(), "what is zero is left out: {kv}");

    // Names of Go's JSON, the older root, and what nobody knows.
    let again = json!({"key": FOO, "value": BAR, "prevKv": true, "nobody": [1]});
    let before = ask(&server, "/v3beta/kv/put", &again).await;
    assert_eq!(before["prev_kv"]["value"], BAR);
    let keys = json!({"key": "AA==", "range_end": "AA==", "keys_only": true,
        "sort_order": "DESCEND", "sort_target": "KEY"});
    let found = ask(&server, "/v3/kv/range", &keys).await;
    assert_eq!(found["count"], "1");
    let deleted = ask(&server, "/v3/kv/deleterange", &json!({"key": FOO})).await;
    assert_eq!(deleted, json!({"deleted": "1"}));
    let found = ask(&server, "/v3/kv/range", &json!({"key": FOO})).await;
    assert_eq!(found, json!({}));
}

#[tokio::test]
async fn gateway_transactions_compare_and_answer_each_operation() {
    let server = server().await;
    let txn = json!({
        "compare": [{"target": "CREATE", "key": FOO, "createRevision": "0"}],
        "success": [
            {"requestPut": {"key": FOO, "value": BAR}},
            {"request_range": {"key": FOO}},
        ],
        "failure": [{"request_range": {"key": FOO}}],
    });
    let first = ask(&server, "/v3/kv/txn", &txn).await;
    assert_eq!(first["succeeded"], true);
    let read = &first["responses"][1]["response_range"];
    assert_eq!(read["kvs"][0]["value"], BAR);
    assert!(first["responses"][0].get("response_put").is_some());
    let second = ask(&server, "/v3/kv/txn", &txn).await;
    assert!(second.get("succeeded").is_none());
    assert_eq!(second["responses"][0]["response_range"]["count"], "1");
}

#[tokio::test]
async fn gateway_a_watch_is_a_line_for_each_message() {
    let server = server().await;
    let client = &server.client;
    let put = client.put("foo", "bar").await.unwrap();
    let from = put.header.unwrap().revision;
    let create = json!({"create_request": {"key": FOO, "start_revision": from.to_string()}});
    let mut watch = stream(&server, "/v3/watch", &create.to_string()).await;
    assert_eq!(watch.status, 200);
    assert_eq!(next(&mut watch).await, json!({"created": true}));
    let event = next(&mut watch).await;
    assert_eq!(event["events"][0]["kv"]["value"], BAR);
    assert!(event["events"][0].get("type").is_none(), "a put is zero");
    client
        .delete(etcd_e2e::client::delete("foo"))
        .await
        .unwrap();
    let event = next(&mut watch).await;
    assert_eq!(event["events"][0]["type"], "DELETE");

    let none = json!({"create_request": {"key": FOO, "range_end": FOO}});
    let mut refused = stream(&server, "/v3/watch", &none.to_string()).await;
    let refused = next(&mut refused).await;
    assert_eq!(
        (&refused["canceled"], &refused["watch_id"]),
        (&json!(true), &json!("-1"))
    );
}

#[tokio::test]
async fn gateway_leases_by_either_path() {
    let server = server().await;
    let granted = ask(&server, "/v3/lease/grant", &json!({"TTL": 60, "ID": "77"})).await;
    assert_eq!(granted, json!({"ID": "77", "TTL": "60"}));
    let mut kept = stream(&server, "/v3/lease/keepalive", r#"{"ID": 77}"#).await;
    assert_eq!(next(&mut kept).await, json!({"ID": "77", "TTL": "60"}));
    for root in ["/v3/lease", "/v3/kv/lease"] {
        let known = ask(&server, &format!("{root}/leases"), &json!({})).await;
        assert_eq!(known, json!({"leases": [{"ID": "77"}]}));
        let left = ask(&server, &format!("{root}/timetolive"), &json!({"ID": 77})).await;
        assert_eq!(
            (&left["ID"], &left["grantedTTL"]),
            (&json!("77"), &json!("60"))
        );
    }
    ask(&server, "/v3/kv/lease/revoke", &json!({"ID": "77"})).await;
    let (status, error) = post(&server, "/v3/lease/revoke", r#"{"ID": 77}"#).await;
    let not_found = json!({"code": 5, "message": "etcdserver: requested lease not found"});
    assert_eq!((status, error), (404, not_found));
}

#[tokio::test]
async fn gateway_members_and_maintenance() {
    let server = server().await;
    let url = server.client_url();
    let (_, listed) = post(&server, "/v3/cluster/member/list", "{}").await;
    let member = &listed["members"][0];
    assert_eq!(member["clientURLs"][0], url);
    let status = ask(&server, "/v3/maintenance/status", &json!({})).await;
    assert_eq!(
        (&status["version"], &status["leader"]),
        (&json!("3.7.3"), &member["ID"])
    );
    for field in [
        "dbSize",
        "raftIndex",
        "raftTerm",
        "raftAppliedIndex",
        "dbSizeQuota",
    ] {
        let text = status[field]
            .as_str()
            .unwrap_or_else(|| panic!("{field}: {status}"));
        assert!(text.parse::<u64>().unwrap() > 0);
    }
    let hash = ask(&server, "/v3/maintenance/hashkv", &json!({})).await;
    assert!(
        hash["hash"].is_u64(),
        "a number of 32 bits is a number: {hash}"
    );
    for action in ["GET", "NOSUCH"] {
        let alarms = ask(&server, "/v3/maintenance/alarm", &json!({"action": action})).await;
        assert_eq!(alarms, json!({}), "{action}");
    }
    // An answer without a header.
    let defragmented = post(&server, "/v3/maintenance/defragment", "{}").await;
    assert_eq!(defragmented, (200, json!({})));
    let mut snapshot = stream(&server, "/v3/maintenance/snapshot", "{}").await;
    assert!(next(&mut snapshot).await["blob"].as_str().unwrap().len() > 1_000);
}

#[tokio::test]
async fn gateway_locks_and_elections() {
    let server = server().await;
    server.client.grant(60, 7).await.unwrap();
    let held = ask(&server, "/v3/lock/lock", &json!({"name": FOO, "lease": 7})).await;
    assert_eq!(held, json!({"key": "Zm9vLzc="}));
    ask(&server, "/v3/lock/unlock", &held).await;
    let campaign = json!({"name": BAR, "lease": "7", "value": FOO});
    let won = ask(&server, "/v3/election/campaign", &campaign).await;
    assert_eq!(won["leader"]["key"], "YmFyLzc=");
    let mut observed = stream(
        &server,
        "/v3/election/observe",
        &json!({"name": BAR}).to_string(),
    )
    .await;
    assert_eq!(next(&mut observed).await["kv"]["value"], FOO);
    let leader = json!({"leader": won["leader"]});
    ask(&server, "/v3/election/resign", &leader).await;
    let (status, error) = post(
        &server,
        "/v3/election/leader",
        &json!({"name": BAR}).to_string(),
    )
    .await;
    assert_eq!(
        (status, error),
        (500, json!({"code": 2, "message": "election: no leader"}))
    );
}

#[tokio::test]
async fn gateway_errors_have_https_codes() {
    let server = server().await;
    for (path, body, status, code, message) in [
        (
            "/v3/kv/range",
            r#"{"key":""}"#,
            400,
            3,
            "etcdserver: key is not provided",
        ),
        (
            "/v3/kv/range",
            "",
            400,
            3,
            "etcdserver: key is not provided",
        ),
        ("/v3/kv/range", r#"{"key":"#, 400, 3, "unexpected EOF"),
        (
            "/v3/kv/compaction",
            r#"{"revision":"1000000000"}"#,
            400,
            11,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        ("/v3/kv/nope", "{}", 404, 5, "Not Found"),
        ("/v3/kv/rangestream", "{}", 404, 5, "Not Found"),
        ("/v3/", "{}", 404, 5, "Not Found"),
    ] {
        let (answered, error) = post(&server, path, body).await;
        assert_eq!(answered, status, "{path}: {error}");
        assert_eq!(error, json!({"code": code, "message": message}), "{path}");
    }
    // The rest of the sentence is each decoder's own.
    for body in [r#"{"key":"!!"}"#, r#"{"limit":"many"}"#, "[]", "nonsense"] {
        let (answered, error) = post(&server, "/v3/kv/range", body).await;
        assert_eq!(
            (answered, &error["code"]),
            (400, &json!(3)),
            "{body}: {error}"
        );
    }
    let url = format!("{}/v3/kv/range", server.client_url());
    let (status, text) = http::get(&url).await.unwrap();
    let error: Value = serde_json::from_str(&text).unwrap();
    let refused = json!({"code": 12, "message": "Method Not Allowed"});
    assert_eq!((status, error), (501, refused));
    let (status, _) = http::post(&url.replace("/v3/", "/v3alpha/"), &[], "{}")
        .await
        .unwrap();
    assert_eq!(status, 404);
}

#[tokio::test]
async fn gateway_metadata_comes_in_headers() {
    let server = server().await;
    let url = format!("{}/v3/kv/range", server.client_url());
    let headers = [
        ("Grpc-Metadata-hasleader", "true"),
        ("Content-Type", "text/plain"),
    ];
    let (status, _) = http::post(&url, &headers, &json!({"key": FOO}).to_string())
        .await
        .unwrap();
    assert_eq!(status, 200);
}

#[tokio::test]
async fn gateway_a_call_ends_at_its_deadline() {
    let server = server().await;
    for lease in [1, 2] {
        server.client.grant(60, lease).await.unwrap();
    }
    ask(&server, "/v3/lock/lock", &json!({"name": FOO, "lease": 1})).await;
    let second = json!({"name": FOO, "lease": 2}).to_string();
    let url = format!("{}/v3/lock/lock", server.client_url());
    let headers = [("Grpc-Timeout", "200m")];
    let answered = http::post(&url, &headers, &second);
    let answered = tokio::time::timeout(ANSWER_WITHIN, answered).await;
    let (status, text) = answered.expect("the deadline counts").unwrap();
    let error: Value = serde_json::from_str(&text).unwrap();
    let exceeded = json!({"code": 4, "message": "context deadline exceeded"});
    assert_eq!((status, error), (504, exceeded));
}

#[tokio::test]
async fn gateway_can_be_switched_off() {
    let options = Options {
        args: vec!["--enable-grpc-gateway=false".to_owned()],
        ..Options::single()
    };
    let (server, _) = fresh(options).await;
    let url = format!("{}/v3/kv/range", server.client_url());
    let (status, text) = http::post(&url, &[], "{}").await.unwrap();
    assert_eq!((status, text.trim()), (404, "404 page not found"));
}

#[tokio::test]
async fn gateway_a_value_of_a_megabyte_passes_and_a_flood_does_not() {
    let server = server().await;
    let value = "QUFB".repeat(350_000);
    ask(&server, "/v3/kv/put", &json!({"key": FOO, "value": value})).await;
    let found = ask(&server, "/v3/kv/range", &json!({"key": FOO})).await;
    assert_eq!(
        found["kvs"][0]["value"].as_str().unwrap().len(),
        value.len()
    );
    let large = json!({"key": FOO, "value": "QUFB".repeat(600_000)}).to_string();
    let (status, error) = post(&server, "/v3/kv/put", &large).await;
    let refused = json!({"code": 3, "message": "etcdserver: request is too large"});
    assert_eq!((status, error), (400, refused));
}
