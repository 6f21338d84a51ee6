//! A stand-in for Amplitude to try Groupcast against, without an account: `cargo run --example receiver`.
//!
//! It takes what either of Amplitude's APIs takes (`/groupidentify`, `/2/httpapi`), listens on this machine only, prints
//! one line per request, answers `GET /groups/<type>/<value>` with what it holds for a group and `GET /stats` with counts.
//! Nothing is written to disk. With `--count-only` it takes requests of every destination and only counts ([`counting`]).

#![expect(clippy::disallowed_methods, reason = "a slow receiver really sleeps")]

#[expect(dead_code, reason = "the tests also script faults and read what was received")]
mod amplitude;
mod counting;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use amplitude::{Rules, Told, Vendor};
use counting::Counting;

const USAGE: &str = "usage: receiver [--port 8321] [--quiet | --count-only [--record FILE] [--answer-after MS]]

  --port N            listen on 127.0.0.1:N (0 picks a free port)
  --quiet             print nothing per request
  --count-only        neither check nor keep anything, only count; takes requests of every destination (for benchmarks)
  --record FILE       also write every request to a file
  --answer-after MS   acknowledge a request only after so many milliseconds";

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

/// What the command line asks for.
struct Arguments {
    port: u16,
    quiet: bool,
    count_only: bool,
    recording: Option<PathBuf>,
    answer_after: Duration,
}

fn arguments() -> Result<Option<Arguments>, String> {
    let mut parsed =
        Arguments { port: 8321, quiet: false, count_only: false, recording: None, answer_after: Duration::ZERO };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("`{argument}` needs a value"));
        match argument.as_str() {
            "--port" => {
                let value = value()?;
                parsed.port = value.parse().map_err(|_| format!("`{value}` is no port"))?;
            }
            "--quiet" => parsed.quiet = true,
            "--count-only" => parsed.count_only = true,
            "--record" => parsed.recording = Some(value()?.into()),
            "--answer-after" => {
                let value = value()?;
                let millis = value.parse().map_err(|_| format!("`{value}` is no number of milliseconds"))?;
                parsed.answer_after = Duration::from_millis(millis);
            }
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("unknown argument `{other}`")),
        }
    }
    let only_counting = parsed.recording.is_some() || !parsed.answer_after.is_zero();
    if only_counting && !parsed.count_only {
        return Err("`--record` and `--answer-after` need `--count-only`".to_owned());
    }
    Ok(Some(parsed))
}

async fn serve(arguments: &Arguments) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", arguments.port)).await?;
    let address = listener.local_addr()?;
    let counting = match arguments.count_only {
        true => Some(Counting::new(arguments.recording.as_deref(), arguments.answer_after)?),
        false => None,
    };
    println!("receiver: listening on http://{address} (stop with Ctrl-C)");
    match counting {
        Some(counting) => counting.serve(listener).await,
        None => {
            let tell = if arguments.quiet { None } else { Some(tell as fn(&Told<'_>)) };
            Vendor::new(Rules { tell, ..Rules::default() }).serve(listener).await
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match arguments() {
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
    let outcome = tokio::select! {
        outcome = serve(&arguments) => outcome,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("receiver: failed on 127.0.0.1:{}: {error}", arguments.port);
            ExitCode::FAILURE
        }
    }
}
