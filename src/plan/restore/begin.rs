//! Who asks for a restore, and whether it may begin.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt};

use crate::{
    api::{
        ClusterRestore, EtcdCluster, EtcdRestore, RestoreKind, RestoreStage, RestoreTarget,
        StoredSource,
    },
    identity, jobs,
    observe::{EtcdSeen, Observed},
};

use super::{
    super::{Plan, Roster, Step, roster::Member},
    certain,
};

/// What a founder is made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    /// Where it is.
    pub(crate) source: StoredSource,
    /// Which state of it.
    pub(crate) target: Option<RestoreTarget>,
    /// SHA-256 that was verified beforehand.
    pub(crate) sha256: Option<String>,
    /// How much the revision is raised.
    pub(crate) bump: i64,
}

/// What the founder of the restore under way is made of, while that is known: the object
/// that says so may be gone.
pub(crate) fn stored(cluster: &EtcdCluster, observed: &Observed) -> Option<Stored> {
    let record = super::under_way(cluster)?;
    if record.name.is_some() {
        let restore = of(observed, &record.id)?;
        let status = restore.status.as_ref()?;
        return Some(Stored {
            source: status.stored.clone()?,
            target: restore.spec.target.clone(),
            sha256: status.sha256.clone(),
            bump: restore.spec.revisions.bump,
        });
    }
    let begins = cluster.spec.bootstrap.as_ref()?.restore.as_ref()?;
    let backup = observed.begins_with.as_deref();
    let source = jobs::source::stored(&begins.from, backup).ok()??;
    Some(Stored {
        source,
        target: begins.target.clone(),
        sha256: None,
        bump: begins.revisions.bump,
    })
}

/// The EtcdRestore of that UID, unless it is being deleted.
pub(super) fn of<'a>(observed: &'a Observed, id: &str) -> Option<&'a EtcdRestore> {
    let restores = observed.restores.iter();
    restores
        .map(|restore| &**restore)
        .find(|restore| restore.meta().uid.as_deref() == Some(id))
        .filter(|restore| restore.meta().deletion_timestamp.is_none())
}

/// How much the revision of a survivor is raised. Once it is chosen that is on record:
/// whoever asked for it may be gone when it serves.
pub(super) fn bump(observed: &Observed, record: &ClusterRestore) -> i64 {
    if let Some(bump) = record.bump_revision {
        return bump;
    }
    let asked = of(observed, &record.id).map(|restore| restore.spec.revisions.bump);
    asked.unwrap_or_else(|| crate::api::RevisionsSpec::default().bump)
}

/// Begins a restore of a cluster that has formed, if one is due.
pub(super) fn plan(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    observed: &Observed,
    now: Timestamp,
) -> Option<Plan> {
    let current = roster.cluster_id.map(identity::hex)?;
    if cluster.spec.replicas == 0 {
        return None; // told by the EtcdRestore
    }
    let due = observed
        .restores
        .iter()
        .filter(|restore| jobs::restore::is_ready(restore) && restore.spec.replaces == current);
    let first = due.min_by_key(|restore| {
        let created = restore.creation_timestamp().map(|time| time.0);
        (created, restore.name_any())
    });
    if let Some(restore) = first {
        let kind = match restore.spec.source.survivor {
            Some(_) => RestoreKind::Survivor,
            None => RestoreKind::Backup,
        };
        let record = ClusterRestore {
            name: Some(restore.name_any()),
            last_revision: newest(roster).or_else(|| restore.status.as_ref()?.current_revision),
            ..record(restore.uid().unwrap_or_default(), kind, now)
        };
        let why = format!(
            "EtcdRestore {} gives up cluster {current}",
            restore.name_any()
        );
        return Some(begin(roster, record, why));
    }
    let certain = certain::loss(cluster, roster).ok()?;
    let before = cluster.status.as_ref().and_then(|it| it.restore.as_ref());
    let taken_back = before.filter(|record| record.kind == RestoreKind::QuorumLoss);
    if let Some(before) = taken_back
        && now.duration_since(before.started_at.0) < certain::PAUSE
    {
        return None; // it was just taken back; see how things are in a while
    }
    let id = format!(
        "{}-quorum-{}",
        cluster.uid().unwrap_or_default(),
        now.as_second()
    );
    let why = format!("the quorum of cluster {current} is lost for certain: {certain}");
    Some(begin(roster, record(id, RestoreKind::QuorumLoss, now), why))
}

/// Begins a cluster that is to begin with a backup.
pub(super) fn bootstrap(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    observed: &Observed,
    now: Timestamp,
) -> Option<Plan> {
    let begins = cluster.spec.bootstrap.as_ref()?.restore.as_ref()?;
    if cluster.spec.replicas == 0 {
        return Some(Plan::idle());
    }
    if let Some(other) = roster.members.iter().find(|member| !member.removed) {
        // Made by an operator that did not know what the cluster begins with.
        return Some(Plan::step(
            Step::DiscardCandidate {
                member: other.name.clone(),
            },
            format!(
                "{} was made empty, and the cluster begins with a backup",
                other.name
            ),
        ));
    }
    if let Err((_, why)) = jobs::source::stored(&begins.from, observed.begins_with.as_deref()) {
        return Some(Plan::wait(format!("waits for what it begins with: {why}")));
    }
    let id = format!("{}-bootstrap", cluster.uid().unwrap_or_default());
    let record = ClusterRestore {
        stage: RestoreStage::Founding,
        ..record(id, RestoreKind::Backup, now)
    };
    let what = jobs::source::words(&begins.from, begins.target.as_ref());
    Some(Plan::step(
        Step::BeginRestore { restore: record },
        format!("begins with {what}"),
    ))
}

fn record(id: String, kind: RestoreKind, now: Timestamp) -> ClusterRestore {
    ClusterRestore {
        id,
        name: None,
        kind,
        stage: RestoreStage::Stopping,
        attempt: 0,
        replaces: None,
        members: Vec::new(),
        member: None,
        cluster_id: None,
        started_at: Time(now),
        last_revision: None,
        bump_revision: None,
        lost_revisions: None,
        message: String::new(),
    }
}

/// Records whom it replaces: every member there is.
fn begin(roster: &Roster<'_>, record: ClusterRestore, why: String) -> Plan {
    let members = roster.members.iter().filter(|member| !member.removed);
    let restore = ClusterRestore {
        replaces: roster.cluster_id.map(identity::hex),
        members: members.map(|member| member.name.clone()).collect(),
        last_revision: record.last_revision.or_else(|| newest(roster)),
        ..record
    };
    Plan::step(Step::BeginRestore { restore }, why)
}

/// The newest revision that any member answers with.
fn newest(roster: &Roster<'_>) -> Option<i64> {
    let seen = roster.members.iter().filter_map(Member::etcd_seen);
    seen.map(|seen: &EtcdSeen| seen.revision).max()
}
