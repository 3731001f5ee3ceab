//! etcd's wire: the messages of the client API, of the Raft log and of the files
//! on disk, as etcd v3.7.3 defines them.
//!
//! Without features these are plain messages, free of I/O; every crate may use
//! them. The feature `grpc` adds tonic clients and servers of the services.
//! `bytes` fields are [`bytes::Bytes`]: decoding a request copies nothing, and a
//! field kept beyond the request pins the request's whole buffer.

macro_rules! package {
    ($($name:ident)*) => {$(
        #[doc = concat!("Package `", stringify!($name), "`.")]
        #[allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
        pub mod $name {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));
        }
    )*};
}

package! {
    authpb etcdserverpb leasepb membershippb mvccpb raftpb snappb v3electionpb v3lockpb walpb
}

/// All of it as an encoded `google.protobuf.FileDescriptorSet`, for what translates messages
/// without knowing them.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
