//! Durations and sizes as texts.
//!
//! **Invariant:** arithmetic is checked: a text that overflows is no value, never another value.

use std::time::Duration;

/// A duration as Go writes it (`300ms`, `1h2m3s`, `1.5h`, `-1s`, `0`): whether it is negative, and how long. `None` when it is none.
pub(super) fn duration(text: &str) -> Option<(bool, Duration)> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some((false, Duration::ZERO));
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|&n| n > 0)?;
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        nanos = nanos.checked_add(scale(number, unit_nanos(unit)?)?)?;
        rest = after;
    }
    let nanos = u64::try_from(nanos).ok()?;
    Some((negative && nanos > 0, Duration::from_nanos(nanos)))
}

/// A size in bytes: `65536`, `64KiB`, `1 MiB`, `2GiB`, `512B`. `None` when it is none.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// A duration as it would be written in a file: in the largest unit that needs no fraction.
pub(super) fn print_duration(d: Duration) -> String {
    let nanos = d.as_nanos();
    for (unit, size) in
        [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000)]
    {
        if nanos >= size && nanos.is_multiple_of(size) {
            return format!("{}{unit}", nanos / size);
        }
    }
    if nanos == 0 { "0".into() } else { format!("{nanos}ns") }
}

fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `number`, maybe with a fraction, times `factor`. What the fraction has below a nanosecond is dropped, as in Go.
fn scale(number: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > DIGITS_MAX {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(factor)?;
    if !fraction.is_empty() {
        let power = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        nanos = nanos.checked_add(fraction.parse::<u128>().ok()?.checked_mul(factor)? / power)?;
    }
    Some(nanos)
}

/// Digits of a number, at most: more are no time that anyone means.
const DIGITS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_in_go() {
        for (text, nanos) in [
            ("300ms", 300_000_000),
            ("1h2m3s", 3_723_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("-1s", -1_000_000_000),
            ("+2us", 2000),
            ("1µs", 1000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("0", 0),
            ("0s", 0),
            ("-0s", 0),
            ("1.0000000001s", 1_000_000_000),
        ] {
            let (negative, d) = duration(text).unwrap_or_else(|| panic!("{text}"));
            let value = i128::try_from(d.as_nanos()).unwrap();
            assert_eq!(if negative { -value } else { value }, nanos, "{text}");
        }
        for bad in ["", "1", "s", "1x", "1s2", ".s", "1..5s", "-", "1 s", "999999999999h", "1d", "1e3s", "1s-2s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_print_as_they_parse() {
        for text in ["2h", "90m", "90s", "1500ms", "50us", "7ns", "0"] {
            assert_eq!(print_duration(duration(text).unwrap().1), text);
        }
    }

    #[test]
    fn sizes_in_binary_units() {
        for (text, bytes) in [("0", 0), ("512B", 512), ("64KiB", 65536), ("1 MiB", 1 << 20), ("2GiB", 2 << 30)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in ["", "KiB", "64KB", "64k", "-1", "1.5MiB", "99999999999GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
