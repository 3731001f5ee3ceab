//! Election safety: no term has two leaders.

use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Election {
    leaders: BTreeMap<u64, u64>,
    terms: BTreeMap<u64, u64>,
}

impl Election {
    pub(super) fn role(&mut self, member: u64, term: u64, leads: bool) -> Result<(), String> {
        let known = self.terms.entry(member).or_insert(term);
        // A term that was never made known may be lost with the power, not before.
        *known = term.max(*known);
        if !leads {
            return Ok(());
        }
        let leader = *self.leaders.entry(term).or_insert(member);
        if leader == member {
            Ok(())
        } else {
            Err(format!(
                "election safety: {leader:x} and {member:x} both lead term {term}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_of_one_term_are_found() {
        let mut election = Election::default();
        election.role(1, 2, true).unwrap();
        election.role(2, 3, true).unwrap();
        election.role(2, 2, false).unwrap();
        assert!(election.role(2, 2, true).is_err());
    }
}
