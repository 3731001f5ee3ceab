//! What becomes of proposals that other members forward.

use etcd_proto::raftpb::{ConfState, Entry, Message, MessageType};
use etcd_raft::{Config, ProposeError, Raft, Restored};
use etcd_replica::{Consensus, Input, Rejection};

#[test]
fn b035_a_forwarded_proposal_is_handed_back_while_no_leader_is_known() {
    let config = Config {
        id: 1,
        election_tick: 10,
        heartbeat_tick: 1,
        max_size_per_message: 1 << 20,
        max_inflight_messages: 512,
        max_inflight_bytes: 64 << 20,
        max_uncommitted_bytes: 1 << 30,
        check_quorum: true,
        pre_vote: true,
        seed: 1,
    };
    let restored = Restored {
        conf_state: ConfState {
            voters: vec![1, 2, 3],
            ..ConfState::default()
        },
        ..Restored::default()
    };
    let mut member = Consensus::new(Raft::new(config, restored).expect("valid"));
    let proposal = Message {
        r#type: MessageType::MsgProp as i32,
        from: 2,
        to: 1,
        entries: vec![Entry {
            data: "request".into(),
            ..Entry::default()
        }],
        ..Message::default()
    };
    let effects = member.step([Input::Message(proposal.clone())]);
    let [(Input::Message(back), Rejection::Raft(ProposeError::NoLeader))] =
        effects.rejected.as_slice()
    else {
        panic!("{:?}", effects.rejected);
    };
    assert_eq!(*back, proposal);
}
