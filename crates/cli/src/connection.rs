//! Requests to the server: the HTTP side of every client verb.
//!
//! kube-client brings the credentials and TLS (exec plugins, client certificates, token files that rotate). The
//! connection under it is built here, because its own has a write timeout, which would end an upload to a command
//! that thinks for five minutes, and retries refused requests for a long time.

use crate::failure::{Failure, chain};
use crate::kubeconfig::Target;
use crate::socket::Socket;
use crate::status::{self, Asked};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::rt::TokioExecutor;
use kube_client::client::{Body, ConfigExt as _};
use kube_client::{Client, Config};
use std::time::Duration;
use tower::timeout::TimeoutLayer;
use tower::{BoxError, Layer as _, ServiceBuilder, ServiceExt};

/// For the name, TCP and TLS together; kubectl waits as long.
const CONNECT: Duration = Duration::from_secs(30);
/// How much of a refusal's body is read. A `Status` is a few hundred bytes.
const REFUSAL_BYTES: usize = 64 * 1024;

/// A token file that ends with a newline, as every editor and `echo` make it, is one that client-go reads without it. kube-client
/// does not, and can make no header of it: then what the file holds now is taken. A file without one is left to it, and is
/// read again when it changes.
fn trim_token(config: &mut kube_client::Config) {
    let auth = &mut config.auth_info;
    let text = auth.token_file.as_ref().filter(|_| auth.token.is_none());
    let text = text.and_then(|file| std::fs::read_to_string(file).ok());
    if let Some(text) = text.filter(|text| text.trim() != text) {
        auth.token = Some(text.trim().to_owned().into());
    }
}

/// A server, ready for requests. Nothing is sent before the first one.
pub(crate) struct Connection {
    client: Client,
    server: Uri,
    /// The namespace to work in.
    pub(crate) namespace: String,
    source: String,
}

impl Connection {
    /// Loads trust and credentials; an exec plugin runs here.
    pub(crate) fn open(target: Target) -> Result<Self, Failure> {
        let Target { mut config, proxy, namespace, source } = target;
        // The one of ours below; kube-client must not add its own to it.
        config.proxy_url = None;
        trim_token(&mut config);
        let server = config.cluster_url.clone();
        let client = build(&config, proxy.as_ref()).map_err(|error| {
            Failure::local(format!("{source}: {}", error)).next(match &config.auth_info.exec {
                Some(exec) => format!(
                    "credentials come from the plugin `{}`: run it by hand to see what it needs",
                    exec.command.as_deref().unwrap_or_default()
                ),
                None => "check the certificates, keys and tokens that it names".to_owned(),
            })
        })?;
        Ok(Self { client, server, namespace, source })
    }

    /// Sends a request whose URI is the path and query below the server's URL, and returns whatever is answered.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Failure> {
        self.client.send(request).await.map_err(|error| self.unreachable(&error))
    }

    /// GET; anything but 200 is a failure that says what the server said.
    pub(crate) async fn get(&self, path: &str) -> Result<Response<Body>, Failure> {
        let request = Request::get(path)
            .body(Body::empty())
            .map_err(|error| Failure::usage(format!("{path} is not a path: {error}")))?;
        let response = self.send(request).await?;
        if response.status() == StatusCode::OK { Ok(response) } else { Err(self.refused(response).await) }
    }

    /// Reads why the server said no.
    pub(crate) async fn refused(&self, response: Response<Body>) -> Failure {
        let (parts, body) = response.into_parts();
        let body = collect(body, REFUSAL_BYTES).await;
        status::refusal(parts.status, &body, &Asked { source: &self.source, namespace: &self.namespace })
    }

    /// `/api/v1/namespaces/NS/pods/NAME` with every part encoded.
    pub(crate) fn pod_path(&self, pod: &str) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", encode(&self.namespace), encode(pod))
    }

    fn unreachable(&self, error: &kube_client::Error) -> Failure {
        let text = cause(error);
        let text = text.strip_prefix("client error (Connect): ").unwrap_or(&text);
        let failure = Failure::local(format!("cannot reach {}: {text}", self.server));
        if text.contains("certificate") {
            failure.next(format!(
                "the certificate authority in {} is not that of this server; `wsstream serve` makes a new one at each start",
                self.source
            ))
        } else {
            failure.next(format!("the address comes from {}", self.source))
        }
    }
}

/// The error with its causes, without the layer's own name in front.
pub(crate) fn cause(error: &kube_client::Error) -> String {
    match error {
        kube_client::Error::Service(inner) => chain(inner.as_ref()),
        error => chain(error),
    }
}

/// At most `limit` bytes of `body`; what cannot be read is left out.
pub(crate) async fn collect(mut body: Body, limit: usize) -> Bytes {
    let mut text = BytesMut::new();
    while text.len() < limit {
        let Some(Ok(frame)) = body.frame().await else { break };
        if let Ok(data) = frame.into_data() {
            text.extend_from_slice(&data);
        }
    }
    text.truncate(limit);
    text.freeze()
}

/// One segment of a path or one value of a query.
pub(crate) fn encode(text: &str) -> percent_encoding::PercentEncode<'_> {
    const SET: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    const SET_REF: &percent_encoding::AsciiSet = &SET;
    percent_encoding::utf8_percent_encode(text, SET_REF)
}

fn build(config: &Config, proxy: Option<&Uri>) -> Result<Client, String> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    // A key press is a packet.
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(CONNECT));
    let tcp = ServiceExt::<Uri>::map_response(tcp, Socket::new);
    let Some(proxy) = proxy else { return stack(config, tcp) };
    match proxy.scheme_str() {
        Some("http") => stack(config, tunnel(proxy, tcp)?),
        Some("https") => {
            let tls = config.rustls_https_connector_with_connector(tcp).map_err(|error| chain(&error))?;
            stack(config, tunnel(proxy, tls)?)
        }
        Some("socks5") => stack(config, SocksV5::new(proxy.clone(), tcp).local_dns(true)),
        Some("socks5h") => stack(config, SocksV5::new(proxy.clone(), tcp)),
        _ => Err(format!("the proxy {proxy} is none of http, https, socks5, socks5h")),
    }
}

fn tunnel<C>(proxy: &Uri, connector: C) -> Result<Tunnel<C>, String> {
    let tunnel = Tunnel::new(proxy.clone(), connector);
    let user = proxy.authority().and_then(|authority| authority.as_str().rsplit_once('@'));
    let Some((user, _)) = user else { return Ok(tunnel) };
    let user: Vec<u8> = percent_encoding::percent_decode_str(user).collect();
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(user)))
        .map_err(|error| format!("the user name of the proxy: {error}"))?;
    value.set_sensitive(true);
    Ok(tunnel.with_auth(value))
}

fn stack<C>(config: &Config, connector: C) -> Result<Client, String>
where
    C: tower::Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: hyper_util::client::legacy::connect::Connection
        + hyper::rt::Read
        + hyper::rt::Write
        + Send
        + Unpin
        + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    let text = |error: kube_client::Error| chain(&error);
    let tls = config.rustls_https_connector_with_connector(connector).map_err(text)?;
    let connector = TimeoutLayer::new(CONNECT).layer(tls);
    // Boxed because hyper-util wants futures that can be moved.
    let connector = ServiceExt::<Uri>::map_future(connector, Box::pin);
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(text)?)
        .layer(config.extra_headers_layer().map_err(text)?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}

#[cfg(test)]
mod tests {
    use super::{Body, Config, Request, STANDARD, build};
    use base64::Engine as _;
    use wsstream::transport::UnsentProbe;
    use wsstream_server::{Pods, Server, ServerOptions, TlsSource};

    /// Without it a session over SPDY outlives a server that has vanished by a quarter of an hour.
    #[tokio::test]
    async fn an_answer_brings_the_probe_of_its_socket_also_under_tls() {
        for tls in [TlsSource::Insecure, TlsSource::Generated] {
            let mut options = ServerOptions::new(Pods::new());
            options.listen = vec!["127.0.0.1:0".parse().unwrap()];
            options.tls = tls;
            let server = Server::bind(options).await.unwrap();
            let mut config = Config::new(server.url().parse().unwrap());
            config.root_cert = server.certificate_pem().map(|pem| {
                let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
                vec![STANDARD.decode(text).unwrap()]
            });
            // Known to it: a stranger's connection ends with its answer.
            let request = Request::get("/version")
                .header("authorization", format!("Bearer {}", server.token().unwrap()));
            let request = request.body(Body::empty()).unwrap();
            let running = tokio::spawn(server.run(std::future::pending()));
            let client = build(&config, None).unwrap();
            let response = client.send(request).await.unwrap();
            let probe = response.extensions().get::<UnsentProbe>().expect("a probe");
            #[cfg(target_os = "linux")]
            assert!(probe.unsent().is_some(), "{probe:?}");
            running.abort();
        }
    }
}
