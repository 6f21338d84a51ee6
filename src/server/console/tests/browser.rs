//! The console in a real browser, with pages that show everything a page can show. `make test-browser` runs this: it needs
//! Chromium, Node and the npm registry. `tests/it/daemon/browser` does the same with a real daemon, whose buttons have effects.

use super::http::Site;
use super::service::FakeService;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium, Node and the npm registry: `make test-browser`"]
async fn a_browser_finds_nothing_wrong() {
    let site = Site::open(FakeService::rich()).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/run.sh");
    let address = format!("http://{}", site.address);
    let mut command = std::process::Command::new(script);
    command.arg(address).env("GROUPCAST_DOES", "policy look");
    let status = tokio::task::spawn_blocking(move || command.status());
    assert!(status.await.unwrap().unwrap().success(), "the browser's findings are above");
}
