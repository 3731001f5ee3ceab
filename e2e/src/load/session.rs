//! A client as programs have one: a connection to one member at a time, and one retry.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex as Cell;
use tokio::sync::Mutex;
use tonic::Status;

use crate::client::{Answer, Client};
use crate::load::Reach;

/// How long an attempt may take, connecting included.
const ATTEMPT: Duration = Duration::from_secs(5);
/// Pause before the one retry, and between two rounds of connecting.
const PAUSE: Duration = Duration::from_millis(100);
/// How often the member list is read by a client that follows it.
const FOLLOW: Duration = Duration::from_secs(1);
/// So many failures are kept in words.
const TOLD: usize = 8;

/// What went wrong on the way to an answer.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    /// Requests that failed at first.
    pub(super) retried: AtomicU64,
    /// Requests whose retry failed too.
    pub(super) failed: AtomicU64,
    /// The first failures after a retry, in words.
    pub(super) told: Cell<Vec<String>>,
}

/// A client: any number of requests at a time over one connection, which moves to the next endpoint when it fails.
#[derive(Debug)]
pub(super) struct Session {
    reach: Reach,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    endpoints: Vec<String>,
    /// Where the connection leads, or where the next one is tried first.
    at: usize,
    /// How many connections there were: names the present one.
    number: u64,
    client: Option<Client>,
}

impl Session {
    /// A client that begins at the endpoint of that number.
    pub(super) fn new(reach: Reach, first: usize) -> Session {
        let state = State {
            endpoints: reach.endpoints.clone(),
            at: first,
            number: 0,
            client: None,
        };
        Session {
            reach,
            state: Mutex::new(state),
        }
    }

    /// The connection, made if there is none: endpoint after endpoint, until one accepts. With its number.
    pub(super) async fn client(&self) -> (u64, Client) {
        let mut state = self.state.lock().await;
        let mut tried = 0;
        loop {
            if let Some(client) = &state.client {
                return (state.number, client.clone());
            }
            let place = state.at % state.endpoints.len();
            match self.reach.connect(&state.endpoints[place]).await {
                Ok(client) => {
                    state.client = Some(client);
                    state.number += 1;
                }
                Err(_) => state.at += 1,
            }
            tried += 1;
            if tried % state.endpoints.len() == 0 {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Gives the connection of that number up, if it is still the one in use.
    pub(super) async fn leave(&self, number: u64) {
        let mut state = self.state.lock().await;
        if state.number == number && state.client.is_some() {
            state.client = None;
            state.at += 1;
        }
    }

    /// Follows the member list, for ever.
    pub(super) async fn follow(&self) {
        loop {
            if self.reach.follows {
                let (_, client) = self.client().await;
                let list = tokio::time::timeout(FOLLOW, client.members()).await;
                if let Ok(Ok(members)) = list {
                    let urls: Vec<String> = members
                        .into_iter()
                        .filter(|member| !member.is_learner)
                        .flat_map(|member| member.client_ur_ls)
                        .collect();
                    if !urls.is_empty() {
                        self.state.lock().await.endpoints = urls;
                    }
                }
            }
            tokio::time::sleep(FOLLOW).await;
        }
    }

    /// Makes a request, and once more if it fails; none if that fails too.
    pub(super) async fn call<T, F: Future<Output = Answer<T>> + Send>(
        &self,
        troubles: &Troubles,
        request: impl Fn(Client) -> F + Send,
    ) -> Option<T> {
        for retry in [false, true] {
            let mut used = None;
            let attempt = async {
                let (number, client) = self.client().await;
                used = Some(number);
                request(client).await
            };
            let error = match tokio::time::timeout(ATTEMPT, attempt).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded(format!("no answer within {ATTEMPT:?}")),
            };
            if let Some(number) = used {
                self.leave(number).await;
            }
            if retry {
                troubles.failed.fetch_add(1, Ordering::Relaxed);
                let mut told = troubles.told.lock();
                if told.len() < TOLD {
                    told.push(format!("{:?}: {}", error.code(), error.message()));
                }
            } else {
                troubles.retried.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
        }
        None
    }
}
