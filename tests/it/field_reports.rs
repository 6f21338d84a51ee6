//! What people of this field reported in public, at other projects, restated with data of our own: does the same happen here?
//! Each test names the project and the number of the report.

mod http;
mod postgres;
mod program;
mod warehouse;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::cli::Place;
use crate::support::postgres::{Database, shared};

/// Settings with a PostgreSQL source whose URL is in the environment, and a file as destination.
const TO_A_FILE: &str = "[sources.warehouse]\ntype = \"postgres\"\nurl = \"${WAREHOUSE_URL}\"\n\n\
    [destinations.out]\ntype = \"file\"\npath = \"out.ndjson\"\n";

/// A mapping to that file.
fn mapping(model: &str, traits: &str, more: &str) -> String {
    format!(
        "source = \"warehouse\"\ndestination = \"out\"\n\n[model]\n{model}\n\n[group]\ntype = \"company\"\nkey = \"id\"\n\n\
         [traits]\n{traits}\n{more}"
    )
}

/// A folder whose source is this database, read as this user.
fn place_of(database: &Database, user: &str) -> Place {
    let mut place = Place::new();
    place.write("groupcast.toml", TO_A_FILE);
    let url = format!("postgres://{user}@127.0.0.1:{}/{}?sslmode=disable", shared().port(), database.name());
    place.set("WAREHOUSE_URL", &url);
    place
}

/// A folder whose source is `warehouse.duckdb`, with the same destination.
fn place_of_file(sql: &str) -> Place {
    let place = Place::new();
    let source = "type = \"postgres\"\nurl = \"${WAREHOUSE_URL}\"";
    place.write("groupcast.toml", &TO_A_FILE.replace(source, "type = \"duckdb\"\npath = \"warehouse.duckdb\""));
    place.warehouse(sql);
    place
}

/// Every group that was sent, in the order of keys, then of sending: key and what was set.
fn sent(place: &Place) -> Vec<(String, Value)> {
    let Ok(text) = std::fs::read_to_string(place.path("out.ndjson")) else { return Vec::new() };
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut all: Vec<(String, Value)> =
        lines.map(|line| (line["key"].as_str().unwrap().to_owned(), line["set"].clone())).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

/// The heads of the requests that came to a server.
type Heads = Arc<Mutex<Vec<String>>>;

/// A server that answers every request with these bytes, whatever was asked. Yields its address and the heads of what came.
fn answering(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> (String, Heads) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, heads) = (listener.local_addr().unwrap().to_string(), Heads::default());
    let (answer, kept) = (Arc::new(answer), heads.clone());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (answer, kept) = (answer.clone(), kept.clone());
            // A connection that ends in the middle of a request is the client's affair.
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut reader = BufReader::new(stream.try_clone()?);
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line)? == 0 || line == "\r\n" {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    head.push_str(&line);
                }
                reader.read_exact(&mut vec![0; length])?;
                stream.write_all(&answer(&head))?;
                kept.lock().unwrap().push(head);
                Ok(())
            });
        }
    });
    (address, heads)
}
