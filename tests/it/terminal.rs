//! What does a person at a terminal see: questions, tables that fit, progress that leaves nothing behind, Ctrl-C, colours? And
//! does whatever reads a pipe get plain text instead?

use std::time::Duration;

use crate::support::cli::{Place, Receiver, mapping, until};
use crate::support::stand_in::StandIn;
use crate::support::terminal::Terminal;
use crate::support::webhook::Hook;

/// Accounts whose names and plans are long enough to fill a line.
fn place(receiver: &Receiver, accounts: usize) -> Place {
    let place = Place::with(receiver);
    place.mapping("accounts", &mapping("name = \"name\"\nplan = \"plan\"", "[guards]\nchanged_max = 1.0\n"));
    place.warehouse(&format!(
        "CREATE TABLE accounts AS SELECT 'k' || i AS id, 'Account ' || i AS name, 'free' AS plan FROM range({accounts}) r(i)"
    ));
    place
}

/// Instructions to a terminal.
fn instructs(text: &str) -> bool {
    text.contains(['\u{1b}', '\r', '\u{8}'])
}

#[test]
fn from_nothing_to_a_synced_group_by_answering_questions() {
    let hook = StandIn::start(Hook::new("POST", "/in/groups"));
    let place = Place::new();
    place.warehouse(
        "CREATE TABLE companies (company_id text, name text, plan text, seats integer);
         INSERT INTO companies SELECT 'c' || i, 'Company ' || i, 'free', i FROM range(40) r(i);
         CREATE TABLE events (id text)",
    );
    let mut terminal = Terminal::start(&place, 80, &["init"]);
    let begun = until("the first question", || terminal.shown().contains("Start with [1]:").then(|| terminal.screen()));
    assert_eq!(begun[0], "Where are the accounts?", "{begun:#?}");
    assert!(begun.iter().all(|line| line.chars().count() < 80), "{begun:#?}");
    terminal.types("Start with [1]:", "no such thing\n");
    terminal.types("type a number from 1 to", "duckdb\n");
    terminal.types("Path of the file:", "warehouse.duckdb\n");
    terminal.types("Table or view [1]:", "\n");
    terminal.types("unique and never null [company_id]:", "\n");
    terminal.types("for none [name]:", "\n");
    terminal.types("Group type at the destination [account]:", "company\n");
    terminal.types("Destination [2]:", "webhook\n");
    terminal.types("webhook: url:", &format!("{}/in/groups\n", hook.url));
    let ended = terminal.ends().exits(0).says(&[
        "connected: 2 tables and views",
        "   1  companies",
        "groupcast.toml",
        "mappings/companies.toml",
        "ok: 1 mapping valid; source schema matches; destinations reachable",
        "Next: groupcast plan companies",
    ]);
    assert!(ended.screen.iter().any(|line| line == "Where do they go?"), "{:#?}", ended.screen);
    // What it says comes next, where it says so.
    Terminal::start(&place, 80, &["plan", "companies"]).ends().exits(0).says(&["40 to add", "Company 0"]);
    Terminal::start(&place, 80, &["run", "companies", "--limit", "1"]).ends().exits(0).says(&["1 delivered"]);
    assert_eq!(hook.api().groups.len(), 1);
    Terminal::start(&place, 80, &["run", "companies"]).ends().exits(0).says(&["39 delivered"]);
    assert_eq!(hook.api().groups.len(), 40);
    Terminal::start(&place, 80, &["run"]).ends().exits(0).says(&["40 unchanged", "nothing sent"]);
    // A second project in the same place is refused before anything is asked.
    Terminal::start(&place, 80, &["init"]).ends().exits(2).says(&["groupcast.toml already exists"]);
}

#[test]
fn tables_fit_the_terminal() {
    let receiver = Receiver::start();
    let place = place(&receiver, 30);
    place.run(&["run"]).exits(0);
    place.warehouse("DELETE FROM accounts");
    place.run(&["run"]).exits(4);
    let at = |columns: u16, command: &[&str]| {
        let lines = Terminal::start(&place, columns, command).ends().exits(0).lines();
        let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(width <= usize::from(columns), "{columns}: {command:?}: {lines:#?}");
        lines
    };
    let piped: Vec<String> =
        place.run(&["runs"]).exits(0).stdout.lines().map(|line| line.trim_end().to_owned()).collect();
    assert_eq!(piped.len(), 3, "a header and two runs: {piped:#?}");
    for name in ["RUN", "SYNC", "STARTED BY", "STATUS", "ROWS", "DELIVERED", "REJECTED", "PENDING", "TOOK", "ERROR"] {
        assert!(piped[0].contains(name), "{}", piped[0]);
    }
    // As wide as everything is: whole, and the same as in a pipe.
    let whole = u16::try_from(piped.iter().map(|line| line.chars().count()).max().unwrap()).unwrap();
    assert_eq!(at(whole + 1, &["runs"]), piped);
    // Narrower: columns that matter less are left out and named, and no id is broken.
    for columns in [200, 80] {
        let fitted = at(columns, &["runs"]);
        let ids: Vec<&str> = piped[1..].iter().map(|line| line.split(' ').next().unwrap()).collect();
        for id in ids {
            assert!(fitted.iter().any(|line| line.starts_with(id)), "{id}: {fitted:#?}");
        }
        let text = fitted.join(" ");
        assert!(text.contains("stopped by guard") && text.contains("succeeded"), "{fitted:#?}");
        assert_eq!(text.contains("left out at this width:"), columns < whole, "{fitted:#?}");
        assert!(columns >= whole || text.contains("`groupcast runs show RUN` shows all of a run"), "{fitted:#?}");
    }
    // Other lists, at both widths, and where hardly anything fits.
    for command in [&["status"] as &[&str], &["schedule"], &["rejected"], &["group", "accounts", "k7"]] {
        for columns in [200, 80] {
            assert!(!at(columns, command).is_empty());
        }
    }
    let narrow = Terminal::start(&place, 40, &["group", "accounts", "k7"]).ends().exits(0);
    narrow.says(&["TRAIT  VALUE        SENT", "name   \"Account 7\"", "left out at this width: run;"]);
}

#[test]
fn a_progress_bar_leaves_nothing_behind() {
    let receiver = Receiver::start();
    let place = place(&receiver, 3_000);
    place.write("groupcast.toml", &crate::support::cli::settings(&receiver.url, "concurrency = 1\nbatch_max = 100\n"));
    receiver.vendor.change(|rules| rules.answer_after = Duration::from_millis(60));
    let terminal = Terminal::start(&place, 80, &["run"]);
    let drawn = until("the bar", || {
        let screen = terminal.screen();
        screen.iter().any(|line| line.contains('█') && line.contains("/3,000 groups")).then_some(screen)
    });
    // One line, however often it is drawn, that does not reach the edge.
    assert_eq!(drawn.len(), 1, "{drawn:#?}");
    assert!(drawn[0].starts_with("accounts  █") && drawn[0].chars().count() < 80, "{drawn:#?}");
    let ended = terminal.ends().exits(0);
    let left = ended.lines();
    assert_eq!(left.len(), 1, "{left:#?}");
    assert!(left[0].starts_with("accounts: 3,000 rows: 0 unchanged, 3,000 delivered"), "{left:#?}");
    assert!(ended.written.ends_with('\n'), "the prompt begins a line: {:?}", ended.written);
    // On a narrow terminal as well, where the bar has no room and the run's line is broken by the terminal itself.
    place.warehouse("UPDATE accounts SET plan = 'pro'");
    let ended = Terminal::start(&place, 30, &["run"]).ends().exits(0);
    let text = ended.screen.concat();
    assert!(text.starts_with("accounts: 3,000 rows:") && !text.contains("groups"), "{:#?}", ended.screen);
    // A pipe gets lines, and none that is drawn over.
    place.warehouse("UPDATE accounts SET plan = 'max'");
    let piped = place.run(&["run"]).exits(0).says(&["3,000 rows read: 3,000 to compare", "3,000 delivered"]);
    assert!(!instructs(&piped.all()) && !piped.all().contains('█'), "{:?}", piped.all());
}

#[test]
fn ctrl_c_stops_a_run_and_says_what_is_pending() {
    let receiver = Receiver::start();
    let place = place(&receiver, 1_000);
    place.write("groupcast.toml", &crate::support::cli::settings(&receiver.url, "concurrency = 1\nbatch_max = 10\n"));
    receiver.vendor.change(|rules| rules.answer_after = Duration::from_millis(300));
    let mut terminal = Terminal::start(&place, 80, &["run"]);
    until("some are delivered", || (receiver.requests() > 2).then_some(()));
    terminal.types("/1,000 groups", "\u{3}");
    let stopped = terminal.ends().exits(130);
    let screen = stopped.lines().join("\n");
    assert!(screen.contains("stopping: waiting for requests in flight (Ctrl-C again to abort)"), "{screen}");
    assert!(screen.contains(" delivered, ") && screen.contains(" pending"), "{screen}");
    assert!(!screen.contains('█') && !screen.contains("/1,000 groups"), "{screen}");
    place.run(&["runs", "-n", "1"]).exits(0).says(&["cancelled"]);
    // Twice, while a request is not answered: the run ends all the same, and the next one sends what is unconfirmed.
    receiver.vendor.change(|rules| rules.answer_after = Duration::from_secs(60));
    let seen = receiver.requests();
    let mut terminal = Terminal::start(&place, 80, &["run"]);
    until("a request is in flight", || (receiver.requests() > seen).then_some(()));
    terminal.types(" groups", "\u{3}");
    terminal.types("Ctrl-C again to abort", "\u{3}");
    let aborted = terminal.ends().exits(130);
    assert!(aborted.lines().concat().contains("aborting requests in flight; the next run resends them"));
    receiver.vendor.change(|rules| rules.answer_after = Duration::ZERO);
    place.run(&["run"]).exits(0);
    place.run(&["run"]).exits(0).says(&["1,000 unchanged", "nothing sent"]);
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let receiver = Receiver::start();
    let mut place = place(&receiver, 3);
    place.write("mappings/broken.toml", "source = 1\n");
    let plan = ["plan", "accounts"];
    let coloured = Terminal::start(&place, 80, &plan).ends().exits(0);
    assert!(coloured.written.contains("\u{1b}[32m"), "green for what is new: {:?}", coloured.written);
    let check = Terminal::start(&place, 80, &["check"]).ends().exits(2);
    assert!(check.written.contains("\u{1b}["), "{:?}", check.written);
    // The text is the same in all ways of having none.
    let plain = |lines: Vec<String>| lines.into_iter().filter(|line| !line.contains(" s)")).collect::<Vec<_>>();
    let expected = plain(coloured.screen);
    let never = Terminal::start(&place, 80, &["plan", "accounts", "--color", "never"]).ends().exits(0);
    assert!(!never.written.contains('\u{1b}'), "{:?}", never.written);
    assert_eq!(plain(never.screen), expected);
    let piped = place.run(&plan).exits(0);
    assert!(!instructs(&piped.all()), "{:?}", piped.all());
    let check = place.run(&["check"]).exits(2);
    assert!(!instructs(&check.all()), "{:?}", check.all());
    // A pipe that wants them gets them.
    assert!(place.run(&["plan", "accounts", "--color", "always"]).exits(0).stdout.contains("\u{1b}[32m"));
    place.set("NO_COLOR", "1");
    for command in [&plan as &[&str], &["check"], &["run", "accounts"], &["status"]] {
        let shown = Terminal::start(&place, 80, command).ends();
        // What moves the cursor is no colour: a bar may still be drawn.
        assert!(!shown.written.split('\u{1b}').skip(1).any(is_style), "{:?}", shown.written);
        assert!(!shown.screen.is_empty());
    }
}

/// Whether what follows an escape character sets a style: digits, semicolons, and an `m`.
fn is_style(after: &str) -> bool {
    let rest = after.trim_start_matches('[').trim_start_matches(|char: char| char.is_ascii_digit() || char == ';');
    after.starts_with('[') && rest.starts_with('m')
}
