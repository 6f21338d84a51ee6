//! Text files as tables: the rows of `table = "accounts.csv"`, as they are written.
//!
//! DuckDB's own readers decide types, delimiter and quotation marks by the first 20,480 rows, and read numbers as doubles:
//! `00042` becomes 42, `12.75` among whole numbers 13, a long id another id. So files named as a table are read here. What
//! is decided is decided over the whole file ([`FileProfile`]), before any row is read for a run, and the value of a mapped
//! column is its text in the file, not what a type made of it: a column whose every value is a number is *sent* as numbers
//! ([`ColumnType::Written`]), with the digits of the file, and `as` in the mapping decides it for good. Keys are text.
//!
//! SQL in the mapping (`sql`, `where`, a cursor) sees the same columns by DuckDB's types: those that every value has.
//!
//! A file is read twice at its first use in a process, once to decide and once for its rows; what was decided is kept until
//! the file's size, time or inode changes. A file that changes between the two is read again from its beginning.

mod column;
mod decode;
mod findings;
mod load;
mod names;
mod objects;
mod options;
mod records;
mod row;
mod rows;
mod shape;
mod sheet;
mod view;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub use decode::Encoding;
pub(super) use options::Options;
use parking_lot::{Mutex, MutexGuard};
pub(super) use view::{ROW, View, table};

use self::column::{Facts, TextColumn};
use self::names::Found;
use self::row::Columns;
use self::rows::Rows;
use crate::error::{Error, Kind, Result};
use crate::mapping::compile::Projection;
use crate::mapping::diagnostic::did_you_mean;
use crate::mapping::{Expr, From};
use crate::source::{FindingSubject, SourceFinding};

/// A table that is a text file, or several.
#[derive(Debug, Clone)]
pub(super) struct TextTable {
    name: String,
    folder: PathBuf,
    options: Options,
}

/// What was decided about a table, over all of its files.
#[derive(Debug)]
pub(super) struct FileProfile {
    files: Vec<Found>,
    readings: Vec<String>,
    columns: Vec<TextColumn>,
    rows: u64,
    /// The member that holds the rows, where a file is one object around them.
    wrapper: Option<String>,
    options: Options,
    /// Why the rows end early. A run fails with it when the rows are wanted, so that the run is on record.
    fault: Option<Error>,
}

/// Which tables were decided about, and in which state their files were.
type Decisions = BTreeMap<(PathBuf, String, Options), Arc<FileProfile>>;
static DECISIONS: Mutex<Decisions> = Mutex::new(BTreeMap::new());
/// Most decisions that are kept; beyond it all are made anew.
const DECISIONS_MAX: usize = 64;
/// How often a table is read again because its files change meanwhile.
const READINGS_MAX: usize = 3;

/// What to do about a name that DuckDB would not read either.
fn refused(name: &str) -> Option<Error> {
    let lower = name.to_ascii_lowercase();
    let (what, help) = match lower.rsplit_once('.')?.1 {
        "numbers" | "gsheet" => {
            ("a spreadsheet of a kind that is not read", "export it as `.xlsx` or CSV and name that file".to_owned())
        }
        "zip" | "bz2" | "xz" | "7z" | "rar" | "tar" | "tgz" => (
            "an archive, which is not read",
            "unpack it, or pack single files with gzip or zstd (`accounts.csv.gz`)".to_owned(),
        ),
        "xml" | "html" | "htm" | "pdf" | "yaml" | "yml" | "dta" | "sav" | "pkl" | "feather" | "orc" => {
            ("not a format that is read", "write CSV, NDJSON or Parquet".to_owned())
        }
        _ => return None,
    };
    Some(Error::new(Kind::Config, format!("`{name}` is {what}")).advise(help))
}

impl TextTable {
    /// The table that a model of a source without a file means, if it is a text file. Fails for files that nothing reads.
    pub(super) fn meant(from: &From, folder: &Path, options: Options) -> Result<Option<TextTable>> {
        let From::Table(parts) = from else { return Ok(None) };
        let name = parts.join(".");
        if let Some(refused) = refused(&name) {
            return Err(refused);
        }
        if !is_local(&name) || names::format(&name).is_none() {
            return Ok(None);
        }
        Ok(Some(TextTable { name, folder: folder.to_path_buf(), options }))
    }

    /// What was decided about the table, or is now.
    pub(super) fn profile(&self) -> Result<Arc<FileProfile>> {
        let key = (self.folder.clone(), self.name.clone(), self.options.clone());
        let mut files = names::find(&self.name, &self.folder)?;
        for _ in 0..READINGS_MAX {
            if let Some(known) = decisions().get(&key).filter(|known| known.files == files) {
                return Ok(Arc::clone(known));
            }
            let profile = FileProfile::of(&files, &self.options);
            let now = names::find(&self.name, &self.folder)?;
            // A mistake in files that changed meanwhile may be where an older half meets the newer.
            if now == files {
                let profile = Arc::new(profile?);
                let mut decisions = decisions();
                if decisions.len() >= DECISIONS_MAX {
                    decisions.clear();
                }
                decisions.insert(key, Arc::clone(&profile));
                return Ok(profile);
            }
            files = now;
        }
        Err(changes(&self.name))
    }
}

/// Whether a file of this name is read as a table.
pub(super) fn is_read(name: &str) -> bool {
    names::format(name).is_some()
}

/// The newest of the files that a pattern means.
pub(super) struct Newest {
    /// As it is shown, and as a model names it.
    pub(super) shown: String,
    /// When it changed last.
    pub(super) modified: SystemTime,
    /// How many files there are.
    pub(super) of: usize,
}

/// The file of a pattern that changed last, of several at one time the last by name; `None` where the name is no pattern of
/// files on this machine.
pub(super) fn newest(name: &str, folder: &Path) -> Result<Option<Newest>> {
    if !is_local(name) || !names::is_pattern(name) {
        return Ok(None);
    }
    let found = names::find(name, folder)?;
    let of = found.len();
    let modified = |found: &Found| found.state.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let newest = found.into_iter().max_by_key(|found| (modified(found), found.shown.clone()));
    Ok(newest.map(|found| Newest { modified: modified(&found), shown: found.shown, of }))
}

/// The files on this machine that a table's name means.
pub(super) fn files(name: &str, folder: &Path) -> Option<Vec<PathBuf>> {
    if !is_local(name) {
        return None;
    }
    Some(names::find(name, folder).ok()?.into_iter().map(|found| found.path).collect())
}

fn is_local(name: &str) -> bool {
    !name.contains("://") || name.starts_with("file://")
}

fn decisions() -> MutexGuard<'static, Decisions> {
    DECISIONS.lock()
}

/// A file that is written while it is read.
fn changes(shown: &str) -> Error {
    Error::new(Kind::SourceBusy, format!("{shown}: the file changes while it is read"))
        .advise("run again when it is complete; its writer should write to another file and rename it")
}

/// A place among several files, in one number: the line in the lower bits.
const LINE_BITS: u32 = 40;

fn place(file: usize, line: u64) -> u64 {
    (file as u64) << LINE_BITS | line
}

impl FileProfile {
    fn of(files: &[Found], options: &Options) -> Result<FileProfile> {
        let mut columns = Columns::default();
        let mut facts: Vec<Facts> = Vec::new();
        let mut is_sheet = false;
        let mut twice: BTreeMap<String, String> = BTreeMap::new();
        // Of delimited files: which columns each has.
        let mut headers: Vec<(usize, Vec<String>)> = Vec::new();
        let (mut readings, mut rows, mut fault) = (Vec::new(), 0, None);
        let mut objects_in_first = 0;
        for (number, found) in files.iter().enumerate() {
            if found.state.is_empty() && files.len() == 1 {
                return Err(Error::new(
                    Kind::Source,
                    format!("{}: the file is empty, it has not even a header", found.shown),
                )
                .advise("make sure that it is complete; its writer should write to another file and rename it")
                .missing());
            }
            let (mut file, state) = Rows::open(found, options)?;
            if state != found.state {
                return Err(changes(&found.shown));
            }
            is_sheet |= matches!(file, Rows::Sheet(_));
            if let Some(header) = file.header().filter(|header| !header.is_empty()) {
                for (at, name) in header.iter().enumerate() {
                    if let Some(first) = header[..at].iter().position(|other| other == name) {
                        let where_ = format!("columns {} and {} of {}", first + 1, at + 1, found.shown);
                        twice.entry(name.clone()).or_insert(where_);
                    }
                }
                let of_parts = found.parts.iter().map(|(name, _)| name.clone());
                headers.push((number, header.iter().cloned().chain(of_parts).collect()));
            }
            let read = file.each(&mut columns, &mut |columns, line, row| {
                facts.resize_with(columns.names.len(), Default::default);
                for (position, facts) in facts.iter_mut().enumerate() {
                    facts.see(row.value(position), place(number, line), options);
                }
                Ok(())
            });
            let read = match read {
                Ok(read) => read,
                Err(error) => {
                    readings.push(file.reading());
                    fault = Some(error);
                    break;
                }
            };
            for (name, value) in &found.parts {
                let position = columns.add(name);
                facts.resize_with(columns.names.len(), Default::default);
                if !value.is_empty() {
                    facts[position].shape.see(value.as_bytes(), place(number, 0), false);
                }
            }
            if number == 0 {
                objects_in_first = read;
            }
            rows += read;
            readings.push(file.reading());
        }
        facts.resize_with(columns.names.len(), Default::default);
        if columns.names.is_empty()
            && let Some(fault) = fault
        {
            return Err(fault);
        }
        let of_objects = headers.is_empty() && rows > 0;
        if columns.names.is_empty() {
            let shown = &files[0].shown;
            return Err(Error::new(Kind::Source, format!("{shown}: the file has no rows and no columns"))
                .advise("make sure that it is complete; its writer should write to another file and rename it")
                .missing());
        }
        let wrapper = (of_objects && objects_in_first == 1)
            .then(|| {
                let nested = facts.iter().position(|facts| facts.members.is_some_and(|members| members.nested > 0));
                nested.map(|position| columns.names[position].clone())
            })
            .flatten();
        let columns = columns.names.iter().zip(facts).map(|(name, facts)| {
            let with = headers.iter().find(|(_, names)| names.contains(name));
            let without = headers.iter().find(|(_, names)| !names.contains(name));
            let missing = with
                .zip(without)
                .map(|((with, _), (without, _))| (files[*with].shown.clone(), files[*without].shown.clone()));
            TextColumn {
                name: name.clone(),
                notation: facts.notation(options, is_sheet),
                shape: facts.shape,
                members: facts.members,
                decimal_comma: options.decimal_comma,
                twice: twice.get(name).cloned(),
                missing,
            }
        });
        Ok(FileProfile {
            columns: columns.collect(),
            files: files.to_vec(),
            readings,
            rows,
            wrapper,
            options: options.clone(),
            fault,
        })
    }

    /// Fails where not all rows can be read.
    pub(super) fn whole(&self) -> Result<()> {
        self.fault.as_ref().map_or(Ok(()), |fault| Err(fault.again()))
    }

    /// Every column that has a name.
    fn columns(&self) -> impl Iterator<Item = &TextColumn> {
        self.columns.iter().filter(|column| !column.name.is_empty())
    }

    /// The columns that SQL sees: not those whose names differ in capitals only.
    fn visible(&self) -> impl Iterator<Item = (usize, &TextColumn)> {
        let names: Vec<String> = self.columns.iter().map(|column| column.name.to_lowercase()).collect();
        self.columns.iter().enumerate().filter(move |(at, column)| {
            let alone = names.iter().filter(|name| **name == names[*at]).count() == 1;
            alone && !column.name.is_empty() && column.twice.is_none()
        })
    }

    /// The column of this name, if its values can be determined.
    pub(super) fn column(&self, name: &str) -> Result<(usize, &TextColumn)> {
        let exact = self.columns.iter().position(|column| column.name == name);
        let like = || self.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name));
        let Some(position) = exact.or_else(like).filter(|_| !name.is_empty()) else {
            let error = Error::new(Kind::Source, format!("the model has no column `{name}`"));
            let names = self.columns().map(|column| column.name.as_str());
            return Err(match (&self.wrapper, did_you_mean(name, names)) {
                (Some(member), _) => error.advise(rows::unwrap_advice(&self.files[0].shown, member)),
                (None, Some(near)) => error.advise(format!("did you mean `{near}`?")),
                (None, None) => error.advise("name a column that is in the file's header"),
            });
        };
        let column = &self.columns[position];
        if let Some(twice) = &column.twice {
            return Err(Error::new(Kind::Source, format!("two columns are called `{name}`: {twice}"))
                .advise("give one of them another name, or select by position with DuckDB: `sql = \"SELECT … FROM read_csv('…', all_varchar = true, names = ['…'])\"`"));
        }
        if let Some((with, without)) = &column.missing {
            return Err(Error::new(Kind::Source, format!("{without} has no column `{name}`, which {with} has"))
                .advise(
                    "write all files with the same columns; where a missing one means no value, \
                     `sql = \"FROM read_csv('…', union_by_name = true, all_varchar = true)\"`",
                ));
        }
        Ok((position, column))
    }

    /// The positions of the columns that a projection needs.
    pub(super) fn needed(&self, projection: &Projection) -> Result<Vec<usize>> {
        let mut needed = vec![self.column(&projection.key)?.0];
        for name in projection.cursor.iter() {
            needed.push(self.column(name)?.0);
        }
        let mut sql: Vec<&str> = projection.filters.iter().map(String::as_str).collect();
        for expr in &projection.columns {
            match expr {
                Expr::Column(name) => needed.push(self.column(name)?.0),
                Expr::Sql(text) => sql.push(text),
            }
        }
        let sql = sql.join("\n").to_lowercase();
        // A star names all of them; one too many costs time and nothing else.
        let named = |column: &TextColumn| sql.contains('*') || mentions(&sql, &column.name);
        needed.extend(self.visible().filter(|(_, column)| named(column)).map(|(position, _)| position));
        for position in &needed {
            let column = &self.columns[*position];
            if column.missing.is_some() && mentions(&sql, &column.name) {
                self.column(&column.name)?;
            }
        }
        needed.sort_unstable();
        needed.dedup();
        Ok(needed)
    }
}

/// Whether SQL in lower case has this name as a word of its own.
fn mentions(sql: &str, name: &str) -> bool {
    let name = name.to_lowercase();
    let part = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    sql.match_indices(&name)
        .any(|(at, _)| !part(sql[..at].chars().next_back()) && !part(sql[at + name.len()..].chars().next()))
}

/// Remarks about columns that DuckDB's own readers, in a query over text files, give types that lose something.
pub(super) fn sniffed(
    sql: &str,
    folder: &Path,
    options: Options,
    projection: &Projection,
    columns: &[(String, String)],
) -> Vec<SourceFinding> {
    let settled = ["all_varchar", "types", "columns", "union_by_name"].iter().any(|word| sql.contains(word));
    let files: Vec<&str> = sql.split('\'').skip(1).step_by(2).filter(|text| names::format(text).is_some()).collect();
    let ([file], false) = (files.as_slice(), settled) else { return Vec::new() };
    let table = TextTable { name: (*file).to_owned(), folder: folder.to_path_buf(), options };
    // Where it cannot be read as it is written, DuckDB may still know how.
    let Ok(profile) = table.profile() else { return Vec::new() };
    let used = projection.columns.iter().filter_map(|expr| match expr {
        Expr::Column(name) => Some(name),
        Expr::Sql(_) => None,
    });
    used.chain([&projection.key])
        .filter_map(|name| columns.iter().find(|(column, _)| column == name))
        .filter(|(name, declared)| profile.lossy(name, declared))
        .map(|(name, declared)| SourceFinding {
            subject: FindingSubject::Column(name.clone()),
            note: false,
            what: format!(
                "DuckDB reads `{name}` of {file} as {declared}, and not every value of it is one: digits may be lost"
            ),
            help: vec![format!(
                "write `table = \"{file}\"` instead of `sql`, which reads values as they are written, or \
                 `types = {{'{name}': 'VARCHAR'}}` (`columns` for JSON) in its SQL"
            )],
        })
        .collect()
}
