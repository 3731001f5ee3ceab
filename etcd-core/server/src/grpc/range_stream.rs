//! RangeStream: a range in chunks, all of one revision.

use std::sync::Arc;

use bytes::Bytes;
use etcd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use etcd_proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse};
use etcd_replica::View;
use futures::Stream;
use tonic::Status;

use super::codec::Encoded;
use super::kv::blocking;
use super::status::read_status;
use crate::driver::Node;

/// A stream is served in the order of the index, so nothing may need all keys first.
pub(super) fn check(request: &RangeRequest) -> Result<(), Status> {
    let as_it_is = match request.sort_order() {
        // Without an order the target says nothing.
        SortOrder::None => true,
        SortOrder::Ascend => request.sort_target() == SortTarget::Key,
        SortOrder::Descend => false,
    };
    if !as_it_is {
        return Err(Status::unimplemented(
            "RangeStream does not support custom sort orders",
        ));
    }
    let filtered = request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    if filtered {
        return Err(Status::unimplemented(
            "RangeStream does not support revision filters",
        ));
    }
    Ok(())
}

struct State {
    node: Node,
    view: Arc<View>,
    request: RangeRequest,
    revision: i64,
    left: Option<i64>,
    chunk: i64,
    /// Keys of the whole range, once the first chunk has told.
    count: Option<i64>,
    /// Revision of the header: that of the state that the stream began with.
    header_revision: i64,
    done: bool,
}

/// Keys of a first chunk, when nothing is known of their size.
const FIRST_KEYS: i64 = 16;
/// Keys of a chunk at most.
const CHUNK_KEYS_MAX: i64 = 10_000;
/// Bytes that a chunk should have.
const CHUNK_BYTES: usize = 256 << 10;

/// The range in chunks; the last one carries header, count and `more`.
pub(super) fn stream(
    node: Node,
    view: Arc<View>,
    request: RangeRequest,
) -> Result<impl Stream<Item = Result<Encoded, Status>> + Send + 'static, Status> {
    let revision = if request.revision > 0 {
        request.revision
    } else {
        view.kv.revision()
    };
    let header_revision = view.kv.revision();
    let left = (request.limit > 0).then_some(request.limit);
    let state = State {
        node,
        view,
        request,
        revision,
        left,
        chunk: FIRST_KEYS,
        count: None,
        header_revision,
        done: false,
    };
    Ok(futures::stream::unfold(state, |state| async move {
        if state.done {
            return None;
        }
        match blocking(move || next(state)).await {
            Ok((result, state)) => Some((result, state)),
            Err(_) => None,
        }
    }))
}

fn next(mut state: State) -> (Result<Encoded, Status>, State) {
    // Later chunks are read from the newest state, at the first one's revision: a
    // compaction meanwhile ends the stream as it would end a page.
    if state.count.is_some() {
        state.view = state.node.view();
    }
    let mut request = RangeRequest {
        sort_target: SortTarget::Key as i32,
        ..state.request.clone()
    };
    request.revision = state.revision;
    request.limit = state.left.map_or(state.chunk, |left| left.min(state.chunk));
    let mut response = match state.view.kv.range(&request) {
        Ok(response) => response,
        Err(error) => {
            state.done = true;
            return (Err(read_status(&error)), state);
        }
    };
    if let Some(left) = &mut state.left {
        *left -= response.kvs.len() as i64;
    }
    let bytes: usize = response
        .kvs
        .iter()
        .map(|kv| kv.key.len() + kv.value.len())
        .sum();
    let each = bytes / response.kvs.len().max(1) + 1;
    state.chunk = i64::try_from(CHUNK_BYTES / each)
        .unwrap_or(CHUNK_KEYS_MAX)
        .clamp(1, CHUNK_KEYS_MAX);
    let exhausted = !response.more || state.left == Some(0);
    if let (false, Some(last)) = (exhausted, response.kvs.last()) {
        state.request.key = successor(&last.key);
    }
    state.done = exhausted || response.kvs.is_empty();
    let count = *state.count.get_or_insert(response.count);
    let response = if state.done {
        response.header = Some(state.node.header(state.header_revision));
        RangeResponse { count, ..response }
    } else {
        RangeResponse {
            kvs: response.kvs,
            ..RangeResponse::default()
        }
    };
    (
        Ok(Encoded::of(&RangeStreamResponse {
            range_response: Some(response),
        })),
        state,
    )
}

fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}
