//! The floors: the least that the machine must do for the same result, each in a process of its own (`bench floor …`).
//!
//! - `hash FILE COLUMN…`: DuckDB hashes every column, as a comparison with earlier hashes must. The best of five times.
//! - `write FILE FOLDER COLUMN…`: DuckDB writes the accounts as lines of JSON with COPY, and a table of key, hash and
//!   JSON document, as a sync to a file must at least.
//! - `replay FILE URL CONNECTIONS`: the recorded requests are sent again, as they are.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use crate::Result;
use crate::measure::{self, Cost};

/// Runs a floor in a process of its own and returns what the work took in there, without that process's start.
pub(crate) fn run(arguments: &[&str]) -> Result<Cost> {
    let mut command = Command::new(std::env::current_exe()?);
    let (whole, output) = measure::run(command.arg("floor").args(arguments))?;
    let inside: Cost = serde_json::from_str(&output)?;
    Ok(Cost { peak_mb: whole.peak_mb, ..inside })
}

/// The command behind [`run`].
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let cost = match arguments.as_slice() {
        ["hash", file, columns @ ..] => hash(file, columns)?,
        ["write", file, folder, columns @ ..] => write(file, Path::new(folder), columns)?,
        ["replay", file, url, connections] => replay(Path::new(file), url, connections.parse()?)?,
        _ => return Err("unknown floor".into()),
    };
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
}

fn hash(file: &str, columns: &[&str]) -> Result<Cost> {
    let connection = duckdb::Connection::open_with_flags(
        file,
        duckdb::Config::default().access_mode(duckdb::AccessMode::ReadOnly)?,
    )?;
    let sql = format!("SELECT max(hash(account_id, {})) FROM accounts", columns.join(", "));
    let mut best: Option<Cost> = None;
    for _ in 0..5 {
        let (cost, _) = measure::inside(|| Ok(connection.query_row(&sql, [], |row| row.get::<_, u64>(0))?))?;
        if best.as_ref().is_none_or(|best| cost.seconds < best.seconds) {
            best = Some(cost);
        }
    }
    best.ok_or_else(|| "nothing was measured".into())
}

fn write(file: &str, folder: &Path, columns: &[&str]) -> Result<Cost> {
    std::fs::create_dir_all(folder)?;
    let connection = duckdb::Connection::open(folder.join("floor.duckdb"))?;
    connection.execute_batch(&format!("ATTACH '{file}' AS warehouse (READ_ONLY)"))?;
    let members: Vec<String> = columns.iter().map(|name| format!("\"{name}\": {name}")).collect();
    let document = format!("{{{}}}", members.join(", "));
    let lines = folder.join("floor.ndjson");
    let (cost, ()) = measure::inside(|| {
        connection.execute_batch(&format!(
            "COPY (SELECT 'company' AS group_type, account_id AS key, {document} AS set FROM warehouse.accounts) TO '{}' \
             (FORMAT json); \
             CREATE TABLE synced AS SELECT account_id AS key, hash(account_id, {}) AS hash, \
             CAST(to_json({document}) AS VARCHAR) AS document FROM warehouse.accounts; \
             CHECKPOINT",
            lines.display(),
            columns.join(", "),
        ))?;
        Ok(())
    })?;
    std::fs::remove_dir_all(folder)?;
    Ok(cost)
}

/// The recorded requests, one after the other.
struct Recording(BufReader<File>);

impl Recording {
    /// The next request's path and body; `false` at the end.
    fn next(&mut self, path: &mut Vec<u8>, body: &mut Vec<u8>) -> Result<bool> {
        let mut length = [0; 8];
        match self.0.read_exact(&mut length) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        path.resize(usize::try_from(u64::from_le_bytes(length))?, 0);
        self.0.read_exact(&mut length)?;
        body.resize(usize::try_from(u64::from_le_bytes(length))?, 0);
        self.0.read_exact(path)?;
        self.0.read_exact(body)?;
        Ok(true)
    }
}

fn replay(file: &Path, url: &str, connections: usize) -> Result<Cost> {
    let host = url.strip_prefix("http://").ok_or("the address has no http://")?;
    let recording = Mutex::new(Recording(BufReader::with_capacity(1 << 20, File::open(file)?)));
    let (cost, ()) = measure::inside(|| {
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0..connections).map(|_| scope.spawn(|| send(host, &recording))).collect();
            senders.into_iter().try_for_each(|sender| match sender.join() {
                Ok(sent) => sent.map_err(Into::into),
                Err(_) => Err("a sender panicked".into()),
            })
        })
    })?;
    Ok(cost)
}

/// Sends requests over one connection until all are sent, each after the acknowledgement of the last.
fn send(host: &str, recording: &Mutex<Recording>) -> std::result::Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("the replay failed: {error}");
    let mut stream = TcpStream::connect(host).map_err(|error| failed(&error))?;
    stream.set_nodelay(true).map_err(|error| failed(&error))?;
    let (mut path, mut body, mut request, mut answer) = (Vec::new(), Vec::new(), Vec::new(), vec![0; 8 * 1024]);
    loop {
        let more = {
            let mut recording = recording.lock().map_err(|error| failed(&error))?;
            recording.next(&mut path, &mut body).map_err(|error| failed(&error))?
        };
        if !more {
            return Ok(());
        }
        request.clear();
        request.extend_from_slice(b"POST ");
        request.extend_from_slice(&path);
        request.extend_from_slice(
            format!(" HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(),
        );
        stream.write_all(&request).and_then(|()| stream.write_all(&body)).map_err(|error| failed(&error))?;
        read_answer(&mut stream, &mut answer).map_err(|error| failed(&error))?;
    }
}

/// Reads one acknowledgement: a head with the body's length, and the body.
fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<()> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Err(std::io::Error::other("the receiver closed the connection"));
        }
        filled += read;
        let text = &buffer[..filled];
        let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&text[..end]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(std::io::Error::other(format!("the receiver answered {head}")));
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
        if filled >= end + 4 + length {
            return Ok(());
        }
    }
}
