//! The certificate that a server presents now. Files are read again when they change; a connection keeps what it began
//! with, so nobody is cut off.

use super::{Certificate, Material, TlsError, TlsSettings};
use crate::reload::{Reloading, Stale};
use rustls::ServerConfig;
use std::{net::IpAddr, path::Path, sync::Arc};

/// A certificate that may change while the server runs.
#[derive(Debug, Clone)]
pub(crate) struct Live(Arc<Reloading<Certificate>>);

impl Live {
    /// Made now; the authorities of clients may change.
    pub(crate) fn generate(addresses: &[IpAddr], settings: TlsSettings) -> Result<Self, TlsError> {
        let material = Material::generate(addresses)?;
        let files = settings.client_ca.iter().cloned().collect();
        let load = move || Certificate::new(material.clone(), &settings);
        Reloading::start("client authorities", files, load).map(|live| Self(Arc::new(live)))
    }

    /// From files; all of them may change.
    pub(crate) fn load(cert: &Path, key: &Path, settings: TlsSettings) -> Result<Self, TlsError> {
        let (cert, key) = (cert.to_owned(), key.to_owned());
        let files = [&cert, &key].into_iter().chain(&settings.client_ca).cloned().collect();
        let load = move || Certificate::load_with(&cert, &key, &settings);
        Reloading::start("certificate", files, load).map(|live| Self(Arc::new(live)))
    }

    /// What is presented to clients that connect now.
    pub(crate) fn current(&self) -> Arc<Certificate> {
        self.0.current()
    }

    pub(crate) fn stale(&self) -> Stale {
        self.0.stale()
    }

    /// For the next handshake.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.current().config.clone()
    }
}
