//! The program in a shell, a container, a crontab.

use super::{mapping, place_of_file, sent};
use crate::support::cli::start;

/// medialab/xan #759, ttdl #59, B2_Command_Line_Tool #1071: `… | head` ended with a panic or an error. Here it also left the
/// syncs behind the first one undone.
#[test]
fn a_reader_that_has_enough_stops_nothing() {
    let place = place_of_file("CREATE TABLE accounts AS SELECT 'k' || i AS id, 'pro' AS plan FROM range(50) r(i)");
    for name in ["first", "second"] {
        let text = mapping("table = \"accounts\"", "plan = \"plan\"", "");
        place.mapping(name, &text.replace("\"company\"", &format!("\"{name}\"")));
    }
    for command in ["plan", "run", "status", "runs", "schedule", "check"] {
        let mut piped = std::process::Command::new("bash");
        place.prepare(&mut piped);
        piped.args(["-c", "\"$0\" $1 | true; exit ${PIPESTATUS[0]}", env!("CARGO_BIN_EXE_groupcast"), command]);
        let output = start(piped).wait();
        assert_eq!(output.code, Some(0), "{command}: {}", output.stderr);
        assert!(
            !output.stderr.contains("error") && !output.stderr.contains("panicked"),
            "{command}: {}",
            output.stderr
        );
    }
    // THEN both syncs have run
    assert_eq!(sent(&place).len(), 100);
}

/// inngest #2631, Hangfire #979, agent-os #665: a day of the month together with a weekday fires on either or on both, depending
/// on whose cron it is. Here nobody guesses.
#[test]
fn a_day_of_the_month_with_a_weekday_is_refused() {
    let place = place_of_file("CREATE TABLE accounts AS SELECT 'k' AS id, 'pro' AS plan");
    for (cron, refused) in [("0 9 1 * 1", true), ("0 0 1-7 * FRI", true), ("0 9 1 * *", false), ("0 9 * * 1", false)] {
        let schedule = format!("schedule = \"{cron}\"\n{}", mapping("table = \"accounts\"", "plan = \"plan\"", ""));
        place.mapping("accounts", &schedule);
        let output = place.run(&["check"]);
        assert_eq!(output.code, Some(if refused { 2 } else { 0 }), "{cron}\n{}", output.all());
        assert_eq!(output.all().contains("crons combine differently"), refused, "{cron}");
    }
}

/// duckdb #3855, #12775 and #17313: without a HOME, in containers and cron, the engine fails before it has done anything. People
/// also keep configs in odd folders.
#[test]
fn an_empty_environment_and_odd_folders_are_enough() {
    let place =
        place_of_file("CREATE TABLE accounts AS SELECT 'k' AS id, TIMESTAMPTZ '2024-05-06 23:00:00+00' AS seen");
    let odd = "it's a \"folder\"; 100% #1 über";
    for file in ["groupcast.toml", "warehouse.duckdb"] {
        std::fs::create_dir_all(place.path(odd)).unwrap();
        std::fs::copy(place.path(file), place.path(odd).join(file)).unwrap();
    }
    let traits = "day = { sql = \"CAST(seen AS DATE)\" }\nberlin = { sql = \"strftime(seen AT TIME ZONE 'Europe/Berlin', '%d')\" }";
    place.write(&format!("{odd}/mappings/accounts.toml"), &mapping("table = \"accounts\"", traits, ""));
    let mut command = place.command(&["-C", odd, "run"]);
    command.env_clear().env("TZ", "America/New_York");
    start(command).wait().exits(0).says(&["1 delivered"]);
    let line = place.read(&format!("{odd}/out.ndjson"));
    assert!(line.contains("\"day\":\"2024-05-06\"") && line.contains("\"berlin\":\"07\""), "{line}");
}
