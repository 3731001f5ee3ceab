//! What a human should do: pure, from what is shown.

use crate::certificates::TlsReason;

use super::view::View;

/// Sentences, the most urgent first; none if there is nothing to do.
pub(super) fn advice(view: &View) -> Vec<String> {
    let name = &view.name;
    let mut all = Vec::new();
    if view.observed_generation < 0 {
        all.push(format!(
            "The operator has not looked at {name} yet. If this stays, it does not run or does not serve the namespace {}.",
            view.namespace
        ));
        return all;
    }
    if view.observed_generation < view.generation {
        all.push(format!(
            "The operator has not seen the last edit yet (generation {}, it has seen {}). If this stays, look whether it runs.",
            view.generation, view.observed_generation
        ));
    }
    if let Some(stalled) = view.condition("Stalled").filter(|c| c.status == "True") {
        let way = match stalled.reason.as_str() {
            "QuorumLost" => &format!(
                "Bring lost nodes or volumes back if that can be; what survives is kept and nothing is deleted meanwhile. If it cannot: `kubectl etcd restore {name} --survivor` goes on with what is left, `kubectl etcd restore {name} --from` one of `kubectl etcd backups {name}` goes back to that; both first say what is lost."
            ),
            "VolumesFound" => {
                "Retire or delete the claims that do not belong to this cluster, or give the cluster another name."
            }
            "BootstrapFailed" => {
                "Nothing was ever written: delete the EtcdCluster and its claims, mend what the members say, and create it again."
            }
            "ForeignCluster" => "Take the foreign volume away from that member's claim.",
            "VersionMismatch" => "Correct spec.version or spec.image so that they agree.",
            _ => "Only a human can decide here.",
        };
        all.push(format!("{} {way}", ended(&stalled.message)));
    }
    for (member, error) in view.members.iter().flat_map(|member| {
        let errors = member.asked.iter().flat_map(|asked| &asked.errors);
        errors.map(move |error| (member, error))
    }) {
        if error.contains("NOSPACE") {
            all.push(format!(
                "{}: the quota is used up, and {name} takes no writes: compact, defragment, and disarm the alarm (`kubectl etcd ctl {name} -- alarm list`), or raise spec.options.quotaBackendBytes.",
                member.name
            ));
        } else if error.contains("CORRUPT") {
            all.push(format!(
                "{}: its data differs from the others'. Do not clear the alarm before that member was replaced.",
                member.name
            ));
        }
    }
    if view.is("Paused") {
        all.push(format!(
            "{name} is paused: nothing is changed until `kubectl etcd resume {name}`."
        ));
    }
    for held in &view.plan.blocked_by {
        if held.guard != "Paused" {
            all.push(format!(
                "Held back by {}: {}",
                held.guard,
                ended(&held.message)
            ));
        }
    }
    let failed = view
        .condition("Reconciling")
        .filter(|condition| condition.status == "True" && condition.reason == "StepFailed");
    if let Some(failed) = failed {
        all.push(format!(
            "The last step failed, and is tried again: {}",
            ended(&failed.message)
        ));
    }
    if let Some(tls) = view.condition("TLSReady").filter(|c| c.status == "False")
        && tls.reason != TlsReason::Switching.as_str()
    {
        all.push(format!(
            "Certificates: {} Nothing is restarted for it, and it goes on once that is mended.",
            ended(&tls.message)
        ));
    }
    if view.is("UpdatePending") {
        all.push(format!(
            "Members still run as an older operator made them. The next restart takes the change along; `kubectl etcd restart {name}` takes it now."
        ));
    }
    // Without a schedule nobody has asked for backups.
    let no_schedule = crate::status::BackedUpReason::NoSchedule.as_str();
    let backups = view
        .condition("BackedUp")
        .filter(|condition| condition.status == "False" && condition.reason != no_schedule);
    if let Some(backups) = backups {
        all.push(format!(
            "Not backed up as its schedule wants it: {} `kubectl etcd backups {name}` shows why; `kubectl etcd backup {name}` takes one now.",
            ended(&backups.message)
        ));
    }
    all.dedup();
    all
}

/// With a full stop.
fn ended(text: &str) -> String {
    let text = text.trim_end();
    if text.ends_with(['.', '!', '?']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}
