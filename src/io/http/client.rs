//! The HTTP client of the machine's network: HTTP(S) through reqwest, files through [`append`].
//!
//! Nothing here logs, and no error text holds an address's secrets, a header or a body.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::append;
use super::proxy::{self, Exceptions};
use super::{Applied, CallLimits, LATE_MAX, NoResponse, Request, Response, Transport};
use crate::error::{Error, Kind, Result};

/// Longest a connection may take to be established, TLS included. Part of the request's own timeout.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long an idle connection is kept: shorter than the 60 s after which common load balancers drop one silently.
const IDLE_MAX: Duration = Duration::from_secs(50);

/// The machine's network and files.
pub struct HttpClient {
    client: reqwest::Client,
    /// The hosts that requests reach past the proxy, and what they go through.
    past_proxy: Option<(Exceptions, reqwest::Client)>,
    /// Why no HTTPS connection can be made, when the machine has no certificates. Plain HTTP and files work all the same.
    no_https: Option<String>,
}

impl HttpClient {
    /// Prepares connections: TLS certificates are checked against the machine's store (or `SSL_CERT_FILE`), proxies
    /// come from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, redirects are never followed.
    ///
    /// Errors ([`Kind::Config`]): a variable names a proxy that cannot be used, so that requests would go past it.
    pub fn new() -> Result<HttpClient> {
        proxy::check(|name| std::env::var_os(name))?;
        let mut http_client = HttpClient::through(true)?;
        let exceptions = Exceptions::of(|name| std::env::var_os(name));
        if !exceptions.is_empty() {
            http_client.past_proxy = Some((exceptions, HttpClient::through(false)?.client));
        }
        Ok(http_client)
    }

    /// The same without any proxy, for talking to this machine.
    pub fn direct() -> Result<HttpClient> {
        HttpClient::through(false)
    }

    fn through(proxies: bool) -> Result<HttpClient> {
        let bug = |error: String| Error::new(Kind::Bug, "failed to prepare HTTP connections").because(error);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| bug(error.to_string()))?;
        let (tls, no_https) = match rustls_platform_verifier::Verifier::new(provider) {
            Ok(verifier) => {
                (tls.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth(), None)
            }
            Err(error) => {
                let roots = rustls::RootCertStore::empty();
                (tls.with_root_certificates(roots).with_no_client_auth(), Some(error.to_string()))
            }
        };
        let builder = reqwest::Client::builder();
        let builder = if proxies { builder } else { builder.no_proxy() };
        // A second less than promised: it is counted from the first time that something is sent again.
        #[cfg(target_os = "linux")]
        let builder = builder.tcp_user_timeout(LATE_MAX - Duration::from_secs(1));
        let client = builder
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_MAX)
            .pool_idle_timeout(IDLE_MAX)
            // A header that old servers fold or misspell must not hide what became of a request.
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true)
            .user_agent(concat!("groupcast/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| bug(error.to_string()))?;
        Ok(HttpClient { client, past_proxy: None, no_https })
    }

    fn client_for(&self, request: &Request) -> &reqwest::Client {
        match &self.past_proxy {
            Some((exceptions, direct)) if exceptions.except(&request.url) => direct,
            _ => &self.client,
        }
    }

    fn prepare(&self, request: &Request, timeout: Duration) -> Result<reqwest::Request, NoResponse> {
        let not_sent = |what: String| NoResponse { applied: Applied::No, what };
        if let Some(why) = self.no_https.as_ref().filter(|_| request.url.starts_with("https:")) {
            return Err(not_sent(format!("no HTTPS: {why} (install `ca-certificates` or set SSL_CERT_FILE)")));
        }
        let method = reqwest::Method::from_bytes(request.method.as_bytes())
            .map_err(|_| not_sent("the request's method is not valid".to_owned()))?;
        let mut builder = self.client_for(request).request(method, &request.url).timeout(timeout);
        // Some servers compress in any case; this tells them what can be read.
        builder = builder.header("accept-encoding", "gzip");
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if request.gzip {
            let packed = gzip(&request.body).map_err(|error| not_sent(format!("failed to compress: {error}")))?;
            builder = builder.header("content-encoding", "gzip").body(packed);
        } else if !request.body.is_empty() {
            builder = builder.body(request.body.clone());
        }
        builder.build().map_err(|error| not_sent(described(error, timeout)))
    }
}

#[async_trait]
impl Transport for HttpClient {
    async fn send(&self, request: &Request, limits: CallLimits) -> Result<Response, NoResponse> {
        let CallLimits { timeout, body_bytes_max } = limits;
        if append::is_local(request) {
            return append::append(request).await;
        }
        let prepared = self.prepare(request, timeout)?;
        let mut response = match self.client_for(request).execute(prepared).await {
            Ok(response) => response,
            // The proxy's response to the request for a tunnel, of which the library keeps only the status.
            Err(error) if error.is_connect() && wants_credentials(&error) => {
                let body = b"the proxy asks for authentication".to_vec();
                return Ok(Response { status: 407, body, ..Response::default() });
            }
            Err(error) => {
                return Err(NoResponse {
                    // Failed while connecting (name, socket, TLS): no byte of the request has left.
                    applied: if error.is_connect() || error.is_builder() { Applied::No } else { Applied::Maybe },
                    what: described(error, timeout),
                });
            }
        };
        let status = response.status();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let headers = headers.collect();
        let mut body = Vec::new();
        let mut truncated = false;
        while !truncated {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let room = body_bytes_max - body.len();
                    body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                    truncated = chunk.len() > room;
                }
                Ok(None) => break,
                // An acceptance that breaks off may have been about to name rejected elements; of a rejection, the status is enough.
                Err(error) if status.is_success() => {
                    return Err(NoResponse { applied: Applied::Maybe, what: described(error, timeout) });
                }
                Err(_) => break,
            }
        }
        let response = Response { status: status.as_u16(), headers, body, truncated };
        match decompressed(&response, body_bytes_max) {
            None => Ok(response),
            Some(Ok((body, truncated))) => Ok(Response { body, truncated, ..response }),
            Some(Err(what)) if status.is_success() => Err(NoResponse { applied: Applied::Maybe, what }),
            Some(Err(what)) => Ok(Response { body: what.into_bytes(), ..response }),
        }
    }
}

/// The body of a compressed response, no more than `bytes_max` of it, and whether there was more; none when it is not
/// compressed.
fn decompressed(response: &Response, bytes_max: usize) -> Option<Result<(Vec<u8>, bool), String>> {
    let coding = response.header("content-encoding")?.trim().to_ascii_lowercase();
    let mut decoder: Box<dyn Read + '_> = match coding.as_str() {
        "" | "identity" => return None,
        // Where the header is right and the body was decompressed on the way, it stays as it is.
        _ if response.body.is_empty() => return None,
        "gzip" | "x-gzip" if !response.body.starts_with(&[0x1f, 0x8b]) => return None,
        "gzip" | "x-gzip" => Box::new(flate2::read::MultiGzDecoder::new(response.body.as_slice())),
        "deflate" => Box::new(flate2::read::ZlibDecoder::new(response.body.as_slice())),
        _ => return Some(Err("the response is compressed in another way than gzip".to_owned())),
    };
    let mut body = Vec::new();
    let mut piece = [0; 8 * 1024];
    loop {
        match decoder.read(&mut piece) {
            Ok(0) => return Some(Ok((body, response.truncated))),
            Ok(length) => {
                let room = bytes_max - body.len();
                body.extend_from_slice(&piece[..length.min(room)]);
                if length > room {
                    return Some(Ok((body, true)));
                }
            }
            // Of a body that was only read in part, what came is enough.
            Err(_) if response.truncated => return Some(Ok((body, true))),
            Err(error) => return Some(Err(format!("the response cannot be decompressed: {error}"))),
        }
    }
}

/// Whether a proxy required a user name and a password for a connection.
fn wants_credentials(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.to_string().contains("proxy authorization required") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The same bytes give the same bytes: no time and no name in the gzip header.
fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

/// What happened, innermost cause last, without the address (a proxy's may hold a password).
fn described(error: reqwest::Error, timeout: Duration) -> String {
    let what = if error.is_timeout() && error.is_connect() {
        "no connection within the time limit".to_owned()
    } else if error.is_timeout() {
        return format!("no response within {} s", timeout.as_secs_f64());
    } else if error.is_connect() {
        "failed to connect".to_owned()
    } else if error.is_builder() {
        "the request's address or headers are not valid".to_owned()
    } else {
        "the connection broke".to_owned()
    };
    let error = error.without_url();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    let mut innermost = None;
    while let Some(error) = cause {
        innermost = Some(error.to_string());
        cause = error.source();
    }
    innermost.map_or(what.clone(), |cause| format!("{what}: {cause}"))
}
