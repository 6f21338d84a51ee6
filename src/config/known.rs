//! Which keys does `groupcast.toml` know, and what does each hold? A new source or destination type is one row here.

use std::path::Path;

use crate::mapping::diagnostic::listed;
use crate::mapping::{schedule, units};

/// What a key holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wants {
    /// Text.
    Text,
    /// Text that must not stand in the file: only references.
    Secret,
    /// A connection string: secret, unless it holds no password.
    SecretUrl,
    /// An http(s) address that is a secret as a whole: only references.
    SecretAddress,
    /// An http(s) address.
    Url,
    /// A path; a relative one starts at the config folder.
    Path,
    /// A path, or `-` for standard output.
    PathOrDash,
    /// True or false.
    Flag,
    /// A whole number within these bounds.
    Count(i64, i64),
    /// A number above zero.
    Rate,
    /// A duration of at least so many seconds.
    Duration(u64),
    /// A size in bytes of at least so many.
    Size(u64),
    /// A share from 0 to 1.
    Share,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An IANA time zone.
    Zone,
    /// A table of anything, for what a vendor passes on; only in the file.
    Table,
}

/// A key of a section.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) wants: Wants,
    pub(crate) required: bool,
}

const fn key(name: &'static str, wants: Wants) -> Key {
    Key { name, wants, required: false }
}

const fn required(name: &'static str, wants: Wants) -> Key {
    Key { name, wants, required: true }
}

/// A type of source or destination with the keys that are its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) keys: &'static [Key],
}

/// The types `[sources.NAME]` may have.
pub(crate) const SOURCES: &[Kind] = &[
    Kind {
        name: "duckdb",
        keys: &[
            key("path", Wants::Path),
            key("encoding", Wants::Word(&["utf-8", "windows-1252", "latin-1", "utf-16le", "utf-16be"])),
            key("delimiter", Wants::Text),
            key("quote", Wants::Text),
            key("decimal", Wants::Word(&[".", ","])),
            key("stall_timeout_seconds", Wants::Count(1, 86_400)),
        ],
    },
    Kind {
        name: "postgres",
        keys: &[
            required("url", Wants::SecretUrl),
            key("password", Wants::Secret),
            key("sslmode", Wants::Word(&["disable", "prefer", "require", "verify-ca", "verify-full"])),
            key("ca_file", Wants::Path),
            key("cert_file", Wants::Path),
            key("key_file", Wants::Path),
            key("read", Wants::Word(&["auto", "copy", "cursor"])),
            key("connect_timeout_seconds", Wants::Count(1, 3_600)),
            key("statement_timeout_seconds", Wants::Count(1, 86_400)),
            key("stall_timeout_seconds", Wants::Count(1, 86_400)),
        ],
    },
];

/// The types `[destinations.NAME]` may have.
pub(crate) const DESTINATIONS: &[Kind] = &[
    Kind {
        name: "amplitude",
        keys: &[
            required("api_key", Wants::Secret),
            key("api", Wants::Word(&["groupidentify", "http_v2"])),
            key("region", Wants::Word(&["us", "eu"])),
            key("base_url", Wants::Url),
            key("long_strings", Wants::Word(&["reject", "truncate"])),
            key("gzip", Wants::Flag),
            key("batch_max", Wants::Count(1, 2_000)),
        ],
    },
    Kind { name: "file", keys: &[key("path", Wants::PathOrDash)] },
    Kind { name: "journy", keys: &[required("api_key", Wants::Secret), key("base_url", Wants::Url)] },
    Kind {
        name: "mixpanel",
        keys: &[
            required("token", Wants::Secret),
            key("region", Wants::Word(&["us", "eu", "in"])),
            key("base_url", Wants::Url),
            key("long_strings", Wants::Word(&["reject", "truncate"])),
        ],
    },
    Kind {
        name: "webhook",
        keys: &[
            required("url", Wants::Url),
            key("secret_path", Wants::Secret),
            key("method", Wants::Word(&["POST", "PUT", "PATCH"])),
            key("headers", Wants::Table),
            key("auth_header", Wants::Secret),
            key("body", Wants::Word(&["single", "batch"])),
            key("batch_max", Wants::Count(1, 10_000)),
            // Below a thousand bytes hardly a change fits.
            key("bytes_max", Wants::Count(1_000, 100_000_000)),
            key("success", Wants::Text),
            key("success_pointer", Wants::Text),
            key("success_equals", Wants::Text),
            key("signing_secret", Wants::Secret),
            key("signature_header", Wants::Text),
            key("timestamp_header", Wants::Text),
            key("dedup", Wants::Flag),
        ],
    },
    Kind {
        name: "segment",
        keys: &[
            key(
                "preset",
                Wants::Word(&[
                    "segment",
                    "segment-eu",
                    "rudderstack",
                    "customerio",
                    "customerio-eu",
                    "dittofeed",
                    "journy",
                    "jitsu",
                    "hightouch",
                    "accoil",
                    "custom",
                ]),
            ),
            required("write_key", Wants::Secret),
            key("base_url", Wants::Url),
            key("wire", Wants::Word(&["batch", "single"])),
            key("batch_path", Wants::Text),
            key("group_path", Wants::Text),
            key("auth", Wants::Word(&["basic", "basic_raw", "bearer", "header", "none"])),
            key("auth_header", Wants::Text),
            key("key_in_body", Wants::Flag),
            // Below a kilobyte not even a message without traits is sure to fit.
            key("event_bytes_max", Wants::Count(1_024, 100_000_000)),
            key("batch_bytes_max", Wants::Count(1_024, 100_000_000)),
            key("batch_count_max", Wants::Count(1, 100_000)),
            key("success_status", Wants::Count(200, 299)),
            key("gzip", Wants::Flag),
            key("message_id", Wants::Flag),
            key("user", Wants::Word(&["required", "optional"])),
            key("whole_batch_fails", Wants::Flag),
            key("headers", Wants::Table),
            key("context", Wants::Table),
            key("integrations", Wants::Table),
            key("downstream", Wants::Text),
        ],
    },
    Kind {
        name: "thrivestack",
        keys: &[
            required("api_key", Wants::Secret),
            key("base_url", Wants::Url),
            key("wire", Wants::Word(&["array", "single"])),
            key("legacy_fields", Wants::Flag),
            key("context", Wants::Table),
        ],
    },
    Kind {
        name: "posthog",
        keys: &[
            required("api_key", Wants::Secret),
            key("personal_api_key", Wants::Secret),
            key("project_id", Wants::Text),
            key("region", Wants::Word(&["us", "eu"])),
            key("base_url", Wants::Url),
            key("app_url", Wants::Url),
            key("write_via", Wants::Word(&["capture", "rest"])),
            key("capture", Wants::Word(&["v0", "v1", "auto"])),
            key("gzip", Wants::Flag),
        ],
    },
];

/// What every destination may say about how it is spoken to. A hundred requests at once or a thousand attempts are a
/// slip of the finger, and would look like an attack to the vendor.
pub(crate) const DELIVERY: &[Key] = &[
    key("concurrency", Wants::Count(1, 100)),
    key("requests_per_second", Wants::Rate),
    key("timeout", Wants::Duration(1)),
    key("retry_for", Wants::Duration(0)),
    key("attempts_max", Wants::Count(1, 1_000)),
];

/// The keys of the sections that are not named by a person, by dotted path.
pub(crate) const SECTIONS: &[(&str, &[Key])] = &[
    (
        "state",
        &[
            key("path", Wants::Path),
            // Below this DuckDB fails where it should spill.
            key("memory", Wants::Size(64_000_000)),
            key("threads", Wants::Count(1, 1_024)),
            key("temp_folder", Wants::Path),
            key("journal_retention", Wants::Duration(0)),
            key("runs_retention", Wants::Duration(0)),
        ],
    ),
    (
        "daemon",
        &[
            key("listen", Wants::Text),
            key("token", Wants::Secret),
            key("timezone", Wants::Zone),
            // Each run has a connection of its own and up to two pages of documents in memory.
            key("parallel_runs", Wants::Count(1, 64)),
            key("drain", Wants::Duration(0)),
            key("log", Wants::Word(&["human", "json"])),
        ],
    ),
    (
        "daemon.alerts",
        &[
            key("url", Wants::SecretAddress),
            key("format", Wants::Word(&["slack", "json"])),
            key("rejected_above", Wants::Count(0, i64::MAX)),
            key("late_after", Wants::Duration(60)),
        ],
    ),
    (
        "defaults.policy",
        &[
            key("on_null", Wants::Word(&["unset", "null", "skip"])),
            key("on_missing", Wants::Word(&["keep", "unset", "delete"])),
            key("on_removed_trait", Wants::Word(&["keep", "unset"])),
            key("on_duplicate", Wants::Word(&["fail", "skip"])),
        ],
    ),
    (
        "defaults.guards",
        &[
            key("empty", Wants::Flag),
            key("rows_dropped_max", Wants::Share),
            key("keys_changed_max", Wants::Share),
            key("changed_max", Wants::Share),
            key("removed_max", Wants::Share),
            key("nulled_max", Wants::Share),
            key("unsendable_max", Wants::Share),
            key("groups_min", Wants::Count(0, i64::MAX)),
        ],
    ),
];

impl Wants {
    /// Whether the value must not be shown, not even when it is wrong.
    pub(crate) fn is_secret(self) -> bool {
        matches!(self, Wants::Secret | Wants::SecretUrl | Wants::SecretAddress)
    }
}

/// A value as it was given, before its key is asked what it wants.
#[derive(Clone, PartialEq)]
pub(crate) enum Given {
    /// Text; from an environment variable everything is.
    Text(String),
    /// A number.
    Int(i64),
    /// A number with a point, as written.
    Float(String),
    /// True or false.
    Flag(bool),
    /// A table whose texts are resolved.
    Table(config::Map<String, config::Value>),
    /// Anything else, by what to call it.
    Other(&'static str),
}

/// The value as `config` holds it, or a fragment `message: help` that fits behind the key's name and never repeats the
/// value. `lenient` reads numbers and flags from text, as environment variables write them.
pub(crate) fn accept(given: Given, wants: Wants, folder: &Path, lenient: bool) -> Result<config::ValueKind, String> {
    let given = match (given, wants) {
        (Given::Text(text), Wants::Flag | Wants::Count(..) | Wants::Rate) if lenient => parse_plain(text),
        (given, _) => given,
    };
    let text = |given: Given, what: &str| match given {
        Given::Text(text) if text.trim().is_empty() => Err("is empty".to_owned()),
        Given::Text(text) => Ok(text),
        other => Err(format!("must be {what}, not {}", other.name())),
    };
    Ok(match wants {
        Wants::Text | Wants::Secret | Wants::SecretUrl => text(given, "a string")?.into(),
        Wants::Url | Wants::SecretAddress => {
            let address = text(given, "an address")?;
            match url::Url::parse(&address) {
                Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => address.into(),
                _ => return Err("is not an address: write `https://host`".to_owned()),
            }
        }
        Wants::Path | Wants::PathOrDash => {
            let path = text(given, "a path")?;
            if matches!(wants, Wants::PathOrDash) && path == "-" {
                return Ok(path.into());
            }
            if path.contains('\0') || path.starts_with(":memory:") || path.starts_with('~') {
                return Err(
                    "is not a path: write it from the root or from the config folder, `~` is not expanded".to_owned()
                );
            }
            // A folder's name that is not UTF-8 cannot travel through the settings; joining would lose it silently.
            let full = folder.join(&path);
            full.to_str().ok_or("stands below a folder whose name is not UTF-8: move the config folder")?.into()
        }
        Wants::Flag => match given {
            Given::Flag(flag) => flag.into(),
            other => return Err(format!("must be true or false, not {}", other.name())),
        },
        Wants::Count(least, most) => match given {
            Given::Int(number) if (least..=most).contains(&number) => number.into(),
            Given::Int(_) if most == i64::MAX => return Err(format!("must be at least {least}")),
            Given::Int(_) => return Err(format!("must be from {least} to {most}")),
            other => return Err(format!("must be a whole number, not {}", other.name())),
        },
        Wants::Rate => {
            let number = match given {
                Given::Int(number) => number as f64,
                Given::Float(ref text) => text.parse().unwrap_or(f64::NAN),
                other => return Err(format!("must be a number, not {}", other.name())),
            };
            if !(number.is_finite() && number > 0.0) {
                return Err("must be a number above 0: remove it for no limit".to_owned());
            }
            number.into()
        }
        Wants::Duration(least) => {
            let written = text(given, "a duration like \"30s\"")?;
            let duration = units::duration(&written).map_err(|problem| format!("is {problem}"))?;
            if duration.as_secs() < least {
                return Err(format!("must be at least {least}s"));
            }
            written.into()
        }
        Wants::Size(least) => {
            let written = text(given, "a size like \"512MB\"")?;
            let bytes = units::bytes(&written).map_err(|problem| format!("is {problem}"))?;
            if bytes < least {
                return Err(format!("must be at least {}MB", least / 1_000_000));
            }
            written.into()
        }
        Wants::Share => match given {
            Given::Text(text) | Given::Float(text) => units::share(text.trim()),
            Given::Int(number) => units::share(&number.to_string()),
            other => return Err(format!("must be a share like 0.3 or \"30%\", not {}", other.name())),
        }
        .map_err(|problem| format!("is {problem}"))?
        .into(),
        Wants::Word(words) => {
            let word = text(given, &listed(words.iter().copied()))?;
            if !words.contains(&word.as_str()) {
                return Err(format!("must be {}", listed(words.iter().copied())));
            }
            word.into()
        }
        Wants::Zone => {
            let name = text(given, "a time zone")?;
            schedule::zone(&name).map_err(|problem| format!("is {problem}"))?.name().into()
        }
        Wants::Table => match given {
            Given::Table(table) => table.into(),
            Given::Text(_) if lenient => return Err("must be a table, which only groupcast.toml can hold".to_owned()),
            other => return Err(format!("must be a table like {{ key = \"value\" }}, not {}", other.name())),
        },
    })
}

fn parse_plain(text: String) -> Given {
    let plain = text.trim();
    if let Ok(number) = plain.parse() {
        Given::Int(number)
    } else if let Ok(flag) = plain.to_ascii_lowercase().parse() {
        Given::Flag(flag)
    } else if plain.parse::<f64>().is_ok() {
        Given::Float(plain.to_owned())
    } else {
        Given::Text(text)
    }
}

impl Given {
    fn name(&self) -> &'static str {
        match self {
            Given::Text(_) => "a string",
            Given::Int(_) => "an integer",
            Given::Float(_) => "a float",
            Given::Flag(_) => "true or false",
            Given::Table(_) => "a table",
            Given::Other(name) => name,
        }
    }
}
