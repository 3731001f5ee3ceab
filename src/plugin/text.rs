//! What is printed: pure.

use crate::api::MemberRole;

use super::{
    restores::RestoreView,
    view::{MemberView, View},
};

/// One line for every cluster.
pub(super) fn list(views: &[View], namespaces: bool, wide: bool) -> String {
    if views.is_empty() {
        return "no EtcdClusters here\n".to_owned();
    }
    let mut head = vec!["NAME", "READY", "PHASE", "LEADER", "VERSION", "AGE", "STEP"];
    if namespaces {
        head.insert(0, "NAMESPACE");
    }
    if wide {
        head.extend(["BACKED UP", "CLUSTER ID", "IMAGE"]);
    }
    let rows = views.iter().map(|view| {
        let mut row = vec![
            view.name.clone(),
            format!("{}/{}", view.ready, view.desired),
            view.phase.clone(),
            or_dash(view.leader.as_deref()),
            or_dash(view.version.as_deref()),
            span(view.age_seconds),
            or_dash(Some(view.plan.step.as_str()).filter(|step| *step != "None")),
        ];
        if namespaces {
            row.insert(0, view.namespace.clone());
        }
        if wide {
            let backed_up = view.condition("BackedUp");
            row.push(or_dash(
                backed_up.map(|condition| condition.reason.as_str()),
            ));
            row.push(or_dash(view.cluster_id.as_deref()));
            row.push(or_dash(view.image.as_deref()));
        }
        row
    });
    table(&head, rows, "")
}

/// Everything of one cluster.
pub(super) fn status(view: &View, wide: bool) -> String {
    let mut text = format!(
        "{} in {}: {}, {} of {} members ready",
        view.name, view.namespace, view.phase, view.ready, view.desired
    );
    if let Some(version) = &view.version {
        text.push_str(&format!(", etcd {version}"));
    }
    if let Some(leader) = &view.leader {
        text.push_str(&format!(", led by {leader}"));
    }
    text.push_str(&format!("\nAge {}", span(view.age_seconds)));
    if let Some(id) = &view.cluster_id {
        text.push_str(&format!(", cluster ID {id}"));
    }
    if let Some(image) = &view.image {
        text.push_str(&format!(", image {image}"));
    }
    text.push_str(&format!("\nTLS {}", view.tls));
    text.push_str("\n\nMembers\n");
    text.push_str(&indented_members(view, wide));
    if !view.restores.is_empty() {
        text.push_str("\nRestores\n");
    }
    for restore in &view.restores {
        text.push_str(&format!("  {}\n", restoring(restore)));
    }
    text.push_str("\nPlan\n");
    for line in plan(view).lines() {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str("\nConditions\n");
    text.push_str(&conditions(view));
    text.push_str("\nWhat to do\n");
    if view.advice.is_empty() {
        text.push_str("  nothing\n");
    }
    for sentence in &view.advice {
        text.push_str(&format!("  - {sentence}\n"));
    }
    text
}

/// A restore that is not over.
fn restoring(restore: &RestoreView) -> String {
    let mut text = match &restore.name {
        Some(name) => format!("{name}: "),
        None => String::new(),
    };
    text.push_str(&format!(
        "{} for {}",
        restore.stage,
        span(restore.since_seconds)
    ));
    text.push_str(&format!(", from {}", restore.source));
    if let Some(replaces) = &restore.replaces {
        text.push_str(&format!("; replaces the cluster ID {replaces}"));
    }
    if let Some(lost) = restore.lost_revisions {
        text.push_str(&format!("; {lost} revisions are lost by it"));
    }
    if let Some(member) = &restore.member {
        text.push_str(&format!("; begins with {member}"));
    }
    if !restore.message.is_empty() {
        text.push_str(&format!(" ({})", restore.message));
    }
    text
}

/// The members alone.
pub(super) fn members(view: &View, wide: bool) -> String {
    member_table(view, wide, "")
}

/// The next step, and what is held back.
pub(super) fn plan(view: &View) -> String {
    let plan = &view.plan;
    let mut text = match (plan.step.as_str(), plan.reason.as_str()) {
        ("" | "None", "") => "nothing to do\n".to_owned(),
        ("" | "None", reason) => format!("no step now: {reason}\n"),
        (step, reason) => format!("next step {step}: {reason}\n"),
    };
    for held in &plan.blocked_by {
        text.push_str(&format!("held back by {}: {}\n", held.guard, held.message));
    }
    text
}

fn indented_members(view: &View, wide: bool) -> String {
    if view.members.is_empty() {
        return "  none yet\n".to_owned();
    }
    member_table(view, wide, "  ")
}

fn member_table(view: &View, wide: bool, indent: &str) -> String {
    let mut head = vec![
        "NAME", "ROLE", "HEALTHY", "VERSION", "TERM", "INDEX", "DB SIZE", "IN USE",
    ];
    if wide {
        head.extend(["APPLIED", "ID", "POD"]);
    }
    head.push("ALARMS");
    let rows = view.members.iter().map(|member| {
        let asked = member.asked.as_ref();
        let number = |number: Option<u64>| or_dash(number.map(|n| n.to_string()).as_deref());
        let size = |bytes: Option<i64>| or_dash(bytes.map(bytes_text).as_deref());
        let mut row = vec![
            member.name.clone(),
            role(member),
            if member.healthy { "yes" } else { "no" }.to_owned(),
            or_dash(member.version.as_deref()),
            number(asked.map(|asked| asked.raft_term)),
            number(asked.map(|asked| asked.raft_index)),
            size(asked.map(|asked| asked.db_size_bytes)),
            size(asked.map(|asked| asked.db_size_in_use_bytes)),
        ];
        if wide {
            row.push(number(asked.map(|asked| asked.raft_applied)));
            row.push(or_dash(member.id.as_deref()));
            row.push(crate::identity::pod_name(&member.name));
        }
        row.push(asked.map_or("-".to_owned(), |asked| {
            if asked.errors.is_empty() {
                "none".to_owned()
            } else {
                asked.errors.join("; ")
            }
        }));
        row
    });
    let mut text = table(&head, rows, indent);
    for member in &view.members {
        for message in &member.messages {
            text.push_str(&format!("{indent}{}: {message}\n", member.name));
        }
    }
    if let Some(note) = &view.note {
        text.push_str(&format!("{indent}({note})\n"));
    }
    text
}

fn role(member: &MemberView) -> String {
    match member.role {
        MemberRole::Voter if member.leads => "Leader".to_owned(),
        role => format!("{role:?}"),
    }
}

fn conditions(view: &View) -> String {
    if view.conditions.is_empty() {
        return "  none yet\n".to_owned();
    }
    let head = ["TYPE", "STATUS", "SINCE", "REASON", "MESSAGE"];
    let rows = view.conditions.iter().map(|condition| {
        vec![
            condition.type_.clone(),
            condition.status.clone(),
            span(condition.since_seconds),
            condition.reason.clone(),
            condition.message.clone(),
        ]
    });
    table(&head, rows, "  ")
}

pub(super) fn or_dash(text: Option<&str>) -> String {
    match text {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ => "-".to_owned(),
    }
}

/// Rows under their headings; the last column is as long as it likes.
pub(super) fn table(
    head: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
    indent: &str,
) -> String {
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let widths: Vec<usize> = (0..lines[0].len())
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(format!("{indent}{}", cells.join("  ")).trim_end());
        text.push('\n');
    }
    text
}

/// A span of time as kubectl prints ages: two units at most.
pub(super) fn span(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 if seconds % 60 != 0 => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

/// Bytes in the unit that suits them.
pub(super) fn bytes_text(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes.max(0) as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{size:.1} {}", UNITS[unit])
    }
}
