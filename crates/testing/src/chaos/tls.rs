//! TLS over any stream, with a certificate made once for the process: under it no byte can be changed unnoticed.

use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::{self, pki_types};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Both sides of TLS for the name `localhost`.
pub(super) fn pair() -> &'static (TlsConnector, TlsAcceptor) {
    static PAIR: OnceLock<(TlsConnector, TlsAcceptor)> = OnceLock::new();
    PAIR.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let certificate = made.cert.der().clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("a server's configuration");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).expect("a root");
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Each session is one of its own: a resumed one would differ on the wire from the one that was measured.
        client.resumption = rustls::client::Resumption::disabled();
        (TlsConnector::from(Arc::new(client)), TlsAcceptor::from(Arc::new(server)))
    })
}

/// The name in the certificate.
pub(super) fn name() -> pki_types::ServerName<'static> {
    pki_types::ServerName::try_from("localhost").expect("a name")
}
