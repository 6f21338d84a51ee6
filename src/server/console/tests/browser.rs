//! Does a real browser find anything wrong with pages that show everything a page may hold? `make test-browser` runs this: it
//! needs Chromium, Node and the npm registry. Used is the real daemon (`tests/it/daemon/browser`): here no order is carried out.

use super::http::Site;
use super::service::FakeService;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium, Node and the npm registry: `make test-browser`"]
async fn a_browser_finds_nothing_wrong() {
    let site = Site::open(FakeService::rich()).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/run.sh");
    let address = format!("http://{}", site.address);
    let mut visit = std::process::Command::new(script);
    visit.arg(address).env("GROUPCAST_DOES", "policy look");
    let status = tokio::task::spawn_blocking(move || visit.status());
    assert!(status.await.unwrap().unwrap().success(), "the browser's complaints are above");
}
