//! TLS configuration for a registry with `tls.ca`. The client trusts the authorities of the system and the authorities
//! in the file `tls.ca`.
//!
//! The client also accepts a server whose own certificate is in the file, as OpenSSL and Go do. Such a certificate is
//! often marked as an authority, for example by `openssl req -x509`. The WebPKI verifier refuses this certificate for a
//! server (`CaUsedAsEndEntity`).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

use super::connect::{Pem, Tls, Transport};

/// Returns the TLS configuration for these options. Returns `None` in these cases, and the caller then uses the HTTP
/// client's own setup:
///
/// - The options contain no `tls.ca`.
/// - The options turn the verification off.
/// - The configuration is invalid. The HTTP client's own setup then reports the error.
pub(super) fn create(transport: &Transport) -> Option<ClientConfig> {
    let Tls { ca: Some(ca), identity, insecure_skip_verify: false } = &transport.tls else { return None };
    let provider = CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
    let verifier = Arc::new(OwnCertificateVerifier::new(ca, &provider)?);
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = [certificate.bytes(), b"\n", key.bytes()].concat();
            builder.with_client_auth_cert(read_certificates(&chain)?, PrivateKeyDer::from_pem_slice(key.bytes()).ok()?)
        }
        .ok()?,
    };
    let protocols: &[&[u8]] = if transport.http1_only { &[b"http/1.1"] } else { &[b"h2", b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Some(config)
}

fn read_certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()
}

/// Verifier that also accepts a server whose own certificate is in `tls.ca`.
#[derive(Debug)]
struct OwnCertificateVerifier {
    /// Verifier of certificate chains that end at an authority.
    chains: Verifier,
    /// Certificates of `tls.ca`.
    trusted: Vec<CertificateDer<'static>>,
}

impl OwnCertificateVerifier {
    fn new(ca: &Pem, provider: &Arc<CryptoProvider>) -> Option<Self> {
        let trusted = read_certificates(ca.bytes())?;
        let chains = Verifier::new_with_extra_roots(trusted.iter().cloned(), Arc::clone(provider)).ok()?;
        Some(Self { chains, trusted })
    }
}

impl ServerCertVerifier for OwnCertificateVerifier {
    /// Verifies the certificate chain. If the chain is not valid, but the server's own certificate is in `tls.ca`,
    /// verifies only the lifetime and the names of this certificate. The TLS handshake proves that the server has the
    /// private key.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            Err(_) if self.trusted.iter().any(|trusted| trusted.as_ref() == end_entity.as_ref()) => {
                verify_trusted_certificate(end_entity, server_name, now)
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Verifies the lifetime and the names of a server's own certificate that is in `tls.ca`.
fn verify_trusted_certificate(
    certificate: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    verify_lifetime(&parsed, now)?;
    verify_server_name(&parsed, server_name)?;
    Ok(ServerCertVerified::assertion())
}

/// Verifies that `now` is within the lifetime of a certificate. The library can check the lifetime only as the first
/// part of the check of a chain. So this function checks a chain without any authority, which always fails. If the
/// failure does not concern the lifetime, the lifetime is valid.
fn verify_lifetime(parsed: &ParsedCertificate<'_>, now: UnixTime) -> Result<(), Error> {
    let roots = RootCertStore::empty();
    match verify_server_cert_signed_by_trust_anchor(parsed, &roots, &[], now, &[]) {
        Err(
            error @ Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ),
        ) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    const NOW: u64 = 1_750_000_000;

    /// Creates a self-signed certificate that is marked as an authority, as `openssl req -x509` does.
    fn self_signed(name: &str, until: i32) -> (CertificateDer<'static>, KeyPair) {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.not_after = rcgen::date_time_ymd(until, 12, 31);
        let key = KeyPair::generate().unwrap();
        (parameters.self_signed(&key).unwrap().der().clone(), key)
    }

    fn verify(trusted: &CertificateDer<'static>, presented: &CertificateDer<'_>, now: u64) -> Result<(), String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chains = Verifier::new_with_extra_roots([trusted.clone()], provider).unwrap();
        let verifier = OwnCertificateVerifier { chains, trusted: vec![trusted.clone()] };
        let (name, now) =
            ("registry.example".try_into().unwrap(), UnixTime::since_unix_epoch(Duration::from_secs(now)));
        let verified = verifier.verify_server_cert(presented, &[], &name, &[], now);
        verified.map(drop).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn self_signed_certificate_of_the_file_is_accepted() {
        let (own, _) = self_signed("registry.example", 4000);
        assert_eq!(verify(&own, &own, NOW), Ok(()));
    }

    #[test]
    fn self_signed_certificate_outside_the_file_is_refused() {
        let ((own, _), (other, _)) = (self_signed("registry.example", 4000), self_signed("registry.example", 4000));
        let refused = verify(&own, &other, NOW).unwrap_err();
        assert!(refused.contains("CaUsedAsEndEntity"), "{refused}");
    }

    #[test]
    fn certificate_of_the_file_needs_right_name_and_time() {
        let (other_name, _) = self_signed("another.example", 4000);
        let refused = verify(&other_name, &other_name, NOW).unwrap_err();
        assert!(refused.contains("NotValidForName"), "{refused}");
        let (old, _) = self_signed("registry.example", 2001);
        let refused = verify(&old, &old, NOW).unwrap_err();
        assert!(refused.contains("Expired"), "{refused}");
        let (own, _) = self_signed("registry.example", 4000);
        let refused = verify(&own, &own, 1).unwrap_err();
        assert!(refused.contains("NotValidYet"), "{refused}");
    }
}
