//! The HTTP client of one registry: its connections, as the options say. What goes through them is for `transport.rs`, what
//! goes wrong with them for `trouble.rs`.

mod options;

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

pub use options::{
    PathPrefix, PathPrefixError, Pem, PemError, Proxy, ProxyAddress, ProxyError, Timeouts, Tls, Transport,
};

use super::resolver::GuardedResolver;
use super::retry::Tempo;
use super::{locate, realm};

/// What one blob may have on its way by HTTP/2 before it is taken: 100 MB/s at a round trip of 40 ms.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;

/// What all of one registry may have so by HTTP/2, where they share a connection. It is memory at worst, and not
/// `daemon.memory`'s.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// The largest piece by HTTP/2: four times the least allowed, and still short beside a small answer that waits behind it.
const FRAME: u32 = 64 * 1024;

/// What every client of this program has in common: it says who it is, and by itself follows, repeats and refers to nothing.
pub(crate) fn bare_client() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("transship/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
}

/// Redirects, repetitions and credentials are ours to decide; content encodings stay off, for a decompressed blob has
/// another digest.
pub(crate) fn http_client(base: &Url, tempo: &Tempo, transport: &Transport) -> reqwest::Result<reqwest::Client> {
    build(base, tempo, transport, |builder| builder)
}

/// One whose answers show the certificate of who gave them, for a look at it.
pub(crate) fn examining_client(base: &Url, tempo: &Tempo, transport: &Transport) -> reqwest::Result<reqwest::Client> {
    build(base, tempo, transport, |builder| builder.tls_info(true))
}

/// One that connects to those addresses alone that this resolver hands out.
pub(crate) fn guarded_client(
    base: &Url,
    tempo: &Tempo,
    transport: &Transport,
    guard: GuardedResolver,
) -> reqwest::Result<reqwest::Client> {
    build(base, tempo, transport, |builder| builder.dns_resolver(guard.clone()))
}

fn build(
    base: &Url,
    tempo: &Tempo,
    transport: &Transport,
    with: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> reqwest::Result<reqwest::Client> {
    let builder = || {
        let builder = with(bare_client())
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_frame_size(FRAME)
            .connect_timeout(tempo.connect)
            .pool_idle_timeout(tempo.idle);
        let builder = match &transport.proxy {
            Proxy::Through(address) => builder.proxy(reqwest::Proxy::all(address.url().clone())?),
            Proxy::None => builder.no_proxy(),
            // As everywhere, a proxy of the environment is not for this machine itself.
            Proxy::Environment if realm::is_loopback(base) => builder.no_proxy(),
            Proxy::Environment => builder,
        };
        let builder = if transport.http1_only { builder.http1_only() } else { builder };
        with_tls(builder, &transport.tls)
    };
    let client = builder()?.build();
    if base.scheme() == "http" {
        // Without any authorities plain HTTP still works.
        return client.or_else(|_| builder()?.tls_certs_only([]).build());
    }
    client
}

fn with_tls(mut builder: reqwest::ClientBuilder, tls: &Tls) -> reqwest::Result<reqwest::ClientBuilder> {
    if let Some(ca) = &tls.ca {
        builder = builder.tls_certs_merge(ca.parsed()?);
    }
    if let Some((certificate, key)) = &tls.identity {
        builder = builder.identity(options::identity(certificate, key)?);
    }
    Ok(if tls.insecure_skip_verify { builder.tls_danger_accept_invalid_certs(true) } else { builder })
}

/// The variables of the environment that should name a proxy and do not: whatever they say, connections go as if they were
/// not set. What they say may hold a password.
#[must_use]
pub fn false_proxies(environment: &dyn Fn(&str) -> Option<String>) -> Vec<&'static str> {
    let somewhere = http::Uri::from_static("http://registry.example/");
    let is_false =
        |value: &str| !value.is_empty() && Matcher::builder().all(value).build().intercept(&somewhere).is_none();
    // The first one of a pair that is set counts, as for whoever makes the connections.
    let pairs = [["HTTPS_PROXY", "https_proxy"], ["HTTP_PROXY", "http_proxy"], ["ALL_PROXY", "all_proxy"]];
    let set = pairs.into_iter().filter_map(|pair| pair.into_iter().find_map(|name| Some((name, environment(name)?))));
    set.filter(|(_, value)| is_false(value)).map(|(name, _)| name).collect()
}

/// Which proxy a request goes through, for messages.
pub(crate) enum Via {
    Direct,
    Fixed(String),
    Environment(Matcher),
}

impl Via {
    pub(crate) fn new(base: &Url, transport: &Transport) -> Self {
        match &transport.proxy {
            Proxy::Through(address) => Self::Fixed(locate::site(address.url())),
            Proxy::Environment if !realm::is_loopback(base) => Self::Environment(Matcher::from_env()),
            Proxy::Environment | Proxy::None => Self::Direct,
        }
    }

    /// The proxy on the way to `url`, as it may be shown.
    pub(crate) fn to(&self, url: &Url) -> Option<String> {
        match self {
            Self::Direct => None,
            Self::Fixed(proxy) => Some(proxy.clone()),
            Self::Environment(matcher) => {
                let proxy = matcher.intercept(&url.as_str().parse().ok()?)?;
                Some(locate::site(&proxy.uri().to_string().parse().ok()?))
            }
        }
    }
}
