//! Alarms that are raised, by kind and member.

use std::collections::BTreeSet;

use etcd_proto::etcdserverpb::{AlarmMember, AlarmType};

/// The set of raised alarms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    raised: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// Raises an alarm of a member; whether it was not raised before.
    pub fn activate(&mut self, alarm: AlarmMember) -> bool {
        self.raised.insert((alarm.alarm, alarm.member_id))
    }

    /// Ends an alarm of a member; whether it was raised.
    pub fn deactivate(&mut self, alarm: AlarmMember) -> bool {
        self.raised.remove(&(alarm.alarm, alarm.member_id))
    }

    /// Alarms of one kind; of every kind for `NONE`.
    pub fn of(&self, kind: AlarmType) -> impl Iterator<Item = AlarmMember> + '_ {
        self.raised
            .iter()
            .filter(move |(k, _)| kind == AlarmType::None || *k == kind as i32)
            .map(|&(alarm, member_id)| AlarmMember { member_id, alarm })
    }

    /// Whether an alarm of this kind is raised by any member.
    pub fn is_raised(&self, kind: AlarmType) -> bool {
        self.raised.iter().any(|(k, _)| *k == kind as i32)
    }

    /// Whether no alarm is raised.
    pub fn is_empty(&self) -> bool {
        self.raised.is_empty()
    }
}
