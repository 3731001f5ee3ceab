//! Elections: campaigning, voting, counting.

use etcd_proto::raftpb::{Message, MessageType};

use crate::log::EntryId;
use crate::message::{CAMPAIGN_TRANSFER, message, vote_response};
use crate::quorum::{self, VoteResult};
use crate::raft::Raft;
use crate::role::{NONE, Role};

/// Ticks between two members' campaigns for a leader that is gone: enough for the first to
/// be elected, its vote synced, on a slow disk.
const STAGGER: u32 = 3;

/// What kind of election a member starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Campaign {
    /// Asks without raising the term.
    PreElection,
    /// Asks for votes.
    Election,
    /// Asks for votes because the leader said so: leases do not stand in the way.
    Transfer,
}

impl Raft {
    /// Starts an election now, with a pre-vote if the settings say so. A member that
    /// leads, cannot lead, or has not applied a committed membership change does not.
    pub fn campaign(&mut self) {
        self.hup(if self.config.pre_vote {
            Campaign::PreElection
        } else {
            Campaign::Election
        });
    }

    /// Takes note that the process of member `id` has ended, as far as can be told: its
    /// connection broke, and its host answers that nobody listens there any more. If it
    /// led, this member waits no longer for its silence to last an election timeout. It
    /// asks for pre-votes: at once if no other voter has a lower ID, else after
    /// [`STAGGER`] ticks for each of those, so that they do not take votes from each
    /// other. It may be told again while it asks: then it asks again, for those who had
    /// not noticed the end the first time.
    ///
    /// Nothing depends on this being true. A leader that lives is heard of again, and
    /// without a majority that noticed the same nobody gets a majority of pre-votes. So
    /// without pre-votes it is ignored.
    pub fn report_gone(&mut self, id: u64) {
        let follows = self.role == Role::Follower && self.leader == id;
        let asks = self.role == Role::PreCandidate && self.gone == id;
        if id == NONE || !self.config.pre_vote || !(follows || asks) {
            return;
        }
        self.gone = id;
        let (me, voters) = (self.id(), self.membership.voters());
        let before = voters.iter().filter(|v| **v != id && **v < me).count();
        match u32::try_from(before).unwrap_or(u32::MAX) {
            0 => self.campaign(),
            before => self.timer.hurry(before.saturating_mul(STAGGER)),
        }
    }

    pub(crate) fn hup(&mut self, kind: Campaign) {
        if self.role == Role::Leader
            || !self.is_promotable()
            || self.log.has_unapplied_conf_change()
        {
            return;
        }
        self.ask_for_votes(kind);
    }

    fn ask_for_votes(&mut self, kind: Campaign) {
        let (request, term) = if kind == Campaign::PreElection {
            self.become_pre_candidate();
            (MessageType::MsgPreVote, self.term + 1)
        } else {
            self.become_candidate();
            (MessageType::MsgVote, self.term)
        };
        let last = self.log.last_id();
        let me = self.id();
        let voters: Vec<u64> = self.membership.voters().iter().copied().collect();
        for id in voters.into_iter().filter(|id| *id != me) {
            let mut m = message(request, id);
            m.term = term;
            m.index = last.index;
            m.log_term = last.term;
            if kind == Campaign::Transfer {
                m.context = CAMPAIGN_TRANSFER.into();
            }
            self.send(m);
        }
        // A pre-vote promises nothing, so the own one counts at once. The own vote
        // counts when it is durable.
        if kind == Campaign::PreElection {
            self.record_vote(self.config.id, true);
        }
    }

    /// Takes note of an answer to the current campaign, which may decide it.
    pub(crate) fn record_vote(&mut self, from: u64, granted: bool) {
        // The first answer stands: a repeated one cannot differ but by an old message.
        self.votes.entry(from).or_insert(granted);
        match quorum::tally(self.membership.voters(), &self.votes) {
            VoteResult::Pending => {}
            VoteResult::Won if self.role == Role::PreCandidate => {
                self.ask_for_votes(Campaign::Election);
            }
            VoteResult::Won => self.become_leader(),
            VoteResult::Lost => self.become_follower(self.term, NONE),
        }
    }

    pub(crate) fn handle_vote_response(&mut self, kind: MessageType, m: &Message) {
        let ours = match self.role {
            Role::PreCandidate => kind == MessageType::MsgPreVoteResp,
            Role::Candidate => kind == MessageType::MsgVoteResp,
            _ => false,
        };
        // A grant is for the term that was asked for; a refusal is in the term of its
        // sender, which by now is ours too.
        let asked = match self.role {
            Role::PreCandidate if !m.reject => self.term + 1,
            _ => self.term,
        };
        if ours && m.term == asked {
            self.record_vote(m.from, !m.reject);
        }
    }

    pub(crate) fn handle_vote_request(&mut self, kind: MessageType, m: &Message) {
        let real = kind == MessageType::MsgVote;
        let free = self.vote == m.from
            || (self.vote == NONE && self.leader == NONE)
            || (!real && m.term > self.term);
        let theirs = EntryId {
            index: m.index,
            term: m.log_term,
        };
        // A learner answers too: it may have been promoted without knowing it yet, and
        // the candidate may need its vote.
        let grant = free && self.log.is_up_to_date(theirs);
        let response = match real {
            true => MessageType::MsgVoteResp,
            false => MessageType::MsgPreVoteResp,
        };
        // A grant echoes the term that was asked for, else a pre-candidate of a higher
        // term would take it for an old message.
        let term = if grant { m.term } else { self.term };
        self.send(vote_response(response, m.from, term, !grant));
        if grant && real {
            self.timer.heard();
            self.vote_for(m.from);
        }
    }
}
