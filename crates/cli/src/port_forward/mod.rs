//! `wsstream port-forward`: local ports that lead to ports of a pod.

mod listen;
mod local;
mod ports;
mod session;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::kubeconfig::ServerArgs;
use crate::notice::Notices;
use crate::pod::{self, Described};
use crate::signals::Interrupts;
use clap::{Args, ValueEnum};
use listen::{Address, Listeners};
use ports::PortPair;
use session::{Keeper, Sessions, Transport};
use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Arc;
use tokio::task::JoinSet;

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wsstream port-forward web 8080:80           http://localhost:8080 is port 80 of the pod
  wsstream port-forward web 5432 8080:80      several ports at once
  wsstream port-forward web :80               any free local port; the first line says which
  wsstream port-forward --address 0.0.0.0 web 8080:80
                                              for others in the network too

A connection that fails ends no other. When the session with the server is lost, the connections in it
end, and a new session is opened for those that follow. SIGINT and SIGTERM end it with exit code 0.")]
pub(crate) struct PortForwardArgs {
    /// The pod: NAME or pod/NAME
    #[arg(value_parser = pod::parse_name)]
    pod: String,
    /// The ports: REMOTE, LOCAL:REMOTE, or :REMOTE for any free local port
    #[arg(required = true, value_name = "[LOCAL:]REMOTE", value_parser = ports::parse)]
    ports: Vec<PortPair>,
    /// A local address to listen on: an IP address, or `localhost` for 127.0.0.1 and ::1. May be repeated
    /// [default: localhost]
    #[arg(long, value_name = "ADDR", value_delimiter = ',', value_parser = listen::parse_address)]
    address: Vec<Address>,
    /// What carries the session: `websocket` (SPDY in it), `spdy`, `channels` (a session for each connection, whose
    /// client cannot end its direction alone), or `auto`: a WebSocket and, when the server does not upgrade to it,
    /// SPDY, as kubectl does [default: auto]
    #[arg(
        long,
        value_name = "KIND",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        hide_default_value = true
    )]
    transport: TransportArg,
    /// End when the session is lost, as kubectl does
    #[arg(long)]
    no_reconnect: bool,
    /// Do not say which connections are handled
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// The words for [`Transport`].
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum TransportArg {
    /// A WebSocket, then SPDY
    #[default]
    Auto,
    /// SPDY in a WebSocket
    Websocket,
    /// Plain SPDY
    Spdy,
    /// Channels of a WebSocket
    Channels,
}

/// Runs the verb until it is told to stop.
pub(crate) async fn run(args: PortForwardArgs) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen().map_err(|error| Failure::local(format!("signals: {error}")))?;
    let Open { listeners, sessions, mut keeper, notices } = tokio::select! {
        open = open(args) => open?,
        interrupt = interrupts.next() => return Err(Failure::signal(interrupt.number, interrupt.name)),
    };
    // Only now: what is said here can be connected to.
    for line in listeners.lines() {
        say(&line);
    }
    let end = tokio::select! {
        never = serve(&listeners, &sessions, notices) => match never {},
        failure = keeper.run(&sessions) => Err(failure),
        // The normal end of it: who asks for it has all that they wanted.
        _ = interrupts.next() => Ok(Exit::Success),
    };
    keeper.close(&sessions).await;
    end
}

/// Listening, with a session.
struct Open {
    listeners: Listeners,
    sessions: Arc<Sessions>,
    keeper: Keeper,
    notices: Notices,
}

async fn open(args: PortForwardArgs) -> Result<Open, Failure> {
    let PortForwardArgs { pod, ports, mut address, transport, no_reconnect, quiet, server } = args;
    let notices = Notices::new(quiet);
    if address.is_empty() {
        address.push(Address::Localhost);
    }
    // A local port that is taken is told before anybody else is troubled.
    let listeners = Listeners::bind(&address, &ports).await?;
    let connection = Connection::open(server.resolve().await?)?;
    match Described::fetch(&connection, &pod).await? {
        Some(described) => described.can_forward()?,
        // Nothing else would say so before the first connection comes.
        None if matches!(transport, TransportArg::Channels) => {
            connection.get(&connection.pod_path(&pod)).await?;
        }
        None => {}
    }
    let transport = match transport {
        TransportArg::Auto => Transport::Auto,
        TransportArg::Websocket => Transport::Tunnel,
        TransportArg::Spdy => Transport::Spdy,
        TransportArg::Channels => Transport::Channels,
    };
    let (sessions, keeper) = Sessions::open(connection, pod, transport, !no_reconnect).await?;
    Ok(Open { listeners, sessions: Arc::new(sessions), keeper, notices })
}

/// Takes connections for as long as it is polled.
async fn serve(listeners: &Listeners, sessions: &Arc<Sessions>, notices: Notices) -> Infallible {
    // Dropped, it aborts the connections that are left.
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            (socket, pair) = listeners.accept() => {
                // As long as it leads nowhere it has not even an empty answer: an end in good order would be one, also
                // when the program ends now. Later the relay decides.
                let _ = socket.set_zero_linger();
                running.spawn(local::handle(socket, pair, Arc::clone(sessions), notices));
            }
            Some(_) = running.join_next() => {}
        }
    }
}

/// A line on standard output. A reader that has gone away is no reason to stop forwarding.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
