//! Requests about the cluster itself: membership, versions, alarms.

use std::sync::Arc;

use etcd_proto::etcdserverpb::alarm_request::AlarmAction;
use etcd_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType, InternalRaftRequest};
use etcd_proto::membershippb::ClusterMemberAttrSetRequest;
use etcd_proto::raftpb::ConfChange;

use super::{Applier, ApplyError, BatchOut, Outcome, Refusal, Response};

impl Applier {
    /// A change that membership refuses reaches consensus with node 0, so that it
    /// counts as done and changes nothing.
    pub(super) fn apply_conf_change(&mut self, mut change: ConfChange, out: &mut BatchOut) {
        let result = match self.membership.validate(&change, self.config.max_learners) {
            Ok(context) => {
                Arc::make_mut(&mut self.membership).apply(&change, context);
                out.members_changed = true;
                Ok(Response::Members(self.membership.iter().cloned().collect()))
            }
            Err(error) => {
                change.node_id = 0;
                Err(ApplyError::Membership(error))
            }
        };
        out.outcomes.push(Outcome {
            id: change.id,
            revision: self.store.revision(),
            result,
        });
        out.conf_changes.push(change);
    }

    pub(super) fn set_member_attributes(
        &mut self,
        request: ClusterMemberAttrSetRequest,
        out: &mut BatchOut,
    ) {
        let attributes = request.member_attributes.unwrap_or_default();
        Arc::make_mut(&mut self.membership).set_attributes(
            request.member_id,
            &attributes.name,
            &attributes.client_urls,
        );
        out.members_changed = true;
    }

    pub(super) fn set_cluster_version(&mut self, version: &str) {
        self.cluster_version = Some(version.into());
    }

    pub(super) fn alarm(&mut self, request: &AlarmRequest) -> Result<Response, Refusal> {
        let alarm = AlarmMember {
            member_id: request.member_id,
            alarm: request.alarm,
        };
        let concerned = match request.action() {
            AlarmAction::Get => self.alarms.of(request.alarm()).collect(),
            AlarmAction::Activate if request.alarm() == AlarmType::None => Vec::new(),
            AlarmAction::Activate => {
                Arc::make_mut(&mut self.alarms).activate(alarm);
                vec![alarm]
            }
            AlarmAction::Deactivate => {
                if Arc::make_mut(&mut self.alarms).deactivate(alarm) {
                    vec![alarm]
                } else {
                    Vec::new()
                }
            }
        };
        Ok(Response::Alarm(concerned))
    }
}

/// Whether it is about users, roles or authentication, of which this version has none.
pub(crate) fn is_auth(r: &InternalRaftRequest) -> bool {
    r.auth_enable.is_some()
        || r.auth_disable.is_some()
        || r.auth_status.is_some()
        || r.authenticate.is_some()
        || r.auth_user_add.is_some()
        || r.auth_user_delete.is_some()
        || r.auth_user_get.is_some()
        || r.auth_user_change_password.is_some()
        || r.auth_user_grant_role.is_some()
        || r.auth_user_revoke_role.is_some()
        || r.auth_user_list.is_some()
        || r.auth_role_list.is_some()
        || r.auth_role_add.is_some()
        || r.auth_role_delete.is_some()
        || r.auth_role_get.is_some()
        || r.auth_role_grant_permission.is_some()
        || r.auth_role_revoke_permission.is_some()
}

/// Name of the request's kind, for the line that a member stops with.
pub(super) fn kind_of(r: &InternalRaftRequest) -> &'static str {
    if is_auth(r) {
        "auth"
    } else if r.downgrade_version_test.is_some() {
        "downgrade_version_test"
    } else {
        "unnamed"
    }
}
