//! Does the same command do and show the same, with and without a daemon? One story, told twice.

use super::{edit, place, scheduled, slow, wide, wide_mapping};
use crate::support::cli::{Place, Receiver};
use crate::support::daemon::Daemon;
use crate::support::terminal::Terminal;

/// A step of the story: a change of the warehouse, or a command.
enum Step {
    Edit(&'static str),
    Run(&'static [&'static str]),
}

const STORY: &[Step] = &[
    Step::Run(&["plan", "--show", "1"]),
    Step::Run(&["plan", "--requests", "accounts"]),
    Step::Run(&["run"]),
    Step::Run(&["run", "--json"]),
    Step::Edit("UPDATE accounts SET rev = 1 WHERE id IN ('k1', 'k2', 'k3')"),
    Step::Run(&["plan", "accounts", "others"]),
    Step::Run(&["plan", "--json", "--show", "1"]),
    Step::Run(&["plan", "--json", "--requests", "accounts"]),
    Step::Run(&["run", "accounts", "--limit", "1"]),
    Step::Run(&["run", "accounts", "--group", "k3", "--json"]),
    Step::Run(&["run", "accounts"]),
    // A guard, and what comes after it.
    Step::Edit("CREATE TABLE kept AS SELECT * FROM accounts; DELETE FROM accounts"),
    Step::Run(&["plan"]),
    Step::Run(&["run"]),
    Step::Run(&["run", "--json"]),
    Step::Run(&["run", "accounts", "--accept", "empty"]),
    Step::Run(&["runs", "accounts", "-n", "3", "--json"]),
    Step::Edit("INSERT INTO accounts SELECT * FROM kept"),
    // A source that fails, in the middle of others.
    Step::Edit("ALTER TABLE accounts RENAME TO elsewhere"),
    Step::Run(&["plan"]),
    Step::Run(&["run"]),
    Step::Run(&["run", "--json"]),
    Step::Run(&["ledger", "adopt", "accounts"]),
    Step::Edit("ALTER TABLE elsewhere RENAME TO accounts"),
    // The ledger itself.
    Step::Run(&["ledger", "export", "accounts"]),
    Step::Run(&["ledger", "reset", "accounts"]),
    Step::Run(&["ledger", "reset", "accounts", "--group", "k1", "--yes"]),
    Step::Run(&["ledger", "reset", "accounts", "--group", "k2", "--forget", "--yes", "--json"]),
    Step::Run(&["ledger", "export", "accounts"]),
    Step::Run(&["ledger", "adopt", "others", "--json"]),
    Step::Run(&["ledger", "adopt", "accounts"]),
    Step::Run(&["verify", "accounts"]),
    Step::Run(&["run", "accounts"]),
    Step::Run(&["rejected", "--json"]),
    // What is wrong with the command.
    Step::Run(&["run", "nobody"]),
    Step::Run(&["plan", "nobody", "--json"]),
    Step::Run(&["ledger", "export", "nobody"]),
    Step::Run(&["verify", "nobody", "--json"]),
    Step::Run(&["runs", "show", "nothing"]),
];

/// Text without what differs by the moment: ids of runs, times, and the lines about the daemon itself.
pub(super) fn normalized(text: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .filter(|line| !line.contains(": submitted to the daemon at ") && !line.ends_with(": queued behind other runs"))
        .map(|line| {
            // In which part of a second each request was.
            if line.starts_with("requests  ") {
                return "requests  …".to_owned();
            }
            // How long responses took, and when a line was logged.
            if line.starts_with("latency   ") {
                return "latency   …".to_owned();
            }
            let logged = |at: &str| at.chars().all(|char| char.is_ascii_digit() || char == ':');
            if let Some(rest) = line.strip_prefix("  ").filter(|rest| rest.get(..8).is_some_and(logged)) {
                return format!("  …{}", &rest[8..]);
            }
            // The same in JSON.
            let line = match (line.find("\"timeline\":{"), line.find("\"slot_ms\":")) {
                (Some(start), Some(end)) if start < end => format!("{}…{}", &line[..start], &line[end..]),
                _ => line.to_owned(),
            };
            let line = match (line.find("\"latency\":{"), line.find("\"responses\":")) {
                (Some(start), Some(end)) if start < end => format!("{}…{}", &line[..start], &line[end..]),
                _ => line,
            };
            let words = line.split_inclusive([' ', '"', ',', '(', ')', '{', '}', ':']);
            let mut shown = String::new();
            let mut seconds = false;
            for word in words {
                let bare = word.trim_end_matches([' ', '"', ',', '(', ')', '{', '}', ':']);
                let end = &word[bare.len()..];
                let is_id = bare.len() > 15 && bare.starts_with("20") && bare.contains('T');
                let is_number = bare.parse::<f64>().is_ok();
                // `2026-11-26T12:00:00.123456789+00:00` is cut at its colons.
                let is_time = bare.len() >= 13 && bare.starts_with("20") && bare.contains('-');
                let is_rest = bare.contains("+00") || bare.ends_with('Z');
                if is_id || is_time || is_rest || (is_number && (seconds || bare.contains('.'))) {
                    shown.push('…');
                    shown.push_str(end);
                } else {
                    shown.push_str(word);
                }
                seconds = (seconds && bare.is_empty()) || bare.ends_with("seconds");
            }
            // Minutes of a time that was cut.
            while let Some(at) = shown.find("…:") {
                let rest = &shown[at + "…:".len()..];
                let digits = rest.chars().take_while(|letter| letter.is_ascii_digit() || *letter == ':').count();
                shown.replace_range(at + "…".len()..at + "…:".len() + digits, "");
            }
            without_minutes(shown)
        })
        .collect();
    lines.join("\n")
}

/// Text without the date and the minutes of a time whose seconds were cut: `2026-11-26 12:00:`.
fn without_minutes(mut text: String) -> String {
    const PATTERN: &[u8] = b"0000-00-00 00:00:";
    let fits = |window: &[u8]| {
        window.iter().zip(PATTERN).all(|(byte, wanted)| byte == wanted || (*wanted == b'0' && byte.is_ascii_digit()))
    };
    while let Some(at) = text.as_bytes().windows(PATTERN.len()).position(fits) {
        text.replace_range(at..at + PATTERN.len(), "");
    }
    text
}

fn tell(place: &Place, steps: &[Step]) -> Vec<String> {
    let step = |step: &Step| match step {
        Step::Edit(sql) => {
            edit(place, sql);
            None
        }
        Step::Run(arguments) => {
            let output = place.run(arguments);
            let code = output.code.unwrap_or(-1);
            let (out, err) = (normalized(&output.stdout), normalized(&output.stderr));
            Some(format!("$ groupcast {}\n{out}\n--- stderr\n{err}\n--- exit {code}\n", arguments.join(" ")))
        }
    };
    steps.iter().filter_map(step).collect()
}

fn project(receiver: &Receiver) -> Place {
    let place = place(receiver, 5);
    place.mapping("accounts", &scheduled(""));
    place.warehouse("CREATE TABLE others AS SELECT 'o' || i AS id, 'n' || i AS name, 0 AS rev FROM range(3) r(i)");
    let others = scheduled("").replace("\"accounts\"", "\"others\"").replace("\"company\"", "\"team\"");
    place.mapping("others", &others);
    place
}

/// The outputs of a story that is the same with and without a daemon, over projects that are made equal.
#[track_caller]
fn told_alike(project: fn(&Receiver) -> Place, steps: &[Step]) -> Vec<String> {
    let (alone, beside) = (Receiver::start(), Receiver::start());
    let without = tell(&project(&alone), steps);
    let place = project(&beside);
    let daemon = Daemon::start(&place);
    let with = tell(&place, steps);
    daemon.stop().exits(0);
    for (without, with) in without.iter().zip(&with) {
        let with = with.replace(&beside.url, &alone.url);
        assert_eq!(&with, without, "with and without a daemon");
    }
    assert_eq!(alone.vendor.groups(), beside.vendor.groups());
    without
}

#[test]
fn the_same_story_is_told_with_and_without_a_daemon() {
    let all = told_alike(project, STORY).concat();
    for text in [
        "5 delivered",
        "guard `empty`",
        "--accept empty",
        "cannot be read back",
        "nothing was reset",
        "error: source warehouse: table `accounts` not found",
        "| table = \"accounts\"",
    ] {
        assert!(all.contains(text), "{text}: the story does not show it\n{all}");
    }
}

/// A mapping for every kind of mistake that only the source can find.
fn mistaken_project(receiver: &Receiver) -> Place {
    let place = place(receiver, 5);
    let write = |name: &str, traits: &str, model: &str| {
        let text = crate::support::cli::mapping(traits, "").replace("table = \"accounts\"", model);
        place.mapping(name, &text.replace("\"company\"", &format!("\"{name}\"")));
    };
    let table = "table = \"accounts\"";
    write("column", "name = \"nmae\"\nrev = \"reev\"", table);
    write("condition", "name = \"name\"", &format!("{table}\nwhere = \"revision > 1\""));
    write("expression", "name = { sql = \"upper(nmae)\" }", table);
    write("query", "name = \"name\"", "sql = '''\nSELECT id, nmae\nFROM accounts\n'''");
    write("table", "name = \"name\"", "table = \"acounts\"");
    place
}

#[test]
fn a_mistake_that_the_source_finds_is_drawn_at_its_line_with_and_without_a_daemon() {
    let steps = [
        Step::Run(&["plan"]),
        Step::Run(&["plan", "column", "--json"]),
        Step::Run(&["run"]),
        Step::Run(&["run", "--json"]),
        Step::Run(&["ledger", "adopt", "condition"]),
        Step::Run(&["run", "column", "expression", "table"]),
    ];
    let outputs = told_alike(mistaken_project, &steps);
    for lines in [
        "| name = \"nmae\"\n   |        ^^^^^^",
        "| rev = \"reev\"\n",
        "| where = \"revision > 1\"\n  |         ^^^^^^^^^^^^^^",
        "| name = { sql = \"upper(nmae)\" }\n",
        "| sql = '''\n",
        "| table = \"acounts\"\n  |         ^^^^^^^^^",
    ] {
        for output in [&outputs[0], &outputs[2]] {
            assert!(output.contains(lines), "{lines}\n{output}");
        }
    }
}

/// The positions of a progress bar, as they were shown: `12/300 groups`.
fn positions(text: &str, total: &str) -> Vec<u64> {
    let before = text.split(&format!("/{total} groups")).collect::<Vec<_>>();
    let shown = before[..before.len() - 1].iter().map(|before| {
        let digits = before.rfind(|letter: char| !letter.is_ascii_digit()).map_or(0, |at| at + 1);
        before[digits..].parse().unwrap_or_else(|_| panic!("no position in {text:?}"))
    });
    let mut shown: Vec<u64> = shown.collect();
    shown.dedup();
    shown
}

#[test]
fn a_progress_bar_grows_with_and_without_a_daemon() {
    let receiver = Receiver::start();
    let place = wide(&receiver, 300);
    place.mapping("accounts", &wide_mapping(""));
    // Thirty requests, two at a time.
    slow(&receiver, 150);
    let shown = || {
        let ended =
            Terminal::start(&place, 200, &["run", "accounts"]).ends().exits(0).says(&["accounts", "300 delivered"]);
        let positions = positions(&ended.written, "300");
        assert!(positions.len() > 3 && positions.is_sorted(), "{positions:?}\n{:?}", ended.written);
        ended
    };
    shown();
    let daemon = Daemon::start(&place);
    edit(&place, "UPDATE accounts SET rev = 1");
    shown().says(&["submitted to the daemon at"]);
    daemon.stop().exits(0);
}
