//! Appending: a request for a file (`file:<path>`, `stdout:`) becomes lines on disk.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use parking_lot::Mutex;

use super::{Applied, FILE_URL, NoResponse, Request, Response, STDOUT_URL};
use crate::io::process;

/// One writer at a time: lines of two requests never mix, and a failed write can be undone.
static WRITING: Mutex<()> = Mutex::new(());

/// Whether this request is for a file rather than a server.
pub(super) fn is_local(request: &Request) -> bool {
    request.url == STDOUT_URL || request.url.starts_with(FILE_URL)
}

/// Writes the body at the end of the file, creating its folder, and syncs it to disk; or to standard output.
///
/// Responds 200, or with a status for what went wrong: 507 the disk is full, 403 anything else about the path. After a
/// failed write the file has its old length again, so any status but 200 means that nothing was written; where even that
/// fails there is no response.
pub(super) async fn append(request: &Request) -> Result<Response, NoResponse> {
    let url = request.url.clone();
    let body = request.body.clone();
    let written = tokio::task::spawn_blocking(move || {
        let _writing = WRITING.lock();
        match url.strip_prefix(FILE_URL) {
            Some(path) => append_to(Path::new(path), &body),
            None => print(&body),
        }
    });
    written
        .await
        .unwrap_or_else(|_| Err(NoResponse { applied: Applied::Maybe, what: "the writing thread panicked".to_owned() }))
}

fn append_to(path: &Path, body: &[u8]) -> Result<Response, NoResponse> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
        && let Err(error) = process::create_shared_folder(folder)
    {
        return Ok(failed(&format!("failed to create `{}`", folder.display()), &error));
    }
    // Opening a pipe without a reader would wait for one. `/dev/stdout` may be a pipe with a reader.
    if !path.starts_with("/dev") && std::fs::metadata(path).is_ok_and(|about| is_pipe(&about)) {
        let error = std::io::Error::new(ErrorKind::InvalidInput, "it is a pipe");
        return Ok(failed(&format!("failed to open `{}`", path.display()), &error));
    }
    let is_new = !path.exists();
    let opened = OpenOptions::new().append(true).create(true).open(path);
    let opened = opened.and_then(|file| if is_new { process::shared_file(&file).map(|()| file) } else { Ok(file) });
    let opened = opened.and_then(|file| file.metadata().map(|metadata| (file, metadata)));
    let (mut file, metadata) = match opened {
        Ok(opened) => opened,
        Err(error) => return Ok(failed(&format!("failed to open `{}`", path.display()), &error)),
    };
    let Err(error) = file.write_all(body).and_then(|()| synced(&file)) else { return Ok(replied(200, String::new())) };
    // A pipe or a device cannot be cut back.
    if metadata.is_file() && file.set_len(metadata.len()).and_then(|()| file.sync_data()).is_err() {
        let what = format!("failed to write `{}`, and to undo what was written of it: {error}", path.display());
        return Err(NoResponse { applied: Applied::Maybe, what });
    }
    Ok(failed(&format!("failed to write `{}`", path.display()), &error))
}

#[cfg(unix)]
fn is_pipe(about: &std::fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&about.file_type())
}

#[cfg(not(unix))]
fn is_pipe(_: &std::fs::Metadata) -> bool {
    false
}

/// Syncs what can be synced: `/dev/stdout` and named pipes cannot be synced.
fn synced(file: &File) -> std::io::Result<()> {
    match file.sync_data() {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        done => done,
    }
}

fn print(body: &[u8]) -> Result<Response, NoResponse> {
    let mut out = std::io::stdout().lock();
    match out.write_all(body).and_then(|()| out.flush()) {
        Ok(()) => Ok(replied(200, String::new())),
        Err(error) => Ok(failed("failed to write to standard output", &error)),
    }
}

fn failed(what: &str, error: &std::io::Error) -> Response {
    let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge);
    replied(if full { 507 } else { 403 }, format!("{what}: {error}"))
}

fn replied(status: u16, what: String) -> Response {
    Response { status, body: what.into_bytes(), ..Response::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &Path, body: &str) -> Request {
        let url = format!("{FILE_URL}{}", path.display());
        Request { method: "APPEND", url, headers: Vec::new(), body: body.into(), gzip: false }
    }

    #[tokio::test]
    async fn lines_are_appended_and_folders_created() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/changes.ndjson");
        assert!(is_local(&request(&path, "")));
        for line in ["one\n", "two\n"] {
            assert_eq!(append(&request(&path, line)).await.unwrap().status, 200);
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let reply = append(&request(folder.path(), "one\n")).await.unwrap();
        assert_eq!(reply.status, 403);
        assert!(String::from_utf8(reply.body).unwrap().starts_with("failed to open `"));
        #[cfg(unix)]
        {
            let fifo = folder.path().join("fifo");
            assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
            let reply = append(&request(&fifo, "one\n")).await.unwrap();
            assert_eq!((reply.status, String::from_utf8(reply.body).unwrap().contains("a pipe")), (403, true));
        }
        let full = append(&request(Path::new("/dev/full"), "one\n")).await.unwrap();
        assert_eq!(full.status, 507, "a full disk has its own advice");
        let device = append(&request(Path::new("/dev/null"), "one\n")).await.unwrap();
        assert_eq!(device.status, 200, "a device that cannot be synced");
    }
}
