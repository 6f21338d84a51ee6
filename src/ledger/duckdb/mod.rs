//! The ledger in an embedded DuckDB file: the default.
//!
//! | module | what it holds |
//! |---|---|
//! | `open` | opening a file: its version, its generation, whether it is the newest |
//! | `protocol`, `begin` | the protocol of a run, over the SQL of `statements` |
//! | `compare`, `candidates` | the comparison, and pages of candidates read as Arrow |
//! | `write` | transactions: one writer at a time, and the generation each one leaves |
//! | `history`, `kv`, `storage` | queries, key-value notes, the files |
//! | `import` | groups that come from another ledger |
//! | `rows`, `long_texts` | rows of the tables as ours |
//! | `bundles` | outcomes of a few groups on their way into the tables |
//! | `schema` | the tables, and how an older file becomes a current one |
//! | `generation`, `place` | the files beside the ledger |
//! | `threads` | how many threads DuckDB uses |

mod backup;
mod begin;
mod bundles;
pub(in crate::ledger) mod candidates;
pub(in crate::ledger) mod compare;
pub(super) mod generation;
mod history;
mod import;
mod kv;
mod long_texts;
mod open;
mod place;
mod protocol;
pub(in crate::ledger) mod rows;
mod schema;
mod statements;
mod storage;
mod threads;
mod write;

use parking_lot::{Mutex, MutexGuard};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bundles::Waiting;
use candidates::Candidates;
use generation::{Generations, Recorded};
use open::Opened;
use place::{FilePlace, LogPlace};
use threads::ThreadBudget;
use write::Files;

use super::kept_requests::KeptRequests;
use super::{Access, Retention, file_error};
use crate::duckdb::{DuckDbConnection, Limits};
use crate::error::{Error, Kind, Result, Within};
use crate::source::staged::ORDERED_MAX;

pub use backup::backup;
pub(super) use generation::beside;

/// A connection to a ledger in a DuckDB file.
pub struct DuckDbLedger {
    duckdb: DuckDbConnection,
    path: String,
    /// DuckDB's log beside the file; none for a ledger that is not written.
    log: Option<Arc<LogPlace>>,
    /// Where the open file was found; none for a ledger that is not written, and for one in memory.
    file: Option<Arc<FilePlace>>,
    read_only: bool,
    threads: Arc<ThreadBudget>,
    retention: Retention,
    /// The next journal sequence.
    next_seq: Arc<AtomicU64>,
    /// Up to so many candidates come in key order.
    ordered_max: u64,
    /// Bytes of a document or change that is stored in its row.
    inline_max: usize,
    /// Outcomes that this connection stored as bundles, and the bytes of these since it last unpacked some.
    waiting: Arc<Mutex<Waiting>>,
    bundled: Arc<AtomicUsize>,
    /// Whether any connection has stored a bundle.
    has_bundled: Arc<AtomicBool>,
    /// What this connection's comparison found.
    candidates: Arc<Mutex<Candidates>>,
    /// Writers of all connections take turns: DuckDB would abort the second of two that touch the same rows.
    writing: Arc<Mutex<()>>,
    /// The generation it is at; none for a ledger that is not written, or not kept.
    generations: Option<Arc<Generations>>,
    /// Why it was not the newest ledger when it was opened.
    outdated: Option<Arc<str>>,
    /// The requests that are kept beside the file; none for a ledger in memory.
    kept_requests: Option<KeptRequests>,
    /// What groups that it does not have are to this connection's run.
    unknown_groups: Arc<UnknownGroups>,
}

/// Whether groups that the ledger does not have may be at the destination all the same.
#[derive(Default)]
struct UnknownGroups {
    may_be_there: AtomicBool,
    /// Whether a view hides the real groups, which shows those of an outdated ledger as unconfirmed.
    behind_view: AtomicBool,
}

impl DuckDbLedger {
    /// Opens the ledger at `path`, creating it and its folder when absent.
    ///
    /// Errors: [`Kind::LedgerBusy`] when another process has it open; [`Kind::Ledger`] when it is unreadable, of a newer
    /// version, or cannot be written.
    pub async fn open(path: &Path, limits: &Limits, retention: Retention) -> Result<DuckDbLedger> {
        let place = format!("ledger {}", path.display());
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| {
                file_error::write_error("failed to create the ledger's folder", error).at(place.clone())
            })?;
        }
        let duckdb = DuckDbConnection::open(Some(path), limits).within(|| "ledger".to_owned())?;
        let file = FilePlace::of(path).within(|| place.clone())?;
        let ledger = DuckDbLedger::over(duckdb, place, Some(path), false, limits.threads, retention).await?;
        let log = beside(path, "wal");
        for file in [path, &log] {
            // Made by DuckDB with the umask of some process. Where it is another user's, that user has decided.
            drop(std::fs::set_permissions(file, Permissions::from_mode(0o600)));
        }
        Ok(DuckDbLedger { log: Some(Arc::new(LogPlace::of(&log))), file: Some(Arc::new(file)), ..ledger })
    }

    /// Opens an existing ledger without the right to write: for queries and plans. A crashed run is
    /// folded in temporary copies, so that a plan sees what the next run will see and the file stays as it is.
    pub async fn open_read_only(path: &Path, limits: &Limits) -> Result<DuckDbLedger> {
        let duckdb = DuckDbConnection::open_read_only(path, limits).within(|| "ledger".to_owned())?;
        let place = format!("ledger {}", path.display());
        DuckDbLedger::over(duckdb, place, Some(path), true, limits.threads, Retention::FOREVER).await
    }

    /// A ledger in memory, with a local ledger's every property but durability: what `plan` uses where there is no ledger
    /// at `path`. Where there was one, and it was lost, that is known as it is to the next run.
    pub async fn in_place_of(path: &Path, limits: &Limits) -> Result<DuckDbLedger> {
        let recorded_in = beside(path, "generation");
        let name = recorded_in.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let recorded = generation::read(&recorded_in).within(|| format!("ledger {}", path.display()))?;
        let none = Recorded { ledger: String::new(), generation: 0 };
        let outdated = generation::outdated(&none, recorded.as_ref(), &name).map(Arc::from);
        Ok(DuckDbLedger { outdated, ..DuckDbLedger::in_memory(limits).await? })
    }

    /// A ledger in memory, with a local ledger's every property but durability.
    pub async fn in_memory(limits: &Limits) -> Result<DuckDbLedger> {
        let duckdb = DuckDbConnection::open(None, limits)?;
        DuckDbLedger::over(duckdb, "ledger".to_owned(), None, false, limits.threads, Retention::FOREVER).await
    }

    async fn over(
        duckdb: DuckDbConnection,
        path: String,
        file: Option<&Path>,
        read_only: bool,
        threads: usize,
        retention: Retention,
    ) -> Result<DuckDbLedger> {
        let (at, recorded_in) = (file.map(Path::to_path_buf), file.map(|file| beside(file, "generation")));
        let Opened { next_seq, recorded, outdated } = duckdb
            .call("open the ledger", move |connection| {
                schema::migrate(connection, at.as_deref(), read_only)?;
                open::opened(connection, recorded_in.as_deref(), read_only)
            })
            .await
            .within(|| path.clone())?;
        let recorded_in = file.filter(|_| !read_only).map(|file| beside(file, "generation"));
        Ok(DuckDbLedger {
            kept_requests: file.map(|file| KeptRequests::new(beside(file, "requests"), retention.requests)),
            generations: recorded_in.map(|path| Arc::new(Generations::of(path, recorded))),
            unknown_groups: Arc::new(UnknownGroups {
                behind_view: AtomicBool::new(read_only && outdated.is_some()),
                ..UnknownGroups::default()
            }),
            outdated: outdated.map(Arc::from),
            duckdb,
            path,
            log: None,
            file: None,
            read_only,
            threads: Arc::new(ThreadBudget::new(threads)),
            retention,
            next_seq: Arc::new(AtomicU64::new(next_seq)),
            ordered_max: ORDERED_MAX,
            inline_max: long_texts::INLINE_BYTES_MAX,
            waiting: Arc::default(),
            bundled: Arc::default(),
            has_bundled: Arc::default(),
            candidates: Arc::default(),
            writing: Arc::default(),
        })
    }

    /// Another connection to the same ledger ([`Ledger::connect`](super::Ledger::connect)).
    pub fn another(&self, access: Access) -> Result<DuckDbLedger> {
        let read_only = self.read_only || access == Access::ReadOnly;
        let duckdb = self.duckdb.sibling().within(|| self.path.clone())?;
        if read_only {
            // An older file is shown as a current one by another database than the file's own.
            duckdb.try_call(|held| drop(held.connection.execute_batch(&format!("USE {}", schema::CURRENT))));
        }
        Ok(DuckDbLedger {
            duckdb,
            path: self.path.clone(),
            log: self.log.clone().filter(|_| !read_only),
            file: self.file.clone().filter(|_| !read_only),
            read_only,
            threads: Arc::new(self.threads.another()),
            retention: self.retention,
            next_seq: Arc::clone(&self.next_seq),
            ordered_max: self.ordered_max,
            inline_max: self.inline_max,
            waiting: Arc::default(),
            bundled: Arc::default(),
            has_bundled: Arc::clone(&self.has_bundled),
            candidates: Arc::default(),
            writing: Arc::clone(&self.writing),
            generations: self.generations.clone().filter(|_| !read_only),
            // Whether it is outdated is recorded in the tables, unless they could not be written.
            outdated: self.outdated.clone().filter(|_| self.generations.is_none()),
            kept_requests: self.kept_requests.clone(),
            unknown_groups: Arc::default(),
        })
    }

    /// The same ledger with another limit up to which candidates come in key order, so that what happens to very many can
    /// be tried with few.
    pub fn ordered_up_to(self, ordered_max: u64) -> DuckDbLedger {
        DuckDbLedger { ordered_max, ..self }
    }

    /// The same ledger with another limit of bytes up to which documents and changes are stored in their rows, so that
    /// tests of large ones can use small ones. The empty document, which conditions compare with, always is.
    pub fn inline_up_to(self, inline_max: usize) -> DuckDbLedger {
        DuckDbLedger { inline_max: inline_max.max("{}".len()), ..self }
    }

    /// An error of the ledger with its place; one of the source has its own.
    fn own(&self, error: Error) -> Error {
        if error.kind() == Kind::Ledger { error.at(self.path.clone()) } else { error }
    }

    fn files(&self) -> Option<Files> {
        let (file, log) = (self.file.clone()?, self.log.clone()?);
        Some(Files { file, log, generations: self.generations.clone() })
    }

    fn candidates(&self) -> MutexGuard<'_, Candidates> {
        self.candidates.lock()
    }

    /// The ledger's own connection.
    pub fn duckdb(&self) -> &DuckDbConnection {
        &self.duckdb
    }

    fn next_seq(&self) -> u64 {
        self.next_seq.load(Ordering::SeqCst)
    }
}
