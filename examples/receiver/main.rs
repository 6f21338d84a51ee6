//! A stand-in for Amplitude to try Groupcast against, without an account: `cargo run --example receiver`.
//!
//! It takes what either of Amplitude's APIs takes (`/groupidentify`, `/2/httpapi`), listens on this machine only, prints
//! one line per request, answers `GET /groups/<type>/<value>` with what it holds for a group and `GET /stats` with counts.
//! Nothing is written to disk.

#[expect(dead_code, reason = "the tests also script faults and read what was received")]
mod amplitude;

use std::io::Write;
use std::process::ExitCode;

use amplitude::{Rules, Told, Vendor};

const USAGE: &str = "usage: receiver [--port 8321] [--quiet | --count-only]

  --port N       listen on 127.0.0.1:N (0 picks a free port)
  --quiet        print nothing per request
  --count-only   neither check nor keep anything, only count (for benchmarks)";

/// Groups shown per request, and traits per group; the rest is counted.
const SHOWN: usize = 4;
/// Characters shown of one trait.
const TRAIT_CHARS: usize = 60;

fn tell(told: &Told<'_>) {
    let mut line = format!("{} {}", told.status, told.answer);
    let traits: usize = told.groups.iter().map(|(_, _, traits)| traits.len()).sum();
    line.push_str(&format!(" | {} groups, {traits} traits, {} bytes", told.groups.len(), told.bytes));
    for (kind, group, traits) in told.groups.iter().take(SHOWN) {
        let mut shown: Vec<String> =
            traits.iter().take(SHOWN).map(|one| one.chars().take(TRAIT_CHARS).collect()).collect();
        if traits.len() > SHOWN {
            shown.push(format!("{} more", traits.len() - SHOWN));
        }
        line.push_str(&format!(" | {kind} {group}: {}", shown.join(", ")));
    }
    if told.groups.len() > SHOWN {
        line.push_str(&format!(" | {} more groups", told.groups.len() - SHOWN));
    }
    // A closed pipe (`receiver | head`) is no reason to fail.
    let _ = writeln!(std::io::stdout(), "{}", line.replace(char::is_control, " "));
}

fn arguments() -> Result<Option<(u16, Rules)>, String> {
    let mut port = 8321;
    let mut rules = Rules { tell: Some(tell), ..Rules::default() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--port" => {
                let value = arguments.next().ok_or("`--port` needs a number")?;
                port = value.parse().map_err(|_| format!("`{value}` is no port"))?;
            }
            "--quiet" => rules.tell = None,
            "--count-only" => rules = Rules { count_only: true, tell: None, ..rules },
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("unknown argument `{other}`")),
        }
    }
    Ok(Some((port, rules)))
}

#[tokio::main]
async fn main() -> ExitCode {
    let (port, rules) = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("receiver: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let served = async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        println!("receiver: listening on http://{} (stop with Ctrl-C)", listener.local_addr()?);
        Vendor::new(rules).serve(listener).await
    };
    let outcome = tokio::select! {
        outcome = served => outcome,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("receiver: failed to listen on 127.0.0.1:{port}: {error}");
            ExitCode::FAILURE
        }
    }
}
