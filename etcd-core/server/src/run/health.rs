//! The member as health checks see it.

use etcd_proto::etcdserverpb::{AlarmType, RangeRequest};

use crate::driver::{Node, RequestError};
use crate::http::MemberHealth;
use crate::version::STORAGE_VERSION;

impl MemberHealth for Node {
    async fn read(&self, serializable: bool) -> Result<(), String> {
        // The words that a client would get.
        let worded = |error: RequestError| crate::grpc::status(&error).message().to_owned();
        let view = self.read_view(serializable).await.map_err(worded)?;
        let nothing = RangeRequest {
            keys_only: true,
            limit: 1,
            ..RangeRequest::default()
        };
        // Nobody can have an empty key; to look for it is to read all the same.
        match view.kv.range(&nothing) {
            Ok(_) => Ok(()),
            Err(error) => Err(crate::grpc::read_status(&error).message().to_owned()),
        }
    }

    fn alarms(&self) -> Vec<String> {
        let view = self.view();
        let raised = view.alarms.of(AlarmType::None);
        let names = raised.map(|alarm| {
            AlarmType::try_from(alarm.alarm).map_or_else(
                |_| alarm.alarm.to_string(),
                |kind| kind.as_str_name().to_owned(),
            )
        });
        names.collect()
    }

    fn has_leader(&self) -> bool {
        self.leadership().leader != 0
    }

    fn is_learner(&self) -> bool {
        Node::is_learner(self)
    }

    fn cluster_version(&self) -> Option<String> {
        self.view()
            .cluster_version
            .as_ref()
            .map(|version| version.to_string())
    }

    fn storage_version(&self) -> Option<String> {
        // The schema is that of the version that is agreed on, ours at most.
        self.view().cluster_version.as_ref()?;
        Some(STORAGE_VERSION.to_owned())
    }
}
