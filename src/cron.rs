//! Schedules as people write them for cron: five fields or a nickname, in a time zone.

use croner::parser::{CronParser, Seconds, Year};
use jiff::{Timestamp, Zoned, tz::TimeZone};

/// A schedule that comes at least once.
#[derive(Clone, Debug)]
pub(crate) struct Cron {
    pattern: croner::Cron,
    zone: TimeZone,
}

impl Cron {
    /// Reads a schedule: `0 2 * * *`, `@daily` and its like, with the IANA name of a
    /// time zone, UTC if there is none.
    ///
    /// # Errors
    /// In words, for a condition: what is wrong with schedule or time zone.
    pub(crate) fn parse(schedule: &str, zone: Option<&str>) -> Result<Cron, String> {
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name)
                .map_err(|_| format!("{name:?} is no time zone of the IANA list"))?,
        };
        let pattern = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(schedule)
            .map_err(|error| format!("it is no schedule of five fields: {error}"))?;
        Ok(Cron { pattern, zone })
    }

    /// The first time after `time`.
    ///
    /// # Errors
    /// It never comes, as the 31st of February.
    pub(crate) fn after(&self, time: Timestamp) -> Result<Timestamp, String> {
        let found = self.pattern.find_next_occurrence(&self.at(time), false);
        found
            .map(|found| found.timestamp())
            .map_err(|error| format!("it never comes: {error}"))
    }

    /// The last time at or before `time`; `None` if there was none.
    pub(crate) fn until(&self, time: Timestamp) -> Option<Timestamp> {
        let found = self.pattern.find_previous_occurrence(&self.at(time), true);
        found.ok().map(|found| found.timestamp())
    }

    /// The zone whose clock it goes by.
    pub(crate) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// `time` by the clock of the schedule's zone.
    fn at(&self, time: Timestamp) -> Zoned {
        time.to_zoned(self.zone.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn nicknames_and_five_fields_are_read_in_their_time_zone() {
        for (schedule, zone, from, next, last) in [
            (
                "@daily",
                None,
                "2026-01-10T12:00:00Z",
                "2026-01-11T00:00:00Z",
                "2026-01-10T00:00:00Z",
            ),
            (
                "@hourly",
                None,
                "2026-01-10T12:00:00Z",
                "2026-01-10T13:00:00Z",
                "2026-01-10T12:00:00Z",
            ),
            (
                "*/5 * * * *",
                None,
                "2026-01-10T12:04:59Z",
                "2026-01-10T12:05:00Z",
                "2026-01-10T12:00:00Z",
            ),
            (
                "0 2 * * *",
                Some("Europe/Berlin"),
                "2026-07-10T12:00:00Z",
                "2026-07-11T00:00:00Z",
                "2026-07-10T00:00:00Z",
            ),
            (
                "0 2 * * *",
                Some("Europe/Berlin"),
                "2026-01-10T12:00:00Z",
                "2026-01-11T01:00:00Z",
                "2026-01-10T01:00:00Z",
            ),
            (
                "@weekly",
                None,
                "2026-01-10T12:00:00Z",
                "2026-01-11T00:00:00Z",
                "2026-01-04T00:00:00Z",
            ),
        ] {
            let cron = Cron::parse(schedule, zone).unwrap();
            assert_eq!(cron.after(at(from)), Ok(at(next)), "{schedule}");
            assert_eq!(cron.until(at(from)), Some(at(last)), "{schedule}");
        }
    }

    #[test]
    fn a_day_that_loses_or_repeats_the_hour_has_its_run_once() {
        // 02:30 is skipped on 29 March and comes twice on 25 October 2026.
        let cron = Cron::parse("30 2 * * *", Some("Europe/Berlin")).unwrap();
        for (from, to) in [
            ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"),
            ("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z"),
        ] {
            let first = cron.after(at(from)).unwrap();
            assert!(first < at(to), "{first}");
            assert!(cron.after(first).unwrap() > at(to), "{first} has another");
            assert_eq!(cron.until(at(to)), Some(first));
        }
    }

    #[test]
    fn o32_what_is_no_schedule_is_told_in_words() {
        for (schedule, zone, says) in [
            ("0 2 * * FUNDAY", None, "no schedule"),
            ("61 * * * *", None, "no schedule"),
            ("* * * * * *", None, "no schedule"),
            ("@fortnightly", None, "no schedule"),
            ("0 2 * * *", Some("Middle/Earth"), "no time zone"),
        ] {
            let why = Cron::parse(schedule, zone).unwrap_err();
            assert!(why.contains(says), "{schedule}: {why}");
        }
        let never = Cron::parse("0 0 31 2 *", None).unwrap();
        let why = never.after(at("2026-01-01T00:00:00Z")).unwrap_err();
        assert!(why.contains("never comes"), "{why}");
        assert_eq!(never.until(at("2026-01-01T00:00:00Z")), None);
    }
}
