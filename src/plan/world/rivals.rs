//! Two operators that both take themselves for the leader: each has its own caches, and
//! one goes on while the other is in the middle of a turn. Between any two looks or calls
//! of one the other may have done as much as a seed lets it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::{FutureExt, task::noop_waker};
use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    Seed, World, api::Refusal, keepers::Keeper, keepers::Kept, view::Caches, view::Operator,
};
use crate::{
    api::{EtcdBackup, EtcdBackupSchedule, EtcdCluster, EtcdClusterStatus, EtcdRestore},
    jobs,
    observe::{Observed, Source},
    plan::{Call, Plan, Reply},
    turn::{StepError, Surroundings},
};

/// How many looks and calls one may make while the other stands still.
const STRETCH: usize = 40;
/// Looks and calls in which about a second passes.
const SECOND: usize = 8;

type Round = Pin<Box<dyn Future<Output = ()>>>;

/// The world, and two operators in it.
pub(in crate::plan) struct Rivals {
    world: Arc<Mutex<World>>,
    seed: Seed,
    hands: [Hand; 2],
    rounds: [Option<Round>; 2],
    /// Who goes on, and for how many looks and calls more.
    turn: (usize, usize),
    /// Calls there were when either last began a round.
    calls: usize,
}

impl Rivals {
    pub(in crate::plan) fn new(mut world: World, seed: u64) -> Rivals {
        world.rivals = true;
        let world = Arc::new(Mutex::new(world));
        let hands = ["first", "second"].map(|name| Hand {
            world: Arc::clone(&world),
            caches: Arc::default(),
            name,
        });
        Rivals {
            world,
            seed: Seed(seed),
            hands,
            rounds: [None, None],
            turn: (0, 0),
            calls: 0,
        }
    }

    /// Does something with the world, between two moments.
    pub(in crate::plan) fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.world.lock().unwrap())
    }

    /// One of them goes on to its next look or call.
    pub(in crate::plan) fn moment(&mut self) {
        if self.turn.1 == 0 {
            self.turn = (self.seed.below(2), self.seed.below(STRETCH));
        } else {
            self.turn.1 -= 1;
        }
        self.poll(self.turn.0);
        if self.seed.below(SECOND) == 0 {
            self.with(World::settle);
        }
    }

    /// One of them goes on until something is so; the other stands still.
    pub(in crate::plan) fn go_on(&mut self, who: usize, until: impl Fn(&World) -> bool) {
        for _ in 0..2_000 {
            if until(&self.world.lock().unwrap()) {
                return;
            }
            self.poll(who);
        }
        self.with(|world| panic!("that does not happen{}", world.trace()));
    }

    /// One of them ends the round it is in.
    pub(in crate::plan) fn finish(&mut self, who: usize) {
        while self.rounds[who].is_some() {
            self.poll(who);
        }
    }

    /// Both end the rounds they are in, one after the other.
    pub(in crate::plan) fn rest(&mut self) {
        self.finish(0);
        self.finish(1);
    }

    fn poll(&mut self, who: usize) {
        let hand = &self.hands[who];
        let round = self.rounds[who].get_or_insert_with(|| {
            let calls = hand.world.lock().unwrap().calls;
            if std::mem::replace(&mut self.calls, calls) == calls {
                // Nothing is done: time is what is waited for.
                hand.world.lock().unwrap().settle();
            }
            Box::pin(round(hand.clone()))
        });
        let over = match round.as_mut().poll(&mut Context::from_waker(&noop_waker())) {
            Poll::Ready(()) => true,
            Poll::Pending => false,
        };
        let mut world = self.world.lock().unwrap();
        let died = std::mem::take(&mut world.faults.dead);
        if died {
            world.steps.push(format!("  {} starts again", hand.name));
            *hand.caches.lock().unwrap() = Caches::default();
        }
        drop(world);
        if over || died {
            self.rounds[who] = None;
        }
    }
}

/// A turn for everything, as one operator takes it.
async fn round(mut hand: Hand) {
    let (cached, settings) = hand.at(|world| (world.cached_cluster(), world.settings.clone()));
    if let Err(error) = crate::turn::turn(&mut hand, &cached, &settings).await {
        hand.at(|world| world.steps.push(format!("  the turn failed: {error}")));
    }
    hand.keep::<EtcdBackupSchedule>().await;
    hand.keep::<EtcdBackup>().await;
    hand.keep::<EtcdRestore>().await;
}

/// The senses and hands of one of them.
#[derive(Clone)]
struct Hand {
    world: Arc<Mutex<World>>,
    caches: Arc<Mutex<Caches>>,
    name: &'static str,
}

impl Hand {
    /// Looks at the world, or does something in it, at once.
    fn at<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world.lock().unwrap();
        let mut caches = self.caches.lock().unwrap();
        let told = world.steps.len();
        std::mem::swap(&mut world.caches, &mut caches);
        let result = act(&mut world);
        std::mem::swap(&mut world.caches, &mut caches);
        for step in &mut world.steps[told..] {
            *step = format!("  [{}] {step}", self.name);
        }
        result
    }

    async fn keep<K: Kept>(&mut self) {
        let cached = self.at(World::cached_snapshot);
        let items: Vec<Arc<K>> = K::items(&cached).values().cloned().collect();
        let settings = self.at(|world| world.settings.clone());
        for item in items {
            let mut keeper = HandOf {
                hand: self.clone(),
                of: item.name_any(),
            };
            let turn = jobs::turn::turn::<K, _>(&mut keeper, &item, &settings).await;
            if let Err(error) = turn {
                let step = format!("  the turn of {} failed: {error}", item.name_any());
                self.at(|world| world.steps.push(step));
            }
        }
    }
}

/// What the model does is done at once.
fn done<T>(act: impl Future<Output = T>) -> T {
    act.now_or_never().expect("the model answers at once")
}

impl Surroundings for Hand {
    type Error = Refusal;

    fn now(&self) -> Timestamp {
        self.at(|world| world.now)
    }

    async fn cluster(&mut self) -> Result<Option<EtcdCluster>, Refusal> {
        futures::pending!();
        self.at(|world| done(Operator(world).cluster()))
    }

    async fn observe(
        &mut self,
        cluster: &EtcdCluster,
        source: Source,
    ) -> Result<Observed, Refusal> {
        futures::pending!();
        self.at(|world| done(Operator(world).observe(cluster, source)))
    }

    async fn write_status(
        &mut self,
        cluster: &mut EtcdCluster,
        status: EtcdClusterStatus,
    ) -> Result<(), Refusal> {
        futures::pending!();
        self.at(|world| done(Operator(world).write_status(cluster, status)))
    }

    async fn call(
        &mut self,
        cluster: &mut EtcdCluster,
        observed: &Observed,
        call: &Call,
    ) -> Result<Reply, Refusal> {
        futures::pending!();
        self.at(|world| {
            world.steps.push(format!("    {}", call.what()));
            done(Operator(world).call(cluster, observed, call))
        })
    }

    async fn announce(&mut self, cluster: &EtcdCluster, after: &EtcdClusterStatus) {
        self.at(|world| done(Operator(world).announce(cluster, after)));
    }

    async fn stepped(
        &mut self,
        cluster: &EtcdCluster,
        plan: &Plan,
        result: &Result<(), StepError<Refusal>>,
    ) {
        self.at(|world| done(Operator(world).stepped(cluster, plan, result)));
    }
}

/// The same, for one object that Jobs carry out.
struct HandOf {
    hand: Hand,
    of: String,
}

impl HandOf {
    fn at<T>(&self, act: impl FnOnce(Keeper<'_>) -> T) -> T {
        let name = self.of.clone();
        self.hand.at(|world| act(Keeper { world, name }))
    }
}

impl<K: Kept> jobs::turn::Surroundings<K> for HandOf {
    type Error = Refusal;

    fn now(&self) -> Timestamp {
        self.hand.at(|world| world.now)
    }

    async fn object(&mut self) -> Result<Option<K>, Refusal> {
        futures::pending!();
        self.at(|mut keeper| done(jobs::turn::Surroundings::<K>::object(&mut keeper)))
    }

    async fn observe(&mut self, object: &K, source: Source) -> Result<K::Observed, Refusal> {
        futures::pending!();
        self.at(|mut keeper| done(keeper.observe(object, source)))
    }

    async fn write_status(&mut self, object: &mut K, status: K::Status) -> Result<(), Refusal> {
        futures::pending!();
        self.at(|mut keeper| done(keeper.write_status(object, status)))
    }

    async fn call(&mut self, object: &K, call: &Call) -> Result<(), Refusal> {
        futures::pending!();
        self.at(|mut keeper| {
            keeper.world.steps.push(format!("    {}", call.what()));
            done(jobs::turn::Surroundings::<K>::call(
                &mut keeper,
                object,
                call,
            ))
        })
    }

    async fn announce(&mut self, _: &K, _: &K::Status) {}

    async fn stepped(&mut self, object: &K, why: &str, result: Result<(), &str>) {
        self.at(|mut keeper| done(keeper.stepped(object, why, result)));
    }
}
