//! Prints a log over a WebSocket: `log_reader http://HOST:PORT/PATH`. The end is honest: a log that breaks off is an
//! error, not an end.

use anyhow::{Context as _, bail};
use tokio::io::{self, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wsstream::client::Offer;
use wsstream::http::{Request, Uri};
use wsstream::proto::channel::ChannelId;
use wsstream::{Subprotocol, connection::End, reader};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url: Uri = std::env::args().nth(1).context("usage: log_reader URL")?.parse()?;
    let stream = TcpStream::connect(url.authority().context("the URL has no host")?.as_str()).await?;
    let offer = Offer::new([Subprotocol::BINARY, Subprotocol::BASE64_BINARY]);
    let accepted = offer.connect(stream, Request::builder().uri(url).body(())?).await?;
    let (connection, driver) = accepted.open(reader::receiver);

    let mut log = connection.reader(ChannelId(0)).context("no stream")?;
    let print = async {
        let mut terminal = io::stdout();
        while let Some(chunk) = log.chunk().await? {
            terminal.write_all(&chunk).await?;
        }
        terminal.flush().await?;
        anyhow::Ok(())
    };
    let (end, printed) = tokio::join!(driver, print);
    printed?;
    match end {
        End::Closed { reason, .. } if reason.is_normal() => Ok(()),
        other => bail!("the log is not complete: {other}"),
    }
}
