//! Ranges over a view: selection, count, filters, order and limit as etcd has
//! them.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};
use etcd_proto::etcdserverpb::RangeRequest;
use etcd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use etcd_proto::mvccpb::KeyValue;

use crate::archive::ArchiveError;
use crate::error::ReadError;
use crate::index::{Entry, Index, KeyRef};
use crate::record::{Revision, encode_kv};
use crate::span::Span;
use crate::view::{View, decode};

/// Values read before the first of them is handed on.
const PAGE: usize = 256;

/// What a range found, beside the pairs themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeSummary {
    /// Keys in the range at the revision, whatever limit and filters say.
    pub count: i64,
    /// Whether the limit left some out.
    pub more: bool,
    /// Pairs handed out.
    pub kvs: usize,
}

/// One pair of a reply.
#[derive(Clone, Debug)]
pub enum Item<'a> {
    /// An encoded `mvccpb.KeyValue`, as stored.
    Stored(&'a Bytes),
    /// A pair without its value.
    Bare(&'a KeyValue),
}

impl Item<'_> {
    /// Bytes of the encoded pair.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match self {
            Item::Stored(bytes) => bytes.len(),
            Item::Bare(kv) => prost::Message::encoded_len(*kv),
        }
    }

    /// Appends the encoded pair.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Item::Stored(bytes) => out.put_slice(bytes),
            Item::Bare(kv) => out.put_slice(&encode_kv(kv)),
        }
    }

    /// The pair as a message; fails if what is stored is damaged.
    pub fn decode(&self) -> Result<KeyValue, ArchiveError> {
        match self {
            Item::Stored(bytes) => decode((*bytes).clone()),
            Item::Bare(kv) => Ok((*kv).clone()),
        }
    }
}

/// What decides order and selection beyond the range itself.
struct Plan {
    order: Option<(SortTarget, SortOrder)>,
    filtered: bool,
    /// Keys to take in key order, before filters and sorting; `usize::MAX`: all.
    take: usize,
    limit: usize,
}

impl Plan {
    fn new(request: &RangeRequest) -> Plan {
        // A request with unknown values does not pass `check_range`; an entry in
        // the log that never did sorts by key.
        let target = SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key);
        let order = SortOrder::try_from(request.sort_order).unwrap_or(SortOrder::None);
        let filtered = request.min_mod_revision != 0
            || request.max_mod_revision != 0
            || request.min_create_revision != 0
            || request.max_create_revision != 0;
        let limit = match usize::try_from(request.limit) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(limit) => limit,
        };
        // Without an order the limit counts keys before they are sorted by
        // another target: etcd sorts the one key too many among them as well.
        let limits_first =
            order == SortOrder::None || (target, order) == (SortTarget::Key, SortOrder::Ascend);
        let take = if limits_first && !filtered {
            limit.saturating_add(1)
        } else {
            usize::MAX
        };
        let order = match (target, order) {
            (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => None,
            (target, SortOrder::None) => Some((target, SortOrder::Ascend)),
            sorted => Some(sorted),
        };
        Plan {
            order,
            filtered,
            take,
            limit,
        }
    }
}

/// A selected key: where its pair is, and what the index knows of it.
struct Found<'a> {
    key: KeyRef<'a>,
    rev: Revision,
    /// Known when the selected change is the key's newest.
    newest: Option<&'a Entry>,
}

pub(crate) fn range(
    view: &View,
    request: &RangeRequest,
    visit: &mut dyn FnMut(Item<'_>),
) -> Result<RangeSummary, ReadError> {
    let at = view.resolve(request.revision)?;
    let span = Span::new(&request.key, &request.range_end);
    if request.count_only {
        return Ok(RangeSummary {
            count: count(view, span, at)?,
            ..Default::default()
        });
    }
    let plan = Plan::new(request);
    let root = (at != view.revision)
        .then(|| view.tail.root(at, view.revision))
        .flatten();
    let index = root.as_ref().map_or(&view.index, |root| &root.index);
    let mut found = Vec::new();
    select(index, span, at, plan.take, &mut found);
    let count = if found.len() < plan.take {
        found.len() as i64
    } else {
        if at == view.revision && view.settled {
            view.tail
                .remember(at, &view.index, view.compacted, view.pushed);
        }
        count(view, span, at)?
    };
    let (more, kvs) = if plan.order.is_none() && !plan.filtered {
        let more = found.len() > plan.limit;
        found.truncate(plan.limit);
        for page in found.chunks(PAGE) {
            emit(view, request.keys_only, page, visit)?;
        }
        (more, found.len())
    } else {
        arrange(view, request, &plan, found, visit)?
    };
    Ok(RangeSummary { count, more, kvs })
}

/// The number of keys in a range that exist at revision `at`.
pub(crate) fn count(view: &View, span: Span<'_>, at: i64) -> Result<i64, ReadError> {
    if let Span::Key(key) = span {
        let entry = view.index.get(key);
        return Ok(i64::from(
            entry.is_some_and(|entry| entry.visible(at).is_some()),
        ));
    }
    if at == view.revision {
        return Ok(view.index.live(span) as i64);
    }
    let root = view.tail.root(at, view.revision);
    let (index, revision) = root.as_ref().map_or((&view.index, view.revision), |root| {
        (&root.index, root.revision)
    });
    let then = index.live(span) as i64;
    let distance = revision - at;
    if distance / 8 > then {
        // Few keys, many changes: look at the keys.
        let visible = index
            .walk(span)
            .filter(|(_, entry)| entry.visible(at).is_some());
        return Ok(visible.count() as i64);
    }
    // Take back what the changes between did to the count.
    let mut count = then;
    view.records(Revision::new(at + 1, 0), revision, &mut |record| {
        if span.contains(&record.key) {
            if record.tombstone {
                count += 1;
            } else if record.version == 1 {
                count -= 1;
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

/// Finds up to `take` keys of the range that exist at revision `at`.
fn select<'a>(index: &'a Index, span: Span<'a>, at: i64, take: usize, found: &mut Vec<Found<'a>>) {
    let mut add = |key: KeyRef<'a>, entry: &'a Entry| {
        if let Some(rev) = entry.visible(at) {
            let newest = (rev == entry.rev()).then_some(entry);
            found.push(Found { key, rev, newest });
        }
        found.len() < take
    };
    if let Span::Key(key) = span {
        let name = KeyRef {
            prefix: key,
            suffix: &[],
        };
        if let Some(entry) = index.get(key) {
            add(name, entry);
        }
        return;
    }
    for (key, entry) in index.walk(span) {
        if !add(key, entry) {
            return;
        }
    }
}

/// Hands out selected pairs in their present order.
fn emit(
    view: &View,
    keys_only: bool,
    found: &[Found<'_>],
    visit: &mut dyn FnMut(Item<'_>),
) -> Result<(), ReadError> {
    if keys_only && found.iter().all(|f| f.newest.is_some()) {
        for f in found {
            let newest = f.newest.expect("checked for all").newest();
            visit(Item::Bare(&KeyValue {
                key: f.key.to_vec().into(),
                create_revision: newest.create_revision,
                mod_revision: newest.rev.main,
                version: newest.version,
                value: Bytes::new(),
                lease: newest.lease,
            }));
        }
        return Ok(());
    }
    let revs: Vec<Revision> = found.iter().map(|f| f.rev).collect();
    let mut values = Vec::with_capacity(revs.len());
    view.read_all(&revs, &mut values)?;
    for value in &values {
        if keys_only {
            let mut kv = decode(value.clone())?;
            kv.value = Bytes::new();
            visit(Item::Bare(&kv));
        } else {
            visit(Item::Stored(value));
        }
    }
    Ok(())
}

/// Filters, sorts and limits pairs by what they contain, and hands them out.
fn arrange(
    view: &View,
    request: &RangeRequest,
    plan: &Plan,
    found: Vec<Found<'_>>,
    visit: &mut dyn FnMut(Item<'_>),
) -> Result<(bool, usize), ReadError> {
    let by_mod = |f: &Found<'_>| {
        (request.min_mod_revision == 0 || f.rev.main >= request.min_mod_revision)
            && (request.max_mod_revision == 0 || f.rev.main <= request.max_mod_revision)
    };
    let mut found = found;
    found.retain(by_mod);
    let facts = facts(view, request, plan, &found)?;
    let mut pairs: Vec<(Found<'_>, Facts)> = found.into_iter().zip(facts).collect();
    pairs.retain(|(_, facts)| {
        (request.min_create_revision == 0 || facts.create_revision >= request.min_create_revision)
            && (request.max_create_revision == 0
                || facts.create_revision <= request.max_create_revision)
    });
    match plan.order {
        None => {}
        Some((SortTarget::Key, _)) => pairs.reverse(),
        Some((target, order)) => pairs.sort_by(|a, b| {
            let (a, b) = if order == SortOrder::Descend {
                (b, a)
            } else {
                (a, b)
            };
            compare(target, a, b)
        }),
    }
    let more = pairs.len() > plan.limit;
    pairs.truncate(plan.limit);
    let found: Vec<Found<'_>> = pairs.into_iter().map(|(found, _)| found).collect();
    for page in found.chunks(PAGE) {
        emit(view, request.keys_only, page, visit)?;
    }
    Ok((more, found.len()))
}

/// What a pair is sorted and filtered by.
#[derive(Default)]
struct Facts {
    create_revision: i64,
    version: i64,
    value: Bytes,
}

fn compare(target: SortTarget, a: &(Found<'_>, Facts), b: &(Found<'_>, Facts)) -> Ordering {
    match target {
        SortTarget::Key => Ordering::Equal,
        SortTarget::Version => a.1.version.cmp(&b.1.version),
        SortTarget::Create => a.1.create_revision.cmp(&b.1.create_revision),
        SortTarget::Mod => a.0.rev.main.cmp(&b.0.rev.main),
        SortTarget::Value => a.1.value.cmp(&b.1.value),
    }
}

/// Gathers the facts from the index where it has them, from the records else.
fn facts(
    view: &View,
    request: &RangeRequest,
    plan: &Plan,
    found: &[Found<'_>],
) -> Result<Vec<Facts>, ReadError> {
    let by_value = matches!(plan.order, Some((SortTarget::Value, _)));
    let by_life = request.min_create_revision != 0
        || request.max_create_revision != 0
        || matches!(
            plan.order,
            Some((SortTarget::Version | SortTarget::Create, _))
        );
    let mut facts = Vec::with_capacity(found.len());
    let mut values = Vec::new();
    for f in found {
        match f.newest {
            Some(entry) if !by_value => {
                let newest = entry.newest();
                facts.push(Facts {
                    create_revision: newest.create_revision,
                    version: newest.version,
                    value: Bytes::new(),
                });
            }
            None if !by_value && !by_life => facts.push(Facts::default()),
            _ => {
                values.clear();
                view.read_all(&[f.rev], &mut values)?;
                let kv = decode(values[0].clone())?;
                facts.push(Facts {
                    create_revision: kv.create_revision,
                    version: kv.version,
                    value: kv.value,
                });
            }
        }
    }
    Ok(facts)
}
