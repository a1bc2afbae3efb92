//! Below HTTP: versions, and certificates of clients.

use crate::fixture::Target;
use crate::wire::{Answer, answer};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _};
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

struct Authority(Issuer<'static, KeyPair>, String);

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "clients");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority(Issuer::new(params, key), pem)
}

type Client = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn sign(by: &Authority, user: &str, last_year: i32) -> Client {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, user);
    params.not_after = date_time_ymd(last_year, 1, 1);
    params.not_before = date_time_ymd(2020, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &by.0).unwrap();
    (certificate.der().clone(), PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
}

/// Asks for a command over TLS.
async fn ask(
    target: &Target,
    request: &str,
    client: Option<&Client>,
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<Option<Answer>> {
    let kubeconfig = std::fs::read_to_string(target.directory.path().join("kubeconfig")).unwrap();
    let pem = kubeconfig.split("certificate-authority-data: \"").nth(1).unwrap().split('"').next().unwrap();
    let decoded =
        std::process::Command::new("base64").arg("-d").stdin(text_file(pem)).output().unwrap().stdout;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&decoded).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        Some((certificate, key)) => {
            builder.with_client_auth_cert(vec![certificate.clone()], key.clone_key()).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let tcp = TcpStream::connect(target.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    stream.write_all(request.as_bytes()).await?;
    Ok(answer(&mut stream).await)
}

fn text_file(text: &str) -> std::process::Stdio {
    use std::io::{Seek as _, Write as _};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file.into()
}

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

#[tokio::test]
async fn an_older_version_plain_http_and_foreign_or_expired_certificates_get_nowhere() {
    let (ours, theirs) = (authority(), authority());
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, &ours.1).unwrap();
    let ca = ca.to_str().unwrap();
    let target = Target::start_with(&["--client-ca", ca, "--tls-min-version", "1.3"], "info").await;
    let marker = target.marker();
    let by_token = target.exec(&target.tokens.admin, &marker);
    let by_nothing = by_token.replace("Authorization", "X");

    // Downgrade.
    assert!(ask(&target, &by_token, None, &[&version::TLS12]).await.is_err(), "TLS 1.2 is not spoken");
    let plain = target.send(&by_token).await.unwrap();
    assert_eq!((plain.code, plain.head.contains("close")), (400, true));
    // Certificates.
    for (name, client) in [("expired", sign(&ours, "admin", 2021)), ("foreign", sign(&theirs, "admin", 2090))]
    {
        let answered = ask(&target, &by_nothing, Some(&client), BOTH).await;
        assert!(!matches!(answered, Ok(Some(_))), "{name}: {answered:?}");
    }
    let reader = sign(&ours, "reader", 2090);
    let refused = ask(&target, &by_nothing, Some(&reader), BOTH).await.unwrap().unwrap();
    assert!(refused.code == 403 && refused.body.contains("User \\\"reader\\\" cannot create"), "{refused:?}");
    let nobody = ask(&target, &by_nothing, None, BOTH).await.unwrap().unwrap();
    assert_eq!(nobody.code, 401);
    assert!(!marker.exists(), "nothing ran");
    // And the one who may: by certificate, and by token.
    let admin = sign(&ours, "admin", 2090);
    assert_eq!(ask(&target, &by_nothing, Some(&admin), BOTH).await.unwrap().unwrap().code, 101);
    crate::support::eventually("it runs", || marker.exists()).await;
    assert_eq!(ask(&target, &by_token, None, BOTH).await.unwrap().unwrap().code, 101);
}
