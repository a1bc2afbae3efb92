//! Client certificates: which are trusted, and whom one names. The subject is read as Kubernetes reads it: the common name
//! is the user, the organizations are the groups.

use super::{FileFault, TlsError};
use crate::auth::{ConnectionIdentity, Identity};
use jiff::Timestamp;
use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use std::{path::Path, sync::Arc};
use x509_cert::{
    Certificate,
    der::{
        Decode, Tag, Tagged,
        asn1::{Any, Ia5StringRef, ObjectIdentifier, PrintableStringRef, Utf8StringRef},
    },
};

/// id-at-commonName and id-at-organizationName (RFC 5280 appendix A).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");

/// What checks the certificates of clients by the authorities in a PEM file. One that is presented and not trusted, not
/// valid yet or expired ends the handshake, also where none is required.
pub(super) fn verifier(
    authorities: &Path,
    required: bool,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let fail = |fault| TlsError::File { path: authorities.to_owned(), fault };
    let pem = std::fs::read(authorities).map_err(|error| fail(FileFault::Read(error)))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| fail(FileFault::Pem(error)))?;
        roots.add(certificate).map_err(|error| fail(FileFault::Authority(error.to_string())))?;
    }
    if roots.is_empty() {
        return Err(fail(FileFault::NoCertificate));
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| fail(FileFault::Authority(error.to_string())))
}

/// Whom a certificate that was found valid names, and until when.
///
/// # Errors
/// It names nobody, or nobody for certain. The text is for the log.
pub(crate) fn identity_of(certificate: &CertificateDer<'_>) -> Result<ConnectionIdentity, &'static str> {
    let parsed = Certificate::from_der(certificate).map_err(|_| "the certificate cannot be read")?;
    let certificate = &parsed.tbs_certificate;
    let (mut user, mut groups) = (None, Vec::new());
    for attribute in certificate.subject.0.iter().flat_map(|names| names.0.iter()) {
        if attribute.oid == COMMON_NAME {
            let name = text(&attribute.value)?;
            if user.replace(name).is_some() {
                return Err("the subject has several common names");
            }
        } else if attribute.oid == ORGANIZATION {
            groups.push(text(&attribute.value)?);
        }
    }
    let user = user.ok_or("the subject has no common name")?;
    let end = certificate.validity.not_after.to_unix_duration().as_secs();
    let expires = i64::try_from(end).ok().and_then(|end| Timestamp::from_second(end).ok());
    Ok(ConnectionIdentity::new(Identity::new(user).groups(groups))
        .until(expires.ok_or("its end is no time")?))
}

/// A name that can stand in a log and in a policy. Other string types are older than any authority that we would meet.
fn text(value: &Any) -> Result<String, &'static str> {
    let unreadable = |_| "a name in the subject is not text";
    let text = match value.tag() {
        Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().map_err(unreadable)?.as_str().to_owned(),
        Tag::PrintableString => {
            value.decode_as::<PrintableStringRef<'_>>().map_err(unreadable)?.as_str().to_owned()
        }
        Tag::Ia5String => value.decode_as::<Ia5StringRef<'_>>().map_err(unreadable)?.as_str().to_owned(),
        _ => return Err("a name in the subject is not text"),
    };
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("a name in the subject is empty or holds control characters");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    fn named(names: &[(DnType, DnValue)]) -> Result<Identity, &'static str> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        identity_of(certificate.der()).map(|found| (*found.identity).clone())
    }

    fn utf8(text: &str) -> DnValue {
        DnValue::Utf8String(text.to_owned())
    }

    #[test]
    fn the_subject_is_read_as_kubernetes_reads_it() {
        let ann = named(&[
            (DnType::OrganizationName, utf8("ops")),
            (DnType::OrganizationalUnitName, utf8("ignored")),
            (DnType::CommonName, DnValue::PrintableString("ann".try_into().unwrap())),
        ]);
        assert_eq!(ann, Ok(Identity::new("ann").groups(["ops"])));
        for (names, why) in [
            (vec![], "no common name"),
            (vec![(DnType::OrganizationName, utf8("ops"))], "no common name"),
            (vec![(DnType::CommonName, utf8(""))], "empty"),
            (vec![(DnType::CommonName, utf8("a\nlevel=info"))], "control"),
            (vec![(DnType::CommonName, DnValue::BmpString("ann".try_into().unwrap()))], "not text"),
        ] {
            assert!(named(&names).unwrap_err().contains(why), "{names:?}");
        }
        assert!(identity_of(&CertificateDer::from(vec![1, 2, 3])).is_err());
    }
}
