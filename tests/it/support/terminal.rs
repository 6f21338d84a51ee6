//! A command on a terminal of its own, at which a person types: a pseudo-terminal of a given width, and what its screen shows.

use std::io::{ErrorKind, Read, Write};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use pty_process::Size;
use pty_process::blocking::{self, Pty};
use rustix::termios::{LocalModes, tcgetattr};

use super::cli::{Owned, Place, until};

/// Lines of the terminal.
const ROWS: u16 = 40;

/// A command and its terminal.
pub(crate) struct Terminal {
    child: Owned,
    pty: Arc<Pty>,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Where what is new begins.
    seen: usize,
    reader: JoinHandle<()>,
    columns: u16,
}

/// What there was on a terminal once its command had ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Everything that was written to it, as it was.
    pub(crate) written: String,
    /// The lines on its screen, without blanks at their ends.
    pub(crate) screen: Vec<String>,
}

impl Terminal {
    /// Starts the program on a terminal with so many columns.
    pub(crate) fn start(place: &Place, columns: u16, arguments: &[&str]) -> Terminal {
        Terminal::start_command(place, columns, &[&[env!("CARGO_BIN_EXE_groupcast")], arguments].concat())
    }

    /// Starts a shell that does this, with the program as `groupcast`.
    pub(crate) fn start_shell(place: &Place, columns: u16, script: &str) -> Terminal {
        let script = format!("groupcast() {{ '{}' \"$@\"; }}; {script}", env!("CARGO_BIN_EXE_groupcast"));
        Terminal::start_command(place, columns, &["sh", "-c", &script])
    }

    fn start_command(place: &Place, columns: u16, words: &[&str]) -> Terminal {
        // Tests that run in the background are started with SIGINT ignored, and so would be what they start.
        let mut command = Command::new("env");
        place.prepare(&mut command);
        command.arg("--default-signal=INT").args(words);
        command.env("TERM", "xterm-256color").env_remove("COLUMNS");
        let (pty, child_end) = blocking::open().unwrap();
        pty.resize(Size::new(ROWS, columns)).unwrap();
        let child = blocking::Command::from(command).spawn(child_end).unwrap();
        let (pty, shown) = (Arc::new(pty), Arc::new(Mutex::new(Vec::new())));
        let (from, all) = (Arc::clone(&pty), Arc::clone(&shown));
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            loop {
                match (&*from).read(&mut piece) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // The last process on the terminal has ended.
                    Ok(0) | Err(_) => return,
                    Ok(count) => all.lock().unwrap().extend_from_slice(&piece[..count]),
                }
            }
        });
        Terminal { child: Owned(child), pty, shown, seen: 0, reader, columns }
    }

    /// What was written since something was typed.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()[self.seen..]).into_owned()
    }

    /// The lines on the screen now.
    pub(crate) fn screen(&self) -> Vec<String> {
        screen(&String::from_utf8_lossy(&self.shown.lock().unwrap()), usize::from(self.columns))
    }

    /// Types once a question is shown; the next question must come after it.
    #[track_caller]
    pub(crate) fn types(&mut self, question: &str, keys: &str) {
        until(question, || self.shown().contains(question).then_some(()));
        self.seen = self.shown.lock().unwrap().len();
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    /// Whether what is typed is shown.
    pub(crate) fn echoes(&self) -> bool {
        tcgetattr(&*self.pty).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// Waits for the end of the command.
    #[track_caller]
    pub(crate) fn ends(mut self) -> Ended {
        let status = until("the command ends", || self.child.0.try_wait().unwrap());
        self.reader.join().unwrap();
        let written = String::from_utf8(std::mem::take(&mut *self.shown.lock().unwrap())).expect("UTF-8");
        let screen = screen(&written, usize::from(self.columns));
        Ended { code: status.code(), written, screen }
    }
}

impl Ended {
    /// Fails, showing the screen, unless the exit code is this.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Ended {
        assert_eq!(self.code, Some(code), "\n{}", self.screen.join("\n"));
        self
    }

    /// Fails unless the screen shows each of these texts.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Ended {
        let screen = self.screen.join("\n");
        for text in texts {
            assert!(screen.contains(text), "`{text}` is missing in\n{screen}");
        }
        self
    }

    /// The lines as they were written, before the terminal broke those that are too long for it.
    pub(crate) fn lines(&self) -> Vec<String> {
        screen(&self.written, 1_000_000)
    }
}

/// The lines of a screen that is high enough for everything, after these bytes. An instruction that is not known here is an
/// error: what it does would be missing from the screen.
pub(crate) fn screen(written: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0_usize, 0_usize);
    let mut chars = written.chars();
    while let Some(char) = chars.next() {
        match char {
            '\r' => column = 0,
            '\n' => row += 1,
            '\u{8}' => column = column.saturating_sub(1),
            '\u{7}' => {}
            '\u{1b}' => {
                assert_eq!(chars.next(), Some('['), "an instruction of one letter in {written:?}");
                let (mut parameters, mut last) = (String::new(), ' ');
                for char in chars.by_ref() {
                    last = char;
                    if ('@'..='~').contains(&char) {
                        break;
                    }
                    parameters.push(char);
                }
                let count = parameters.parse().unwrap_or(1_usize);
                match (last, parameters.as_str()) {
                    ('m', _) | ('h' | 'l', "?25" | "?2026") => {}
                    ('A', _) => row = row.saturating_sub(count),
                    ('B', _) => row += count,
                    ('C', _) => column = (column + count).min(columns - 1),
                    ('D', _) => column = column.saturating_sub(count),
                    ('G', _) => column = count - 1,
                    ('K', "" | "0") => lines[row].truncate(column),
                    ('K', "2") => lines[row].clear(),
                    ('J', "" | "0") => {
                        lines[row].truncate(column);
                        lines.truncate(row + 1);
                    }
                    instruction => panic!("the screen has no {instruction:?}"),
                }
            }
            char => {
                if column == columns {
                    (row, column) = (row + 1, 0);
                }
                if row >= lines.len() {
                    lines.resize(row + 1, Vec::new());
                }
                let line = &mut lines[row];
                if line.len() <= column {
                    line.resize(column + 1, ' ');
                }
                line[column] = char;
                column += 1;
            }
        }
        if row >= lines.len() {
            lines.resize(row + 1, Vec::new());
        }
    }
    let mut shown: Vec<String> =
        lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect();
    while shown.last().is_some_and(String::is_empty) {
        shown.pop();
    }
    shown
}

#[test]
fn a_screen_shows_what_was_drawn_last() {
    assert_eq!(screen("a\r\nb\u{1b}[31mc\u{1b}[0m\r\n", 10), ["a", "bc"]);
    assert_eq!(screen("12345678", 5), ["12345", "678"]);
    assert_eq!(screen("12345\r\nx", 5), ["12345", "x"]);
    assert_eq!(screen("bar 1\r\u{1b}[2Kdone\r\n", 10), ["done"]);
    assert_eq!(screen("a\r\nbb\u{1b}[1A\rcc\u{1b}[K", 10), ["cc", "bb"]);
    assert_eq!(screen("a\r\nbb\u{1b}[1A\r\u{1b}[J", 10), Vec::<String>::new());
}
