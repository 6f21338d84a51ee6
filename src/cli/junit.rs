//! Results of tests as JUnit's XML, which CI systems show beside a pull request.

use std::fmt::Write as _;

/// One test.
pub(super) struct Case<'a> {
    pub(super) suite: &'a str,
    pub(super) name: &'a str,
    pub(super) file: &'a str,
    pub(super) line: usize,
    pub(super) seconds: f64,
    pub(super) outcome: CaseOutcome<'a>,
}

/// How it ended.
pub(super) enum CaseOutcome<'a> {
    Passed,
    /// What went wrong, line by line.
    Failed(&'a [String]),
    /// Why.
    Skipped(&'a str),
}

/// The document: a suite for each sync, in the order in which they ran.
pub(super) fn document(cases: &[Case<'_>]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"groupcast\">\n");
    for suite in cases.chunk_by(|left, right| left.suite == right.suite) {
        let count = |of: fn(&CaseOutcome<'_>) -> bool| suite.iter().filter(|case| of(&case.outcome)).count();
        let failures = count(|outcome| matches!(outcome, CaseOutcome::Failed(_)));
        let skipped = count(|outcome| matches!(outcome, CaseOutcome::Skipped(_)));
        let seconds: f64 = suite.iter().map(|case| case.seconds).sum();
        let name = suite.first().map_or("", |case| case.suite);
        // Writing to a string never fails.
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" time=\"{seconds:.3}\">",
            escaped(name),
            suite.len()
        );
        for case in suite {
            let _ = write!(
                out,
                "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{}\" time=\"{:.3}\"",
                escaped(case.suite),
                escaped(case.name),
                escaped(case.file),
                case.line,
                case.seconds
            );
            let _ = match &case.outcome {
                CaseOutcome::Passed => writeln!(out, "/>"),
                CaseOutcome::Skipped(why) => {
                    writeln!(out, ">\n      <skipped message=\"{}\"/>\n    </testcase>", escaped(why))
                }
                CaseOutcome::Failed(lines) => {
                    let first = lines.first().map_or("", String::as_str);
                    let text = escaped(&lines.join("\n"));
                    let message = escaped(first);
                    writeln!(out, ">\n      <failure message=\"{message}\">{text}</failure>\n    </testcase>")
                }
            };
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// Text as it may be within an element or an attribute; characters that XML does not have become a mark.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push('\t'),
            char if char.is_control() || matches!(char, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_counts_and_escapes() {
        let lines = ["a.test.toml:3:1  documents.<x>".to_owned(), "  - \"a\" & \u{1}".to_owned()];
        let case = |suite, name, outcome| Case { suite, name, file: "a.test.toml", line: 2, seconds: 0.25, outcome };
        let text = document(&[
            case("a", "one", CaseOutcome::Passed),
            case("a", "t\"wo", CaseOutcome::Failed(&lines)),
            case("b", "three", CaseOutcome::Skipped("no <SQL>")),
        ]);
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="groupcast">
  <testsuite name="a" tests="2" failures="1" errors="0" skipped="0" time="0.500">
    <testcase classname="a" name="one" file="a.test.toml" line="2" time="0.250"/>
    <testcase classname="a" name="t&quot;wo" file="a.test.toml" line="2" time="0.250">
      <failure message="a.test.toml:3:1  documents.&lt;x&gt;">a.test.toml:3:1  documents.&lt;x&gt;&#10;  - &quot;a&quot; &amp; �</failure>
    </testcase>
  </testsuite>
  <testsuite name="b" tests="1" failures="0" errors="0" skipped="1" time="0.250">
    <testcase classname="b" name="three" file="a.test.toml" line="2" time="0.250">
      <skipped message="no &lt;SQL&gt;"/>
    </testcase>
  </testsuite>
</testsuites>
"#;
        assert_eq!(text, expected);
    }
}
