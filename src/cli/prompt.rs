//! Questions on a terminal, line by line. Ours rather than a crate: three kinds of question need no terminal library, and every
//! one of them can be read from a pipe in a test.

use std::io::{BufRead, Write};

use crate::error::{Error, Kind, Result};
use crate::format::one_line;
use crate::io::terminal;

/// Attempts at a question. More of them are a script that types something else.
const ATTEMPTS_MAX: usize = 20;

/// Asks, and reads the answers.
pub(super) struct Prompter<Input, Output> {
    input: Input,
    output: Output,
    /// Whether the input is this process's terminal, so that secrets can be typed unseen.
    is_terminal: bool,
}

/// The input ended, or Ctrl-C.
fn cancelled() -> Error {
    Error::new(Kind::Interrupted, "cancelled; nothing was written")
}

impl<Input: BufRead, Output: Write> Prompter<Input, Output> {
    pub(super) fn new(input: Input, output: Output, is_terminal: bool) -> Prompter<Input, Output> {
        Prompter { input, output, is_terminal }
    }

    /// Shows a line.
    pub(super) fn show(&mut self, text: &str) -> Result<()> {
        super::text::written(writeln!(self.output, "{text}"))
    }

    fn ask(&mut self, question: &str) -> Result<()> {
        super::text::written(write!(self.output, "{question} ").and_then(|()| self.output.flush()))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.input.read_line(&mut line);
        let read = read.map_err(|error| Error::new(Kind::Config, "failed to read the terminal").because(error))?;
        if read == 0 { Err(cancelled()) } else { Ok(line.trim().to_owned()) }
    }

    /// A text; the default for an empty line, or none where there is no default.
    pub(super) fn text(&mut self, question: &str, default: Option<&str>) -> Result<String> {
        for _ in 0..ATTEMPTS_MAX {
            match default {
                Some(default) => self.ask(&format!("{question} [{}]:", one_line(default)))?,
                None => self.ask(&format!("{question}:"))?,
            }
            let line = self.line()?;
            match (line.is_empty(), default) {
                (false, _) => return Ok(line),
                (true, Some(default)) => return Ok(default.to_owned()),
                (true, None) => {}
            }
        }
        Err(cancelled())
    }

    /// A text that is not shown while it is typed.
    pub(super) fn secret(&mut self, question: &str) -> Result<String> {
        for _ in 0..ATTEMPTS_MAX {
            let question = format!("{question} (not shown):");
            let line = if self.is_terminal {
                let Prompter { input, output, .. } = self;
                let ask = || write!(output, "{question} ").and_then(|()| output.flush());
                let typed = terminal::read_hidden(input, ask);
                self.show("")?;
                typed.map_err(|_| cancelled())?.trim().to_owned()
            } else {
                self.ask(&question)?;
                self.line()?
            };
            if !line.is_empty() {
                return Ok(line);
            }
        }
        Err(cancelled())
    }

    /// One of a list, by its number or its first word; `default` is a position.
    pub(super) fn choice(&mut self, question: &str, options: &[String], default: usize) -> Result<usize> {
        for (number, option) in options.iter().enumerate() {
            self.show(&format!("  {:2}  {}", number + 1, one_line(option)))?;
        }
        for _ in 0..ATTEMPTS_MAX {
            let line = self.text(question, Some(&(default + 1).to_string()))?;
            let named = |option: &String| option.split_whitespace().next().is_some_and(|word| word == line);
            let chosen = match line.parse::<usize>() {
                Ok(number) => number.checked_sub(1).filter(|at| *at < options.len()),
                Err(_) => options.iter().position(named),
            };
            if let Some(chosen) = chosen {
                return Ok(chosen);
            }
            self.show(&format!("type a number from 1 to {}, or a name", options.len()))?;
        }
        Err(cancelled())
    }

    /// Yes or no.
    pub(super) fn confirm(&mut self, question: &str) -> Result<bool> {
        Ok(self.text(&format!("{question} (yes or no)"), Some("yes"))?.to_ascii_lowercase().starts_with('y'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<T>(typed: &str, ask: impl FnOnce(&mut Prompter<&[u8], &mut Vec<u8>>) -> Result<T>) -> (Result<T>, String) {
        let mut shown = Vec::new();
        let answer = ask(&mut Prompter::new(typed.as_bytes(), &mut shown, false));
        (answer, String::from_utf8(shown).unwrap())
    }

    #[test]
    fn answers_are_texts_defaults_and_choices() {
        assert_eq!(asked("\n a b \n", |prompts| prompts.text("Name", None)).0.unwrap(), "a b");
        let (answer, shown) = asked("\n", |prompts| prompts.text("Name", Some("x")));
        assert_eq!((answer.unwrap().as_str(), shown.as_str()), ("x", "Name [x]: "));
        let options = ["postgres   a server".to_owned(), "duckdb   a file".to_owned()];
        for (typed, expected) in [("\n", 1), ("1\n", 0), ("postgres\n", 0), ("3\n0\nx\nduckdb\n", 1)] {
            assert_eq!(asked(typed, |prompts| prompts.choice("Type", &options, 1)).0.unwrap(), expected, "{typed:?}");
        }
        assert!(asked("\n", |prompts| prompts.confirm("Go on?")).0.unwrap());
        assert!(!asked("no\n", |prompts| prompts.confirm("Go on?")).0.unwrap());
        let (secret, shown) = asked("hunter2\n", |prompts| prompts.secret("Key"));
        assert_eq!(secret.unwrap(), "hunter2");
        assert!(!shown.contains("hunter2"));
    }

    #[test]
    fn an_input_that_ends_or_never_fits_cancels() {
        for typed in ["", &"\n".repeat(30)] {
            let error = asked(typed, |prompts| prompts.text("Name", None)).0.unwrap_err();
            assert_eq!(error.kind(), Kind::Interrupted);
        }
    }
}
