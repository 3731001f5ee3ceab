//! What the operator sees of the world, through caches that lag and members that
//! answer, and how its calls reach it.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use crate::{
    admission::{Found, LogFacts, Report},
    api::{EtcdCluster, EtcdClusterStatus},
    observe::{Observed, Source, Trim, assemble},
    plan::{Call, Kind, Plan, Reply, Step},
    turn::{StepError, Surroundings},
};

use super::{
    World,
    api::{Refusal, Snapshot},
    engine_of,
    faults::Fate,
    kubelet::{Start, image, start},
};

/// Snapshots that caches may still show.
const PAST: usize = 40;

/// What a cache keeps of objects.
fn trimmed<K: Clone + Trim>(items: &BTreeMap<String, Arc<K>>) -> BTreeMap<String, Arc<K>> {
    let items = items.iter().map(|(name, item)| {
        let mut item = K::clone(item);
        item.trim();
        (name.clone(), Arc::new(item))
    });
    items.collect()
}

/// Where each of the caches is: the number of a snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Caches {
    at: [usize; 10],
}

impl World {
    /// Remembers how things are now, for caches to show later.
    pub(super) fn remember(&mut self) {
        if self.seen_spec != self.cluster.spec {
            self.seen_spec = self.cluster.spec.clone();
            let meta = &mut self.cluster.metadata;
            meta.generation = meta.generation.map(|generation| generation + 1);
            meta.resource_version = self.api.ids.version();
        }
        let before = self.past.back().and_then(|last| last.cluster.clone());
        let same = before.filter(|before| **before == self.cluster);
        let cluster = same.unwrap_or_else(|| Arc::new(self.cluster.clone()));
        self.past.push_back(self.api.snapshot(Some(cluster)));
        if self.past.len() > PAST {
            self.past.pop_front();
            self.forgotten += 1;
        }
    }

    /// What the caches show: each may lag, none goes back in time.
    fn cached(&mut self, kind: usize) -> usize {
        let newest = self.forgotten + self.past.len() - 1;
        let lag = self.faults.lag();
        let at = newest.saturating_sub(lag).max(self.forgotten);
        self.caches.at[kind] = self.caches.at[kind].max(at);
        self.caches.at[kind] - self.forgotten
    }

    /// The cluster as the operator's cache has it.
    pub(super) fn cached_cluster(&mut self) -> EtcdCluster {
        self.remember();
        let at = self.cached(5);
        let cluster = self.past[at].cluster.clone().unwrap();
        EtcdCluster::clone(&cluster)
    }

    pub(super) fn cached_snapshot(&mut self) -> Snapshot {
        let [sets, pods, claims, services, budgets] = [0, 1, 2, 3, 4].map(|k| self.cached(k));
        let [clusters, jobs, backups, restores, schedules] =
            [5, 6, 7, 8, 9].map(|k| self.cached(k));
        Snapshot {
            cluster: self.past[clusters].cluster.clone(),
            sets: trimmed(&self.past[sets].sets),
            pods: trimmed(&self.past[pods].pods),
            claims: trimmed(&self.past[claims].claims),
            services: trimmed(&self.past[services].services),
            budgets: trimmed(&self.past[budgets].budgets),
            jobs: trimmed(&self.past[jobs].jobs),
            // A Job's pod is never newer than its Job here, as their watches are two.
            run_pods: trimmed(&self.past[jobs].run_pods),
            deployments: trimmed(&self.past[jobs].deployments),
            backups: self.past[backups].backups.clone(),
            schedules: self.past[schedules].schedules.clone(),
            restores: self.past[restores].restores.clone(),
        }
    }

    /// The world without faults, as a live read shows it.
    pub(in crate::plan) fn observe(&self) -> Observed {
        let seen = self.api.snapshot(None);
        self.ask(&self.cluster, seen, |_| false)
    }

    /// Joins objects and answers, as `observe` does.
    fn ask(
        &self,
        cluster: &EtcdCluster,
        seen: Snapshot,
        mut unheard: impl FnMut(&str) -> bool,
    ) -> Observed {
        fn list<K>(items: BTreeMap<String, Arc<K>>) -> Vec<Arc<K>> {
            items.into_values().collect()
        }
        let mut observed = assemble(
            cluster,
            &list(seen.sets),
            &list(seen.pods),
            &list(seen.claims),
            &list(seen.services),
            &list(seen.budgets),
        );
        observed.backups = list(seen.backups.clone());
        observed.schedules = list(seen.schedules);
        observed.restores = list(seen.restores);
        let begins = cluster
            .spec
            .bootstrap
            .as_ref()
            .and_then(|it| it.restore.as_ref());
        let named = begins.and_then(|begins| begins.from.backup_ref.as_ref());
        observed.begins_with = named.and_then(|named| seen.backups.get(&named.name).cloned());
        observed.out_of_service.clone_from(&self.out_of_service);
        let mut heard = false;
        for (name, objects) in &mut observed.members {
            let Some(pod) = objects.pod.as_mut().filter(|pod| !pod.deleting) else {
                continue;
            };
            let Some(ip) = pod.ip.clone() else { continue };
            if unheard(name) || self.unheard.contains(name) {
                continue;
            }
            // Whoever has the address now answers.
            let Some((_, live)) = self.api.pods.items.iter().find(|(_, live)| {
                let status = live.status.as_ref();
                status.and_then(|status| status.pod_ip.as_ref()) == Some(&ip)
            }) else {
                continue;
            };
            let uid = live.metadata.uid.clone().unwrap();
            let node = self.node_of(live).is_some_and(|node| node.up && !node.cut);
            if !node || self.bad_pods.contains(&uid) {
                continue;
            }
            let Some(process) = self.processes.get(&uid) else {
                continue;
            };
            match self.log_of(live) {
                Some(log) if process.up => {
                    heard |= self.etcd.is_voter(log.member);
                    pod.etcd = Some(self.etcd_says(log));
                }
                Some(log) if matches!(start(live), Some(Start::Held(_))) => {
                    pod.report = Some(Report {
                        start: pod.start.clone(),
                        log: Some(LogFacts {
                            cluster_id: crate::identity::hex(log.cluster),
                            member_id: crate::identity::hex(log.member),
                            term: log.term,
                            last_term: log.term,
                            last_index: log.revision,
                            commit: log.revision,
                        }),
                        ..Report::new(uid, Found::Held)
                    });
                }
                Some(log) if !engine_of(&image(live)).reads(log.engine) => {
                    pod.report = Some(Report {
                        engine: Some(engine_of(&image(live))),
                        data: Some(log.engine),
                        ..Report::new(uid, Found::OtherEngine)
                    });
                }
                Some(_) => {} // it crashes
                None => {
                    let version = (!process.used).then(|| "3.7.3".to_owned());
                    let found = if process.used {
                        Found::Spent
                    } else {
                        Found::Empty
                    };
                    pod.report = Some(Report {
                        version: version.filter(|_| pod.start.is_none()),
                        engine: Some(engine_of(&image(live))).filter(|_| pod.start.is_none()),
                        start: pod.start.clone(),
                        failure: process.failure.clone(),
                        ..Report::new(uid, found)
                    });
                }
            }
        }
        observed.membership = self.member_list().filter(|_| heard);
        observed.certificates = Arc::new(self.certificates(cluster, &observed));
        self.shown(&mut observed);
        observed
    }

    /// Carries out a call, by the rules of whoever is called.
    fn carry_out(&mut self, cluster: &mut EtcdCluster, call: &Call) -> Result<Reply, Refusal> {
        self.guard(call);
        match call {
            Call::Apply(_) if self.terminating => return Err(Refusal::Terminating),
            Call::Record(record) => {
                let mut status = cluster.status.clone().unwrap_or_default();
                record.write(&mut status);
                self.write(cluster, status)?;
            }
            Call::Apply(manifest) if manifest.kind == Kind::Certificate => {
                self.request(manifest);
            }
            Call::Apply(manifest) => self.api.apply(manifest)?,
            Call::Patch {
                kind, name, patch, ..
            } => {
                self.judge_growth(patch)?;
                self.api.patch(*kind, name, patch)?;
                self.ticketed(patch);
            }
            Call::Delete {
                kind: Kind::Secret,
                name,
                ..
            } => self.forget_secret(name),
            Call::Delete {
                kind,
                name,
                uid,
                resource_version,
            } => {
                let version = resource_version.as_deref();
                self.api.delete(*kind, name, uid, version)?;
            }
            Call::Certificates(call) => self.certify(cluster, call)?,
            Call::Etcd(call) => return self.ask_etcd(call),
        }
        Ok(Reply::Done)
    }

    fn write(
        &mut self,
        cluster: &mut EtcdCluster,
        status: EtcdClusterStatus,
    ) -> Result<(), Refusal> {
        let (read, live) = (&cluster.metadata, &self.cluster.metadata);
        if read.uid != live.uid || read.resource_version != live.resource_version {
            return Err(Refusal::Conflict("the EtcdCluster has changed".to_owned()));
        }
        self.guard_status(&status);
        self.cluster.status = Some(status);
        self.cluster.metadata.resource_version = self.api.ids.version();
        *cluster = self.cluster.clone();
        Ok(())
    }

    /// Lets `act` meet its fate.
    pub(super) fn attempt<T>(
        &mut self,
        act: impl FnOnce(&mut World) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let fate = self.faults.fate()?;
        self.calls += 1;
        match fate {
            Fate::Refused => return Err(Refusal::NoAnswer),
            Fate::Overtaken => {
                // A user edits the cluster; kubelets write the pods' status.
                self.cluster.metadata.resource_version = self.api.ids.version();
                for name in self.api.pods.items.keys().cloned().collect::<Vec<_>>() {
                    let version = self.api.ids.version();
                    let touch = |pod: &mut k8s_openapi::api::core::v1::Pod| {
                        pod.metadata.resource_version = version;
                    };
                    self.api.pods.change(&mut self.api.ids, &name, touch);
                }
            }
            Fate::Late => self.settle(),
            Fate::Done | Fate::Unanswered => {}
        }
        let result = act(self);
        self.remember();
        match fate {
            Fate::Unanswered => Err(Refusal::NoAnswer),
            _ => result,
        }
    }
}

/// The operator's senses and hands.
pub(super) struct Operator<'a>(pub(super) &'a mut World);

impl Surroundings for Operator<'_> {
    type Error = Refusal;

    fn now(&self) -> Timestamp {
        self.0.now
    }

    async fn cluster(&mut self) -> Result<Option<EtcdCluster>, Refusal> {
        self.0.remember();
        Ok(Some(self.0.cluster.clone()))
    }

    async fn observe(
        &mut self,
        cluster: &EtcdCluster,
        source: Source,
    ) -> Result<Observed, Refusal> {
        let world = &mut *self.0;
        let seen = match source {
            Source::Cache => world.cached_snapshot(),
            Source::Live => world.api.snapshot(None),
        };
        let mut faults = world.faults.clone();
        let observed = world.ask(cluster, seen, |_| faults.unheard());
        world.faults = faults;
        Ok(observed)
    }

    async fn write_status(
        &mut self,
        cluster: &mut EtcdCluster,
        status: EtcdClusterStatus,
    ) -> Result<(), Refusal> {
        if cluster.status.as_ref() == Some(&status) {
            return Ok(());
        }
        self.0.attempt(|world| world.write(cluster, status))
    }

    async fn call(
        &mut self,
        cluster: &mut EtcdCluster,
        _: &Observed,
        call: &Call,
    ) -> Result<Reply, Refusal> {
        self.0.attempt(|world| world.carry_out(cluster, call))
    }

    async fn announce(&mut self, _: &EtcdCluster, after: &EtcdClusterStatus) {
        if let Some(plan) = &after.plan {
            self.0.steps.push(format!("{}: {}", plan.step, plan.reason));
        }
    }

    async fn stepped(
        &mut self,
        _: &EtcdCluster,
        plan: &Plan,
        result: &Result<(), StepError<Refusal>>,
    ) {
        self.0.last_step = plan.step.clone();
        if let Err(error) = result {
            self.0.steps.push(format!("  failed: {error}"));
        }
    }
}

impl World {
    /// One turn of the operator. With `cut`, it dies before that call of it.
    pub(in crate::plan) fn turn(&mut self, cut: Option<usize>) -> Step {
        if let Some(cut) = cut {
            self.faults.stop = Some(super::Stop::Before(cut));
        }
        self.last_step = Step::None;
        let cached = self.cached_cluster();
        let settings = self.settings.clone();
        let mut operator = Operator(self);
        let turn = crate::turn::turn(&mut operator, &cached, &settings);
        if let Err(error) = futures::executor::block_on(turn) {
            self.steps.push(format!("  the turn failed: {error}"));
        }
        self.turn_keepers();
        if cut.is_some() {
            self.faults.stop = None;
        }
        if self.faults.dead {
            self.restart();
        }
        self.last_step.clone()
    }

    /// The operator starts again: its caches are filled anew, its memory is empty.
    fn restart(&mut self) {
        self.steps.push("  the operator starts again".to_owned());
        self.faults.dead = false;
        self.caches = Caches::default();
    }
}
