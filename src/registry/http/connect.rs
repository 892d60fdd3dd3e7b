//! HTTP client of one registry: proxy, TLS, timeouts and HTTP/2 settings. `exchange.rs` sends requests. `error.rs`
//! describes failed requests.

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

pub use crate::registry::options::transport::{
    PathPrefix, PathPrefixError, Pem, PemError, Proxy, ProxyAddress, ProxyError, Timeouts, Tls, Transport,
};

use super::nearness::is_loopback;
use super::redirect;
use super::resolver::GuardedResolver;
use super::retry::RetryPolicy;
use super::tls_config;

/// Flow-control window of one HTTP/2 stream, in bytes. This window allows 100 MB/s at a round-trip time of 40 ms.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;

/// Flow-control window of all streams of one HTTP/2 connection to a registry, in bytes. Each connection can hold
/// received data of this size in memory. `daemon.memory` does not limit this data.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// Maximum size of an HTTP/2 frame, in bytes: four times the default of the protocol. A larger frame would delay small
/// answers that wait behind the frame on the same connection.
const FRAME: u32 = 64 * 1024;

/// Returns a builder with the settings that every HTTP client of this program has:
///
/// - The client sends `User-Agent: transship/VERSION`.
/// - The client does not follow redirects, repeat requests or send `Referer`.
pub(crate) fn bare_client() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("transship/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
}

/// Returns the HTTP client of a registry. The callers handle redirects, retries and credentials. The client does not
/// decompress bodies, because a decompressed blob would have another digest than the compressed blob.
pub(crate) fn http_client(base: &Url, policy: &RetryPolicy, transport: &Transport) -> reqwest::Result<reqwest::Client> {
    build(base, policy, transport, |builder| builder)
}

/// Returns a client that adds the server's certificate to each answer.
pub(crate) fn examining_client(
    base: &Url,
    policy: &RetryPolicy,
    transport: &Transport,
) -> reqwest::Result<reqwest::Client> {
    build(base, policy, transport, |builder| builder.tls_info(true))
}

/// Returns a client that connects only to addresses from the resolver `guard`.
pub(crate) fn guarded_client(
    base: &Url,
    policy: &RetryPolicy,
    transport: &Transport,
    guard: GuardedResolver,
) -> reqwest::Result<reqwest::Client> {
    build(base, policy, transport, |builder| builder.dns_resolver(guard.clone()))
}

fn build(
    base: &Url,
    policy: &RetryPolicy,
    transport: &Transport,
    customize: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> reqwest::Result<reqwest::Client> {
    let builder = || {
        let builder = customize(bare_client())
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_frame_size(FRAME)
            .connect_timeout(policy.connect)
            .pool_idle_timeout(policy.idle);
        let builder = match &transport.proxy {
            Proxy::Through(address) => builder.proxy(reqwest::Proxy::all(address.url().clone())?),
            Proxy::None => builder.no_proxy(),
            // The client never uses a proxy from the environment for a registry on this machine.
            Proxy::Environment if is_loopback(base) => builder.no_proxy(),
            Proxy::Environment => builder,
        };
        let builder = if transport.http1_only { builder.http1_only() } else { builder };
        with_tls(builder, transport)
    };
    let client = builder()?.build();
    if base.scheme() == "http" {
        // Plain HTTP needs no certificate authorities, so a system without authorities causes no error.
        return client.or_else(|_| builder()?.tls_certs_only([]).build());
    }
    client
}

fn with_tls(mut builder: reqwest::ClientBuilder, transport: &Transport) -> reqwest::Result<reqwest::ClientBuilder> {
    if let Some(config) = tls_config::create(transport) {
        return Ok(builder.tls_backend_preconfigured(config));
    }
    let tls = &transport.tls;
    if let Some(ca) = &tls.ca {
        builder = builder.tls_certs_merge(ca.parsed()?);
    }
    if let Some((certificate, key)) = &tls.identity {
        builder = builder.identity(crate::registry::options::transport::identity(certificate, key)?);
    }
    Ok(if tls.insecure_skip_verify { builder.tls_danger_accept_invalid_certs(true) } else { builder })
}

/// Returns the proxy variables of the environment that have an invalid value. The HTTP client ignores these variables.
/// The function does not return the values, because a value can contain a password.
#[must_use]
pub fn invalid_proxy_variables(environment: &dyn Fn(&str) -> Option<String>) -> Vec<&'static str> {
    let example = http::Uri::from_static("http://registry.example/");
    let is_invalid =
        |value: &str| !value.is_empty() && Matcher::builder().all(value).build().intercept(&example).is_none();
    // If both variables of a pair are set, the HTTP client uses the first variable.
    let pairs = [["HTTPS_PROXY", "https_proxy"], ["HTTP_PROXY", "http_proxy"], ["ALL_PROXY", "all_proxy"]];
    let set = pairs.into_iter().filter_map(|pair| pair.into_iter().find_map(|name| Some((name, environment(name)?))));
    set.filter(|(_, value)| is_invalid(value)).map(|(name, _)| name).collect()
}

/// Proxy settings of a registry. Error messages name the proxy of a request.
pub(crate) enum Via {
    Direct,
    Fixed(String),
    Environment(Matcher),
}

impl Via {
    pub(crate) fn new(base: &Url, transport: &Transport) -> Self {
        match &transport.proxy {
            Proxy::Through(address) => Self::Fixed(redirect::site(address.url())),
            Proxy::Environment if !is_loopback(base) => Self::Environment(Matcher::from_env()),
            Proxy::Environment | Proxy::None => Self::Direct,
        }
    }

    /// Returns the proxy for requests to `url`, without the credentials of the proxy.
    pub(crate) fn proxy_to(&self, url: &Url) -> Option<String> {
        match self {
            Self::Direct => None,
            Self::Fixed(proxy) => Some(proxy.clone()),
            Self::Environment(matcher) => {
                let proxy = matcher.intercept(&url.as_str().parse().ok()?)?;
                Some(redirect::site(&proxy.uri().to_string().parse().ok()?))
            }
        }
    }
}
