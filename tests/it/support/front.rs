//! Servers in front of registries: TLS with a certificate of an authority made for the test, and a proxy that requires
//! a password. Each server runs on its own thread and ends when it is dropped.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;

/// Time for a response to leave the connection before the connection ends.
const FLUSHED: Duration = Duration::from_millis(20);

/// Certificate authority of a test.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Certificate and its key, in PEM form.
#[derive(Debug)]
pub struct Certified {
    /// Certificate.
    pub certificate: String,
    /// Private key.
    pub key: String,
}

/// Server in front of another server. Dropping the value ends the server and every connection.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    seen: Seen,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Log of negotiated protocols, or of requests to a proxy, and of failures.
type Seen = Arc<Mutex<Vec<String>>>;

impl Authority {
    /// Creates an authority with this name.
    pub fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// Returns the authority's own certificate in PEM form.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a certificate for a name or an address, valid until the end of a year.
    pub fn certify(&self, name: &str, until: i32) -> Certified {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(until, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        Certified { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// Creates a certificate as `openssl req -x509` does: self-signed and marked as an authority. It is valid for a name or
/// an address until the end of a year.
pub fn self_signed(name: &str, until: i32) -> Certified {
    let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.not_after = rcgen::date_time_ymd(until, 12, 31);
    let key = KeyPair::generate().unwrap();
    Certified { certificate: parameters.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

impl Authority {
    /// Issues a certificate for signing tokens. Returns the certificate in DER form, with its key.
    pub fn signer(&self) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec!["tokens".to_owned()]).unwrap();
        (parameters.signed_by(&key, &self.0).unwrap().der().to_vec(), key)
    }
}

impl Front {
    /// Starts TLS with this certificate in front of the server at `upstream`. With `clients`, the front requires a
    /// client certificate of that authority. Bytes pass unchanged, so `protocols` must be those of the server, unless
    /// the test ends after the handshake.
    pub fn tls(upstream: &str, own: &Certified, clients: Option<&Authority>, protocols: &[&str]) -> Self {
        let upstream: SocketAddr = upstream.parse().unwrap();
        let mut config = config(own, clients);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::start(move |stream, seen| serve_tls(stream, acceptor.clone(), upstream, seen))
    }

    /// Starts TLS with this certificate in front of the server at `upstream`. The front answers `requests` requests of
    /// each of the first two HTTP/2 connections and then ends the connection with `ENHANCE_YOUR_CALM` (RFC 9113,
    /// section 7), even if other requests are in progress, as some proxies do under load; logged as "calm". HTTP/1.1
    /// passes unchanged.
    pub fn with_enhance_your_calm(upstream: &str, own: &Certified, requests: usize) -> Self {
        let upstream: SocketAddr = upstream.parse().unwrap();
        let mut config = config(own, None);
        config.alpn_protocols = ["h2", "http/1.1"].map(|name| name.as_bytes().to_vec()).to_vec();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::start(move |stream, seen| serve_then_end(stream, acceptor.clone(), upstream, requests, seen))
    }

    /// Starts a proxy that requires this user and password.
    pub fn proxy(credentials: &str) -> Self {
        use base64::Engine as _;
        let expected = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credentials));
        Self::start(move |stream, seen| tunnel(stream, expected.clone(), seen))
    }

    /// Starts a proxy that forwards requests for any host to the server at `upstream`.
    pub fn proxy_to(upstream: &str) -> Self {
        let upstream: SocketAddr = upstream.parse().unwrap();
        Self::start(move |stream, seen| forward_any_host(stream, upstream, seen))
    }

    pub(super) fn start<W>(work: impl Fn(TcpStream, Seen) -> W + Send + 'static) -> Self
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let (ready, started) = mpsc::sync_channel(1);
        let (seen, stopped) = (Seen::default(), stop.clone());
        let log = seen.clone();
        let thread = std::thread::Builder::new().name("front".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                let accept = async {
                    while let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(work(stream, log.clone()));
                    }
                };
                stopped.run_until_cancelled(accept).await;
            });
        });
        let address = started.recv().expect("the thread binds its port");
        Self { address, seen, stop, thread: Some(thread.unwrap()) }
    }

    /// Returns the address as `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the log so far. Waits for its first line, because a client may see a refusal before the log has it.
    pub fn seen(&self) -> Vec<String> {
        let end = std::time::Instant::now() + super::programs::DEADLINE;
        loop {
            let seen = self.seen.lock().unwrap().clone();
            if !seen.is_empty() || std::time::Instant::now() >= end {
                return seen;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn config(own: &Certified, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    let certificate = CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    builder.with_single_cert(vec![certificate], key).unwrap()
}

async fn serve_tls(stream: TcpStream, acceptor: TlsAcceptor, upstream: SocketAddr, seen: Seen) {
    match acceptor.accept(stream).into_fallible().await {
        Ok(mut stream) => {
            let protocol = stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
            seen.lock().unwrap().push(protocol.unwrap_or_else(|| "none".to_owned()));
            if let Ok(mut upstream) = TcpStream::connect(upstream).await {
                let _ = copy_bidirectional(&mut stream, &mut upstream).await;
            }
        }
        Err((_, mut stream)) => {
            seen.lock().unwrap().push("refused".to_owned());
            // Read to the end: closing a connection with unread bytes resets it, and the client loses the reason.
            let _ = stream.shutdown().await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    }
}

/// Reads the head of a proxy connection's first request, which has no body.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

async fn forward_any_host(mut stream: TcpStream, upstream: SocketAddr, seen: Seen) {
    let Some(head) = head(&mut stream).await else { return };
    seen.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
    let Ok(mut upstream) = TcpStream::connect(upstream).await else { return };
    // Servers also accept request targets that contain the host.
    let _ = match head.starts_with("CONNECT ") {
        true => stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await,
        false => upstream.write_all(head.as_bytes()).await,
    };
    let _ = copy_bidirectional(&mut stream, &mut upstream).await;
}

async fn tunnel(mut stream: TcpStream, expected: String, seen: Seen) {
    let Some(head) = head(&mut stream).await else { return };
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let authorized = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .any(|(name, value)| name.eq_ignore_ascii_case("proxy-authorization") && value == expected);
    seen.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
    if !authorized {
        let _ = stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").await;
        return;
    }
    if let Ok(mut upstream) = TcpStream::connect(target).await {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let _ = copy_bidirectional(&mut stream, &mut upstream).await;
    }
}

async fn serve_then_end(stream: TcpStream, acceptor: TlsAcceptor, upstream: SocketAddr, requests: usize, seen: Seen) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    seen.lock().unwrap().push(if is_http2 { "h2" } else { "http/1.1" }.to_owned());
    if !is_http2 {
        if let Ok(mut upstream) = TcpStream::connect(upstream).await {
            let _ = copy_bidirectional(&mut stream, &mut upstream).await;
        }
        return;
    }
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut answering = JoinSet::new();
    for _ in 0..requests {
        let Some(Ok((request, respond))) = connection.accept().await else { return };
        answering.spawn(relay(request, respond, upstream));
    }
    // These requests get their responses, or no request would ever succeed under load; all further ones are broken off.
    let is_calm = seen.lock().unwrap().iter().filter(|seen| *seen == "calm").count() >= 2;
    let mut broken_off = Vec::new();
    let mut answered = std::pin::pin!(async {
        while answering.join_next().await.is_some() {}
        tokio::time::sleep(FLUSHED).await;
    });
    let mut all_are_answered = false;
    while !all_are_answered || broken_off.is_empty() {
        tokio::select! {
            next = connection.accept() => match next {
                Some(Ok((request, respond))) if is_calm => drop(tokio::spawn(relay(request, respond, upstream))),
                Some(Ok(further)) => broken_off.push(further),
                _ => return,
            },
            () = &mut answered, if !all_are_answered => all_are_answered = true,
        }
    }
    seen.lock().unwrap().push("calm".to_owned());
    connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
    let _ = std::future::poll_fn(|cx| connection.poll_closed(cx)).await;
}

/// Forwards one request by HTTP/1.1, and its response back. Bodies are buffered as a whole, so they must be small.
async fn relay(
    request: axum::http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<bytes::Bytes>,
    upstream: SocketAddr,
) -> Option<()> {
    let (head, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        body.flow_control().release_capacity(piece.len()).ok()?;
        bytes.extend_from_slice(&piece);
    }
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().ok()?;
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let requested = client.request(head.method, format!("http://{upstream}{path}")).headers(head.headers).body(bytes);
    let answer = requested.send().await.ok()?;
    let mut response = axum::http::Response::new(());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    for name in ["connection", "transfer-encoding", "keep-alive"] {
        response.headers_mut().remove(name);
    }
    let bytes = answer.bytes().await.ok()?;
    let mut sending = respond.send_response(response, bytes.is_empty()).ok()?;
    if !bytes.is_empty() {
        sending.send_data(bytes, true).ok()?;
    }
    Some(())
}
