//! Client of the daemon's status port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use reqwest::StatusCode;
use reqwest::redirect::Policy;
use secrecy::ExposeSecret as _;

use crate::config::StatusPort;
use crate::registry::Secret;
use crate::status::Snapshot;

/// Time limit for the daemon's response.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Requests the state of the daemon. If the port requires a token, `token` is the token.
pub(crate) async fn request_status(port: &StatusPort, token: Option<&Secret>) -> Result<Snapshot, anyhow::Error> {
    // A redirect could send the token to another server, so the client follows no redirect.
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).timeout(ANSWER_WITHIN);
    let (client, url) = match port {
        StatusPort::Tcp(address) => (client, format!("http://{}/status", address_to_connect(*address))),
        StatusPort::Unix(path) => (client.unix_socket(path.clone()), "http://localhost/status".to_owned()),
        StatusPort::Off => return Err(anyhow!("the configuration says `status: off`")),
    };
    // The error message contains only the root cause. The other causes only say that a request failed.
    let unreachable = |error: reqwest::Error| {
        let remedy = if error.is_timeout() { "; see `systemctl status transship` and its log" } else { "" };
        anyhow!("no daemon answers at {port}: {}{remedy}", anyhow::Error::from(error).root_cause())
    };
    let mut request = client.build()?.get(url);
    if let Some(token) = token {
        let token = token.read().await.context("the token of the status port cannot be read")?;
        request = request.bearer_auth(token.expose_secret());
    }
    let answer = request.send().await.map_err(unreachable)?;
    if answer.status() == StatusCode::UNAUTHORIZED {
        return Err(anyhow!("the daemon at {port} refuses {}", token_refusal(token)));
    }
    let answer = answer.error_for_status().map_err(unreachable)?;
    // If the daemon has another version of the format, the body may not parse. The function therefore checks the
    // version first.
    let body: serde_json::Value = answer.json().await.map_err(unreachable)?;
    match body["version"].as_u64() {
        Some(version) if version == u64::from(Snapshot::VERSION) => Ok(serde_json::from_value(body)?),
        version => Err(anyhow!(
            "the daemon at {port} reports its status in version {version:?}, which this program cannot read"
        )),
    }
}

/// Returns the address for a connection. An unspecified address, such as `0.0.0.0`, becomes the loopback address.
fn address_to_connect(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn token_refusal(token: Option<&Secret>) -> &'static str {
    match token {
        None => "a request without its token: name the file of the token with --token-file",
        Some(_) => "this token: it expects the token of daemon.status in its sync.yaml",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::cli::output::snapshot::tests::{snapshot, time_at};
    use crate::listen::{Listener, serve_routes};
    use crate::status::{Metrics, Port};

    #[tokio::test]
    async fn status_is_requested_by_address_and_by_socket() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("status.sock");
        let tcp = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = StatusPort::Tcp(tcp.address().unwrap());
        let unix = Listener::unix(&socket).await.unwrap();
        let (_sender, receiver) = watch::channel(Arc::new(snapshot()));
        let environment = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
        let config = crate::config::parse("sync.yaml", "version: 1\nsync: []", &environment).unwrap();
        let (_in_force, config) = watch::channel(Arc::new(config));
        let port = Port::new(receiver, Arc::new(Metrics::new("0", time_at(0))), Arc::new(|| time_at(0)), config);
        let shutdown = CancellationToken::new();
        tokio::spawn(serve_routes(tcp, port.clone().router(), &[], shutdown.clone()));
        tokio::spawn(serve_routes(unix, port.router(), &[], shutdown.clone()));
        assert_eq!(request_status(&address, None).await.unwrap(), snapshot());
        assert_eq!(request_status(&StatusPort::Unix(socket), None).await.unwrap(), snapshot());
        shutdown.cancel();
    }

    #[tokio::test]
    async fn token_is_sent_and_a_refusal_names_its_origin() {
        let folder = tempfile::tempdir().unwrap();
        let (file, another) = (folder.path().join("token"), folder.path().join("another"));
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        std::fs::write(&another, "fedcba9876543210\n").unwrap();
        let text = format!(
            "version: 1\ndaemon: {{status: {{listen: \"0.0.0.0:9180\", token: {{file: {}}}}}}}\nsync: []\n",
            file.display()
        );
        let environment = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
        let config = crate::config::parse("sync.yaml", &text, &environment).unwrap();
        let (_in_force, config) = watch::channel(Arc::new(config));
        let (_sender, receiver) = watch::channel(Arc::new(snapshot()));
        let tcp = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let port = StatusPort::Tcp(tcp.address().unwrap());
        let router =
            Port::new(receiver, Arc::new(Metrics::new("0", time_at(0))), Arc::new(|| time_at(0)), config).router();
        let shutdown = CancellationToken::new();
        tokio::spawn(serve_routes(tcp, router, &[], shutdown.clone()));
        assert_eq!(request_status(&port, Some(&Secret::File(file))).await.unwrap(), snapshot());
        let refused = request_status(&port, None).await.unwrap_err().to_string();
        let expected = "refuses a request without its token: name the file of the token with --token-file";
        assert_eq!(refused, format!("the daemon at {port} {expected}"));
        let refused = request_status(&port, Some(&Secret::File(another))).await.unwrap_err().to_string();
        let expected = "refuses this token: it expects the token of daemon.status in its sync.yaml";
        assert_eq!(refused, format!("the daemon at {port} {expected}"));
        shutdown.cancel();
    }

    #[test]
    fn unspecified_address_is_reached_at_loopback() {
        for (written, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.5:1", "10.0.0.5:1"), ("[::1]:1", "[::1]:1")]
        {
            assert_eq!(address_to_connect(written.parse().unwrap()).to_string(), asked);
        }
    }

    #[tokio::test]
    async fn closed_port_is_reported_with_its_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = format!("{:#}", request_status(&StatusPort::Tcp(address), None).await.unwrap_err());
        assert!(error.starts_with(&format!("no daemon answers at {address}: ")), "{error}");
    }
}
