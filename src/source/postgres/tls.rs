//! TLS for PostgreSQL: encryption and trusted certificates, by libpq's levels on rustls.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::settings::Address;
use super::sslmode::SslMode;
use crate::error::{Error, Kind, Result};

/// The TLS client that checks what the address asks for, and shows the certificate it names. With [`SslMode::Disable`] it is
/// never used.
///
/// `direct` is the server's newer greeting without PostgreSQL's own negotiation, which demands a protocol name.
pub(super) fn connector(address: &Address, direct: bool) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |error: rustls::Error| Error::new(Kind::Source, "failed to set up TLS").because(error);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let builder = match (address.sslmode, address.ca_file.as_deref()) {
        (SslMode::VerifyFull, Some(path)) => builder.with_root_certificates(roots(path)?),
        (SslMode::VerifyFull, None) => builder.with_platform_verifier().map_err(|error| {
            failed(error).advise("install the system's certificate authorities (ca-certificates), or set `ca_file`")
        })?,
        (SslMode::VerifyCa | SslMode::Require, Some(path)) => {
            let checked = Lenient { provider, roots: Some(roots(path)?) };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(checked))
        }
        _ => {
            let unchecked = Lenient { provider, roots: None };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(unchecked))
        }
    };
    let mut config = match &address.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let (chain, secret) = (chain(certificate)?, private_key(key)?);
            builder.with_client_auth_cert(chain, secret).map_err(|error| {
                Error::new(Kind::Config, "`cert_file` and `key_file` do not belong together")
                    .because(error)
                    .advise("name the certificate that was made for this key")
                    .at(certificate.display().to_string())
            })?
        }
    };
    if direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(MakeRustlsConnect::new(config))
}

/// The certificate that we show, with those that lead to its authority.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let refused = |what: &str| {
        Error::new(Kind::Config, format!("`cert_file` {what}"))
            .advise("set `cert_file` to the PEM file with the certificate of the user we sign in as")
            .at(path.display().to_string())
    };
    let text = crate::io::files::read(path, CA_BYTES_MAX).map_err(|error| refused("cannot be read").because(error))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| refused("is not a PEM file").because(error))?;
    if chain.is_empty() {
        return Err(refused("contains no certificate"));
    }
    Ok(chain)
}

/// The key of that certificate. Errors hold nothing of it.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let refused = |what: &str, advice: &str| {
        Error::new(Kind::Config, format!("`key_file` {what}")).advise(advice).at(path.display().to_string())
    };
    let text = crate::io::files::read(path, CA_BYTES_MAX).map_err(|error| {
        refused("cannot be read", "set `key_file` to the PEM file with the certificate's key").because(error)
    })?;
    let encrypted = String::from_utf8_lossy(&text);
    if encrypted.contains("BEGIN ENCRYPTED PRIVATE KEY") || encrypted.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(refused(
            "is encrypted with a passphrase",
            "decrypt it (`openssl pkey -in client.key -out plain.key`) into a file that only this user can read",
        ));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        refused(
            "contains no private key in PEM form",
            "name the key's PEM file; one for Java (`.pk8`) is converted with `openssl pkey -inform DER -in client.pk8 -out \
             client.key`",
        )
    })
}

/// Largest file of certificates: the authorities of a whole system take a quarter of a megabyte.
const CA_BYTES_MAX: u64 = 8 * 1024 * 1024;

fn roots(path: &Path) -> Result<RootCertStore> {
    let refused = |what: &str| {
        Error::new(Kind::Config, format!("`ca_file` {what}"))
            .advise("set `ca_file` to a PEM file with the authorities' certificates")
            .at(path.display().to_string())
    };
    let text = crate::io::files::read(path, CA_BYTES_MAX).map_err(|error| refused("cannot be read").because(error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| refused("is not a PEM file").because(error))?;
        roots.add(certificate).map_err(|error| refused("contains no usable certificate").because(error))?;
    }
    if roots.is_empty() {
        return Err(refused("contains no certificate"));
    }
    Ok(roots)
}

/// Believes a certificate for any host; of any issuer, or only of those in `roots`. What libpq calls `require` and
/// `verify-ca`.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    roots: Option<RootCertStore>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a failed handshake means: the problem and the next step.
pub(super) fn explain(error: &rustls::Error) -> (String, &'static str) {
    match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::UnknownIssuer => (
                "the server's certificate is signed by an authority that is not known here".to_owned(),
                "set `ca_file` to the authority's certificate (hosted databases offer it for download)",
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
                "the server's certificate is for another host".to_owned(),
                "use the host name the certificate was made for, or `sslmode = \"verify-ca\"` with a `ca_file`",
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                "the server's certificate has expired".to_owned(),
                "renew the server's certificate, and check this machine's clock",
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                ("the server's certificate is not valid yet".to_owned(), "check this machine's clock")
            }
            // webpki does not take an authority's certificate for a server's; OpenSSL does, so these are met.
            CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => (
                "the server presents an authority's certificate as its own".to_owned(),
                "give the server a certificate signed by that authority, or use `sslmode = \"require\"` without a \
                 `ca_file` on a network you trust",
            ),
            other => (format!("the server's certificate is not accepted: {other}"), "renew the server's certificate"),
        },
        other => (
            format!("TLS failed: {other}"),
            "check that the server speaks TLS 1.2 or 1.3, and that nothing in between changes the traffic",
        ),
    }
}
