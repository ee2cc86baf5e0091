//! The time of the wall, in the local zone, for log lines: asked of the system once a second, written once a second.
//!
//! **Invariant:** a line costs no system call; the clock follows a change of the system's within a second.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::Instant;

/// A worker's view of the wall clock.
#[derive(Debug)]
pub struct LocalClock {
    at: Instant,
    /// Milliseconds of the local clock at `at`, since its 1970.
    millis: i64,
    second: i64,
    /// That second, as it is written.
    text: [u8; TEXT_BYTES],
}

impl LocalClock {
    /// Set by the system's.
    #[must_use]
    pub fn new() -> Self {
        let mut clock = Self { at: Instant::now(), millis: 0, second: i64::MIN, text: [b'0'; TEXT_BYTES] };
        clock.set(clock.at);
        clock
    }

    /// Writes a moment as `2006/01/02 15:04:05.000`. `now` is now.
    pub fn write(&mut self, moment: Instant, now: Instant, out: &mut Vec<u8>) {
        if now.saturating_duration_since(self.at) >= AGE_MAX {
            self.set(now);
        }
        let after = i64::try_from(moment.saturating_duration_since(self.at).as_millis()).unwrap_or(0);
        let before = i64::try_from(self.at.saturating_duration_since(moment).as_millis()).unwrap_or(0);
        let millis = self.millis + after - before;
        let second = millis.div_euclid(1000);
        if second != self.second {
            self.render(second);
        }
        out.extend_from_slice(&self.text);
        let millis = millis.rem_euclid(1000);
        out.push(b'.');
        for digit in [millis / 100, millis / 10 % 10, millis % 10] {
            out.push(digit_of(digit));
        }
    }

    fn set(&mut self, now: Instant) {
        self.at = now;
        let system = SystemTime::now();
        let offset = Timestamp::try_from(system).map_or(0, |t| TimeZone::system().to_offset(t).seconds());
        let since = system.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.millis = i64::try_from(since.as_millis()).unwrap_or(0) + i64::from(offset) * 1000;
    }

    fn render(&mut self, second: i64) {
        self.second = second;
        let Ok(local) = Timestamp::from_second(second) else { return };
        let local = local.to_zoned(TimeZone::UTC);
        let (date, time) = (local.date(), local.time());
        let year = i64::from(date.year());
        let pairs = [
            (0, year / 100),
            (2, year % 100),
            (5, i64::from(date.month())),
            (8, i64::from(date.day())),
            (11, i64::from(time.hour())),
            (14, i64::from(time.minute())),
            (17, i64::from(time.second())),
        ];
        self.text = *b"0000/00/00 00:00:00";
        for (at, value) in pairs {
            self.text[at] = digit_of(value / 10 % 10);
            self.text[at + 1] = digit_of(value % 10);
        }
    }
}

impl Default for LocalClock {
    fn default() -> Self {
        Self::new()
    }
}

fn digit_of(value: i64) -> u8 {
    b'0' + u8::try_from(value).unwrap_or(0)
}

/// `2006/01/02 15:04:05`, in bytes.
const TEXT_BYTES: usize = 19;

/// The system is asked again after this.
const AGE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_order_and_to_the_millisecond() {
        let mut clock = LocalClock::new();
        // 2006-01-02 15:04:05.007
        clock.millis = 1_136_214_245_007;
        let at = clock.at;
        let text = |clock: &mut LocalClock, moment| {
            let mut out = Vec::new();
            clock.write(moment, at, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(&mut clock, at), "2006/01/02 15:04:05.007");
        assert_eq!(text(&mut clock, at + Duration::from_millis(993)), "2006/01/02 15:04:06.000");
        assert_eq!(text(&mut clock, at + Duration::from_secs(86400)), "2006/01/03 15:04:05.007");
    }

    #[test]
    fn it_goes_by_the_systems_clock() {
        let mut clock = LocalClock::new();
        let mut out = Vec::new();
        clock.write(Instant::now(), Instant::now(), &mut out);
        let now = Timestamp::now().to_zoned(TimeZone::system());
        assert!(out.starts_with(format!("{:04}/", now.year()).as_bytes()), "{out:?}");
    }
}
