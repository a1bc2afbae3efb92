//! Client certificates, versions, and certificates that change while the server runs.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use http::{Method, Request};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject};
use server_support::{Answer, DEADLINE, Running, host_pod, send_over, soon};
use std::{path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::ring, version},
};
use wsstream_server::{Pods, ServerOptions, TlsSource, TokenSource, tls::MinVersion};

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// An authority, and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn sign(&self, user: &str, groups: &[&str], dns: &[&str], last_year: i32) -> (String, KeyPair) {
        let mut params =
            CertificateParams::new(dns.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(last_year, 1, 1));
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key)
    }
}

async fn server(ca: &Path, change: impl FnOnce(&mut ServerOptions)) -> Running {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    Running::with(pods, |options| {
        options.access.tls.client_ca = Some(ca.to_owned());
        change(options);
    })
    .await
}

async fn open(
    server: &Running,
    trust: &str,
    client: Option<&(String, KeyPair)>,
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trust.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        Some((pem, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    soon("a handshake", TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
}

/// The same, and the server has taken it.
async fn connect(
    server: &Running,
    trust: &str,
    client: Option<&(String, KeyPair)>,
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut stream = open(server, trust, client, versions).await?;
    // In TLS 1.3 the client is done before the server has looked at its certificate.
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; 12];
    soon("an answer", stream.read_exact(&mut head)).await?;
    assert_eq!(&head, b"HTTP/1.1 200");
    let mut rest = Vec::new();
    while !rest.ends_with(b"\r\n\r\nok") {
        rest.push(stream.read_u8().await?);
    }
    Ok(stream)
}

async fn ask(
    server: &Running,
    trust: &str,
    client: Option<&(String, KeyPair)>,
    token: Option<&str>,
) -> Answer {
    let stream = open(server, trust, client, BOTH).await.unwrap();
    let mut request = Request::get("/api/v1/pods").header("host", server.address.to_string());
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    Answer::of(send_over(stream, request).await).await
}

/// A directory with an authority and a policy for its users.
fn files(authority: &Authority) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ca.pem"), &authority.pem).unwrap();
    let policy =
        "[[rule]]\ngroups = [\"ops\"]\nread_only = true\n[[rule]]\nusers = [\"token-1\"]\nread_only = true\n";
    std::fs::write(directory.path().join("policy.toml"), policy).unwrap();
    directory
}

#[tokio::test]
async fn a_certificate_names_a_user_and_its_groups_and_a_token_wins_over_it() {
    let authority = Authority::new("clients");
    let directory = files(&authority);
    let server = server(&directory.path().join("ca.pem"), |options| {
        options.access.policy = Some(directory.path().join("policy.toml"));
    })
    .await;
    let trust = server.certificate.clone().unwrap();
    let ann = authority.sign("ann", &["dev", "ops"], &[], 2090);
    let ben = authority.sign("ben", &["dev"], &[], 2090);
    assert_eq!(ask(&server, &trust, Some(&ann), None).await.status, 200);
    let message = ask(&server, &trust, Some(&ben), None).await.failure(403, "Forbidden");
    assert!(message.contains("User \"ben\" cannot list"), "{message}");
    ask(&server, &trust, None, None).await.failure(401, "Unauthorized");
    // A token decides alone, for and against.
    assert_eq!(ask(&server, &trust, Some(&ben), Some(&server.token)).await.status, 200);
    ask(&server, &trust, Some(&ann), Some("wrong")).await.failure(401, "Unauthorized");
    // One that names nobody for certain names nobody.
    let nobody = authority.sign("a\u{1b}[31m", &["ops"], &[], 2090);
    ask(&server, &trust, Some(&nobody), None).await.failure(401, "Unauthorized");
}

#[tokio::test]
async fn certificates_that_are_not_trusted_end_the_handshake_and_the_server_goes_on() {
    let (authority, other) = (Authority::new("clients"), Authority::new("clients"));
    let directory = files(&authority);
    for required in [false, true] {
        let server =
            server(&directory.path().join("ca.pem"), |options| options.access.tls.client_required = required)
                .await;
        let trust = server.certificate.clone().unwrap();
        let good = authority.sign("ann", &[], &[], 2090);
        let expired = authority.sign("ann", &[], &[], 2021);
        let foreign = other.sign("ann", &[], &[], 2090);
        for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
            for (client, fault) in [(&expired, "CertificateExpired"), (&foreign, "")] {
                let error = connect(&server, &trust, Some(client), versions).await.unwrap_err().to_string();
                assert!(error.contains(fault) && error.contains("received fatal alert"), "{error}");
            }
            assert_eq!(connect(&server, &trust, None, versions).await.is_ok(), !required);
            connect(&server, &trust, Some(&good), versions).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_old_version_is_not_spoken_where_a_newer_one_is_asked_for() {
    let authority = Authority::new("clients");
    let directory = files(&authority);
    let server = server(&directory.path().join("ca.pem"), |options| {
        options.access.tls.min_version = MinVersion::Tls13;
    })
    .await;
    let trust = server.certificate.clone().unwrap();
    let error = connect(&server, &trust, None, &[&version::TLS12]).await.unwrap_err().to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
    connect(&server, &trust, None, &[&version::TLS13]).await.unwrap();
}

#[tokio::test]
async fn files_that_change_hold_for_the_next_connection_and_cut_none() {
    let (clients, hosts, next) = (Authority::new("clients"), Authority::new("hosts"), Authority::new("next"));
    let directory = files(&clients);
    let file = |name: &str| directory.path().join(name);
    let present = |authority: &Authority| {
        let (pem, key) = authority.sign("host", &[], &["localhost"], 2090);
        std::fs::write(file("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(file("cert.pem"), pem).unwrap();
    };
    present(&hosts);
    let server = server(&file("ca.pem"), |options| {
        options.tls = TlsSource::Files { cert: file("cert.pem"), key: file("key.pem") };
        options.tokens = TokenSource::None;
    })
    .await;
    let ann = clients.sign("ann", &["ops"], &[], 2090);
    let held = connect(&server, &hosts.pem, Some(&ann), BOTH).await.unwrap();

    // Half of a pair changes nothing.
    let (_, key) = next.sign("host", &[], &["localhost"], 2090);
    std::fs::write(file("key.pem"), key.serialize_pem()).unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    connect(&server, &hosts.pem, Some(&ann), BOTH).await.unwrap();

    present(&next);
    let changed = async {
        while connect(&server, &next.pem, Some(&ann), BOTH).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, changed).await.expect("the new certificate is never presented");
    assert!(connect(&server, &hosts.pem, Some(&ann), BOTH).await.is_err());

    // Whom the authority has signed before is let in no more.
    std::fs::write(file("ca.pem"), &next.pem).unwrap();
    let refused = async {
        while connect(&server, &next.pem, Some(&ann), BOTH).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, refused).await.expect("the old authority is trusted for ever");
    let ben = next.sign("ben", &[], &[], 2090);
    connect(&server, &next.pem, Some(&ben), BOTH).await.unwrap();

    let request =
        Request::builder().method(Method::GET).uri("/api/v1/pods").header("host", server.address.to_string());
    let answer = Answer::of(send_over(held, request).await).await;
    assert_eq!(answer.status, 200, "the connection from before goes on");
}
