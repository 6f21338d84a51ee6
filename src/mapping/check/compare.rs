//! Checks where a mapping wants its rows compared against what its source can do.

use crate::mapping::Compare;
use crate::mapping::diagnostic::Diagnostic;
use crate::mapping::file::MappingFile;
use crate::mapping::reader::shown;

/// Where the rows of a mapping are compared: as it says, else as its source does.
pub fn compares_in(file: &MappingFile, of_source: Option<Compare>) -> Compare {
    file.mapping.compare.or(of_source).unwrap_or_default()
}

/// Checks that rows can be compared where the mapping wants it. `of_source` is where its source's settings want it; none where
/// the source cannot compare in its warehouse at all.
pub fn check_compare(file: &MappingFile, of_source: Option<Compare>) -> Option<Diagnostic> {
    let mapping = &file.mapping;
    if compares_in(file, of_source) != Compare::Warehouse {
        return None;
    }
    if of_source.is_none() {
        let what = format!("source `{}` cannot compare rows in its warehouse", shown(&mapping.source));
        let help = "remove `compare`: rows are then compared on this machine";
        return Some(Diagnostic::error(&mapping.file, &file.at("model.compare"), what).help(help));
    }
    mapping.incremental.as_ref().map(|_| {
        let what = "`[incremental]` and `compare = \"warehouse\"` exclude each other";
        Diagnostic::error(&mapping.file, &file.at("incremental"), what)
            .help("remove `[incremental]`: the warehouse hands over only the rows that differ, and finds those that are gone")
            .help("or add `compare = \"local\"` to `[model]`")
    })
}
