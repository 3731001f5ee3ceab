//! Services whose replies are encoded by us: their messages are bytes already, so
//! the generated servers take [`Encoded`] instead of a message.

use tonic_build::manual::{Builder, Method, Service};

const PROTO: &str = "etcd_proto::etcdserverpb";
const ENCODED: &str = "crate::grpc::codec::Encoded";
const CODEC: &str = "crate::grpc::codec::EncodedCodec";

fn method(name: &str, route: &str, input: &str) -> tonic_build::manual::MethodBuilder {
    Method::builder()
        .name(name)
        .route_name(route)
        .input_type(format!("{PROTO}::{input}"))
        .output_type(ENCODED)
        .codec_path(CODEC)
}

fn main() {
    let kv = Service::builder()
        .name("KV")
        .package("etcdserverpb")
        .method(method("range", "Range", "RangeRequest").build())
        .method(
            method("range_stream", "RangeStream", "RangeRequest")
                .server_streaming()
                .build(),
        )
        .method(method("put", "Put", "PutRequest").build())
        .method(method("delete_range", "DeleteRange", "DeleteRangeRequest").build())
        .method(method("txn", "Txn", "TxnRequest").build())
        .method(method("compact", "Compact", "CompactionRequest").build())
        .build();
    let watch = Service::builder()
        .name("Watch")
        .package("etcdserverpb")
        .method(
            method("watch", "Watch", "WatchRequest")
                .client_streaming()
                .server_streaming()
                .build(),
        )
        .build();
    Builder::new().build_client(false).compile(&[kv, watch]);
}
