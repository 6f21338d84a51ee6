//! `groupcast test`: the tests of mappings, with a diff at the line of each expectation that is not met.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::{Cli, Test};
use super::screen::{self, ADD, BOLD, CHANGE, DIM, REMOVE, paint, plural};
use super::text::{shown_value, written};
use super::{junit, print_json, show_failure, show_problems};
use crate::config::diagnostic::Diagnostics;
use crate::config::test_files::{self, TestsOfMapping};
use crate::config::{Project, layout};
use crate::error::{Error, Kind};
use crate::io::{Clock, SystemClock};
use crate::mapping::diagnostic::{Diagnostic, Lines};
use crate::mapping::test_file::{MappingTest, TestFile};
use crate::service::mapping_test::compare::Mismatch;
use crate::service::mapping_test::update::Update;
use crate::service::mapping_test::{self, Outcome, Tested};
use crate::service::open::{self, Failure};

pub(super) async fn test(cli: &Cli, options: &Test) -> Result<u8, Failure> {
    let project = open::project_without_secrets(cli.location())?;
    let (files, problems) = test_files_of(&project);
    for sync in &options.syncs {
        open::exists(&project, sync)?;
    }
    let chosen: Vec<&TestsOfMapping> =
        files.iter().filter(|file| options.syncs.is_empty() || options.syncs.contains(&file.sync)).collect();
    let mut code = 0;
    for file in &chosen {
        let problems = problems.of_file(&file.file);
        if problems.has_errors() {
            show_problems(cli, &problems);
            code = 2;
        }
    }
    let mut report = Report::default();
    for file in &chosen {
        let Some(tests) = &file.tests else { continue };
        // A mapping with mistakes has no tests that could run.
        match open::named(&project, &file.sync) {
            Ok(mapping) => report.run_all(cli, options, &project, mapping, (file, tests)).await?,
            Err(failure) => {
                show_failure(cli, &failure);
                code = 2;
            }
        }
    }
    if report.results.is_empty() && code == 0 {
        return Err(nothing_to_test(options, chosen.is_empty()).into());
    }
    if let Some(path) = &options.junit {
        let results: Vec<junit::Case<'_>> = report.results.iter().map(TestResult::case).collect();
        std::fs::write(path, junit::document(&results)).map_err(|error| {
            Error::new(Kind::Config, format!("failed to write {}", path.display()))
                .advise("look at the folder's permissions and at the free space")
                .because(error)
        })?;
    }
    report.foot(cli)?;
    Ok(code.max(u8::from(report.results.iter().any(TestResult::is_failure))))
}

/// The test files of a project, and what is wrong in them.
pub(super) fn test_files_of(project: &Project) -> (Vec<TestsOfMapping>, Diagnostics) {
    let sound = project.mappings.iter().map(|file| file.mapping.name.as_str());
    let syncs: Vec<&str> = sound.chain(project.broken.iter().map(|broken| broken.name.as_str())).collect();
    test_files::read_all(&project.settings.folder, &syncs)
}

fn nothing_to_test(options: &Test, no_file: bool) -> Error {
    match &options.name {
        Some(name) if !no_file => Error::new(Kind::Config, format!("no test has `{name}` in its name"))
            .advise("`groupcast test` runs all and shows their names"),
        _ => {
            let sync = options.syncs.first().map_or("NAME", String::as_str);
            Error::new(Kind::Config, "there are no tests")
                .advise(format!("write mappings/{sync}.test.toml beside the mapping; docs/testing.md has examples"))
        }
    }
}

/// A test that ran.
struct TestResult {
    sync: String,
    file: String,
    name: String,
    line: usize,
    seconds: f64,
    outcome: Outcome,
    /// Of what went wrong, each with its place: as it is printed.
    lines: Vec<String>,
    rewritten: bool,
}

impl TestResult {
    fn is_failure(&self) -> bool {
        !self.rewritten && matches!(self.outcome, Outcome::Failed(_) | Outcome::Broken(_))
    }

    fn word(&self) -> &'static str {
        match self.outcome {
            _ if self.rewritten => "updated",
            Outcome::Passed => "passed",
            Outcome::Failed(_) => "failed",
            Outcome::Broken(_) => "broken",
            Outcome::Skipped(_) => "skipped",
        }
    }

    fn case(&self) -> junit::Case<'_> {
        junit::Case {
            suite: &self.sync,
            name: &self.name,
            file: &self.file,
            line: self.line,
            seconds: self.seconds,
            outcome: match &self.outcome {
                Outcome::Skipped(reason) => junit::CaseOutcome::Skipped(reason),
                _ if self.is_failure() => junit::CaseOutcome::Failed(&self.lines),
                _ => junit::CaseOutcome::Passed,
            },
        }
    }
}

#[derive(Default)]
struct Report {
    results: Vec<TestResult>,
}

impl Report {
    /// Runs the tests of one file, and shows each as it ends.
    async fn run_all(
        &mut self,
        cli: &Cli,
        options: &Test,
        project: &Project,
        mapping: &crate::mapping::MappingFile,
        (file, tests): (&TestsOfMapping, &TestFile),
    ) -> Result<(), Failure> {
        let clock = SystemClock::start();
        let lines = Lines::of(&tests.text);
        let mut update = options.update.then(|| Update::of(&tests.text)).transpose()?;
        let mut has_changed = false;
        let wanted = |test: &MappingTest| {
            options.name.as_ref().is_none_or(|part| test.name.to_lowercase().contains(&part.to_lowercase()))
        };
        for (n, test) in tests.tests.iter().enumerate().filter(|(_, test)| wanted(test)) {
            let began = clock.elapsed();
            let Tested { outcome, actual } = mapping_test::run(project, mapping, tests, test).await?;
            let seconds = (clock.elapsed() - began).max(Duration::from_millis(1)).as_secs_f64();
            let mut rewritten = false;
            if let (Some(update), Outcome::Failed(mismatches)) = (&mut update, &outcome) {
                update.apply(n, mismatches, &actual);
                (rewritten, has_changed) = (true, true);
            }
            let shown = match &outcome {
                Outcome::Failed(mismatches) => {
                    let place = |mismatch: &Mismatch| place(&tests.file, &tests.text, mismatch.at.start);
                    mismatches.iter().flat_map(|mismatch| lines_of(&place(mismatch), mismatch)).collect()
                }
                Outcome::Broken(problems) => {
                    let text = |problem: &Diagnostic| match problem.file == tests.file {
                        true => tests.text.as_str(),
                        false => mapping.text.as_str(),
                    };
                    let lines = |problem: &Diagnostic| {
                        let place = place(&problem.file, text(problem), problem.span.start);
                        let help = problem.help.iter().map(|help| format!("  help: {help}"));
                        [format!("{place}  {}", problem.message)].into_iter().chain(help).collect::<Vec<_>>()
                    };
                    problems.iter().flat_map(lines).collect()
                }
                Outcome::Skipped(reason) => vec![reason.clone()],
                Outcome::Passed => Vec::new(),
            };
            let result = TestResult {
                sync: file.sync.clone(),
                file: tests.file.clone(),
                name: test.name.clone(),
                line: lines.line(test.at.span.start),
                seconds,
                outcome,
                lines: shown,
                rewritten,
            };
            show(cli, &result, tests)?;
            self.results.push(result);
        }
        if let Some(update) = update.filter(|_| has_changed) {
            let text = update.into_text();
            // What is inserted has no blank lines around it.
            let text = match layout::formatted(&tests.text).is_some_and(|canonical| canonical == tests.text) {
                true => layout::formatted(&text).unwrap_or(text),
                false => text,
            };
            std::fs::write(&file.path, text).map_err(|error| {
                Error::new(Kind::Config, format!("failed to write {}", file.file))
                    .advise("look at the file's permissions and at the free space")
                    .because(error)
            })?;
        }
        Ok(())
    }

    fn foot(&self, cli: &Cli) -> std::io::Result<()> {
        let count = |word: &str| self.results.iter().filter(|result| result.word() == word).count() as u64;
        let (passed, updated, skipped) = (count("passed"), count("updated"), count("skipped"));
        let failed = count("failed") + count("broken");
        if cli.json {
            print_json(&json!({"type": "summary", "tests": self.results.len(), "passed": passed, "failed": failed,
                "skipped": skipped, "updated": updated}));
            return Ok(());
        }
        let mut parts = vec![format!("{passed} passed")];
        let others = [(failed, "failed", REMOVE), (updated, "updated", CHANGE), (skipped, "skipped", CHANGE)];
        parts.extend(
            others
                .iter()
                .filter(|(count, ..)| *count > 0)
                .map(|(count, word, style)| paint(*style, format!("{count} {word}"))),
        );
        let all = paint(BOLD, format!("{}:", plural(self.results.len() as u64, "test")));
        writeln!(screen::stdout(), "\n{all} {}", parts.join(", "))
    }
}

/// `mappings/accounts.test.toml:14:3`.
fn place(file: &str, text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    format!("{file}:{line}:{column}")
}

/// What a mismatch is, line by line.
fn lines_of(place: &str, mismatch: &Mismatch) -> Vec<String> {
    let path = mismatch.pointer.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~");
    let mut lines = vec![format!("{place}  {path}")];
    lines.extend(mismatch.note.iter().map(|note| format!("  {note}")));
    let value = |value: &Option<Value>, sign: &str| match value {
        Some(value) => vec![format!("  {sign} {}", shown_value(value))],
        None => Vec::new(),
    };
    match (&mismatch.expected, &mismatch.actual) {
        (Some(_), None) => lines.push("  expected, and did not come out".to_owned()),
        (None, Some(_)) => lines.push("  came out, and is not expected".to_owned()),
        _ => {}
    }
    lines.extend(value(&mismatch.expected, "-"));
    lines.extend(value(&mismatch.actual, "+"));
    lines
}

fn show(cli: &Cli, result: &TestResult, tests: &TestFile) -> Result<(), Error> {
    if cli.json {
        print_json(&as_json(result, tests));
        return Ok(());
    }
    let (sign, style) = match result.word() {
        "passed" => ("✓", ADD),
        "failed" | "broken" => ("✗", REMOVE),
        _ => ("–", CHANGE),
    };
    let mut out = screen::stdout();
    let name = format!("{} {}", paint(BOLD, format!("{}:", result.sync)), result.name);
    let remark = if result.rewritten { paint(DIM, "  updated") } else { String::new() };
    written(writeln!(out, "{} {name}{remark}", paint(style, sign)))?;
    for line in result.lines.iter().filter(|_| !result.rewritten) {
        let painted = match line.trim_start().chars().next() {
            Some('-') => paint(REMOVE, line),
            Some('+') => paint(ADD, line),
            _ => line.clone(),
        };
        written(writeln!(out, "    {painted}"))?;
    }
    Ok(())
}

fn as_json(result: &TestResult, tests: &TestFile) -> Value {
    let lines = Lines::of(&tests.text);
    let (mismatches, problems, reason) = match &result.outcome {
        Outcome::Failed(mismatches) => {
            let one = |mismatch: &Mismatch| {
                json!({"line": lines.line(mismatch.at.start), "path": mismatch.pointer,
                    "expected": mismatch.expected, "actual": mismatch.actual, "note": mismatch.note})
            };
            (mismatches.iter().map(one).collect(), Vec::new(), None)
        }
        Outcome::Broken(problems) => {
            let one =
                |problem: &Diagnostic| json!({"file": problem.file, "message": problem.message, "help": problem.help});
            (Vec::new(), problems.iter().map(one).collect(), None)
        }
        Outcome::Skipped(reason) => (Vec::new(), Vec::new(), Some(reason)),
        Outcome::Passed => (Vec::new(), Vec::<Value>::new(), None),
    };
    json!({"type": "test", "sync": result.sync, "name": result.name, "file": result.file, "line": result.line,
        "outcome": result.word(), "seconds": result.seconds, "mismatches": mismatches, "problems": problems,
        "reason": reason})
}
