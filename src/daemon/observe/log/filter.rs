//! The filter of the log: which lines are written, by level and module.
//!
//! The syntax is that of `tracing`'s filters (`info,groupcast::delivery=debug`), read by [`Targets`]: it knows all of it but
//! the parts about spans' fields, and needs no further crates. What `Targets` accepts without effect is refused here: a
//! level that is misspelled would be a module with that name, and the log would be empty.

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::error::{Error, Kind, Result};

/// Names the filter.
pub const VARIABLE: &str = "GROUPCAST_LOG";
/// The crate, whose lines alone are written.
const CRATE: &str = "groupcast";

/// Which lines are written.
#[derive(Debug, Clone)]
pub struct LogFilter(Targets);

impl Default for LogFilter {
    fn default() -> LogFilter {
        LogFilter(Targets::new().with_default(Level::INFO))
    }
}

/// The filter that [`VARIABLE`] sets.
pub fn filter() -> Result<LogFilter> {
    std::env::var_os(VARIABLE)
        .map_or_else(|| Ok(LogFilter::default()), |text| LogFilter::parse(&text.to_string_lossy()))
}

/// Whether a module is part of the crate.
fn is_ours(module: &str) -> bool {
    module.strip_prefix(CRATE).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

impl LogFilter {
    /// Reads `info`, `warn,groupcast::delivery=debug` and the like. Modules that are not named are written from `info` on.
    ///
    /// Errors: [`Kind::Config`], a part is neither a level nor a module of ours with a level.
    pub fn parse(text: &str) -> Result<LogFilter> {
        let wrong = |part: &str, problem: &str| {
            Error::new(Kind::Config, format!("`{VARIABLE}`: `{part}` {problem}")).advise(
                "set it to error, warn, info, debug or trace, or to a level and modules: \
                 `info,groupcast::delivery=debug`",
            )
        };
        let mut targets = Targets::new().with_default(Level::INFO);
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (module, level) = part.rsplit_once('=').map_or((None, part), |(module, level)| (Some(module), level));
            let level: LevelFilter = level.parse().map_err(|_| wrong(part, "is not a level"))?;
            targets = match module {
                None => targets.with_default(level),
                Some(module) if is_ours(module) => targets.with_target(module, level),
                Some(_) => return Err(wrong(part, "is not a module of groupcast: other modules are never logged")),
            };
        }
        Ok(LogFilter(targets))
    }

    /// Whether a line is written. Dependencies may log what must not be seen: addresses, headers, statements with values.
    pub(super) fn enables(&self, metadata: &Metadata<'_>) -> bool {
        is_ours(metadata.target()) && self.0.would_enable(metadata.target(), metadata.level())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_hold_for_everything_or_for_a_module() {
        let enables = |text: &str, module: &str| {
            let filter = LogFilter::parse(text).unwrap();
            let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
            levels.iter().filter(|level| filter.0.would_enable(module, level)).count()
        };
        for (text, sync, delivery) in [
            ("", 3, 3),
            ("WARN ", 2, 2),
            ("off", 0, 0),
            ("debug,groupcast::delivery=trace", 4, 5),
            ("groupcast::delivery=error", 3, 1),
            ("error, groupcast=debug", 4, 4),
        ] {
            let seen = (enables(text, "groupcast::sync"), enables(text, "groupcast::delivery::pace"));
            assert_eq!(seen, (sync, delivery), "{text}");
        }
        for (text, problem) in [
            ("debgu", "`GROUPCAST_LOG`: `debgu` is not a level"),
            ("info,groupcast::sync=loud", "`GROUPCAST_LOG`: `groupcast::sync=loud` is not a level"),
            (
                "hyper=debug",
                "`GROUPCAST_LOG`: `hyper=debug` is not a module of groupcast: other modules are never logged",
            ),
        ] {
            let error = LogFilter::parse(text).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Config, problem));
        }
    }
}
