//! The terminal of this process.

use std::io::{self, IsTerminal, Read};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

/// Longest secret that is typed: a connection string with everything in it.
const BYTES_MAX: usize = 64 * 1024;

/// Whether a person can be asked: both ends are a terminal.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Gives the terminal back as it was.
struct Restored(Termios);

impl Drop for Restored {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Reads a line from standard input, locked by the caller, that is not shown. `ask` shows the question, once nothing that is
/// typed is shown any more. Keys are read one by one, signals included, so that the terminal is never left mute.
///
/// Errors: [`io::ErrorKind::Interrupted`], by Ctrl-C or Ctrl-D.
pub fn read_hidden(keys: impl Read, ask: impl FnOnce() -> io::Result<()>) -> io::Result<String> {
    let before = tcgetattr(io::stdin())?;
    let _restored = Restored(before.clone());
    let mut mute = before;
    mute.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
    mute.special_codes[SpecialCodeIndex::VMIN] = 1;
    mute.special_codes[SpecialCodeIndex::VTIME] = 0;
    tcsetattr(io::stdin(), OptionalActions::Now, &mute)?;
    ask()?;
    typed(keys)
}

/// The line that these keys give.
fn typed(mut keys: impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut key = [0];
    loop {
        let ended = keys.read(&mut key)? == 0;
        match key[0] {
            _ if ended => return Err(io::ErrorKind::Interrupted.into()),
            b'\n' | b'\r' => break,
            // Ctrl-C, Ctrl-D.
            0x03 | 0x04 => return Err(io::ErrorKind::Interrupted.into()),
            // Backspace takes a whole character.
            0x08 | 0x7f => while line.pop().is_some_and(|byte: u8| byte & 0b1100_0000 == 0b1000_0000) {},
            // Ctrl-U.
            0x15 => line.clear(),
            byte if line.len() < BYTES_MAX => line.push(byte),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_a_line() {
        for (keys, expected) in [
            ("hunter2\r", "hunter2"),
            ("hü\u{7f}\u{7f}x\n", "x"),
            ("abc\u{15}d\u{8}\u{8}\u{8}e\n", "e"),
            ("", ""),
            ("a\u{3}", ""),
            ("a\u{4}", ""),
        ] {
            let line = typed(keys.as_bytes());
            assert_eq!(line.unwrap_or_default(), expected, "{keys:?}");
        }
        assert_eq!(typed("a\u{3}".as_bytes()).unwrap_err().kind(), io::ErrorKind::Interrupted);
    }
}
