//! Boot time to wall time, in one place.
//!
//! In: [`BootNs`] of the core, and the offset that the owner of the line read from the host, or
//! from a recording. Out: unix times and RFC 3339 texts. It reads no clock itself, so that a
//! replay shows the times of the recording.

use std::time::{Duration, UNIX_EPOCH};

use crate::core::event::BootNs;

/// What to add to the boot clock to get unix time.
///
/// The owner makes a new one now and then: the wall clock may be stepped, the boot clock never is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WallClock {
    /// Unix time minus boot time, nanoseconds.
    pub offset_ns: i64,
}

impl WallClock {
    /// Unix time in nanoseconds; 0 for anything before 1970.
    #[must_use]
    pub fn unix_ns(&self, time: BootNs) -> u64 {
        time.0.saturating_add_signed(self.offset_ns)
    }

    /// Unix time in whole seconds.
    #[must_use]
    pub fn unix_seconds(&self, time: BootNs) -> i64 {
        i64::try_from(self.unix_ns(time) / 1_000_000_000).unwrap_or(i64::MAX)
    }

    /// RFC 3339 in UTC with nanoseconds: `2026-11-20T09:32:00.123456789Z`.
    #[must_use]
    pub fn rfc3339(&self, time: BootNs) -> String {
        rfc3339(self.unix_ns(time))
    }
}

/// A unix time in nanoseconds as RFC 3339 in UTC: `2026-11-20T09:32:00.123456789Z`.
#[must_use]
pub fn rfc3339(unix_ns: u64) -> String {
    humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(unix_ns)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(offset_ns: i64, boot_ns: u64, expect: &str) {
        assert_eq!(WallClock { offset_ns }.rfc3339(BootNs(boot_ns)), expect);
    }

    #[test]
    fn boot_time_becomes_wall_time_and_extremes_do_not_panic() {
        check(0, 0, "1970-01-01T00:00:00.000000000Z");
        check(
            1_795_167_120_000_000_000,
            123_456_789,
            "2026-11-20T09:32:00.123456789Z",
        );
        check(-5, 3, "1970-01-01T00:00:00.000000000Z");
        check(i64::MIN, u64::MAX, "2262-04-11T23:47:16.854775807Z");
        check(i64::MAX, u64::MAX, "2554-07-21T23:34:33.709551615Z");
    }
}
