//! Does the same command do and show the same, with and without a daemon? One story, told twice.

use super::{edit, place, scheduled};
use crate::support::cli::{Place, Receiver};
use crate::support::daemon::Daemon;

/// A step of the story: a change of the warehouse, or a command.
enum Step {
    Edit(&'static str),
    Run(&'static [&'static str]),
    /// A command that meets a mistake at a line of a mapping: without a daemon the line is shown, with one it is named.
    Mistake(&'static [&'static str], &'static str),
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
    Step::Mistake(&["plan"], "table `accounts` not found"),
    Step::Mistake(&["run"], "table `accounts` not found"),
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
            let words = line.split_inclusive([' ', '"', ',', '(', ')', '{', '}', ':']);
            let mut said = String::new();
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
                    said.push('…');
                    said.push_str(end);
                } else {
                    said.push_str(word);
                }
                seconds = (seconds && bare.is_empty()) || bare.ends_with("seconds");
            }
            // Minutes of a time that was cut.
            while let Some(at) = said.find("…:") {
                let rest = &said[at + "…:".len()..];
                let digits = rest.chars().take_while(|letter| letter.is_ascii_digit() || *letter == ':').count();
                said.replace_range(at + "…".len()..at + "…:".len() + digits, "");
            }
            without_minutes(said)
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

fn tell(place: &Place) -> Vec<String> {
    let step = |step: &Step| match step {
        Step::Edit(sql) => {
            edit(place, sql);
            None
        }
        Step::Mistake(arguments, what) => {
            let output = place.run(arguments).says(&[what, "mappings/accounts.toml:"]);
            let out = normalized(&output.stdout);
            Some(format!("$ groupcast {}\n{out}\n--- exit {:?}\n", arguments.join(" "), output.code))
        }
        Step::Run(arguments) => {
            let output = place.run(arguments);
            let code = output.code.unwrap_or(-1);
            let (out, err) = (normalized(&output.stdout), normalized(&output.stderr));
            Some(format!("$ groupcast {}\n{out}\n--- stderr\n{err}\n--- exit {code}\n", arguments.join(" ")))
        }
    };
    STORY.iter().filter_map(step).collect()
}

fn project(receiver: &Receiver) -> Place {
    let place = place(receiver, 5);
    place.mapping("accounts", &scheduled(""));
    place.warehouse("CREATE TABLE others AS SELECT 'o' || i AS id, 'n' || i AS name, 0 AS rev FROM range(3) r(i)");
    let others = scheduled("").replace("\"accounts\"", "\"others\"").replace("\"company\"", "\"team\"");
    place.mapping("others", &others);
    place
}

#[test]
fn the_same_story_is_told_with_and_without_a_daemon() {
    let (alone, beside) = (Receiver::start(), Receiver::start());
    let place = project(&alone);
    let without = tell(&place);
    let place = project(&beside);
    let daemon = Daemon::start(&place);
    let with = tell(&place);
    daemon.stop().exits(0);
    for (without, with) in without.iter().zip(&with) {
        let with = with.replace(&beside.url, &alone.url);
        assert_eq!(&with, without, "with and without a daemon");
    }
    let all = without.concat();
    for said in ["5 delivered", "guard `empty`", "--accept empty", "cannot be read back", "nothing was reset"] {
        assert!(all.contains(said), "{said}: the story says nothing of it\n{all}");
    }
    assert_eq!(alone.vendor.groups(), beside.vendor.groups());
}
