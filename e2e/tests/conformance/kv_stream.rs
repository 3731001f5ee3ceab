//! RangeStream.

use etcd_e2e::client::{Client, ZERO, get, prefix, put, range};
use etcd_e2e::errors::{COMPACTED, EMPTY_KEY, FUTURE_REVISION};
use etcd_proto::etcdserverpb::kv_client::KvClient;
use etcd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use etcd_proto::etcdserverpb::{RangeRequest, RangeResponse};
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use crate::pool::server;

async fn chunks(client: &Client, request: RangeRequest) -> Result<Vec<RangeResponse>, Status> {
    let mut stream = client.kv().range_stream(request).await?.into_inner();
    let mut chunks = Vec::new();
    while let Some(chunk) = stream.message().await? {
        chunks.push(
            chunk
                .range_response
                .expect("a chunk holds a part of the answer"),
        );
    }
    Ok(chunks)
}

/// The chunks as one answer: header, count and more come with the last.
fn merged(chunks: Vec<RangeResponse>) -> RangeResponse {
    let mut whole = RangeResponse::default();
    let last = chunks.len() - 1;
    for (number, chunk) in chunks.into_iter().enumerate() {
        assert_eq!(
            chunk.header.is_some(),
            number == last,
            "the header comes with the last chunk"
        );
        whole.kvs.extend(chunk.kvs);
        if number == last {
            whole.header = chunk.header;
            whole.count = chunk.count;
            whole.more = chunk.more;
        }
    }
    whole
}

#[tokio::test]
async fn b031_stream_equals_range() {
    let server = server().await;
    let client = &server.client;
    for number in 0..300 {
        client
            .put(format!("s/{number:03}"), vec![b'v'; 100])
            .await
            .unwrap();
    }
    let revision = client.revision().await.unwrap();
    client.put("s/000", "changed").await.unwrap();
    let requests = [
        prefix("s/"),
        range(ZERO, ZERO),
        get("s/007"),
        get("missing"),
        range("z", "a"),
        RangeRequest {
            revision,
            ..prefix("s/")
        },
        RangeRequest {
            limit: 7,
            ..prefix("s/")
        },
        RangeRequest {
            limit: 123,
            ..prefix("s/")
        },
        RangeRequest {
            limit: 300,
            ..prefix("s/")
        },
        RangeRequest {
            keys_only: true,
            ..prefix("s/")
        },
        RangeRequest {
            count_only: true,
            ..prefix("s/")
        },
        RangeRequest {
            serializable: true,
            ..prefix("s/")
        },
    ];
    for request in requests {
        let whole = client.range(request.clone()).await.unwrap();
        let streamed = merged(chunks(client, request.clone()).await.unwrap());
        assert_eq!(streamed, whole, "{request:?}");
    }
    EMPTY_KEY.check(chunks(client, get("")).await);
    FUTURE_REVISION.check(
        chunks(
            client,
            RangeRequest {
                revision: revision + 100,
                ..get("s/")
            },
        )
        .await,
    );
}

/// A connection whose receiver takes little at a time, so that a stream stays unfinished while nobody reads it.
fn narrow(url: &str) -> KvClient<tonic::transport::Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .expect("a URL")
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(64 << 10);
    KvClient::new(endpoint.connect_lazy()).max_decoding_message_size(usize::MAX)
}

#[tokio::test]
async fn b031_revision_pinned_across_chunks() {
    let server = server().await;
    let client = &server.client;
    for number in 0..400 {
        client
            .put(format!("s/{number:03}"), vec![b'v'; 16 << 10])
            .await
            .unwrap();
    }
    let revision = client.revision().await.unwrap();
    let mut stream = narrow(&server.client_url())
        .range_stream(prefix("s/"))
        .await
        .unwrap()
        .into_inner();
    let mut chunks = vec![
        stream
            .message()
            .await
            .unwrap()
            .unwrap()
            .range_response
            .unwrap(),
    ];
    // Most of it cannot have been sent yet; what it still reads must be as of its beginning.
    for number in 0..400 {
        client.put(format!("s/{number:03}"), "new").await.unwrap();
    }
    while let Some(chunk) = stream.message().await.unwrap() {
        chunks.push(chunk.range_response.unwrap());
    }
    let whole = merged(chunks);
    assert_eq!((whole.count, whole.kvs.len()), (400, 400));
    assert_eq!(whole.header.unwrap().revision, revision);
    assert!(
        whole
            .kvs
            .iter()
            .all(|kv| kv.mod_revision <= revision && kv.value.len() == 16 << 10)
    );
}

#[tokio::test]
async fn b032_stream_compacted_on_the_way() {
    let server = server().await;
    let client = &server.client;
    for number in 0..1000 {
        client
            .put_with(put(format!("s/{number:04}"), vec![b'v'; 32 << 10]))
            .await
            .unwrap();
    }
    let mut stream = narrow(&server.client_url())
        .range_stream(prefix("s/"))
        .await
        .unwrap()
        .into_inner();
    let mut found = stream
        .message()
        .await
        .unwrap()
        .unwrap()
        .range_response
        .unwrap()
        .kvs
        .len();
    let now = client
        .put("s/0999", "new")
        .await
        .unwrap()
        .header
        .unwrap()
        .revision;
    client.compact(now).await.unwrap();
    let error = loop {
        match stream.message().await {
            Ok(Some(chunk)) => found += chunk.range_response.unwrap().kvs.len(),
            Ok(None) => panic!("the stream ended as if complete, after {found} keys"),
            Err(status) => break status,
        }
    };
    COMPACTED.is(&error);
    assert!(found < 1000, "{found} keys");
}

#[tokio::test]
async fn b033_stream_refuses_sort_and_filters() {
    let server = server().await;
    let client = &server.client;
    client.put("k", "v").await.unwrap();
    let sorted = [
        RangeRequest {
            sort_order: SortOrder::Descend.into(),
            ..get("k")
        },
        RangeRequest {
            sort_order: SortOrder::Ascend.into(),
            sort_target: SortTarget::Mod.into(),
            ..get("k")
        },
    ];
    for request in sorted {
        let status = chunks(client, request).await.unwrap_err();
        let expected = (
            Code::Unimplemented,
            "RangeStream does not support custom sort orders",
        );
        assert_eq!((status.code(), status.message()), expected);
    }
    let filtered = [
        RangeRequest {
            min_mod_revision: 1,
            ..get("k")
        },
        RangeRequest {
            max_mod_revision: 1,
            ..get("k")
        },
        RangeRequest {
            min_create_revision: 1,
            ..get("k")
        },
        RangeRequest {
            max_create_revision: 1,
            ..get("k")
        },
    ];
    for request in filtered {
        let status = chunks(client, request).await.unwrap_err();
        let expected = (
            Code::Unimplemented,
            "RangeStream does not support revision filters",
        );
        assert_eq!((status.code(), status.message()), expected);
    }
    // What leaves the order as it is, is no sort.
    let ascending = RangeRequest {
        sort_order: SortOrder::Ascend.into(),
        ..get("k")
    };
    assert_eq!(chunks(client, ascending).await.unwrap().len(), 1);
    let without_order = RangeRequest {
        sort_target: SortTarget::Mod.into(),
        ..get("k")
    };
    assert_eq!(chunks(client, without_order).await.unwrap().len(), 1);
}
