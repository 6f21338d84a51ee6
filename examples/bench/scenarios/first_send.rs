//! First sends: every account is new.

use super::{Bench, Measurement, Result, times};
use crate::data::{CONNECTIONS, Project, Shape, Source};
use crate::floors;
use crate::measure::Spread;
use crate::receiver::{Manner, Receiver};

/// A tenth of the accounts to Amplitude: what `make bench-peers` compares with other tools.
pub(super) fn amplitude(bench: &mut Bench) -> Result<Vec<Measurement>> {
    let rows = bench.rows / 10;
    let mut receiver = bench.receiver()?;
    let warehouse = bench.accounts(rows)?;
    let source = Source::DuckDb(&warehouse);
    let project = Project::create(bench.path("first-amplitude"), &source, Shape::Usual, "amplitude", &receiver.url())?;
    let spread = bench.first_sends(&project)?;
    let work = "first send × 20 columns, Amplitude";
    let row = counted(Measurement::new("first-amplitude", work, rows), &mut receiver, &spread)?;
    project.reset()?;
    Ok(vec![row.took(spread).remark("against other tools: `make bench-peers`")])
}

/// The requests and bytes of one of the runs.
fn counted(row: Measurement, receiver: &mut Receiver, spread: &Spread) -> Result<Measurement> {
    let mut received = receiver.received()?;
    let runs = spread.runs as u64;
    received.requests /= runs;
    received.bytes /= runs;
    if received.groups != row.groups * runs {
        let sent = received.groups;
        return Err(format!("{}: {sent} groups arrived in {runs} runs of {}", row.name, row.groups).into());
    }
    Ok(row.received(received))
}

/// To a file, against DuckDB writing the same lines and a table of key, hash and document.
pub(super) fn file(bench: &mut Bench) -> Result<Vec<Measurement>> {
    let rows = bench.rows;
    let warehouse = bench.accounts(rows)?;
    let source = Source::DuckDb(&warehouse);
    let project = Project::create(bench.path("first-file"), &source, Shape::Usual, "file", "")?;
    let spread = bench.first_sends(&project)?;
    let scratch = bench.path("floor").display().to_string();
    let (file, columns) = (warehouse.display().to_string(), Shape::Usual.columns());
    let mut arguments = vec!["write", &file, &scratch];
    arguments.extend(columns.iter().map(String::as_str));
    let floor = Spread::of((0..3).map(|_| floors::run(&arguments)).collect::<Result<_>>()?).median;
    let pace = rows as f64 / spread.median.seconds;
    let row = Measurement::new("first-file", "first send × 20 columns, to a file", rows)
        .took(spread)
        .floor("DuckDB: COPY, table of key, hash, document", floor);
    let (in_cpu, peak) = (row.times_the_floor_in_cpu(), row.peak_mb());
    let lines = project.folder.join("changes.ndjson");
    let sent = crate::measure::bytes_of(&lines)?;
    let after_sending = times(&project.state(), &warehouse)?;
    // The next run folds what was sent into the synced state; the ledger's size counts after that.
    bench.groupcast(&project, &["run"])?;
    let folded = times(&project.state(), &warehouse)?;
    project.reset()?;
    Ok(vec![
        row.at_most("CPU / floor", in_cpu, 2.0, "×")
            .at_least("pace", Some(pace), 100_000.0, "groups/s")
            .at_most("peak", peak, 500.0, "MB")
            .remark(format!("{:.0} MB of lines", sent as f64 / 1e6)),
        Measurement::new("ledger-after-first-send", "the ledger after a first send and the next run", rows)
            .at_most("size / source", Some(folded), 3.0, "×")
            .remark(format!("{after_sending:.2} × before the next run")),
    ])
}

/// Over HTTP, against sending the recorded requests again over as many connections.
pub(super) fn over_http(bench: &mut Bench, destination: &str) -> Result<Vec<Measurement>> {
    let rows = bench.rows;
    let name = format!("first-http-{destination}");
    let warehouse = bench.accounts(rows)?;
    let source = Source::DuckDb(&warehouse);
    let recording = bench.path("requests");
    let create =
        |receiver: &Receiver| Project::create(bench.path(&name), &source, Shape::Usual, destination, &receiver.url());

    let mut recorder = Receiver::start(&bench.programs, &Manner { recording: Some(&recording), ..Manner::default() })?;
    let project = create(&recorder)?;
    project.reset()?;
    bench.groupcast(&project, &["run"])?;
    let recorded = recorder.received()?;
    drop(recorder);

    let mut receiver = bench.receiver()?;
    let project = create(&receiver)?;
    let spread = bench.first_sends(&project)?;
    let row = Measurement::new(&name, format!("first send × 20 columns, {destination} over HTTP"), rows);
    let row = counted(row, &mut receiver, &spread)?.took(spread);
    project.reset()?;

    let (file, connections) = (recording.display().to_string(), CONNECTIONS.to_string());
    let arguments = ["replay", &file, &receiver.url(), &connections];
    let floor = Spread::of((0..3).map(|_| floors::run(&arguments)).collect::<Result<_>>()?).median;
    let replayed = receiver.received()?;
    if replayed.groups != 3 * recorded.groups || replayed.bytes != 3 * recorded.bytes {
        return Err(format!("{name}: the replay sent {replayed:?} in three times {recorded:?}").into());
    }
    std::fs::remove_file(&recording)?;
    let row = row.floor(&format!("replay over {connections} connections"), floor);
    let times = row.times_the_floor();
    Ok(vec![row.at_most("time / floor", times, 1.3, "×")])
}
