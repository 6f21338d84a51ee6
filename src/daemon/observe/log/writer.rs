//! The writer of the log: a bounded queue and one thread that writes. A standard error that is not read (a full pipe, a
//! suspended terminal) must never hold up a run: lines that find no room are dropped, counted, and the log says how many as
//! soon as it is read again.
//!
//! Ours rather than `tracing-appender`, which brings four crates for files that we do not write, and whose count of dropped
//! lines appears nowhere in the log.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// LogLines that wait. A line is rarely longer than 1 KB: at most some 4 MB.
const LINES_MAX: usize = 4_096;

/// The counter and the queue of the process's log, once it is started.
static PROCESS: OnceLock<LogWriter> = OnceLock::new();

/// Hands lines to the thread that writes them.
#[derive(Clone)]
pub(super) struct LogWriter {
    queue: SyncSender<QueueItem>,
    dropped: Arc<AtomicU64>,
}

enum QueueItem {
    Line(String),
    /// Everything before it is written.
    Flush(SyncSender<()>),
}

impl LogWriter {
    /// Starts the thread of the process's log.
    pub(super) fn start(out: impl Write + Send + 'static) -> std::io::Result<LogWriter> {
        let writer = LogWriter::with_room(out, LINES_MAX)?;
        // A second log of the process is refused by `tracing`.
        Ok(PROCESS.get_or_init(|| writer).clone())
    }

    fn with_room(out: impl Write + Send + 'static, lines_max: usize) -> std::io::Result<LogWriter> {
        let (queue, lines) = sync_channel(lines_max);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = LogWriter { queue, dropped: Arc::clone(&dropped) };
        std::thread::Builder::new().name("groupcast-log".to_owned()).spawn(move || write(out, &lines, &dropped))?;
        Ok(writer)
    }

    /// Writes a line, given without its end, or drops it.
    pub(super) fn line(&self, mut line: String) {
        line.push('\n');
        if let Err(TrySendError::Full(_)) = self.queue.try_send(QueueItem::Line(line)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self, at_most: Duration) -> bool {
        let (done, written) = sync_channel(1);
        // A full queue means that nothing reads: then there is nothing to wait for.
        self.queue.try_send(QueueItem::Flush(done)).is_ok() && written.recv_timeout(at_most).is_ok()
    }
}

/// LogLines of the process's log that were dropped so far.
pub fn dropped() -> u64 {
    PROCESS.get().map_or(0, |writer| writer.dropped.load(Ordering::Relaxed))
}

/// Waits until the lines of the process's log so far are written.
pub(super) fn flush(at_most: Duration) -> bool {
    PROCESS.get().is_none_or(|writer| writer.flush(at_most))
}

/// Writes lines until there can be no more. One write per line, so that lines of two processes do not mix.
fn write(mut out: impl Write, lines: &Receiver<QueueItem>, dropped: &AtomicU64) {
    let mut reported = 0;
    while let Ok(message) = lines.recv() {
        match message {
            QueueItem::Line(line) => {
                // There is no place left to report a failure.
                drop(out.write_all(line.as_bytes()));
            }
            QueueItem::Flush(done) => drop(done.send(())),
        }
        let missing = dropped.load(Ordering::Relaxed) - reported;
        if missing > 0 {
            reported += missing;
            // Through the log itself, so that it has the format of every other line. Into a queue that has room by now, or
            // it counts as the next one dropped.
            tracing::warn!(dropped = missing, "{missing} log lines were dropped: standard error was not read in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::io::{Clock, SystemClock};

    #[test]
    fn lines_that_find_no_room_are_dropped_and_counted() {
        let (mut reader, pipe) = std::io::pipe().unwrap();
        let writer = LogWriter::with_room(pipe, 8).unwrap();
        // A pipe holds 64 KiB; one more line is with the thread, eight wait.
        for number in 0..100 {
            writer.line(format!("{number:04}{}", "x".repeat(8_000)));
            // The thread takes its time.
            std::thread::sleep(Duration::from_millis(1));
        }
        let dropped = writer.dropped.load(Ordering::Relaxed);
        assert!((70..=95).contains(&dropped), "{dropped}");
        let clock = SystemClock::start();
        assert!(!writer.flush(Duration::from_millis(50)));
        assert!(clock.elapsed() < Duration::from_secs(5), "it does not wait for ever");
        // Once it is read again, what waited is complete.
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len() as u64, 100 - dropped);
        assert!(
            lines
                .iter()
                .enumerate()
                .all(|(number, line)| line.len() == 8_004 && line.starts_with(&format!("{number:04}")))
        );
    }

    #[test]
    fn a_flush_waits_for_what_is_written() {
        let (mut reader, pipe) = std::io::pipe().unwrap();
        let writer = LogWriter::with_room(pipe, 8).unwrap();
        writer.line("one".to_owned());
        assert!(writer.flush(Duration::from_secs(10)));
        let mut line = [0; 4];
        reader.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"one\n");
    }
}
