//! Literals of PostgreSQL: a cursor's largest value as SQL that the server reads back exactly.

use tokio_postgres::types::Type;

/// A cursor's maximum as a literal the server reads back exactly, from its physical form.
pub(super) fn literal(of: &Type, value: i64) -> String {
    match *of {
        Type::DATE => date_literal(value, ""),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let (days, micros) = (value.div_euclid(86_400_000_000), value.rem_euclid(86_400_000_000));
            let seconds = micros / 1_000_000;
            let clock = format!(
                " {:02}:{:02}:{:02}.{:06}{}",
                seconds / 3600,
                seconds / 60 % 60,
                seconds % 60,
                micros % 1_000_000,
                if *of == Type::TIMESTAMPTZ { "+00" } else { "" }
            );
            date_literal(days, &clock)
        }
        _ => value.to_string(),
    }
}

/// Proleptic Gregorian, for the server's whole range of years (chrono's is smaller). The server counts years BC from 1.
fn date_literal(days: i64, clock: &str) -> String {
    // Years begin in March, so that a leap day is a year's last; eras of 400 years have 146,097 days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if year > 0 {
        format!("{year:04}-{month:02}-{day:02}{clock}")
    } else {
        format!("{:04}-{month:02}-{day:02}{clock} BC", 1 - year)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn literals_cover_the_servers_years() {
        assert_eq!(literal(&Type::DATE, 0), "1970-01-01");
        assert_eq!(literal(&Type::DATE, -735_160), "0044-03-15 BC");
        assert_eq!(literal(&Type::DATE, -719_528), "0001-01-01 BC");
        assert_eq!(literal(&Type::DATE, 11_016), "2000-02-29");
        assert_eq!(literal(&Type::DATE, 2_932_897), "10000-01-01");
        assert_eq!(literal(&Type::TIMESTAMPTZ, -1), "1969-12-31 23:59:59.999999+00");
        assert_eq!(literal(&Type::TIMESTAMP, 45_296_000_001), "1970-01-01 12:34:56.000001");
        assert_eq!(literal(&Type::INT8, i64::MAX), "9223372036854775807");
    }

    proptest! {
        #[test]
        fn dates_agree_with_chrono(days in -90_000_000i64..90_000_000) {
            let Some(date) = chrono::TimeDelta::try_days(days)
                .and_then(|delta| chrono::NaiveDate::default().checked_add_signed(delta)) else { return Ok(()) };
            let (year, rest) = (chrono::Datelike::year(&date), date.format("-%m-%d"));
            let expected =
                if year > 0 { format!("{year:04}{rest}") } else { format!("{:04}{rest} BC", 1 - year) };
            prop_assert_eq!(literal(&Type::DATE, days), expected);
        }
    }
}
