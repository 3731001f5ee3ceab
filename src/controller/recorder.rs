//! Publishes events, and remembers few of them.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, Recorder, Reporter},
};
use parking_lot::Mutex;

/// kube's recorder counts an event that comes again within six minutes together with the
/// first, and for that keeps, and looks through at each event, all of that time: with a
/// thousand clusters that are made at once, some ten thousand. It is replaced after so
/// many; what comes again then is another event.
const REMEMBERED: usize = 256;

/// A recorder of bounded size.
pub(crate) struct BoundedRecorder {
    client: Client,
    reporter: Reporter,
    current: Mutex<(Recorder, Count)>,
}

/// Events since the recorder was replaced.
#[derive(Default)]
struct Count(usize);

impl Count {
    /// One more; whether it is one too many for the recorder there is.
    fn is_over(&mut self) -> bool {
        self.0 += 1;
        let over = self.0 > REMEMBERED;
        if over {
            self.0 = 1;
        }
        over
    }
}

impl BoundedRecorder {
    /// Events say that they come from the instance `identity` of the operator.
    pub(super) fn new(client: Client, identity: &str) -> BoundedRecorder {
        let reporter = Reporter {
            controller: "etcd-operator".to_owned(),
            instance: Some(identity.to_owned()),
        };
        let recorder = Recorder::new(client.clone(), reporter.clone());
        BoundedRecorder {
            client,
            reporter,
            current: Mutex::new((recorder, Count::default())),
        }
    }

    /// Publishes `event` about `whom`.
    ///
    /// # Errors
    ///
    /// What the API server says against it.
    pub(super) async fn publish(
        &self,
        event: &Event,
        whom: &ObjectReference,
    ) -> Result<(), kube::Error> {
        self.recorder().publish(event, whom).await
    }

    fn recorder(&self) -> Recorder {
        let mut current = self.current.lock();
        if current.1.is_over() {
            current.0 = Recorder::new(self.client.clone(), self.reporter.clone());
        }
        current.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorder_is_for_so_many_events_and_then_there_is_another() {
        let mut count = Count::default();
        let over: Vec<usize> = (1..=3 * REMEMBERED).filter(|_| count.is_over()).collect();
        assert_eq!(over, [REMEMBERED + 1, 2 * REMEMBERED + 1]);
    }
}
