//! Runs at a daemon that is reached by its URL, over the HTTP API: for a scheduler that waits for a run on another machine.
//!
//! A run takes minutes or hours, and networks fail meanwhile: queries are repeated for five minutes before the waiting fails.
//! The run itself is not concerned by that. A request that starts a run is repeated only where it certainly was not carried
//! out.

use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api::{EnqueuedRun, ServiceError, ServiceResult};
use super::follow::RunHost;
use super::views::{RunDetail, SyncView};
use super::wire::segment;
use crate::error::{Error, Kind, Result};
use crate::format::thousands;
use crate::io::http::{Applied, CallLimits, HttpClient, Request, Response, Transport};
use crate::io::{Clock, SystemClock};
use crate::sync::RunOptions;
use crate::sync::options::PlanFile;
use crate::sync::plan_file::SealedPlan;

/// How long a daemon may be out of reach: a restart, a deployment, a proxy that comes back.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// One call: a list of syncs or the record of a run, a megabyte at most with all of its rejected groups.
const LIMITS: CallLimits = CallLimits { timeout: Duration::from_secs(60), body_bytes_max: 64 * 1024 * 1024 };

/// Bytes of a plan that a daemon takes: half a million changes.
pub const PLAN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A daemon at a URL.
pub struct DaemonUrl {
    client: HttpClient,
    base: String,
    token: Option<String>,
    clock: SystemClock,
    patience: Duration,
}

/// An attempt that gave no result.
struct FailedAttempt {
    error: ServiceError,
    /// Whether another attempt may succeed.
    transient: bool,
    /// Whether the request certainly was not carried out.
    unapplied: bool,
    wait: Option<Duration>,
}

impl DaemonUrl {
    /// A daemon at `url`, with the token that it demands, if any.
    ///
    /// Errors ([`Kind::Config`]): it is not a URL of HTTP.
    pub fn new(url: &str, token: Option<String>) -> Result<DaemonUrl> {
        let wrong = |what: &str| {
            Error::new(Kind::Config, format!("`--url` {what}"))
                .advise("write the address of the daemon's API, such as `https://groupcast.example.com`")
        };
        let parsed = url::Url::parse(url).map_err(|error| wrong(&format!("is not a valid URL: {error}")))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(wrong("must begin with `https://` or `http://`"));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(wrong("contains credentials; put the token into `GROUPCAST_TOKEN` instead"));
        }
        let base = url.trim_end_matches('/').to_owned();
        Ok(DaemonUrl { client: HttpClient::new()?, base, token, clock: SystemClock::start(), patience: PATIENCE })
    }

    /// Whether the token would travel unencrypted to another machine.
    pub fn exposes_token(&self) -> bool {
        let is_local =
            |host: &str| ["http://localhost", "http://127.", "http://[::1]"].iter().any(|own| host.starts_with(own));
        self.token.is_some() && self.base.starts_with("http://") && !is_local(&self.base)
    }

    /// The console's page of a run.
    pub fn run_page(&self, run: &str) -> String {
        format!("{}/runs/{}", self.base, segment(run))
    }

    /// Every sync of the daemon.
    pub async fn syncs(&self) -> ServiceResult<Vec<SyncView>> {
        self.call("GET", "syncs", None).await
    }

    /// Hands a plan over, for runs that follow it.
    ///
    /// Errors ([`Kind::Config`]): it is larger than a daemon takes.
    pub async fn accept_plan(&self, plan: &SealedPlan) -> ServiceResult<PlanFile> {
        let body = serde_json::to_value(plan).unwrap_or_default();
        let (bytes, changes) = (body.to_string().len(), plan.syncs.iter().map(|sync| sync.hashes.len()).sum::<usize>());
        if bytes > PLAN_BYTES_MAX {
            let what = format!(
                "the plan has {} changes, which are {} bytes for the daemon: it takes {} at most",
                thousands(changes as u64),
                thousands(bytes as u64),
                thousands(PLAN_BYTES_MAX as u64)
            );
            let advice = "plan fewer syncs at a time, or copy the file to the daemon's machine and run it there";
            return Err(Error::new(Kind::Config, what).advise(advice).into());
        }
        self.call("POST", "plans", Some(&body)).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
    ) -> ServiceResult<T> {
        let began = self.clock.elapsed();
        let mut pause = FIRST_PAUSE;
        loop {
            let failed = match self.attempt(method, path, body).await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            let repeatable = failed.transient && (method == "GET" || failed.unapplied);
            if !repeatable || self.clock.elapsed() - began >= self.patience {
                return Err(failed.error);
            }
            self.clock.sleep(failed.wait.unwrap_or(pause).min(PAUSE_MAX)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn attempt<T: DeserializeOwned>(
        &self,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, FailedAttempt> {
        let mut headers = vec![("accept", "application/json".to_owned())];
        headers.extend(self.token.iter().map(|token| ("authorization", format!("Bearer {token}"))));
        headers.extend(body.iter().map(|_| ("content-type", "application/json".to_owned())));
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = Request { method, url: format!("{}/api/v1/{path}", self.base), headers, body, gzip: false };
        let response = self.client.send(&request, LIMITS).await.map_err(|none| FailedAttempt {
            error: Error::new(
                Kind::LedgerBusy,
                format!("the daemon at {} cannot be reached: {}", self.base, none.what),
            )
            .advise("check the URL, the network, and whether the daemon runs")
            .into(),
            transient: true,
            unapplied: none.applied == Applied::No,
            wait: None,
        })?;
        if (200..300).contains(&response.status) {
            return serde_json::from_slice(&response.body).map_err(|error| FailedAttempt {
                error: self.foreign(&response).because(error).into(),
                // Whatever answered was not the daemon; the daemon may be back soon.
                transient: true,
                unapplied: false,
                wait: None,
            });
        }
        if response.status == 401 {
            let what = format!("authentication failed at {}: HTTP 401", self.base);
            let advice = "set `GROUPCAST_TOKEN`, or `--token-file`, to the `token` under [daemon] of the daemon's groupcast.toml";
            let error = Error::new(Kind::Config, what).advise(advice).into();
            return Err(FailedAttempt { error, transient: false, unapplied: true, wait: None });
        }
        let wait = response.retry_after();
        let transient = matches!(response.status, 408 | 429 | 500 | 502 | 503 | 504);
        let error = ServiceError::from_response(response.status, &response.body);
        // The daemon itself refuses a run with 503 while it shuts down; of a proxy's error that is not known.
        let unapplied = response.status == 503 && error.is_some();
        Err(FailedAttempt {
            error: error.unwrap_or_else(|| self.foreign(&response).into()),
            transient,
            unapplied,
            wait,
        })
    }

    /// A response that is not one of the API.
    fn foreign(&self, response: &Response) -> Error {
        let kind = response.header("content-type").unwrap_or("no content type");
        let what =
            format!("{} answered HTTP {} ({kind}), which is not from Groupcast's API", self.base, response.status);
        Error::new(Kind::LedgerBusy, what).advise("check the URL, and the proxy before the daemon")
    }
}

#[async_trait]
impl RunHost for DaemonUrl {
    async fn trigger(&self, sync: &str, options: RunOptions, _by: &str) -> ServiceResult<EnqueuedRun> {
        let body = serde_json::to_value(&options).unwrap_or_default();
        self.call("POST", &format!("syncs/{}/runs", segment(sync)), Some(&body)).await
    }

    async fn run(&self, run: &str) -> ServiceResult<RunDetail> {
        self.call("GET", &format!("runs/{}", segment(run)), None).await
    }

    async fn cancel(&self, run: &str) -> ServiceResult<()> {
        self.call::<Value>("POST", &format!("runs/{}/cancel", segment(run)), None).await.map(|_| ())
    }
}
