//! What stands before registries: TLS with a certificate of an authority made for the test, and a proxy that wants a
//! password. Each runs on a thread of its own and ends when it is dropped.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;

/// An authority that only the test knows.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM form.
#[derive(Debug)]
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// A server before another one. Dropping it ends it, with every connection.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    seen: Seen,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// What came: the protocols that were agreed upon, or the requests to a proxy; and what failed.
type Seen = Arc<Mutex<Vec<String>>>;

impl Authority {
    /// A new one of this name.
    pub fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate in PEM form.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a name or an address, good until the end of a year.
    pub fn certify(&self, name: &str, until: i32) -> Certified {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(until, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        Certified { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Authority {
    /// A certificate for whoever signs tokens, in DER form, and its key.
    pub fn signer(&self) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec!["tokens".to_owned()]).unwrap();
        (parameters.signed_by(&key, &self.0).unwrap().der().to_vec(), key)
    }
}

impl Front {
    /// TLS by this certificate before the server at `upstream`. With `clients`, only those with a certificate of that
    /// authority are let in. Bytes pass as they are, so `protocols` are what the server speaks, for more than a greeting.
    pub fn tls(upstream: &str, own: &Certified, clients: Option<&Authority>, protocols: &[&str]) -> Self {
        let upstream: SocketAddr = upstream.parse().unwrap();
        let mut config = config(own, clients);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::start(move |stream, seen| greet(stream, acceptor.clone(), upstream, seen))
    }

    /// A proxy that lets through who has this user and password.
    pub fn proxy(credentials: &str) -> Self {
        use base64::Engine as _;
        let expected = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credentials));
        Self::start(move |stream, seen| tunnel(stream, expected.clone(), seen))
    }

    fn start<W>(work: impl Fn(TcpStream, Seen) -> W + Send + 'static) -> Self
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let (ready, started) = mpsc::sync_channel(1);
        let (seen, stopped) = (Seen::default(), stop.clone());
        let noted = seen.clone();
        let thread = std::thread::Builder::new().name("front".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                let accept = async {
                    while let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(work(stream, noted.clone()));
                    }
                };
                stopped.run_until_cancelled(accept).await;
            });
        });
        let address = started.recv().expect("the thread binds its port");
        Self { address, seen, stop, thread: Some(thread.unwrap()) }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What came so far.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
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

async fn greet(stream: TcpStream, acceptor: TlsAcceptor, upstream: SocketAddr, seen: Seen) {
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
            // Read to its end: a connection that is closed over unread bytes is reset, and the reason with it.
            let _ = stream.shutdown().await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    }
}

async fn tunnel(mut stream: TcpStream, expected: String, seen: Seen) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
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
