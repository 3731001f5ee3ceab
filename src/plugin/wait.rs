//! Waiting for an object to be over, telling what it is at.

use std::time::Duration;

use clap::{ArgAction, Args};
use jiff::SignedDuration;
use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use kube::Resource;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use crate::api::ProgressStatus;

use super::{PluginError, target::Target};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// The longest a name may be, and what the API server adds to a base.
const NAME: usize = 50;
const ADDED: usize = 6;

/// Whether to wait, and for how long.
#[derive(Clone, Debug, Args)]
pub(super) struct Waiting {
    /// Wait until it is over. With --wait=false it is only asked for.
    #[arg(long, action = ArgAction::Set, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) wait: bool,
    /// Wait no longer than this, such as 10m; it goes on by itself.
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(super) timeout: Option<Duration>,
}

impl Default for Waiting {
    fn default() -> Self {
        Waiting {
            wait: true,
            timeout: None,
        }
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let wrong = || "it is a time such as 90s, 10m or 1h30m, longer than 0".to_owned();
    let read: SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(read)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(wrong)
}

/// Gives an object its name, or lets the API server end one that begins as `base`.
pub(super) fn name(meta: &mut ObjectMeta, name: Option<&str>, base: &str) {
    meta.name = name.map(str::to_owned);
    meta.generate_name = match name {
        Some(_) => None,
        None => {
            let short: String = base.chars().take(NAME - ADDED).collect();
            Some(format!("{}-", short.trim_end_matches('-')))
        }
    };
}

/// Looks at the object `name` until it is over, and tells on standard error what it is
/// at. `look` is the command that shows it.
pub(super) async fn until<K>(
    target: &Target,
    name: &str,
    look: &str,
    waiting: &Waiting,
    told: impl Fn(&K) -> String,
    is_over: impl Fn(&K) -> bool,
) -> Result<K, PluginError>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let end = waiting.timeout.map(|timeout| Instant::now() + timeout);
    let mut before = String::new();
    loop {
        let object: K = target.read(name).await?;
        let now = told(&object);
        if is_over(&object) {
            return Ok(object);
        }
        if now != before {
            eprintln!("{name}: {now}");
            before = now;
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return Err(PluginError::Late {
                name: name.to_owned(),
                at: before,
                look: look.to_owned(),
            });
        }
        sleep(LOOK).await;
    }
}

/// A phase, how far the run is, and what it waits for.
pub(super) fn words(
    phase: Option<String>,
    progress: Option<&ProgressStatus>,
    conditions: &[Condition],
) -> String {
    let mut text = phase.unwrap_or_else(|| "Pending".to_owned());
    if let Some(progress) = progress {
        text.push_str(&format!(", {}", progress.stage));
        if let Some(percent) = progress.percent {
            text.push_str(&format!(" {percent} %"));
        }
    }
    let says = ["Stalled", "Reconciling"].into_iter().find_map(|type_| {
        let found = conditions.iter().find(|c| c.type_ == type_)?;
        (found.status == "True" && !found.message.is_empty()).then_some(&found.message)
    });
    // That it is at that stage was just said; what it waits out was not.
    let stage = progress.map(|progress| progress.stage.as_str());
    let says = says.filter(|says| !stage.is_some_and(|stage| says.ends_with(stage)));
    if let Some(message) = says {
        text.push_str(&format!(": {message}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_name_leaves_room_for_its_end() {
        let mut meta = ObjectMeta::default();
        name(&mut meta, None, "demo");
        assert_eq!(meta.generate_name.as_deref(), Some("demo-"));
        let base = format!("{}-b", "a".repeat(43));
        name(&mut meta, None, &base);
        assert_eq!(meta.generate_name.unwrap(), format!("{}-", "a".repeat(43)));
        let mut meta = ObjectMeta::default();
        name(&mut meta, Some("mine"), "demo");
        assert_eq!(
            (meta.name.as_deref(), meta.generate_name),
            (Some("mine"), None)
        );
    }

    #[test]
    fn a_time_to_wait_is_read_as_people_write_it() {
        assert_eq!(timeout("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(timeout("1h30m").unwrap(), Duration::from_secs(5400));
        for wrong in ["0s", "-1m", "soon", "5"] {
            assert!(timeout(wrong).unwrap_err().contains("10m"), "{wrong}");
        }
    }
}
