//! Maintenance windows: whether one is open, and when the next one opens.

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{MaintenanceSpec, MaintenanceWindow},
    cron::Cron,
};

/// The windows of a cluster, as they stand at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Which it is.
    pub state: WindowState,
    /// Windows that can never open, and why.
    pub invalid: Vec<String>,
}

/// Whether what is voluntary may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowState {
    /// There are none: what is voluntary waits for nothing, or for ever.
    Unset,
    /// One is open.
    Open,
    /// None is; the next one opens then, if any ever does.
    Closed(Option<Timestamp>),
}

impl WindowState {
    /// When a window opens, in words.
    pub fn opens(self) -> String {
        match self {
            WindowState::Closed(Some(at)) => format!("a maintenance window opens at {at}"),
            WindowState::Closed(None) => "a maintenance window opens; none ever does".to_owned(),
            WindowState::Open | WindowState::Unset => "now".to_owned(),
        }
    }
}

/// Looks at a cluster's windows.
pub fn windows(spec: Option<&MaintenanceSpec>, now: Timestamp) -> Windows {
    let windows = spec.map(|spec| spec.windows.as_slice()).unwrap_or_default();
    let mut invalid = Vec::new();
    let mut next: Option<Timestamp> = None;
    let mut open = false;
    for window in windows {
        match look(window, now) {
            Ok(Look::Open) => open = true,
            Ok(Look::Opens(at)) => next = Some(next.map_or(at, |next| next.min(at))),
            Err(why) => invalid.push(format!("{:?}: {why}", window.schedule)),
        }
    }
    let state = match (windows.is_empty(), open) {
        (true, _) => WindowState::Unset,
        (false, true) => WindowState::Open,
        (false, false) => WindowState::Closed(next),
    };
    Windows { state, invalid }
}

enum Look {
    Open,
    Opens(Timestamp),
}

fn look(window: &MaintenanceWindow, now: Timestamp) -> Result<Look, String> {
    let length = length(&window.duration)
        .ok_or_else(|| format!("duration {:?} is not like 4h or 1h30m", window.duration))?;
    let cron = Cron::parse(&window.schedule, window.time_zone.as_deref())?;
    // It is open if it opened within its length before now.
    let opened = cron.after(now - length)?;
    Ok(if opened <= now {
        Look::Open
    } else {
        Look::Opens(opened)
    })
}

/// A duration of hours and minutes; `None` if it is none, or nothing.
fn length(text: &str) -> Option<SignedDuration> {
    let (hours, rest) = text.split_once('h').unwrap_or(("0", text));
    let minutes = match rest {
        "" => "0",
        rest => rest.strip_suffix('m')?,
    };
    let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
    (minutes > 0).then(|| SignedDuration::from_mins(minutes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn spec(schedule: &str, zone: Option<&str>, duration: &str) -> MaintenanceSpec {
        MaintenanceSpec {
            windows: vec![MaintenanceWindow {
                schedule: schedule.to_owned(),
                time_zone: zone.map(str::to_owned),
                duration: duration.to_owned(),
            }],
        }
    }

    fn state(schedule: &str, zone: Option<&str>, duration: &str, now: &str) -> WindowState {
        let found = windows(Some(&spec(schedule, zone, duration)), at(now));
        assert_eq!(found.invalid, Vec::<String>::new());
        found.state
    }

    #[test]
    fn a_window_is_open_from_its_schedule_for_its_duration() {
        let sundays = |now| state("0 2 * * SUN", None, "4h", now);
        let next = WindowState::Closed(Some(at("2026-01-04T02:00:00Z")));
        assert_eq!(sundays("2026-01-03T12:00:00Z"), next);
        assert_eq!(sundays("2026-01-04T01:59:59Z"), next);
        assert_eq!(sundays("2026-01-04T02:00:00Z"), WindowState::Open);
        assert_eq!(sundays("2026-01-04T05:59:59Z"), WindowState::Open);
        let later = WindowState::Closed(Some(at("2026-01-11T02:00:00Z")));
        assert_eq!(sundays("2026-01-04T06:00:00Z"), later);
    }

    #[test]
    fn a_window_opens_by_the_clock_of_its_time_zone_over_daylight_saving() {
        let berlin = |now| state("30 2 * * *", Some("Europe/Berlin"), "1h30m", now);
        assert_eq!(berlin("2026-01-10T01:30:00Z"), WindowState::Open); // CET
        assert_eq!(berlin("2026-07-10T01:00:00Z"), WindowState::Open); // CEST
        assert_eq!(
            berlin("2026-07-10T02:00:00Z"),
            WindowState::Closed(Some(at("2026-07-11T00:30:00Z")))
        );
        // 02:30 does not exist on the day the clocks go forward; the window still comes.
        assert!(matches!(
            berlin("2026-03-29T00:00:00Z"),
            WindowState::Closed(Some(next)) if next < at("2026-03-29T03:00:00Z")
        ));
    }

    #[test]
    fn o32_an_impossible_window_is_told_and_never_opens() {
        let now = "2026-01-01T00:00:00Z";
        for (schedule, zone, says) in [
            ("0 0 31 2 *", None, "never comes"),
            ("0 2 * * FUNDAY", None, "no schedule"),
            ("61 * * * *", None, "no schedule"),
            ("0 2 * * *", Some("Middle/Earth"), "no time zone"),
        ] {
            let found = windows(Some(&spec(schedule, zone, "1h")), at(now));
            assert_eq!(found.state, WindowState::Closed(None), "{schedule}");
            assert!(found.invalid[0].contains(says), "{:?}", found.invalid);
        }
        let mut two = spec("0 0 31 2 *", None, "1h");
        two.windows.extend(spec("* * * * *", None, "1m").windows);
        let found = windows(Some(&two), at(now));
        assert_eq!((found.state, found.invalid.len()), (WindowState::Open, 1));
        assert_eq!(windows(None, at(now)).state, WindowState::Unset);
    }

    #[test]
    fn durations_are_hours_and_minutes() {
        for (text, minutes) in [("4h", 240), ("90m", 90), ("1h30m", 90)] {
            assert_eq!(length(text), Some(SignedDuration::from_mins(minutes)));
        }
        for text in ["", "0h", "0m", "h", "4", "4h5"] {
            assert_eq!(length(text), None, "{text}");
        }
    }
}
