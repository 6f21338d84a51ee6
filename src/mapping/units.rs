//! How people write amounts: durations (`90m`), shares (`0.3`, `30%`) and sizes (`512MB`).

use std::time::Duration;

/// Longest duration read; beyond a century it is a slip of the finger.
const SECONDS_MAX: u64 = 100 * 366 * 86_400;

/// A whole number and a unit: `30s`, `5m`, `1h`, `90d`, `2w`. The error follows the value's name and says what it
/// expects.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "is not a duration: write a whole number and s, m, h, d or w, like `30m` or `24h`".to_owned();
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let (amount, unit) = text.split_at(digits);
    let seconds: u64 = match unit.trim_start() {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(expected()),
    };
    let amount: u64 = amount.parse().map_err(|_| expected())?;
    amount
        .checked_mul(seconds)
        .filter(|total| *total <= SECONDS_MAX)
        .map(Duration::from_secs)
        .ok_or_else(|| "is longer than a hundred years".to_owned())
}

/// A share from 0 to 1, as a fraction or a percentage: `0.3`, `30%`.
pub fn share(text: &str) -> Result<f64, String> {
    let expected =
        || "is not a share: write a fraction from 0 to 1 like `0.3`, or a percentage like `\"30%\"`".to_owned();
    let (number, divisor) = match text.strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let value = number.parse::<f64>().map_err(|_| expected())? / divisor;
    if (0.0..=1.0).contains(&value) { Ok(value.abs()) } else { Err(expected()) }
}

/// A size in bytes: `512MB` (decimal units), `512MiB` (binary units), `1073741824B`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let expected = || "is not a size: write a number and B, KB, MB, GB or TB (or KiB, MiB, …), like `512MB`".to_owned();
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let (amount, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(expected()),
    };
    let amount: u64 = amount.parse().map_err(|_| expected())?;
    amount.checked_mul(factor).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format;

    #[test]
    fn durations() {
        for (text, seconds) in [("0s", 0), ("30s", 30), ("5m", 300), ("1h", 3600), ("2 d", 172_800), ("1w", 604_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "1", "1.5h", "-1h", "1h30m", "1 hour", "99999999999999999999s", "999999999999w", "１h"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn written_durations_read_back() {
        for text in ["0s", "30s", "90s", "5m", "90m", "1h", "25h", "2d", "1w", "8d"] {
            assert_eq!(format::duration(duration(text).unwrap()), text);
        }
        assert_eq!(format::duration(duration("24h").unwrap()), "1d");
    }

    #[test]
    fn shares() {
        for (text, value) in [("0", 0.0), ("0.3", 0.3), ("1", 1.0), ("30%", 0.3), ("12.5 %", 0.125), ("100%", 1.0)] {
            assert_eq!(share(text), Ok(value), "{text}");
        }
        for text in ["", "%", "30", "-0.1", "101%", "NaN", "inf", "thirty"] {
            assert!(share(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, value) in [("1B", 1), ("512MB", 512_000_000), ("1 GiB", 1 << 30), ("2kb", 2_000)] {
            assert_eq!(bytes(text), Ok(value), "{text}");
        }
        for text in ["", "512", "MB", "1.5GB", "-1MB", "99999999999TB", "1XB"] {
            assert!(bytes(text).is_err(), "{text:?}");
        }
    }
}
