//! Which voter is next to run what the spec asks for, whether the others can spare
//! it, and whether it is restarted where it is or replaced by a new member.
//!
//! ```text
//! its disk goes with its pod (emptyDir)      replaced
//! the same image, or of the same repository  restarted
//! another repository                         a new member proves what it holds:
//!   a server that reads the member's data      restarted
//!   one that cannot                            replaced
//! the only voter, another image              a new member proves that it runs, first
//! ```
//!
//! Replaced means: a new member joins and gets its vote, then the old one leaves, so
//! the cluster is never smaller than it was, and no old member goes before a new one
//! has shown that the image works.

use crate::{
    admission::Found,
    api::{Engine, EtcdCluster},
    render::{self, Settings},
};

use super::{
    Plan, Roster, StalledReason,
    membership::guarded,
    roster::{Member, quorum},
    update::{is_asked, is_pending},
    windows::WindowState,
};

/// Log entries a voter may be behind when another is disrupted.
const LAG: u64 = 5_000;

/// A voter that makes room for a new member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its name.
    pub member: String,
    /// Why it is not simply restarted.
    pub why: String,
    /// Whether the new member is only to show what the image holds, and must not join
    /// before that is known.
    pub proof: bool,
}

/// A voter that is due for a new template.
pub(super) struct Due<'r, 'a> {
    pub(super) member: &'r Member<'a>,
    /// Whether nobody asked: only the operator has changed.
    pub(super) voluntary: bool,
}

/// The voter that is next: what the user asked for before what the operator brings,
/// unhealthy first, the leader last.
pub(super) fn next<'r, 'a>(
    cluster: &EtcdCluster,
    roster: &'r Roster<'a>,
    settings: &Settings,
    pod_spec: &str,
    windows: WindowState,
) -> Option<Due<'r, 'a>> {
    let leader = roster.leader().map(|member| member.serial);
    let due = |member: &'r Member<'a>| {
        if is_asked(member, pod_spec) {
            Some(Due {
                member,
                voluntary: false,
            })
        } else if windows == WindowState::Open && is_pending(cluster, member, settings, pod_spec) {
            Some(Due {
                member,
                voluntary: true,
            })
        } else {
            None
        }
    };
    roster.voters().filter_map(due).max_by_key(|due| {
        (
            !due.voluntary,
            !due.member.is_serving(),
            leader != Some(due.member.serial),
            -due.member.serial,
        )
    })
}

/// Why the cluster cannot lean on this voter while another is disrupted; `None`: it
/// serves, its pod gets clients, it has the log, and its data is not in doubt.
pub(super) fn unfit(roster: &Roster<'_>, member: &Member<'_>) -> Option<String> {
    let seen = member.etcd_seen().filter(|seen| seen.serving);
    let Some(seen) = seen else {
        return Some(member.trouble());
    };
    if !member.pod().is_some_and(|pod| pod.ready) {
        return Some("its pod is not ready".to_owned());
    }
    let newest = roster
        .members
        .iter()
        .filter_map(Member::etcd_seen)
        .map(|seen| seen.raft_index)
        .max()
        .unwrap_or(0);
    if newest.saturating_sub(seen.raft_applied) > LAG {
        return Some(format!("it is more than {LAG} log entries behind"));
    }
    let corrupt = |alarm: &&crate::observe::RaisedAlarm| {
        alarm.kind == "CORRUPT" && Some(alarm.member_id) == member.id
    };
    if seen.alarms.iter().any(|alarm| corrupt(&alarm)) {
        return Some("the alarm CORRUPT stands for it".to_owned());
    }
    None
}

/// The guard that keeps `member` from being disrupted: another voter is not fit.
pub(super) fn others_unfit(roster: &Roster<'_>, member: &Member<'_>, act: &str) -> Option<Plan> {
    roster
        .voters()
        .filter(|other| other.name != member.name)
        .find_map(|other| Some((other, unfit(roster, other)?)))
        .map(|(other, why)| {
            let name = &member.name;
            let ill = &other.name;
            guarded(
                "Unhealthy",
                format!("{name} is {act} once {ill} is well ({why})"),
            )
        })
}

/// The voter that is to be replaced, if the next one that is due cannot be restarted
/// where it is.
pub(super) fn outgoing(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    settings: &Settings,
    pod_spec: &str,
    windows: WindowState,
) -> Option<Outgoing> {
    if cluster.spec.replicas == 0 || !roster.quorum || unsafe_version(cluster, settings).is_some() {
        return None;
    }
    let Due { member, .. } = next(cluster, roster, settings, pod_spec, windows)?;
    if !member.is_serving() {
        return None; // it has nothing to lose by a restart
    }
    let target = render::image(cluster, settings);
    let outgoing = |why: String, proof: bool| Outgoing {
        member: member.name.clone(),
        why,
        proof,
    };
    if !roster.persistent {
        return Some(outgoing(
            format!("the disk of {} goes with its pod", member.name),
            false,
        ));
    }
    let runs = &member.pod()?.image;
    if runs.is_empty() || *runs == target {
        return None;
    }
    let data = member.status.and_then(|status| status.engine);
    let foreign = repository(runs) != repository(&target);
    match (data, engine_of(cluster, roster, &target)) {
        (Some(data), Some(image)) if image.reads(data) => None,
        (Some(data), Some(image)) => Some(outgoing(
            format!(
                "the data of {} is of {}, which {} cannot read",
                member.name,
                data.name(),
                image.name()
            ),
            false,
        )),
        (None, Some(_)) if foreign => Some(outgoing(
            format!(
                "whether {target} can read the data of {} is not known",
                member.name
            ),
            false,
        )),
        (_, None) if foreign || roster.voters().count() == 1 => Some(outgoing(
            format!("what {target} holds is not known yet"),
            true,
        )),
        (_, _) => None,
    }
}

/// A reference to an image without tag and digest.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// Which server an image holds, by the pods that run it or by what was learned before.
pub(super) fn engine_of(cluster: &EtcdCluster, roster: &Roster<'_>, image: &str) -> Option<Engine> {
    let reported = roster.members.iter().find_map(|member| {
        let pod = member.pod().filter(|pod| pod.image == image)?;
        pod.report.as_ref()?.engine
    });
    let known = cluster
        .status
        .as_ref()
        .and_then(|s| s.image_engine.as_ref());
    reported.or_else(|| {
        known
            .filter(|known| known.image == image)
            .map(|known| known.engine)
    })
}

/// Stalls when so many members hold data that the image cannot read that no quorum
/// runs: an image changed while the cluster slept.
pub(super) fn unreadable(roster: &Roster<'_>) -> Option<Plan> {
    if roster.quorum {
        return None;
    }
    let voters = roster.voters().count();
    let held: Vec<&Member<'_>> = roster.voters().filter(|m| m.holds_other_data()).collect();
    if held.is_empty() || voters - held.len() >= quorum(voters) {
        return None;
    }
    let names: Vec<&str> = held.iter().map(|member| member.name.as_str()).collect();
    Some(Plan::stalled(
        StalledReason::UnreadableData,
        format!(
            "{}: {}. Nothing is lost and nothing is changed: set the image back to one that reads the data, and change it again while the cluster runs.",
            names.join(", "),
            held[0].trouble()
        ),
    ))
}

/// Refuses version changes that etcd does not survive: down, or over a minor version.
/// The version wanted is the one of the spec, else what the image was found to hold,
/// else what its tag says.
pub(super) fn unsafe_version(cluster: &EtcdCluster, settings: &Settings) -> Option<Plan> {
    let status = cluster.status.as_ref()?;
    let runs = status.version.as_deref()?;
    let image = render::image(cluster, settings);
    let found = status.image_engine.as_ref().filter(|e| e.image == image);
    let found = found.map(|engine| (engine.version.clone(), format!("image {image} holds")));
    let spec = cluster.spec.version.clone();
    let spec = spec.map(|version| (version, "spec.version asks for".to_owned()));
    let tag = image
        .rsplit_once(':')
        .map(|(_, tag)| tag.trim_start_matches('v'))
        .filter(|tag| minor(tag).is_some())
        .map(|tag| (tag.to_owned(), format!("image {image} names")));
    // What was found is the truth, should they differ.
    let (wanted, who) = found.or(spec).or(tag)?;
    let (from, to) = (minor(runs)?, minor(&wanted)?);
    if to < from {
        return Some(guarded(
            "Downgrade",
            format!(
                "{who} etcd {wanted}, which is older than {runs}, which runs; etcd cannot go back by a restart. Set it to {runs} or later"
            ),
        ));
    }
    if to > from + 1 {
        return Some(guarded(
            "VersionSkip",
            format!(
                "{who} etcd {wanted}; from {runs} that skips a minor version. Go to 3.{} first",
                from + 1
            ),
        ));
    }
    None
}

fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("3.")?.split('.').next()?.parse().ok()
}

/// Stops an upgrade whose first member shows that the image is not of the version
/// that was asked for.
pub(super) fn wrong_version(
    cluster: &EtcdCluster,
    roster: &Roster<'_>,
    pod_spec: &str,
) -> Option<Plan> {
    let wanted = cluster.spec.version.as_deref()?;
    let (member, seen) = roster
        .voters()
        .filter(|member| !is_asked(member, pod_spec))
        .filter_map(|member| Some((member, member.etcd_seen()?)))
        .find(|(_, seen)| seen.version != wanted)?;
    Some(Plan::stalled(
        StalledReason::VersionMismatch,
        format!(
            "{} runs etcd {}, but spec.version asks for {wanted}; correct one of image and version",
            member.name, seen.version
        ),
    ))
}

impl Member<'_> {
    /// Whether its pod has found data that the image's server cannot read.
    pub fn holds_other_data(&self) -> bool {
        self.pod().is_some_and(|pod| {
            pod.report.as_ref().is_some_and(|report| {
                report.pod_uid == pod.uid && report.found == Found::OtherEngine
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_without_tag_and_digest() {
        for (image, name) in [
            ("etcd", "etcd"),
            ("etcd:v3.7.3", "etcd"),
            ("localhost:5000/etcd", "localhost:5000/etcd"),
            ("localhost:5000/etcd:v1", "localhost:5000/etcd"),
            ("localhost:5000/etcd:v1@sha256:00", "localhost:5000/etcd"),
            ("etcd@sha256:00", "etcd"),
        ] {
            assert_eq!(repository(image), name, "{image}");
        }
    }
}
