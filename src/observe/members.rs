//! Asks every member's pod at once.

use futures::future::join_all;
use tracing::debug;

use crate::admission::Report;

use super::{EtcdSeen, Observed, Probe};

enum Answer {
    Admission(Report),
    Etcd(EtcdSeen),
    Nothing,
}

/// Fills in what the members say: reports of those that wait, facts of those that
/// run, and etcd's member list if a quorum answers.
pub(super) async fn ask(probe: &Probe, observed: &mut Observed) {
    let addresses: Vec<(String, String)> = observed
        .members
        .iter()
        .filter_map(|(name, objects)| {
            let pod = objects.pod.as_ref().filter(|pod| !pod.deleting)?;
            Some((name.clone(), pod.ip.clone()?))
        })
        .collect();
    let answers = join_all(addresses.iter().map(|(name, ip)| async move {
        match probe.report(ip).await {
            Ok(Some(report)) => Answer::Admission(report),
            // No admission there: etcd's own listener answered, or nothing did.
            Ok(None) => match probe.status(ip).await {
                Ok(seen) => Answer::Etcd(seen),
                Err(error) => {
                    debug!(member = name, %error, "etcd does not answer");
                    Answer::Nothing
                }
            },
            Err(error) => {
                debug!(member = name, %error, "the pod does not answer");
                Answer::Nothing
            }
        }
    }))
    .await;
    let mut serving = Vec::new();
    for ((name, ip), answer) in addresses.into_iter().zip(answers) {
        let Some(pod) = observed
            .members
            .get_mut(&name)
            .and_then(|objects| objects.pod.as_mut())
        else {
            continue;
        };
        match answer {
            Answer::Admission(report) => pod.report = Some(report),
            Answer::Etcd(seen) => {
                if !seen.learner && seen.leader != 0 {
                    serving.push((seen.leader != seen.member_id, ip));
                }
                pod.etcd = Some(seen);
            }
            Answer::Nothing => {}
        }
    }
    serving.sort(); // the leader first: it needs no forwarding
    for (_, ip) in serving {
        match probe.membership(&ip).await {
            Ok(membership) => {
                observed.membership = Some(membership);
                return;
            }
            Err(error) => debug!(ip, %error, "no member list"),
        }
    }
}
