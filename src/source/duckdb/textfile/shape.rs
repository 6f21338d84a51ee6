//! The shape of a column: what all of its values have in common. Decided over the whole file, never over a sample: a column is numbers,
//! booleans, dates or times only where every value is written as such in one and the same canonical way. Anything else is
//! text as it stands, and what it looks like is counted, so that `check` can say it.

/// The ways of writing that every value of a column may share, as bits.
type Forms = u16;

const INTEGER: Forms = 1;
/// Numbers without needless digits, as JavaScript and spreadsheets write them: `5`, `1.5`.
const SHORTEST: Forms = 1 << 1;
/// Numbers that all have as many digits behind the point, as databases write decimals: `5.00`, `1.50`.
const FIXED: Forms = 1 << 2;
/// Numbers that all have a point, as Python and Java write floats: `5.0`, `1.5`.
const FLOAT: Forms = 1 << 3;
const LOWER: Forms = 1 << 4;
const UPPER: Forms = 1 << 5;
const TITLE: Forms = 1 << 6;
const DATE: Forms = 1 << 7;
const LOCAL_TIME: Forms = 1 << 8;
const ZONED_TIME: Forms = 1 << 9;
const NUMBER: Forms = INTEGER | SHORTEST | FIXED | FLOAT;
const BOOLEAN: Forms = LOWER | UPPER | TITLE;
const ALL: Forms = NUMBER | BOOLEAN | DATE | LOCAL_TIME | ZONED_TIME;

/// What a value looks like that has none of these forms, or not in the way of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// A number in canonical form.
    Number,
    /// `007`.
    LeadingZeros,
    /// A whole number beyond 64 bits.
    Long,
    /// `1.23457E+17`, as Excel writes what was a longer number.
    Scientific,
    /// `1234,5`.
    DecimalComma,
    /// `1,234,567` or `1.234,56`.
    Thousands,
    /// `12 %`, `$5`, `(5)`.
    Decorated,
    /// `01/02/2026`.
    SlashDate,
    /// `2026-03-04`, or a time.
    Time,
    /// `NULL`, `\N`, `N/A`, …
    NoValue,
    /// `yes`, `TRUE`, …
    YesNo,
    /// Anything else.
    Other,
}

const LOOKS: usize = 12;

/// What the values of a column are, as far as was read.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    forms: Forms,
    scale: Option<usize>,
    /// Most digits before and behind the point.
    whole_max: usize,
    fraction_max: usize,
    exponents: bool,
    /// Most digits behind the second.
    subsecond_max: usize,
    /// Values that are there.
    pub(super) values: u64,
    /// How many look so, and the line of the first.
    looks: [(u64, u64); LOOKS],
    /// Whether dates with slashes were met whose first, or second, number is no month.
    day_first: bool,
    month_first: bool,
}

/// What a column is, as decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decided {
    Text,
    Integer,
    Number,
    Boolean,
    Date,
    LocalTime,
    ZonedTime,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            forms: ALL,
            scale: None,
            whole_max: 0,
            fraction_max: 0,
            exponents: false,
            subsecond_max: 0,
            values: 0,
            looks: [(0, 0); LOOKS],
            day_first: false,
            month_first: false,
        }
    }
}

impl Shape {
    /// Takes a value into account that is not empty and was read from this line. `comma` says that it is the decimal
    /// mark.
    pub(super) fn see(&mut self, value: &[u8], line: u64, comma: bool) {
        self.values += 1;
        let swapped;
        let mut written = value;
        if comma && value.contains(&b',') {
            swapped = value.iter().map(|byte| if *byte == b',' { b'.' } else { *byte }).collect::<Vec<_>>();
            // `1.234,56` has two points then, and is no number.
            written = &swapped;
        } else if comma && value.contains(&b'.') && number(value).is_some() {
            written = b"?";
        }
        let mut forms = 0;
        let mut look = Look::Other;
        match written.first() {
            Some(b'0'..=b'9' | b'-') => {
                if let Some(parts) = number(written) {
                    look = Look::Number;
                    forms = self.number_forms(written, &parts);
                } else if let Some((form, subsecond)) = time(written) {
                    look = Look::Time;
                    self.subsecond_max = self.subsecond_max.max(subsecond);
                    forms = form;
                }
            }
            Some(b't' | b'T' | b'f' | b'F') => {
                forms = match written {
                    b"true" | b"false" => LOWER,
                    b"TRUE" | b"FALSE" => UPPER,
                    b"True" | b"False" => TITLE,
                    _ => 0,
                };
                if forms != 0 {
                    look = Look::YesNo;
                }
            }
            _ => {}
        }
        self.forms &= forms;
        if look == Look::Other {
            look = self.look(value);
        }
        let (count, first) = &mut self.looks[look as usize];
        if *count == 0 {
            *first = line;
        }
        *count += 1;
    }

    fn number_forms(&mut self, value: &[u8], parts: &Parts) -> Forms {
        self.whole_max = self.whole_max.max(parts.whole);
        self.fraction_max = self.fraction_max.max(parts.fraction);
        self.exponents |= parts.exponent;
        let mut forms = 0;
        if parts.exponent {
            forms |= SHORTEST | FLOAT;
        } else if parts.fraction == 0 {
            forms |= INTEGER | SHORTEST;
        } else {
            let last = value.last() != Some(&b'0');
            forms |= if last { SHORTEST | FLOAT } else { 0 };
            forms |= if parts.fraction == 1 { FLOAT } else { 0 };
            if *self.scale.get_or_insert(parts.fraction) == parts.fraction {
                forms |= FIXED;
            }
        }
        forms
    }

    fn look(&mut self, value: &[u8]) -> Look {
        const LONGEST: usize = 48;
        if value.len() > LONGEST {
            return Look::Other;
        }
        let digit = |byte: &u8| byte.is_ascii_digit();
        let plain = value.strip_prefix(b"-").unwrap_or(value);
        match plain.first() {
            Some(b'0'..=b'9' | b'.') => {
                if plain.iter().all(digit) {
                    return if plain.len() > 1 && plain[0] == b'0' { Look::LeadingZeros } else { Look::Long };
                }
                if let Some((first, second)) = slashed(plain) {
                    self.day_first |= first > 12;
                    self.month_first |= second > 12;
                    return Look::SlashDate;
                }
                if plain.last() == Some(&b'%') {
                    return Look::Decorated;
                }
                let marks = plain.iter().filter(|byte| matches!(byte, b',' | b'.' | b'\'' | b' ')).count();
                let others = plain.iter().filter(|byte| !digit(byte)).count();
                if others > 0 && marks == others {
                    let commas = plain.iter().filter(|byte| **byte == b',').count();
                    let grouped = plain.split(|byte| !digit(byte)).skip(1).any(|part| part.len() == 3);
                    return match commas {
                        1 if marks == 1 && !grouped => Look::DecimalComma,
                        _ if marks == 1 && commas == 0 => Look::Other,
                        _ if grouped => Look::Thousands,
                        _ => Look::Other,
                    };
                }
                let scientific = plain.iter().filter(|byte| matches!(byte, b'e' | b'E')).count() == 1
                    && plain.iter().all(|byte| byte.is_ascii_digit() || b".,eE+-".contains(byte))
                    && plain.last().is_some_and(digit);
                if scientific { Look::Scientific } else { Look::Other }
            }
            Some(b'$' | b'(') | Some(0xc2 | 0xe2) if plain.iter().any(digit) => {
                let text = std::str::from_utf8(plain).unwrap_or_default();
                let bare = text.trim_matches(|letter: char| "$€£¥()% \u{a0}".contains(letter));
                let number =
                    !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit() || b",.'".contains(&byte));
                if number { Look::Decorated } else { Look::Other }
            }
            _ if value.len() <= 6 => {
                let lower = value.to_ascii_lowercase();
                match lower.as_slice() {
                    b"null" | b"\\n" | b"n/a" | b"#n/a" | b"nan" | b"none" | b"nil" | b"na" | b"-" => Look::NoValue,
                    b"yes" | b"no" | b"y" | b"n" | b"t" | b"f" | b"on" | b"off" | b"true" | b"false" => Look::YesNo,
                    _ => Look::Other,
                }
            }
            _ => Look::Other,
        }
    }

    /// What the column is, all of it.
    pub(super) fn decided(&self) -> Decided {
        match self.forms {
            _ if self.values == 0 => Decided::Text,
            forms if forms & INTEGER != 0 => Decided::Integer,
            forms if forms & NUMBER != 0 => Decided::Number,
            forms if forms & BOOLEAN != 0 => Decided::Boolean,
            forms if forms & DATE != 0 => Decided::Date,
            forms if forms & LOCAL_TIME != 0 => Decided::LocalTime,
            forms if forms & ZONED_TIME != 0 => Decided::ZonedTime,
            _ => Decided::Text,
        }
    }

    /// The type that SQL sees. Numbers that a double holds are doubles, as DuckDB reads them; beyond that they are exact.
    pub(super) fn sql_type(&self) -> String {
        match self.decided() {
            Decided::Text => "VARCHAR".to_owned(),
            Decided::Integer => "BIGINT".to_owned(),
            Decided::Number if self.exponents || self.whole_max + self.fraction_max <= 15 => "DOUBLE".to_owned(),
            Decided::Number if self.whole_max + self.fraction_max <= 38 => {
                format!("DECIMAL({},{})", self.whole_max + self.fraction_max, self.fraction_max)
            }
            Decided::Number => "VARCHAR".to_owned(),
            Decided::Boolean => "BOOLEAN".to_owned(),
            Decided::Date => "DATE".to_owned(),
            Decided::LocalTime if self.subsecond_max > 6 => "TIMESTAMP_NS".to_owned(),
            Decided::LocalTime => "TIMESTAMP".to_owned(),
            Decided::ZonedTime => "TIMESTAMP WITH TIME ZONE".to_owned(),
        }
    }

    /// How many values look so, and the line of the first.
    pub(super) fn look_of(&self, look: Look) -> (u64, u64) {
        self.looks[look as usize]
    }

    /// Whether dates with slashes can be read in two orders: neither was ruled out, or each by another value.
    pub(super) fn order_is_open(&self) -> bool {
        self.day_first == self.month_first
    }

    /// Whether the day stands first, where the order is certain.
    pub(super) fn day_is_first(&self) -> bool {
        self.day_first
    }
}

struct Parts {
    whole: usize,
    fraction: usize,
    exponent: bool,
}

/// Most digits of a number in one value; longer ones are text.
const DIGITS_MAX: usize = 38;

/// The parts of a number in canonical notation: no plus, no needless zero before it, nothing that 64 bits do not hold
/// without a fraction, and an exponent only as programs write it for doubles (`1e+16`, `1.5e-07`).
fn number(value: &[u8]) -> Option<Parts> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let whole = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if whole == 0 || whole > 1 && digits[0] == b'0' {
        return None;
    }
    let mut rest = &digits[whole..];
    let mut fraction = 0;
    if let Some(behind) = rest.strip_prefix(b".") {
        fraction = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest = &behind[fraction..];
        if fraction == 0 {
            return None;
        }
    }
    // Minus zero is another text than zero, and the same number.
    if digits.len() < value.len() && digits.iter().all(|byte| matches!(byte, b'0' | b'.')) {
        return None;
    }
    let mut exponent = false;
    if let Some(power) = rest.strip_prefix(b"e") {
        let sign = matches!(power.first(), Some(b'+' | b'-'));
        let sound = sign
            && (2..=4).contains(&power.len())
            && power[1..].iter().all(u8::is_ascii_digit)
            && whole == 1
            && digits[0] != b'0'
            && (fraction == 0 || digits[whole + fraction] != b'0');
        if !sound || whole + fraction > 17 {
            return None;
        }
        let text = std::str::from_utf8(value).ok()?;
        if !text.parse::<f64>().is_ok_and(|double| double.is_finite() && double != 0.0) {
            return None;
        }
        exponent = true;
        rest = &[];
    }
    if !rest.is_empty() || whole + fraction > DIGITS_MAX {
        return None;
    }
    // Whole numbers that 64 bits do not hold are ids.
    if fraction == 0 && !exponent && whole >= 19 {
        std::str::from_utf8(value).ok()?.parse::<i64>().ok()?;
    }
    Some(Parts { whole, fraction, exponent })
}

/// A date or a time in ISO 8601, and how many digits stand behind the second.
fn time(value: &[u8]) -> Option<(Forms, usize)> {
    let two = |at: usize| match value.get(at..at + 2)? {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(u32::from(tens - b'0') * 10 + u32::from(ones - b'0')),
        _ => None,
    };
    if value.len() < 10 || value[4] != b'-' || value[7] != b'-' {
        return None;
    }
    let year = two(0)? * 100 + two(2)?;
    chrono::NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, two(5)?, two(8)?).filter(|_| year >= 1_000)?;
    let Some(mark) = value.get(10) else { return Some((DATE, 0)) };
    if !matches!(mark, b' ' | b'T') || value.len() < 19 || value[13] != b':' || value[16] != b':' {
        return None;
    }
    if two(11)? > 23 || two(14)? > 59 || two(17)? > 59 {
        return None;
    }
    let mut rest = &value[19..];
    let mut subsecond = 0;
    if let Some(behind) = rest.strip_prefix(b".") {
        subsecond = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest = &behind[subsecond..];
        if subsecond == 0 || subsecond > 9 {
            return None;
        }
    }
    let offset = |hours: &[u8], minutes: &[u8]| {
        let all = |digits: &[u8]| digits.iter().all(u8::is_ascii_digit);
        hours.len() == 2 && all(hours) && hours <= b"14".as_slice() && all(minutes) && minutes <= b"59".as_slice()
    };
    match rest {
        [] => Some((LOCAL_TIME, subsecond)),
        b"Z" => Some((ZONED_TIME, subsecond)),
        [b'+' | b'-', hours @ ..] if hours.len() == 2 && offset(hours, b"00") => Some((ZONED_TIME, subsecond)),
        [b'+' | b'-', both @ ..] if both.len() == 4 && offset(&both[..2], &both[2..]) => Some((ZONED_TIME, subsecond)),
        [b'+' | b'-', both @ ..] if both.len() == 5 && both[2] == b':' && offset(&both[..2], &both[3..]) => {
            Some((ZONED_TIME, subsecond))
        }
        _ => None,
    }
}

/// The first two numbers of a date with the year behind them.
fn slashed(value: &[u8]) -> Option<(u32, u32)> {
    let day = value.split(|byte| *byte == b' ').next()?;
    let mark = *day.iter().find(|byte| !byte.is_ascii_digit())?;
    if !matches!(mark, b'/' | b'.' | b'-') {
        return None;
    }
    let parts: Vec<&[u8]> = day.split(|byte| *byte == mark).collect();
    let [first, second, year] = parts.as_slice() else { return None };
    let number = |part: &[u8]| std::str::from_utf8(part).ok()?.parse::<u32>().ok();
    let short = |part: &[u8]| (1..=2).contains(&part.len());
    if !short(first) || !short(second) || !matches!(year.len(), 2 | 4) {
        return None;
    }
    number(year)?;
    let (first, second) = (number(first)?, number(second)?);
    let range = 1..=31;
    (range.contains(&first) && range.contains(&second)).then_some((first, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(values: &[&str]) -> Shape {
        let mut shape = Shape::default();
        for (n, value) in values.iter().enumerate() {
            shape.see(value.as_bytes(), n as u64 + 2, false);
        }
        shape
    }

    #[test]
    fn a_type_is_what_every_value_is_written_as() {
        for (values, expected, sql) in [
            (&["1", "-20", "0", "9223372036854775807"][..], Decided::Integer, "BIGINT"),
            (&["1", "12.75"], Decided::Number, "DOUBLE"),
            (&["1.10", "1.90"], Decided::Number, "DOUBLE"),
            (&["1.0", "2.25"], Decided::Number, "DOUBLE"),
            (&["1.0", "1e+16", "1.5e-07"], Decided::Number, "DOUBLE"),
            (&["1234567890123456.78"], Decided::Number, "DECIMAL(18,2)"),
            (&["1.10", "1.9"], Decided::Text, "VARCHAR"),
            (&["1", "1.10"], Decided::Text, "VARCHAR"),
            (&["1", "007"], Decided::Text, "VARCHAR"),
            (&["1", "1_000.5"], Decided::Text, "VARCHAR"),
            (&["1", "-0"], Decided::Text, "VARCHAR"),
            (&["1", "+5"], Decided::Text, "VARCHAR"),
            (&["1", "1e400"], Decided::Text, "VARCHAR"),
            (&["12e3"], Decided::Text, "VARCHAR"),
            (&["1.23457E+17"], Decided::Text, "VARCHAR"),
            (&["9223372036854775808"], Decided::Text, "VARCHAR"),
            (&["1", "n/a"], Decided::Text, "VARCHAR"),
            (&[], Decided::Text, "VARCHAR"),
            (&["true", "false"], Decided::Boolean, "BOOLEAN"),
            (&["TRUE", "FALSE"], Decided::Boolean, "BOOLEAN"),
            (&["True", "true"], Decided::Text, "VARCHAR"),
            (&["1", "true"], Decided::Text, "VARCHAR"),
            (&["2026-03-04", "1999-12-31"], Decided::Date, "DATE"),
            (&["2026-03-04", "2026-03-04 17:30:00"], Decided::Text, "VARCHAR"),
            (&["2026-02-30"], Decided::Text, "VARCHAR"),
            (&["2026-03-04 17:30:00", "2026-03-04T17:30:00.5"], Decided::LocalTime, "TIMESTAMP"),
            (&["2026-03-04 17:30:00.123456789"], Decided::LocalTime, "TIMESTAMP_NS"),
            (&["2026-03-04T17:30:00Z", "2026-03-04T17:30:00.000+0000"], Decided::ZonedTime, "TIMESTAMP WITH TIME ZONE"),
            (&["2026-03-04T17:30:00Z", "2026-03-04 17:30:00"], Decided::Text, "VARCHAR"),
            (&["17:30:00"], Decided::Text, "VARCHAR"),
            (&["01/02/2026"], Decided::Text, "VARCHAR"),
        ] {
            let shape = shape(values);
            assert_eq!((shape.decided(), shape.sql_type().as_str()), (expected, sql), "{values:?}");
        }
    }

    #[test]
    fn a_decimal_comma_is_one_where_it_was_said_to_be() {
        let mut shape = Shape::default();
        ["1234,5", "2"].iter().for_each(|value| shape.see(value.as_bytes(), 2, true));
        assert_eq!(shape.decided(), Decided::Number);
        shape.see(b"1.234,5", 3, true);
        assert_eq!(shape.decided(), Decided::Text);
        let mut shape = Shape::default();
        shape.see(b"1.5", 2, true);
        assert_eq!(shape.decided(), Decided::Text);
    }

    #[test]
    fn what_text_looks_like_is_counted_with_its_first_line() {
        for (value, look) in [
            ("007", Look::LeadingZeros),
            ("12345678901234567890", Look::Long),
            ("1.23457E+17", Look::Scientific),
            ("1234,5", Look::DecimalComma),
            ("1,234", Look::Thousands),
            ("1.234,56", Look::Thousands),
            ("1,234,567.5", Look::Thousands),
            ("12%", Look::Decorated),
            ("$5.00", Look::Decorated),
            ("€5", Look::Decorated),
            ("(1,234.50)", Look::Decorated),
            ("01/02/2026", Look::SlashDate),
            ("31.12.2025 10:00", Look::SlashDate),
            ("NULL", Look::NoValue),
            ("\\N", Look::NoValue),
            ("#N/A", Look::NoValue),
            ("Yes", Look::YesNo),
            ("Acme", Look::Other),
            ("1.2.3", Look::Other),
            ("acct_1", Look::Other),
        ] {
            let mut shape = shape(&["1"]);
            shape.see(value.as_bytes(), 9, false);
            assert_eq!(shape.look_of(look), (1, 9), "{value}: {:?}", shape.looks);
        }
        assert!(shape(&["01/02/2026"]).order_is_open());
        assert!(!shape(&["31/12/2025"]).order_is_open() && shape(&["31/12/2025"]).day_is_first());
    }
}
