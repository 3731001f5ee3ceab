//! Which backups of a schedule have to go: a function of the rules and of the backups
//! there are.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date, tz::TimeZone};

use crate::api::RetentionSpec;

/// A backup, as far as keeping it is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its name.
    pub(crate) name: String,
    /// The time it was made for.
    pub(crate) at: Timestamp,
    /// How it ended.
    pub(crate) worth: Worth,
    /// Why it must stay, whatever the rules say: it is being restored.
    pub(crate) pinned: bool,
}

/// What a backup is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Worth {
    /// It has not ended, or is going already.
    Unfinished,
    /// It was given up.
    Failed,
    /// It is stored, and a later look found it bad.
    Bad,
    /// It is stored, and nothing speaks against it.
    Stored,
    /// It is stored, and was proven.
    Proven,
}

impl Worth {
    fn is_good(self) -> bool {
        self >= Worth::Stored
    }
}

/// A backup that has to go, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expired {
    /// Its name.
    pub(crate) name: String,
    /// The rule.
    pub(crate) why: String,
}

/// The backups that have to go, oldest first.
///
/// The newest of the best ones is never among them, nor one that is pinned or has not
/// ended. A bad one takes no place of a good one; it goes when it would if it were good.
/// It may only have looked bad, for want of the right key: nothing goes for that alone.
pub(crate) fn expired(
    rules: &RetentionSpec,
    failed_limit: usize,
    backups: &[Candidate],
    zone: &TimeZone,
    now: Timestamp,
) -> Vec<Expired> {
    let mut newest_first: Vec<&Candidate> = backups.iter().collect();
    newest_first.sort_by(|a, b| (b.at, &b.name).cmp(&(a.at, &a.name)));
    let good: Vec<&Candidate> = newest_first
        .iter()
        .copied()
        .filter(|backup| backup.worth.is_good())
        .collect();
    let named = kept(rules, &good, zone);
    // Of the best that there are the newest: a proven one, if any was.
    let last = good.iter().max_by_key(|backup| (backup.worth, backup.at));
    let last = last.map(|backup| backup.name.as_str());
    let oldest = rules.max_age.as_deref().and_then(age);
    let mut gone = Vec::new();
    let mut go = |backup: &Candidate, why: &str| {
        if !backup.pinned && Some(backup.name.as_str()) != last {
            let expired = Expired {
                name: backup.name.clone(),
                why: why.to_owned(),
            };
            gone.push((backup.at, expired));
        }
    };
    let too_old =
        |backup: &Candidate| oldest.is_some_and(|oldest| now.duration_since(backup.at) > oldest);
    for backup in &good {
        if too_old(backup) {
            go(backup, "it is older than retention.maxAge");
        } else if !named.contains(backup.name.as_str()) {
            go(backup, "none of the keep rules of retention names it");
        }
    }
    for bad in newest_first.iter().filter(|b| b.worth == Worth::Bad) {
        let as_if_good: Vec<&Candidate> = newest_first
            .iter()
            .copied()
            .filter(|backup| backup.worth.is_good() || backup.name == bad.name)
            .collect();
        if too_old(bad) {
            go(bad, "it is bad, and older than retention.maxAge");
        } else if !kept(rules, &as_if_good, zone).contains(bad.name.as_str()) {
            go(
                bad,
                "it is bad, and no keep rule of retention would name it if it were good",
            );
        }
    }
    let failed = newest_first.iter().filter(|b| b.worth == Worth::Failed);
    for backup in failed.skip(failed_limit) {
        go(backup, "it failed, and failedHistoryLimit newer ones did");
    }
    gone.sort_by(|(a, left), (b, right)| (a, &left.name).cmp(&(b, &right.name)));
    gone.into_iter().map(|(_, expired)| expired).collect()
}

/// Names of the good ones that a keep rule names; `good` is newest first.
fn kept<'a>(rules: &RetentionSpec, good: &[&'a Candidate], zone: &TimeZone) -> BTreeSet<&'a str> {
    let hour = |at: Timestamp| at.as_second().div_euclid(3600);
    let day = |at: Timestamp| at.to_zoned(zone.clone()).date();
    let week = |at: Timestamp| monday(day(at));
    let mut kept = BTreeSet::new();
    let mut any = false;
    if let Some(count) = rules.keep_last {
        any = true;
        kept.extend(good.iter().take(places(count)).map(|b| b.name.as_str()));
    }
    if let Some(count) = rules.keep_hourly {
        any = true;
        kept.extend(one_of_each(good, places(count), hour));
    }
    if let Some(count) = rules.keep_daily {
        any = true;
        kept.extend(one_of_each(good, places(count), day));
    }
    if let Some(count) = rules.keep_weekly {
        any = true;
        kept.extend(one_of_each(good, places(count), week));
    }
    if !any {
        kept.extend(good.iter().map(|b| b.name.as_str()));
    }
    kept
}

fn places(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// The newest of each of the newest `count` groups.
fn one_of_each<'a, G: Ord>(
    good: &[&'a Candidate],
    count: usize,
    group: impl Fn(Timestamp) -> G,
) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    let mut names = Vec::new();
    for backup in good {
        if names.len() == count {
            break;
        }
        if seen.insert(group(backup.at)) {
            names.push(backup.name.as_str());
        }
    }
    names
}

fn monday(day: Date) -> Date {
    let since = i64::from(day.weekday().to_monday_zero_offset());
    day.saturating_sub(since.days())
}

/// A duration of days, hours and minutes; `None` if it is none, or nothing.
pub(crate) fn age(text: &str) -> Option<SignedDuration> {
    let mut minutes = 0_i64;
    let mut digits = String::new();
    for c in text.chars() {
        let unit = match c {
            '0'..='9' => {
                digits.push(c);
                continue;
            }
            'd' => 24 * 60,
            'h' => 60,
            'm' => 1,
            _ => return None,
        };
        let count: i64 = digits.parse().ok()?;
        minutes = minutes.checked_add(count.checked_mul(unit)?)?;
        digits.clear();
    }
    (digits.is_empty() && minutes > 0).then(|| SignedDuration::from_mins(minutes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    fn now() -> Timestamp {
        "2026-03-15T12:30:00Z".parse().unwrap() // a Sunday
    }

    fn backup(name: impl ToString, seconds_ago: i64, worth: Worth) -> Candidate {
        Candidate {
            name: name.to_string(),
            at: now() - SignedDuration::from_secs(seconds_ago),
            worth,
            pinned: false,
        }
    }

    fn names(rules: &RetentionSpec, backups: &[Candidate]) -> Vec<String> {
        let gone = expired(rules, 1, backups, &TimeZone::UTC, now());
        gone.into_iter().map(|gone| gone.name).collect()
    }

    /// What is left of backups that were taken every hour, as hours ago.
    fn left_of_hourly(count: i64, rules: &RetentionSpec) -> Vec<i64> {
        let all: Vec<Candidate> = (0..count)
            .map(|n| backup(n, n * HOUR, Worth::Proven))
            .collect();
        let gone = names(rules, &all);
        (0..count)
            .filter(|n| !gone.contains(&n.to_string()))
            .collect()
    }

    #[test]
    fn keep_rules_name_what_is_kept_and_add_up() {
        let rules = |last, hourly, daily, weekly| RetentionSpec {
            keep_last: last,
            keep_hourly: hourly,
            keep_daily: daily,
            keep_weekly: weekly,
            max_age: None,
        };
        // It is 12:30 on a Sunday.
        for (rules, left) in [
            (rules(Some(3), None, None, None), vec![0, 1, 2]),
            (rules(None, Some(2), None, None), vec![0, 1]),
            (rules(None, None, Some(3), None), vec![0, 13, 37]),
            (rules(None, None, None, Some(2)), vec![0, 6 * 24 + 13]),
            (rules(Some(2), None, Some(2), None), vec![0, 1, 13]),
            (rules(None, None, None, None), (0..200).collect()),
        ] {
            assert_eq!(left_of_hourly(200, &rules), left, "{rules:?}");
        }
    }

    #[test]
    fn days_and_weeks_begin_at_midnight_of_the_time_zone() {
        let rules = RetentionSpec {
            keep_daily: Some(2),
            ..RetentionSpec::default()
        };
        let all = [
            backup("noon", 0, Worth::Proven),
            backup("01:30 UTC", 11 * HOUR, Worth::Proven),
            backup("23:30 UTC", 13 * HOUR, Worth::Proven),
        ];
        let gone = |zone: &str| {
            let zone = TimeZone::get(zone).unwrap();
            let gone = expired(&rules, 1, &all, &zone, now());
            gone.into_iter().map(|gone| gone.name).collect::<Vec<_>>()
        };
        assert_eq!(gone("UTC"), ["01:30 UTC"]);
        assert_eq!(gone("America/New_York"), ["23:30 UTC"]);
    }

    #[test]
    fn what_is_too_old_goes_but_the_last_good_one_never() {
        let rules = RetentionSpec {
            max_age: Some("2d".to_owned()),
            ..RetentionSpec::default()
        };
        let all = [
            backup("young", DAY, Worth::Proven),
            backup("old", 3 * DAY, Worth::Proven),
        ];
        assert_eq!(names(&rules, &all), ["old"]);
        assert_eq!(names(&rules, &all[1..]), Vec::<String>::new());
        // A younger one that was never proven does not stand in for it.
        let all = [
            backup("young", DAY, Worth::Stored),
            backup("old", 3 * DAY, Worth::Proven),
        ];
        assert_eq!(names(&rules, &all), Vec::<String>::new());
    }

    #[test]
    fn o24_a_bad_one_takes_no_place_and_goes_behind_the_good_ones() {
        let rules = RetentionSpec {
            keep_last: Some(2),
            ..RetentionSpec::default()
        };
        let mut all = vec![
            backup("a", HOUR, Worth::Bad),
            backup("b", 2 * HOUR, Worth::Proven),
            backup("c", 3 * HOUR, Worth::Proven),
            backup("d", 4 * HOUR, Worth::Bad),
            backup("e", 5 * HOUR, Worth::Proven),
        ];
        assert_eq!(names(&rules, &all), ["e", "d"].map(str::to_owned).to_vec());
        // Where every one is bad, each is all that there is.
        all.iter_mut().for_each(|backup| backup.worth = Worth::Bad);
        assert_eq!(names(&rules, &all), Vec::<String>::new());
    }

    #[test]
    fn o24_one_that_is_found_bad_stays_as_long_as_if_it_were_good() {
        let all = [
            backup("new", 0, Worth::Proven),
            backup("newer", DAY, Worth::Bad),
            backup("old", 9 * DAY, Worth::Bad),
        ];
        let last = |count| RetentionSpec {
            keep_last: Some(count),
            ..RetentionSpec::default()
        };
        let daily = RetentionSpec {
            keep_daily: Some(2),
            ..RetentionSpec::default()
        };
        let age = RetentionSpec {
            max_age: Some("8d".to_owned()),
            ..RetentionSpec::default()
        };
        for (rules, gone) in [
            (RetentionSpec::default(), &[][..]),
            (last(2), &[]),
            (daily, &[]),
            (last(1), &["old", "newer"]),
            (age, &["old"]),
        ] {
            assert_eq!(names(&rules, &all), gone, "{rules:?}");
        }
    }

    #[test]
    fn one_that_is_being_restored_or_taken_stays() {
        let rules = RetentionSpec {
            keep_last: Some(1),
            max_age: Some("1h".to_owned()),
            ..RetentionSpec::default()
        };
        let mut all = vec![
            backup("new", 0, Worth::Proven),
            backup("restored", 2 * DAY, Worth::Proven),
            backup("running", 2 * DAY, Worth::Unfinished),
            backup("failed", DAY, Worth::Failed),
            backup("failed before", 2 * DAY, Worth::Failed),
        ];
        all[1].pinned = true;
        assert_eq!(names(&rules, &all), ["failed before"]);
    }

    #[test]
    fn ages_are_days_hours_and_minutes() {
        for (text, minutes) in [("90d", 129_600), ("36h", 2160), ("1d12h30m", 2190)] {
            assert_eq!(
                age(text),
                Some(SignedDuration::from_mins(minutes)),
                "{text}"
            );
        }
        for text in ["", "0d", "d", "4", "4w"] {
            assert_eq!(age(text), None, "{text}");
        }
    }

    fn worth() -> impl Strategy<Value = Worth> {
        prop_oneof![
            Just(Worth::Unfinished),
            Just(Worth::Failed),
            Just(Worth::Bad),
            Just(Worth::Stored),
            Just(Worth::Proven),
        ]
    }

    fn rules() -> impl Strategy<Value = RetentionSpec> {
        let count = || prop::option::of(1_u32..5);
        let age = prop::option::of((1_u32..40).prop_map(|days| format!("{days}d")));
        (count(), count(), count(), count(), age).prop_map(|(last, hourly, daily, weekly, age)| {
            RetentionSpec {
                keep_last: last,
                keep_hourly: hourly,
                keep_daily: daily,
                keep_weekly: weekly,
                max_age: age,
            }
        })
    }

    proptest! {
        #[test]
        fn whatever_the_rules_the_last_good_one_and_those_in_use_stay(
            rules in rules(),
            seen in prop::collection::vec((0_i64..60 * DAY, worth(), any::<bool>()), 0..40),
            limit in 0_usize..4,
        ) {
            let all: Vec<Candidate> = seen
                .iter()
                .enumerate()
                .map(|(n, (ago, worth, pinned))| Candidate {
                    pinned: *pinned,
                    ..backup(n, *ago, *worth)
                })
                .collect();
            let mut left = all.clone();
            // One goes at a time, and every time anew: the same must come of it.
            let mut gone = Vec::new();
            while let Some(first) = expired(&rules, limit, &left, &TimeZone::UTC, now()).first() {
                left.retain(|backup| backup.name != first.name);
                gone.push(first.name.clone());
            }
            let at_once: Vec<String> = expired(&rules, limit, &all, &TimeZone::UTC, now())
                .into_iter()
                .map(|gone| gone.name)
                .collect();
            prop_assert_eq!(&gone, &at_once);
            for backup in &all {
                if backup.pinned || backup.worth == Worth::Unfinished {
                    prop_assert!(!gone.contains(&backup.name));
                }
            }
            let best = |list: &[Candidate]| {
                list.iter().filter(|b| b.worth.is_good()).map(|b| (b.worth, b.at)).max()
            };
            prop_assert_eq!(best(&all), best(&left));
            // By the keep rules alone, so many good ones stay as they promise.
            if rules.max_age.is_none() && let Some(count) = rules.keep_last {
                let good = |list: &[Candidate]| list.iter().filter(|b| b.worth.is_good()).count();
                prop_assert!(good(&left) >= good(&all).min(count as usize));
            }
        }
    }
}
