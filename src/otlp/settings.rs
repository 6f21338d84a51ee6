//! The settings of the export: OpenTelemetry's standard environment variables.

use std::time::Duration;

use super::span::SpanContext;

/// Where spans go, and as whose.
#[derive(PartialEq)]
pub(super) struct OtlpSettings {
    /// The whole address.
    pub(super) endpoint: String,
    /// Names and values, which may be secrets.
    pub(super) headers: Vec<(String, String)>,
    /// How long one export may take.
    pub(super) timeout: Duration,
    /// `service.name` and the like.
    pub(super) resource: Vec<(String, String)>,
}

/// The usual time limit of an export.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the variables say; none where nothing is to be exported.
///
/// Errors: a variable that cannot be obeyed, without its value.
pub(super) fn settings(variable: impl Fn(&str) -> Option<String>) -> Result<Option<OtlpSettings>, String> {
    let set = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    // The variable of traces wins over that of all signals.
    let either = |name: &str| {
        set(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}")).or_else(|| set(&format!("OTEL_EXPORTER_OTLP_{name}")))
    };
    let off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none")
        || set("OTEL_TRACES_SAMPLER").is_some_and(|value| value == "always_off");
    let of_all = || Some(format!("{}/v1/traces", set("OTEL_EXPORTER_OTLP_ENDPOINT")?.trim_end_matches('/')));
    let Some(endpoint) = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(of_all).filter(|_| !off) else {
        return Ok(None);
    };
    if !url::Url::parse(&endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
        return Err("OTEL_EXPORTER_OTLP_ENDPOINT is not an http or https URL".to_owned());
    }
    if let Some(protocol) = either("PROTOCOL").filter(|protocol| protocol == "grpc") {
        return Err(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL is `{protocol}`: set it to `http/json`, and the endpoint to the collector's port for HTTP \
             (4318)"
        ));
    }
    let timeout = match either("TIMEOUT") {
        None => TIMEOUT,
        Some(ms) => ms.parse().map(Duration::from_millis).map_err(|_| "OTEL_EXPORTER_OTLP_TIMEOUT is not a number")?,
    };
    let headers = match either("HEADERS") {
        None => Vec::new(),
        Some(text) => pairs(&text).ok_or("OTEL_EXPORTER_OTLP_HEADERS is not a list of `name=value`")?,
    };
    let mut resource = match set("OTEL_RESOURCE_ATTRIBUTES") {
        None => Vec::new(),
        Some(text) => pairs(&text).ok_or("OTEL_RESOURCE_ATTRIBUTES is not a list of `name=value`")?,
    };
    let mut or_else = |name: &str, value: Option<String>, default: &str| {
        if value.is_some() {
            resource.retain(|(other, _)| other != name);
        }
        if !resource.iter().any(|(other, _)| other == name) {
            resource.push((name.to_owned(), value.unwrap_or_else(|| default.to_owned())));
        }
    };
    or_else("service.name", set("OTEL_SERVICE_NAME"), "groupcast");
    or_else("service.version", None, env!("CARGO_PKG_VERSION"));
    Ok(Some(OtlpSettings { endpoint, headers, timeout, resource }))
}

/// `name=value` with commas between them, percent-encoded as W3C's Baggage is.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let decoded = |text: &str| {
        // A `+` stands for itself here.
        let escaped = text.trim().replace('+', "%2B");
        form_urlencoded::parse(escaped.as_bytes()).next().map_or_else(String::new, |(name, _)| name.into_owned())
    };
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        // Only a name: a value may have `&` and `=`.
        let value = value.replace('&', "%26").replace('=', "%3D");
        Some((decoded(name), decoded(&value))).filter(|(name, _)| !name.is_empty())
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

/// The context of W3C's `traceparent`, and whether its trace is recorded: `00-TRACE-SPAN-FLAGS`.
pub(super) fn trace_parent(text: &str) -> Option<(SpanContext, bool)> {
    let mut parts = text.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    // Later versions may have more parts.
    let is_known = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    if !is_known || !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
        return None;
    }
    let context =
        SpanContext { trace: u128::from_str_radix(trace, 16).ok()?, span: u64::from_str_radix(span, 16).ok()? };
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    (context.trace != 0 && context.span != 0).then_some((context, sampled))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<OtlpSettings>, String> {
        settings(|name| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned()))
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_standard_variables_are_obeyed() {
        assert!(of(&[]).unwrap().is_none(), "nothing is sent without an endpoint");
        let all = of(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20a%2Bb==, x-team = data&co+"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
            ("OTEL_SERVICE_NAME", "sync"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=prod%2Ceu"),
        ]);
        let all = all.unwrap().unwrap();
        assert_eq!(all.endpoint, "http://collector:4318/v1/traces");
        assert_eq!(all.headers, [pair("Authorization", "Basic a+b=="), pair("x-team", "data&co+")]);
        assert_eq!(all.timeout, Duration::from_millis(250));
        let version = pair("service.version", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            all.resource,
            [pair("deployment.environment.name", "prod,eu"), pair("service.name", "sync"), version.clone()]
        );
        let own = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces.example/in?x=1"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ];
        let own = of(&own).unwrap().unwrap();
        assert_eq!((own.endpoint.as_str(), own.timeout), ("https://traces.example/in?x=1", TIMEOUT));
        assert_eq!(own.resource, [pair("service.name", "groupcast"), version]);
        for off in
            [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_TRACES_SAMPLER", "always_off")]
        {
            assert!(of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector"), off]).unwrap().is_none(), "{off:?}");
        }
    }

    #[test]
    fn what_cannot_be_obeyed_is_an_error_without_its_value() {
        let wrong = |name: &str, value: &str| {
            let endpoint = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector");
            let error = of(&[(name, value), endpoint]).err().unwrap();
            assert!(error.contains(name) && !error.contains("s3cret"), "{error}");
        };
        wrong("OTEL_EXPORTER_OTLP_HEADERS", "s3cret");
        wrong("OTEL_EXPORTER_OTLP_TIMEOUT", "s3cret");
        wrong("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        wrong("OTEL_RESOURCE_ATTRIBUTES", "=s3cret");
        assert!(of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")]).is_err());
    }

    #[test]
    fn a_trace_goes_on_where_it_is_valid() {
        let (context, sampled) = trace_parent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        assert_eq!((context.trace, context.span), (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 0xb7ad_6b71_6920_3331));
        assert!(sampled);
        assert!(!trace_parent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00").unwrap().1);
        assert!(trace_parent("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more").is_some());
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(trace_parent(wrong).is_none(), "{wrong}");
        }
    }
}
