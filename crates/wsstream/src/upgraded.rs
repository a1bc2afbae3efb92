//! What an HTTP library hands over after an upgrade, for either side: the stream, what of it was read already, and whom to
//! ask what the kernel has not delivered yet.

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::tcp::TcpSocket;
use crate::transport::{Io, UnsentProbe};

/// Takes the stream out. Plain TCP can be asked what is unsent even when nobody gave a probe.
pub(crate) fn plain(
    upgraded: Upgraded,
    probe: Option<UnsentProbe>,
) -> (Box<dyn Io>, Bytes, Option<UnsentProbe>) {
    let (socket, read) = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => (TcpSocket::new(parts.io.into_inner()), parts.read_buf),
        Err(upgraded) => match upgraded.downcast::<TokioIo<TcpSocket>>() {
            Ok(parts) => (parts.io.into_inner(), parts.read_buf),
            Err(upgraded) => return (Box::new(TokioIo::new(upgraded)), Bytes::new(), probe),
        },
    };
    let probe = probe.unwrap_or_else(|| socket.unsent_probe());
    (Box::new(socket), read, Some(probe))
}

#[cfg(all(test, feature = "client"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
mod tests {
    use http_body_util::Empty;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A stream that hyper has upgraded for a client, and the server's end of it.
    async fn upgrade(io: impl Io + 'static, mut server: impl Io) -> (Upgraded, impl Io) {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let request = http::Request::builder().header("host", "test").body(Empty::<Bytes>::new()).unwrap();
        let (response, ()) = tokio::join!(sender.send_request(request), async {
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: test\r\n\r\nfirst";
            assert_ne!(server.read(&mut [0; 1024]).await.unwrap(), 0);
            server.write_all(head.as_bytes()).await.unwrap();
        });
        (hyper::upgrade::on(response.unwrap()).await.unwrap(), server)
    }

    async fn tcp() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_client_learns_the_probe_of_its_own_socket() {
        let (client, server) = tcp().await;
        let (upgraded, mut server) = upgrade(client, server).await;
        let (mut io, read, probe) = plain(upgraded, None);
        let probe = probe.expect("a probe of plain TCP");
        #[cfg(target_os = "linux")]
        assert!(probe.unsent().is_some() && probe.silence().is_none(), "{probe:?}");
        // Nothing is lost on the way.
        server.write_all(b" and second").await.unwrap();
        drop(server);
        let mut all = read.to_vec();
        io.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"first and second");
        drop(io);
        assert_eq!(probe.unsent(), None, "the probe keeps the socket open");
        let (client, server) = tcp().await;
        let (upgraded, _server) = upgrade(TcpSocket::new(client), server).await;
        assert!(plain(upgraded, None).2.is_some());
    }

    #[tokio::test]
    async fn a_probe_that_was_given_counts_for_more() {
        let given = UnsentProbe::new(|| Some(4711));
        let (client, server) = tcp().await;
        let (upgraded, _server) = upgrade(client, server).await;
        assert_eq!(plain(upgraded, Some(given.clone())).2.unwrap().unsent(), Some(4711));
        let (client, server) = tokio::io::duplex(1024);
        let (upgraded, _server) = upgrade(client, server).await;
        assert_eq!(plain(upgraded, Some(given)).2.unwrap().unsent(), Some(4711));
        let (client, server) = tokio::io::duplex(1024);
        let (upgraded, _server) = upgrade(client, server).await;
        assert!(plain(upgraded, None).2.is_none(), "nobody can be asked about a pipe in memory");
    }
}
