//! https from a PKCS12 store, as `keytool` and `openssl` make them (H-02).
//!
//! Source: `Https.scala`.

use crate::config::HttpsSettings;
use openssl::error::ErrorStack;
use openssl::pkcs12::{ParsedPkcs12_2, Pkcs12};
use openssl::provider::Provider;
use openssl::ssl::{SslAcceptor, SslMethod, SslVerifyMode};
use openssl::stack::Stack;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509NameRef};
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("keystore {path} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("keystore {path} is not PKCS12, or its password is another one")]
    Open {
        path: PathBuf,
        #[source]
        source: ErrorStack,
    },
    #[error("keystore {path} has no private key with its certificate")]
    NoKey { path: PathBuf },
    #[error("keystore {path} cannot be used for TLS")]
    Unusable {
        path: PathBuf,
        #[source]
        source: ErrorStack,
    },
}

/// What accepts TLS connections, with the store's key.
pub(super) fn acceptor(settings: &HttpsSettings) -> Result<SslAcceptor, Error> {
    let path = || settings.keystore.clone();
    let bytes = std::fs::read(&settings.keystore).map_err(|source| Error::Read { path: path(), source })?;
    let store = open(&bytes, &settings.password).map_err(|source| Error::Open { path: path(), source })?;
    let unusable = |source| Error::Unusable { path: path(), source };
    let ParsedPkcs12_2 {
        pkey: Some(key),
        cert: Some(certificate),
        ca,
    } = store
    else {
        return Err(Error::NoKey { path: path() });
    };
    let others: Vec<X509> = ca.into_iter().flatten().collect();
    let build = || {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        acceptor.set_private_key(&key)?;
        acceptor.set_certificate(&certificate)?;
        acceptor.check_private_key()?;
        for issuer in issuers(&certificate, &others) {
            acceptor.add_extra_chain_cert(issuer.clone())?;
        }
        acceptor.set_session_id_context(b"ffs-invoker")?;
        if settings.client_auth {
            acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
            let mut names = Stack::new()?;
            let trusted = acceptor.cert_store_mut();
            // As in Java, whatever certificate is in the store is trusted as it is.
            trusted.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
            for authority in others.iter().chain([&certificate]) {
                trusted.add_cert(authority.clone())?;
                names.push(authority.subject_name().to_owned()?)?;
            }
            acceptor.set_client_ca_list(names);
        }
        Ok(acceptor.build())
    };
    build().map_err(unusable)
}

/// Stores made by OpenSSL 1 and Java 8 are encrypted in ways that need the legacy provider.
fn open(bytes: &[u8], password: &str) -> Result<ParsedPkcs12_2, ErrorStack> {
    let store = Pkcs12::from_der(bytes)?;
    store.parse2(password).or_else(|error| {
        let Ok(_legacy) = Provider::try_load(None, "legacy", true) else {
            return Err(error);
        };
        store.parse2(password)
    })
}

/// The chain above a certificate, without the root that clients have to know anyway.
fn issuers<'a>(certificate: &'a X509, others: &'a [X509]) -> Vec<&'a X509> {
    let mut chain = Vec::new();
    let mut below = certificate;
    while let Some(issuer) = others
        .iter()
        .find(|other| same(other.subject_name(), below.issuer_name()))
    {
        if same(issuer.subject_name(), issuer.issuer_name()) || chain.len() == others.len() {
            break;
        }
        chain.push(issuer);
        below = issuer;
    }
    chain
}

fn same(one: &X509NameRef, other: &X509NameRef) -> bool {
    matches!(one.try_cmp(other), Ok(std::cmp::Ordering::Equal))
}
