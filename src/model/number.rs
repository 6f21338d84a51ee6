//! Numbers as text, never rounded: one canonical spelling per value, and whether a double can carry it.

use num_bigint::BigInt;

/// Where plain notation ends: beyond this many integer digits a number is written `d.ddde+<n>`. 39 digits cover every
/// 128-bit integer and DECIMAL(38), so whole numbers that databases hold stay plain.
const PLAIN_DIGITS_MAX: i64 = 39;
/// Below `1e-7` a fraction is written with an exponent.
const PLAIN_EXPONENT_MIN: i64 = -7;
/// Longest exponent read; PostgreSQL's numeric ends near 131,072 digits, so anything larger is not a number we meet.
const EXPONENT_MAX: i64 = 1_000_000;

/// The canonical JSON spelling of a decimal number (`1.50` → `1.5`, `-0` → `0`, `1e21` → `1000000000000000000000`), or
/// `None` when `text` is not a finite decimal number. Two texts with the same value give the same spelling.
pub fn canonical(text: &str) -> Option<String> {
    if is_plainly_canonical(text) {
        return Some(text.to_owned());
    }
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], unsigned[at + 1..].parse::<i64>().ok()?),
        None => (unsigned, 0),
    };
    if exponent.abs() > EXPONENT_MAX {
        return None;
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let significant = digits.trim_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    // The value is 0.<significant> × 10^point.
    let point = whole.len() as i64 - leading as i64 + exponent;
    let mut out = String::with_capacity(significant.len() + 8);
    if negative {
        out.push('-');
    }
    let count = significant.len() as i64;
    if point > PLAIN_DIGITS_MAX || point - 1 < PLAIN_EXPONENT_MIN {
        out.push_str(&significant[..1]);
        if count > 1 {
            out.push('.');
            out.push_str(&significant[1..]);
        }
        // `e+40`, not `e40`: serde_json writes the sign when it reads a number, and a spelling that does not survive being
        // read back from the ledger would differ from itself in every run.
        out.push_str(&format!("e{:+}", point - 1));
    } else if point <= 0 {
        out.push_str("0.");
        (0..-point).for_each(|_| out.push('0'));
        out.push_str(significant);
    } else if point >= count {
        out.push_str(significant);
        (0..point - count).for_each(|_| out.push('0'));
    } else {
        out.push_str(&significant[..point as usize]);
        out.push('.');
        out.push_str(&significant[point as usize..]);
    }
    Some(out)
}

/// Whether a text is a short plain number without a superfluous digit, as nearly all are: it is its own spelling.
fn is_plainly_canonical(text: &str) -> bool {
    const BYTES_MAX: usize = 19;
    let unsigned = text.strip_prefix('-').unwrap_or(text).as_bytes();
    let (whole, fraction) = match unsigned.iter().position(|byte| *byte == b'.') {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let is_digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let no_leading_zero = whole.first() != Some(&b'0') || whole.len() == 1;
    // `-0` is 0, and very small fractions have an exponent.
    let is_large_enough =
        whole != b"0" || text == "0" || fraction.is_some_and(|part| part.iter().take(4).any(|byte| *byte != b'0'));
    text.len() <= BYTES_MAX
        && is_digits(whole)
        && no_leading_zero
        && is_large_enough
        && fraction.is_none_or(|part| is_digits(part) && part.last() != Some(&b'0'))
}

/// The canonical spelling of a finite double: its shortest digits that read back as the same double.
pub fn of_double(double: f64) -> Option<String> {
    const PLAIN: std::ops::Range<f64> = 1e-3..1e15;
    match double {
        0.0 => Some("0".to_owned()),
        // In this range the standard library writes no exponent and no superfluous digit.
        _ if PLAIN.contains(&double.abs()) => Some(double.to_string()),
        _ => canonical(&format!("{double:e}")),
    }
}

/// [`of_double`] for a float of 32 bits, with the digits that it has.
pub fn of_float(float: f32) -> Option<String> {
    const PLAIN: std::ops::Range<f32> = 1e-3..1e15;
    match float {
        0.0 => Some("0".to_owned()),
        _ if PLAIN.contains(&float.abs()) => Some(float.to_string()),
        _ => canonical(&format!("{float:e}")),
    }
}

/// The exact difference `a - b` of two canonical numbers, canonical again; nothing when they are too far apart to be
/// lined up digit by digit.
pub fn difference(a: &str, b: &str) -> Option<String> {
    const DIGITS_MAX: i64 = 10_000;
    let scaled = |text: &str| -> Option<(BigInt, i64)> {
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}").parse().ok()?;
        Some((digits, exponent.parse::<i64>().ok()? - fraction.len() as i64))
    };
    let ((a, a_exponent), (b, b_exponent)) = (scaled(a)?, scaled(b)?);
    let exponent = a_exponent.min(b_exponent);
    let raised = |digits: BigInt, from: i64| {
        let places = from - exponent;
        (places <= DIGITS_MAX).then(|| digits * BigInt::from(10).pow(places as u32))
    };
    canonical(&format!("{}e{exponent}", raised(a, a_exponent)? - raised(b, b_exponent)?))
}

/// Whether a canonical number survives a parser that holds numbers as IEEE-754 doubles, as nearly every vendor's does:
/// its shortest round-trip spelling is the same number. `0.1` does, `9007199254740993` does not.
pub fn fits_double(canonical_text: &str) -> bool {
    // Fifteen significant digits survive a double whatever they are (IEEE 754), so short plain numbers need no parsing.
    if canonical_text.len() <= 15 && !canonical_text.contains('e') {
        return true;
    }
    match canonical_text.parse::<f64>() {
        Ok(double) if double.is_finite() => {
            if double.fract() == 0.0 && double.abs() < 9_007_199_254_740_992.0 {
                return format!("{double:.0}") == canonical_text;
            }
            canonical(&format!("{double:e}")).as_deref() == Some(canonical_text)
        }
        _ => false,
    }
}

/// Whether a canonical number has no fraction.
pub fn is_integer(canonical_text: &str) -> bool {
    match canonical_text.split_once('e') {
        None => !canonical_text.contains('.'),
        Some((mantissa, exponent)) => {
            let places = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i64);
            exponent.parse::<i64>().is_ok_and(|exponent| exponent >= places)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn differences_are_exact() {
        for (a, b, expected) in [
            ("1", "0.9", "0.1"),
            ("0.3", "0.1", "0.2"),
            ("9007199254740993", "9007199254740992", "1"),
            ("-5", "-5", "0"),
            ("12.50", "-0.25", "12.75"),
            ("1e+45", "1", "999999999999999999999999999999999999999999999"),
        ] {
            let expected = canonical(expected).unwrap();
            assert_eq!(difference(&canonical(a).unwrap(), &canonical(b).unwrap()), Some(expected), "{a} - {b}");
        }
        assert_eq!(difference("1e+100000", "1"), None);
    }

    #[test]
    fn one_spelling_per_value() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("+5", "5"),
            ("5.0", "5"),
            ("007", "7"),
            ("1.50", "1.5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("0.1", "0.1"),
            ("0.0000001", "0.0000001"),
            ("0.00000001", "1e-8"),
            ("1e21", "1000000000000000000000"),
            ("1E+2", "100"),
            ("1.5e3", "1500"),
            ("9007199254740993", "9007199254740993"),
            ("170141183460469231731687303715884105727", "170141183460469231731687303715884105727"),
            ("1e300", "1e+300"),
            ("-1.25e300", "-1.25e+300"),
            ("1234567890123456789012345678.0123456789", "1234567890123456789012345678.0123456789"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "-", ".", "NaN", "Infinity", "1e", "0x10", "1_000", " 1", "e5", "--1"] {
            assert_eq!(canonical(text), None, "{text:?}");
        }
    }

    #[test]
    fn doubles_that_hold_a_number() {
        for text in ["0", "0.1", "-5", "1000000000000000000000", "9007199254740992", "1e+300", "123456.789"] {
            assert!(fits_double(text), "{text}");
        }
        for text in ["9007199254740993", "0.12345678901234567890123", "1e400", "1234567890123456789012345678.1"] {
            assert!(!fits_double(text), "{text}");
        }
    }

    #[test]
    fn integers() {
        for text in ["0", "-12", "1e+300", "1.25e+300"] {
            assert!(is_integer(text), "{text}");
        }
        for text in ["0.5", "1e-8", "1.25e+1"] {
            assert!(!is_integer(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn floats_are_spelled_as_their_exponents_would_be(double in prop_oneof![
            proptest::num::f64::ANY, -1e6..1e6_f64, -1.0..1.0_f64, (-1_000_000_i64..1_000_000).prop_map(|n| n as f64 / 100.0)
        ]) {
            prop_assume!(double.is_finite());
            prop_assert_eq!(of_double(double), canonical(&format!("{double:e}")));
            let float = double as f32;
            prop_assume!(float.is_finite());
            prop_assert_eq!(of_float(float), canonical(&format!("{float:e}")));
        }

        #[test]
        fn plain_numbers_are_recognised_by_what_they_become(text in "-?[0-9]{0,6}(\\.[0-9]{0,6})?") {
            if is_plainly_canonical(&text) {
                // With an exponent it is spelled anew, digit by digit.
                prop_assert_eq!(canonical(&format!("{text}e0")), Some(text));
            }
        }

        #[test]
        fn canonical_is_idempotent_and_keeps_the_value(double in proptest::num::f64::NORMAL) {
            let spelled = canonical(&format!("{double:e}")).unwrap();
            prop_assert_eq!(canonical(&spelled).unwrap(), spelled.clone());
            let read_back: serde_json::Value = serde_json::from_str(&spelled).unwrap();
            prop_assert_eq!(read_back.to_string(), spelled.clone());
            prop_assert_eq!(spelled.parse::<f64>().unwrap(), double);
            prop_assert!(fits_double(&spelled));
        }
    }
}
