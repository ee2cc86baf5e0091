//! `log_roller` and `global_log_roller`: when a log file is put aside, and how long what was put aside is kept.
//!
//! **Invariant:** plain data; the default bounds what logs take of a disk.

use std::time::Duration;

/// When a log file is put aside, and what happens to it then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRoller {
    /// `size`, in MB in the file: put aside when it has so many bytes. 0: never for its size.
    pub bytes_max: u64,
    /// `time`, in hours in the file: put aside when so long a span of the local clock is over. Zero: never for its age.
    pub span: Duration,
    /// `age`, in days in the file: what was put aside longer ago is removed. Zero: never.
    pub age_max: Duration,
    /// `keep`: so many files that were put aside are kept. 0: all.
    pub files_max: usize,
    /// `compress`: what is put aside is compressed with gzip.
    pub compress: bool,
}

impl LogRoller {
    /// No rotation: something else sees to it.
    pub const OFF: Self =
        Self { bytes_max: 0, span: Duration::ZERO, age_max: Duration::ZERO, files_max: 0, compress: false };

    /// Reads MOSN's `"time=24 size=1000 age=7 keep=10 compress=off"`; what is not said has its default. `off` is no rotation.
    ///
    /// # Errors
    /// The word that is none.
    pub fn parse(text: &str) -> Result<Self, &str> {
        if text.trim() == "off" {
            return Ok(Self::OFF);
        }
        let mut roller = Self::default();
        for word in text.split_ascii_whitespace() {
            let (key, value) = word.split_once('=').ok_or(word)?;
            let number = || value.parse::<u32>().map_err(|_| word);
            match key {
                "size" => roller.bytes_max = u64::from(number()?) * 1_000_000,
                "time" => roller.span = HOUR * number()?.min(HOURS_MAX),
                "age" => roller.age_max = HOUR * 24 * number()?.min(HOURS_MAX),
                "keep" => roller.files_max = usize::try_from(number()?).map_err(|_| word)?,
                "compress" => {
                    roller.compress = match value {
                        "on" => true,
                        "off" => false,
                        _ => return Err(word),
                    }
                }
                _ => return Err(word),
            }
        }
        Ok(roller)
    }
}

impl Default for LogRoller {
    /// MOSN's: a file a day or for 1000 MB, ten of them, for a week.
    fn default() -> Self {
        Self { bytes_max: 1_000_000_000, span: HOUR * 24, age_max: HOUR * 24 * 7, files_max: 10, compress: false }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// A longer time than a hundred years is one of a hundred years.
const HOURS_MAX: u32 = 24 * 366 * 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollers_parse() {
        let day = HOUR * 24;
        for (text, result) in [
            ("", Ok(LogRoller::default())),
            ("off", Ok(LogRoller::OFF)),
            ("size=1 keep=3", Ok(LogRoller { bytes_max: 1_000_000, files_max: 3, ..LogRoller::default() })),
            (
                "time=1 age=2 compress=on",
                Ok(LogRoller { span: HOUR, age_max: day * 2, compress: true, ..LogRoller::default() }),
            ),
            ("size=x", Err("size=x")),
            ("sizes=1", Err("sizes=1")),
            ("size", Err("size")),
            ("compress=maybe", Err("compress=maybe")),
            ("time=-1", Err("time=-1")),
        ] {
            assert_eq!(LogRoller::parse(text), result, "{text}");
        }
    }
}
