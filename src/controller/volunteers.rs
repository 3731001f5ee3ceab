//! How many clusters restart members at the same time because the operator, and
//! nobody else, wants it.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::plan::Plan;

/// Clusters whose turn it is, by namespace and name. What is lost with the process is
/// only their order.
pub(crate) struct Volunteers {
    most: usize,
    at_work: Mutex<BTreeSet<(String, String)>>,
}

impl Volunteers {
    /// Nobody is at work, and at most that many may be.
    pub(crate) fn new(most: usize) -> Volunteers {
        Volunteers {
            most,
            at_work: Mutex::new(BTreeSet::new()),
        }
    }

    /// Whether a cluster may go on as planned. One that has begun keeps its turn until
    /// it has nothing more to do.
    pub(crate) fn may(&self, namespace: &str, name: &str, plan: &Plan) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        let mut at_work = self.at_work.lock();
        if plan.voluntary {
            if !at_work.contains(&key) && at_work.len() >= self.most {
                return false;
            }
            at_work.insert(key);
        } else if plan.is_settled() {
            at_work.remove(&key);
        }
        true
    }

    /// A cluster is no more.
    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.at_work.lock().remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_of_clusters_is_rolled_at_a_time() {
        let plan = |voluntary, reason: &str| Plan {
            voluntary,
            reason: reason.to_owned(),
            ..Plan::default()
        };
        let volunteers = Volunteers::new(2);
        let may = |name: &str, plan: &Plan| volunteers.may("ns", name, plan);
        let (wants, waits, done) = (plan(true, "x"), plan(false, "waits"), plan(false, ""));
        assert!(may("a", &wants) && may("b", &wants));
        assert!(!may("c", &wants));
        assert!(may("c", &waits), "what it does for others is not held back");
        // Between two restarts a cluster waits; it keeps its turn.
        assert!(may("a", &waits) && !may("c", &wants));
        assert!(may("a", &done) && may("c", &wants));
        assert!(!may("a", &wants));
        volunteers.forget("ns", "b");
        assert!(may("a", &wants));
    }
}
