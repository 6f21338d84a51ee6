//! Proxies and servers on the way to a destination.

use std::io::Write;

use super::{Heads, answering};
use crate::support::cli::{Output, Place};

/// An answer with a body that is packed whether one asks for it or not.
fn packed(status: &str, coding: &str, body: &str) -> Vec<u8> {
    let bytes = match coding {
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(body.as_bytes()).unwrap();
            encoder.finish().unwrap()
        }
        _ => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(body.as_bytes()).unwrap();
            encoder.finish().unwrap()
        }
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        bytes.len()
    );
    [head.into_bytes(), bytes].concat()
}

/// One account, to a destination of this type.
fn place(destination: &str) -> Place {
    let place = Place::new();
    place.write(
        "groupcast.toml",
        &format!(
            "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n[destinations.out]\nretry_for = \"3s\"\n\
             attempts_max = 2\n{destination}"
        ),
    );
    place.warehouse("CREATE TABLE accounts AS SELECT 'a1' AS id, 'pro' AS plan");
    place.mapping("accounts", &super::mapping("table = \"accounts\"", "plan = \"plan\"", ""));
    place
}

fn run(place: &Place, environment: &[(&str, &str)]) -> Output {
    let mut command = place.command(&["run"]);
    command.envs(environment.iter().copied());
    crate::support::cli::start(command).wait()
}

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// rss-parser #280, eureka-js-client #54: a server or CDN packs its answers always, and the client takes them for garbage. Here
/// that stopped the run after the work was done, and hid the reason of a refusal.
#[test]
fn answers_that_are_packed_unasked_are_read() {
    for coding in ["gzip", "x-gzip", "deflate"] {
        let (address, heads) = answering(move |_| packed("200 OK", coding, r#"{"success":true}"#));
        let segment = place(&format!("type = \"segment\"\nwrite_key = \"${{KEY}}\"\nbase_url = \"http://{address}\""));
        let more = "[policy]\non_null = \"null\"\n[user]\nanonymous_id = \"account:{key}\"";
        segment.mapping("accounts", &super::mapping("table = \"accounts\"", "plan = \"plan\"", more));
        run(&segment, &[("KEY", KEY)]).exits(0).says(&["1 delivered"]);
        // AND the request says what can be read
        assert!(heads.lock().unwrap()[0].to_ascii_lowercase().contains("accept-encoding: gzip"));
    }
    let (address, _) = answering(|_| packed("400 Bad Request", "gzip", r#"{"code":400,"error":"no such property"}"#));
    let amplitude = place(&format!("type = \"amplitude\"\napi_key = \"${{KEY}}\"\nbase_url = \"http://{address}\""));
    run(&amplitude, &[("KEY", KEY)]).exits(3);
    let mut command = amplitude.command(&["rejected"]);
    command.env("KEY", KEY);
    crate::support::cli::start(command).wait().exits(0).says(&["no such property"]);
}

/// The same: what cannot be unpacked proves nothing, so nothing is recorded as delivered.
#[test]
fn an_answer_that_cannot_be_unpacked_is_no_acceptance() {
    let (address, _) = answering(|_| {
        let body = b"\x1f\x8b\x08\x00broken";
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    });
    let place = place(&format!("type = \"webhook\"\nurl = \"http://{address}/hook\""));
    run(&place, &[]).exits(1).says(&["1 unconfirmed", "cannot be decompressed"]);
}

fn ok() -> (String, Heads) {
    answering(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}".to_vec())
}

/// request/request #2194, apigee/microgateway-core #97, nodejs/undici #5777: `NO_PROXY` is written in many ways, and the HTTP
/// library knows commas and names: internal requests went through the proxy.
#[test]
fn hosts_are_excepted_from_the_proxy_in_every_way_people_write_it() {
    for (exceptions, direct) in [
        ("localhost", true),
        ("localhost:{port}", true),
        ("localhost:1", false),
        ("LOCALHOST.", true),
        ("foo localhost", true),
        ("foo;localhost", true),
        (" foo , localhost", true),
        ("local*", true),
        ("*", true),
        ("*.localhost", false),
        ("ocalhost", false),
        ("10.0.0.0/8 127.0.0.1", false),
        ("", false),
    ] {
        let ((proxy, through), (destination, reached)) = (ok(), ok());
        let port = destination.rsplit_once(':').unwrap().1;
        let place = place(&format!("type = \"webhook\"\nurl = \"http://localhost:{port}/hook\""));
        let written = exceptions.replace("{port}", port);
        let proxies = [("HTTP_PROXY", format!("http://{proxy}")), ("NO_PROXY", written)];
        run(&place, &proxies.each_ref().map(|(name, value)| (*name, value.as_str()))).exits(0).says(&["1 delivered"]);
        let (through, reached) = (through.lock().unwrap().len(), reached.lock().unwrap().len());
        assert_eq!((through, reached), if direct { (0, 1) } else { (1, 0) }, "{exceptions:?}");
    }
}

/// reqwest #596, tm1py #531, kevinsawicki/http-request #178: a proxy that wants a password answers the request for a tunnel with
/// 407, and all that is told is that the tunnel failed. Here it was tried again for minutes, and the destination blamed.
#[test]
fn a_proxy_that_wants_a_password_says_so_and_stops_the_run() {
    let (proxy, heads) = answering(|_| {
        b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"x\"\r\ncontent-length: 0\r\n\r\n"
            .to_vec()
    });
    let place = place("type = \"webhook\"\nurl = \"https://hooks.example.test/hook\"");
    let output = run(&place, &[("HTTPS_PROXY", &format!("http://{proxy}"))]).exits(1);
    let output = output.says(&["407", "give the proxy credentials in HTTPS_PROXY", "1 pending"]);
    assert!(!output.all().contains("unconfirmed"), "{}", output.all());
    let heads = heads.lock().unwrap();
    assert!(heads.len() == 1 && heads[0].starts_with("CONNECT hooks.example.test:443 "), "{heads:?}");
}

/// httparse #68 and #37, dotnet/corefx #27727: an old server folds a header, or writes one wrong, and the client drops the whole
/// answer. Here the work was done and its outcome was unknown. Interim answers and answers without a length are answers too.
#[test]
fn answers_of_old_servers_are_answers() {
    for answer in [
        "HTTP/1.1 200 OK\r\nx-policy: a;\r\n  b\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nx-policy : a\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nnonsense\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
        "HTTP/1.0 200 OK\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n2\r\n{}\r\n0\r\nx: 1\r\n\r\n",
    ] {
        let (address, heads) = answering(move |_| answer.as_bytes().to_vec());
        let place = place(&format!("type = \"webhook\"\nurl = \"http://{address}/hook\""));
        let output = run(&place, &[]);
        assert!(output.code == Some(0) && output.all().contains("1 delivered"), "{answer:?}\n{}", output.all());
        assert_eq!(heads.lock().unwrap().len(), 1, "{answer:?}");
    }
}
