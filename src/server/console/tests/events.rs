//! Pages learn that something has changed.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http::Site;
use super::service::FakeService;
use crate::service::api::Service;

/// Reads until the stream has sent this.
async fn until(stream: &mut TcpStream, read: &mut String, wanted: &str) {
    let mut piece = [0; 4_096];
    while !read.contains(wanted) {
        let count = stream.read(&mut piece).await.unwrap();
        assert!(count > 0, "it ended before `{wanted}`: {read}");
        read.push_str(std::str::from_utf8(&piece[..count]).unwrap());
    }
}

#[tokio::test]
async fn an_event_follows_each_change_and_the_first_one_is_what_the_page_may_have_missed() {
    let site = Site::open(FakeService::rich()).await;
    assert!(site.get("/syncs/billing").await.body.contains(r#"data-refresh="change" data-version="0""#));
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: console\r\n\r\n").await.unwrap();
    let mut read = String::new();
    until(&mut stream, &mut read, "event: change\ndata: 0\n\n").await;
    assert!(read.contains("content-type: text/event-stream") && read.contains("x-accel-buffering: no"), "{read}");
    // What happens together is one event.
    for paused in [true, false, true] {
        site.service.pause("crm", paused).await.unwrap();
    }
    until(&mut stream, &mut read, "data: 3\n\n").await;
    assert_eq!(read.matches("event: change").count(), 2, "{read}");
    assert!(site.get("/syncs/crm").await.body.contains(r#"data-version="3""#));
}

#[tokio::test]
async fn pages_that_read_the_source_are_not_refreshed() {
    let site = Site::open(FakeService::rich()).await;
    for (path, refreshed) in [("/runs", true), ("/rejected", true), ("/syncs/crm/plan", false), ("/syncs/none", false)]
    {
        assert_eq!(site.get(path).await.body.contains("data-refresh="), refreshed, "{path}");
    }
}
