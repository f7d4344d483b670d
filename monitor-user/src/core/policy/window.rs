//! Times of the week.
//!
//! In: `Mon-Fri 08:00-18:00 +02:00` and a time of the clock. Out: whether it is then.

use std::fmt;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY_MINUTES: u16 = 24 * 60;
const WEEK_MINUTES: i64 = 7 * 24 * 60;
/// 1 January 1970 was a Thursday: minutes from the Monday before.
const EPOCH_MINUTES: i64 = 3 * 24 * 60;
/// No clock is further from UTC (ISO 8601 knows up to +14:00 in use).
const OFFSET_MINUTES_MAX: i64 = 14 * 60;

/// Some days of the week, from a time to a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Bit 0 is Monday.
    days: u8,
    /// Minutes after midnight, below a day's.
    from: u16,
    /// The first minute after it, up to a day's. Not after `from`: it ends the next day.
    until: u16,
    /// Minutes that its clock is ahead of UTC.
    offset: i64,
}

impl Window {
    /// The window that `text` writes: days, times, and how far its clock is from UTC.
    ///
    /// # Errors
    ///
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Window, String> {
        let wanted = || {
            "no window; write \"Mon-Fri 08:00-18:00\" (UTC), \"Sat,Sun 00:00-24:00\" or \"Mon-Sun 22:00-06:00 +08:00\"".to_owned()
        };
        let words: Vec<_> = text.split_whitespace().collect();
        let (days, times, offset) = match words.as_slice() {
            [days, times] => (days, times, 0),
            [days, times, offset] => (days, times, parse_offset(offset).ok_or_else(wanted)?),
            _ => return Err(wanted()),
        };
        let (from, until) = times.split_once('-').ok_or_else(wanted)?;
        let window = Window {
            days: parse_days(days).ok_or_else(wanted)?,
            from: parse_time(from).ok_or_else(wanted)?,
            until: parse_time(until).ok_or_else(wanted)?,
            offset,
        };
        if window.from >= DAY_MINUTES || window.from == window.until {
            return Err(wanted());
        }
        Ok(window)
    }

    /// The minutes of a week that begins on Monday in UTC, from each first to before each end.
    #[must_use]
    pub fn minutes(&self) -> Vec<(i64, i64)> {
        let (from, until, day) = (
            i64::from(self.from),
            i64::from(self.until),
            i64::from(DAY_MINUTES),
        );
        let length = if from < until {
            until - from
        } else {
            until + day - from
        };
        let mut minutes = Vec::new();
        for number in (0..7).filter(|number| self.days & (1 << number) != 0) {
            let first = (number * day + from - self.offset).rem_euclid(WEEK_MINUTES);
            let end = first + length;
            minutes.push((first, end.min(WEEK_MINUTES)));
            if end > WEEK_MINUTES {
                minutes.push((0, end - WEEK_MINUTES));
            }
        }
        minutes
    }

    /// Whether it is then, so many seconds after 1970 began in UTC.
    #[must_use]
    pub fn holds(&self, wall_seconds: i64) -> bool {
        let minute =
            (wall_seconds.div_euclid(60) + self.offset + EPOCH_MINUTES).rem_euclid(WEEK_MINUTES);
        let (day, time) = (
            minute / i64::from(DAY_MINUTES),
            minute % i64::from(DAY_MINUTES),
        );
        let on = |day: i64| self.days & (1 << day.rem_euclid(7)) != 0;
        let (from, until) = (i64::from(self.from), i64::from(self.until));
        if from < until {
            on(day) && (from..until).contains(&time)
        } else {
            on(day) && time >= from || on(day - 1) && time < until
        }
    }
}

/// The minute of the week, from Monday on in UTC, so many seconds after 1970 began in UTC.
#[must_use]
pub fn minute_of_week(wall_seconds: i64) -> i64 {
    (wall_seconds.div_euclid(60) + EPOCH_MINUTES).rem_euclid(WEEK_MINUTES)
}

fn parse_days(text: &str) -> Option<u8> {
    let day = |name: &str| DAYS.iter().position(|day| *day == name);
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let mut each = first;
        while each != last {
            days |= 1 << each;
            each = (each + 1) % DAYS.len();
        }
        days |= 1 << last;
    }
    Some(days)
}

/// `08:00` to `24:00`, in minutes.
fn parse_time(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let time = hours * 60 + minutes;
    (minutes < 60 && time <= DAY_MINUTES).then_some(time)
}

fn parse_offset(text: &str) -> Option<i64> {
    let (sign, time) = match text.split_at_checked(1)? {
        ("+", time) => (1, time),
        ("-", time) => (-1, time),
        _ => return None,
    };
    let minutes = i64::from(parse_time(time)?);
    (minutes <= OFFSET_MINUTES_MAX).then_some(sign * minutes)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<_> = (0..7)
            .filter(|day| self.days & (1 << day) != 0)
            .map(|day| DAYS[day])
            .collect();
        let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let sign = if self.offset < 0 { '-' } else { '+' };
        let offset = self.offset.unsigned_abs();
        let (hours, minutes) = (offset / 60, offset % 60);
        write!(
            f,
            "{} {}-{} {sign}{hours:02}:{minutes:02}",
            days.join(","),
            time(self.from),
            time(self.until)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 16 November 2026, 00:00 UTC.
    const MONDAY: i64 = 1_794_787_200;

    #[track_caller]
    fn check(window: &str, day: i64, time: &str, expect: bool) {
        let seconds = MONDAY + day * 86_400 + i64::from(parse_time(time).unwrap()) * 60;
        let window = Window::parse(window).unwrap();
        assert_eq!(window.holds(seconds), expect, "{window} {day} {time}");
        let (minute, minutes) = (minute_of_week(seconds), window.minutes());
        let mut minutes = minutes.iter();
        let among_them = minutes.any(|(from, until)| (*from..*until).contains(&minute));
        assert_eq!(among_them, expect, "{window} {day} {time}");
    }

    #[test]
    fn days_and_times() {
        let office = "Mon-Fri 08:00-18:00";
        check(office, 0, "07:59", false);
        check(office, 0, "08:00", true);
        check(office, 4, "17:59", true);
        check(office, 4, "18:00", false);
        check(office, 5, "12:00", false);
        check("Sat,Sun 00:00-24:00", 6, "23:59", true);
        check("Sat,Sun 00:00-24:00", 7, "00:00", false);
    }

    #[test]
    fn nights_belong_to_the_day_that_they_begin_on() {
        check("Fri-Mon 22:00-06:00", 0, "21:00", false);
        check("Fri-Mon 22:00-06:00", 0, "23:00", true);
        check("Fri-Mon 22:00-06:00", 1, "05:59", true);
        check("Fri-Mon 22:00-06:00", 1, "23:00", false);
        check("Fri-Mon 22:00-06:00", 4, "05:00", false);
    }

    #[test]
    fn clocks_ahead_of_utc() {
        check("Mon 00:00-01:00 +08:00", -1, "16:30", true);
        check("Mon 00:00-01:00 +08:00", 0, "00:30", false);
        check("Mon 00:00-01:00 -05:00", 0, "05:30", true);
    }

    #[test]
    fn what_is_no_window() {
        for text in [
            "",
            "Mon",
            "Mon 8:00-18:00",
            "mon 08:00-18:00",
            "Mon 08:00-25:00",
            "Mon 08:00-08:00",
            "Mon 24:00-06:00",
            "Mon 08:00-18:00 UTC",
            "Mon 08:00-18:00 +15:00",
            "Mon 08:00-18:60",
        ] {
            assert!(Window::parse(text).is_err(), "{text}");
        }
        assert_eq!(
            Window::parse("Fri-Mon 22:00-06:00 -05:30")
                .unwrap()
                .to_string(),
            "Mon,Fri,Sat,Sun 22:00-06:00 -05:30"
        );
    }
}
