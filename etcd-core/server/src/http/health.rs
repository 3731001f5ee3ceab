//! What /health, /livez and /readyz want to know of a member, and what they
//! make of it.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, Uri};
use axum::response::Response;

use super::answer::{content, error, method_not_allowed, query};
use crate::metrics::Metrics;

/// A member, as health checks see it. The server's node implements it; tests
/// have one of their own.
pub trait MemberHealth: Send + Sync + 'static {
    /// Reads one key, locally (`serializable`) or with the consent of the
    /// cluster. The error is what clients would get.
    fn read(&self, serializable: bool) -> impl Future<Output = Result<(), String>> + Send;
    /// Alarms that are raised, by any member: `NOSPACE`, `CORRUPT` or another name.
    fn alarms(&self) -> Vec<String>;
    /// Whether a leader is known.
    fn has_leader(&self) -> bool;
    /// Whether this member has no vote.
    fn is_learner(&self) -> bool;
    /// The cluster's version, once decided: `3.7.0`.
    fn cluster_version(&self) -> Option<String>;
    /// The store's version, if known: `3.7.0`.
    fn storage_version(&self) -> Option<String>;
}

/// What the handlers share.
pub(super) struct HealthState<H> {
    pub(super) member: Arc<H>,
    pub(super) metrics: Arc<Metrics>,
    /// After this a read counts as failed.
    pub(super) timeout: Duration,
}

impl<H> Clone for HealthState<H> {
    fn clone(&self) -> HealthState<H> {
        HealthState {
            member: self.member.clone(),
            metrics: self.metrics.clone(),
            timeout: self.timeout,
        }
    }
}

impl<H: MemberHealth> HealthState<H> {
    async fn read(&self, serializable: bool) -> Result<(), String> {
        match tokio::time::timeout(self.timeout, self.member.read(serializable)).await {
            Ok(result) => result,
            Err(_) => Err("etcdserver: request timed out".to_owned()),
        }
    }

    /// `/health`: alarms, then leader, then a read.
    pub(super) async fn health(self, method: Method, uri: Uri) -> Response {
        if method != Method::GET {
            tracing::warn!("status-code" = 405, "/health error");
            return method_not_allowed();
        }
        let query = query(&uri);
        let excluded: BTreeSet<&str> = query.values("exclude").collect();
        let serializable = query.values("serializable").next() == Some("true");
        let reason = self.unhealthy(&excluded, serializable).await;
        let reason = reason.unwrap_or_default();
        if reason.is_empty() {
            self.metrics.server.health_success.inc();
            return content(
                "text/plain; charset=utf-8",
                r#"{"health":"true","reason":""}"#,
            );
        }
        self.metrics.server.health_failures.inc();
        let body = serde_json::json!({"health": "false", "reason": reason}).to_string();
        tracing::warn!(output = %body, "status-code" = 503, "/health error");
        error(503, &body)
    }

    async fn unhealthy(&self, excluded: &BTreeSet<&str>, serializable: bool) -> Option<String> {
        let alarms = self.member.alarms();
        if let Some(alarm) = alarms
            .iter()
            .find(|alarm| !excluded.contains(alarm.as_str()))
        {
            tracing::warn!(%alarm, "serving /health false due to an alarm");
            return Some(match alarm.as_str() {
                "NOSPACE" => "ALARM NOSPACE".to_owned(),
                "CORRUPT" => "ALARM CORRUPT".to_owned(),
                _ => "ALARM UNKNOWN".to_owned(),
            });
        }
        if !serializable && !self.member.has_leader() {
            tracing::warn!("serving /health false; no leader");
            return Some("RAFT NO LEADER".to_owned());
        }
        match self.read(serializable).await {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!(%error, "serving /health false; Range fails");
                Some(format!("RANGE ERROR:{error}"))
            }
        }
    }

    async fn check(&self, check: Check) -> Result<(), String> {
        match check {
            Check::DataCorruption => {
                let corrupt = self.member.alarms().iter().any(|alarm| alarm == "CORRUPT");
                match corrupt {
                    true => Err("alarm activated: CORRUPT".to_owned()),
                    false => Ok(()),
                }
            }
            Check::SerializableRead => self.read(true).await,
            Check::LinearizableRead => self.read(false).await,
            Check::NonLearner => match self.member.is_learner() {
                true => Err("not supported for learner".to_owned()),
                false => Ok(()),
            },
        }
    }

    /// `/livez`, `/readyz` and their single checks.
    pub(super) async fn checks(
        self,
        probe: Probe,
        only: Option<Check>,
        method: Method,
        uri: Uri,
    ) -> Response {
        let path = uri.path();
        if method != Method::GET {
            tracing::warn!(path, "status-code" = 405, "Health request error");
            return method_not_allowed();
        }
        let query = query(&uri);
        let mut excluded: BTreeSet<&str> = match only {
            None => query
                .values("exclude")
                .filter(|name| !name.is_empty())
                .collect(),
            Some(_) => BTreeSet::new(),
        };
        let mut report = String::new();
        let mut good = true;
        for check in probe.checks().iter().copied() {
            let skipped = excluded.remove(check.name());
            if skipped || only.is_some_and(|only| only != check) {
                continue;
            }
            let outcome = self.check(check).await;
            let status = match &outcome {
                Ok(()) => {
                    report.push_str(&format!("[+]{} ok\n", check.name()));
                    "success"
                }
                Err(reason) => {
                    report.push_str(&format!("[-]{} failed: {reason}\n", check.name()));
                    good = false;
                    "error"
                }
            };
            let server = &self.metrics.server;
            server
                .healthcheck
                .with(&[check.name(), probe.name()])
                .set_bool(outcome.is_ok());
            server
                .healthchecks
                .with(&[check.name(), status, probe.name()])
                .inc();
        }
        if !excluded.is_empty() {
            tracing::warn!("missing-health-checks" = ?excluded, "some health checks cannot be excluded");
        }
        if !good {
            // Not an error of this member's: the cluster may be without a leader.
            tracing::warn!(path, reason = %report, "status-code" = 503, "Health check error");
            return error(503, &report);
        }
        let detail = if query.has("verbose") {
            report.as_str()
        } else {
            ""
        };
        let mut response = content("text/plain; charset=utf-8", format!("{detail}ok\n"));
        super::answer::nosniff(&mut response);
        response
    }
}

/// One thing to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    pub(super) fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }
}

/// A set of checks under one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// Whether a restart would help.
    Live,
    /// Whether requests should come here.
    Ready,
}

impl Probe {
    pub(super) fn name(self) -> &'static str {
        match self {
            Probe::Live => "livez",
            Probe::Ready => "readyz",
        }
    }

    pub(super) fn checks(self) -> &'static [Check] {
        match self {
            Probe::Live => &[Check::SerializableRead],
            Probe::Ready => &[
                Check::DataCorruption,
                Check::SerializableRead,
                Check::LinearizableRead,
                Check::NonLearner,
            ],
        }
    }
}
