//! Cases `tls-*`: a copy of the whole corpus to an empty registry over TLS, with HTTP/1.1 or HTTP/2. The case compares
//! the result with plain HTTP.
//!
//! The case creates a certificate. With the variable `SSL_CERT_FILE`, transship accepts the certificate.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::DISTANT;
use super::cold::wall;
use crate::Bench;
use crate::meter::Setup;
use crate::report::{Figure, Report};
use crate::stage::Stage;
use crate::tools::Tool;

pub(super) fn http1(bench: &Bench) -> anyhow::Result<Report> {
    tls(bench, "tls-h1", "http/1.1")
}

pub(super) fn http2(bench: &Bench) -> anyhow::Result<Report> {
    tls(bench, "tls-h2", "h2")
}

fn tls(bench: &Bench, name: &'static str, protocol: &str) -> anyhow::Result<Report> {
    let filled = bench.whole()?;
    let folder = tempfile::tempdir()?;
    let ca = folder.path().join("ca.pem");
    let acceptor = acceptor(&ca, protocol)?;
    let mut report = Report::new(name);
    for round in 1..=bench.options.rounds {
        let plain = Stage::simple(bench, &filled.registry, DISTANT)?;
        let mut run = plain.run(&Tool::Transship, round, &filled.corpus)?;
        run.tool = "transship, plain".into();
        report.runs.push(run);
        let setup = Setup { round_trip: DISTANT, tls: Some(acceptor.clone()), ..Setup::default() };
        let mut stage = Stage::new(bench, &filled.registry, setup.clone(), vec![setup])?;
        stage.ca = Some(ca.clone());
        report.runs.push(stage.run(&Tool::Transship, round, &filled.corpus)?);
    }
    let ratio = report.ratio("transship", "transship, plain", wall);
    report.figures = vec![Figure::time("time / plain HTTP's", ratio, 1.15)];
    report.notes.push("the meter's TLS takes CPU of the same machine".into());
    Ok(report)
}

/// Creates a TLS acceptor with a certificate for the loopback address. Writes the certificate of the authority to the
/// file `ca`.
fn acceptor(ca: &Path, protocol: &str) -> anyhow::Result<TlsAcceptor> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    std::fs::write(ca, authority.pem())?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &authority)?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate.der().clone()], private)?;
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
