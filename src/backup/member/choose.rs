//! Which member a run reads from: healthy, a voter, up to date; a follower, if there is
//! one.

use etcd_proto::etcdserverpb::StatusResponse;

use crate::{
    backup::run::{Failure, Reason, Voter},
    identity::{hex, parse_hex},
};

/// Entries that a member may be behind the most advanced one. etcd itself refuses
/// proposals when more than this wait to be applied.
const LAG_MAX: u64 = 5000;

/// A member, and what it said of itself.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    /// The member.
    pub voter: &'a Voter,
    /// Its status, or why there is none.
    pub status: Result<StatusResponse, Failure>,
}

/// The index of the member to read from. `asked` is in order of preference; a follower
/// goes before the leader.
///
/// # Errors
/// [`Reason::WrongCluster`] if a member is of another cluster; [`Reason::NoHealthyMember`]
/// with what is wrong with each.
pub(crate) fn choose(asked: &[Asked<'_>], cluster_id: &str) -> Result<usize, Failure> {
    let answered = || asked.iter().filter_map(|asked| asked.status.as_ref().ok());
    let newest = answered()
        .filter(|status| of(status).0 == parse_hex(cluster_id))
        .map(|status| (status.raft_term, status.raft_index))
        .max()
        .unwrap_or_default();
    let mut leader = None;
    let mut follower = None;
    let mut why = Vec::new();
    for (index, member) in asked.iter().enumerate() {
        match fit(member, cluster_id, newest) {
            Ok(false) => follower = follower.or(Some(index)),
            Ok(true) => leader = leader.or(Some(index)),
            Err(failure) if failure.reason == Reason::WrongCluster => return Err(failure),
            Err(failure) => why.push(failure.message),
        }
    }
    if let Some(index) = follower.or(leader) {
        return Ok(index);
    }
    if why.is_empty() {
        why.push("none was named".to_owned());
    }
    // What a certificate does not get today it does not get tomorrow.
    let refused = !asked.is_empty()
        && asked.iter().all(|member| {
            matches!(&member.status, Err(failure) if failure.reason == Reason::MemberRefused)
        });
    let reason = match refused {
        true => Reason::MemberRefused,
        false => Reason::NoHealthyMember,
    };
    Err(Failure::new(
        reason,
        format!("no voter is healthy and up to date: {}", why.join("; ")),
    ))
}

/// Whether a member is fit, and then whether it leads.
fn fit(asked: &Asked<'_>, cluster_id: &str, newest: (u64, u64)) -> Result<bool, Failure> {
    let status = asked.status.as_ref().map_err(Clone::clone)?;
    let endpoint = &asked.voter.endpoint;
    let (cluster, member) = of(status);
    let unfit = |why: String| {
        Failure::new(
            Reason::NoHealthyMember,
            format!("the member at {endpoint} {why}"),
        )
    };
    if cluster != parse_hex(cluster_id) {
        return Err(Failure::new(
            Reason::WrongCluster,
            format!(
                "the member at {endpoint} is of cluster {}, and {cluster_id} is wanted",
                cluster.map_or_else(|| "without ID".to_owned(), hex)
            ),
        ));
    }
    if let Some(wanted) = &asked.voter.member_id
        && parse_hex(wanted) != member
    {
        return Err(unfit(format!(
            "is {}, and {wanted} is wanted",
            member.map_or_else(|| "without ID".to_owned(), hex)
        )));
    }
    if status.is_learner {
        return Err(unfit("is a learner".to_owned()));
    }
    if status.leader == 0 {
        return Err(unfit("has no leader".to_owned()));
    }
    // A store that is full can be read; one that is corrupt must not be.
    if let Some(error) = status
        .errors
        .iter()
        .find(|error| !error.contains("NOSPACE"))
    {
        return Err(unfit(format!("says: {error}")));
    }
    let (term, index) = newest;
    if status.raft_term < term {
        return Err(unfit(format!(
            "is in term {}, others are in {term}",
            status.raft_term
        )));
    }
    let behind = index.saturating_sub(status.raft_applied_index);
    if behind > LAG_MAX {
        return Err(unfit(format!("is {behind} entries behind")));
    }
    Ok(Some(status.leader) == member)
}

/// IDs of cluster and member in a status.
fn of(status: &StatusResponse) -> (Option<u64>, Option<u64>) {
    let header = status.header.as_ref();
    (
        header.map(|header| header.cluster_id),
        header.map(|header| header.member_id),
    )
}

#[cfg(test)]
mod tests {
    use etcd_proto::etcdserverpb::ResponseHeader;

    use super::*;

    fn voter(id: u64) -> Voter {
        Voter {
            endpoint: format!("http://m{id}"),
            tls_server_name: None,
            member_id: Some(hex(id)),
        }
    }

    fn status(id: u64) -> StatusResponse {
        StatusResponse {
            header: Some(ResponseHeader {
                cluster_id: 0xc,
                member_id: id,
                revision: 10,
                raft_term: 3,
            }),
            leader: 1,
            raft_index: 20_000,
            raft_term: 3,
            raft_applied_index: 19_998,
            ..StatusResponse::default()
        }
    }

    fn chosen(statuses: Vec<Result<StatusResponse, Failure>>) -> Result<usize, Failure> {
        let voters: Vec<Voter> = (1..).take(statuses.len()).map(voter).collect();
        let asked: Vec<Asked<'_>> = voters
            .iter()
            .zip(statuses)
            .map(|(voter, status)| Asked { voter, status })
            .collect();
        choose(&asked, "c")
    }

    #[allow(clippy::unnecessary_wraps)] // as what is asked of a member
    fn with(id: u64, change: impl FnOnce(&mut StatusResponse)) -> Result<StatusResponse, Failure> {
        let mut status = status(id);
        change(&mut status);
        Ok(status)
    }

    fn down() -> Result<StatusResponse, Failure> {
        Err(Failure::new(Reason::MemberFailed, "not reached"))
    }

    #[test]
    fn o28_a_follower_goes_before_the_leader_and_a_fit_leader_before_none() {
        let all = vec![with(1, |_| {}), with(2, |_| {}), with(3, |_| {})];
        assert_eq!(chosen(all), Ok(1));
        assert_eq!(chosen(vec![with(1, |_| {}), down(), down()]), Ok(0));
        assert_eq!(chosen(vec![down(), with(2, |_| {}), down()]), Ok(1));
    }

    #[test]
    fn o28_who_lags_or_is_ill_is_passed_over() {
        for unfit in [
            with(2, |s| s.raft_applied_index = 10_000),
            with(2, |s| s.raft_term = 2),
            with(2, |s| s.leader = 0),
            with(2, |s| s.is_learner = true),
            with(2, |s| s.errors = vec!["memberID:2 alarm:CORRUPT ".into()]),
            with(9, |_| {}),
            down(),
        ] {
            assert_eq!(chosen(vec![with(1, |_| {}), unfit, with(3, |_| {})]), Ok(2));
        }
        let full = with(2, |s| s.errors = vec!["memberID:2 alarm:NOSPACE ".into()]);
        assert_eq!(chosen(vec![with(1, |_| {}), full]), Ok(1));
    }

    #[test]
    fn o28_if_none_is_fit_it_says_why_of_each() {
        let failure = chosen(vec![with(1, |s| s.leader = 0), down()]).unwrap_err();
        assert_eq!(failure.reason, Reason::NoHealthyMember);
        assert!(failure.transient);
        assert!(
            failure.message.contains("http://m1 has no leader"),
            "{failure}"
        );
        assert!(failure.message.contains("not reached"), "{failure}");
    }

    #[test]
    fn o29_a_member_of_another_cluster_ends_the_run() {
        let other = with(2, |s| s.header.as_mut().unwrap().cluster_id = 0xd);
        let failure = chosen(vec![with(1, |_| {}), with(3, |_| {}), other]).unwrap_err();
        assert_eq!(failure.reason, Reason::WrongCluster);
        assert!(!failure.transient);
    }
}
