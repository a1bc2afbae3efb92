//! Opening an exec or attach session: what its two verbs share up to the first byte.

use crate::connection::Connection;
use crate::failure::{Failure, chain};
use crate::kubeconfig::ServerArgs;
use crate::notice::Notices;
use crate::pod::Described;
use crate::terminal;
use clap::Args;
use http::StatusCode;
use kube_client::client::Body;
use wsstream::proto::remotecommand::Request;
use wsstream::proto::subprotocol::Subprotocol;
use wsstream::remotecommand::client::{self, ConnectError, Process};

/// The flags of exec and attach.
#[derive(Debug, Args)]
pub(crate) struct SessionArgs {
    /// The container [default: the one the pod names as its default, else its first]
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Send standard input
    #[arg(short = 'i', long)]
    stdin: bool,
    /// On a terminal: keys go to the command as they are typed. Needs -i, and a terminal on standard input
    #[arg(short, long)]
    tty: bool,
    /// Print nothing but what the command prints, and why the session failed if it did
    #[arg(short, long)]
    quiet: bool,
    /// What carries the session: `websocket`, `spdy`, or `auto`: a WebSocket and, when the server does not upgrade to
    /// it, SPDY, as kubectl does
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    transport: Transport,
    /// A protocol to offer, such as v4.channel.k8s.io; `none` for an upgrade without one. May be repeated, in
    /// order of preference [default: v5.channel.k8s.io, then v4.channel.k8s.io; SPDY knows no v5]
    #[arg(long, value_name = "NAME", value_parser = parse_protocol)]
    protocol: Vec<Subprotocol>,
    #[command(flatten)]
    server: ServerArgs,
}

/// What carries a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Transport {
    /// One, and then the other.
    #[default]
    Auto,
    /// Channels of a WebSocket.
    Websocket,
    /// Streams of SPDY/3.1.
    Spdy,
}

/// What the program needs to open a session.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) verb: Verb,
    pub(crate) pod: String,
    container: Option<String>,
    pub(crate) stdin: bool,
    pub(crate) tty: bool,
    pub(crate) notices: Notices,
    transport: Transport,
    protocols: Vec<Subprotocol>,
    server: ServerArgs,
}

/// The two kinds of session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Run this.
    Exec(Vec<String>),
    /// Join the main process.
    Attach,
}

fn parse_protocol(typed: &str) -> Result<Subprotocol, String> {
    let name = if typed == "none" { "" } else { typed };
    match Subprotocol::by_name(name) {
        Some(row) if !typed.is_empty() => Ok(row.clone()),
        _ => {
            let [best, next] = client::DEFAULT_PROTOCOLS;
            Err(format!("this protocol is not known; {} and {} carry exit codes", best.name(), next.name()))
        }
    }
}

impl SessionArgs {
    /// What was typed, as it can be had here.
    pub(crate) fn plan(self, verb: Verb, pod: String) -> Plan {
        let Self { container, stdin, mut tty, quiet, transport, protocol, server } = self;
        let notices = Notices::new(quiet);
        if tty && !stdin {
            // As kubectl does: a terminal that nothing can be typed into is not one.
            notices.warn("-t has no effect without -i");
            tty = false;
        }
        if tty && !terminal::stdin_is_terminal() {
            // kubectl's words; people search for them.
            notices
                .print("Unable to use a TTY - input is not a terminal or the right kind of file".to_owned());
            tty = false;
        }
        Plan { verb, pod, container, stdin, tty, notices, transport, protocols: protocol, server }
    }
}

impl Plan {
    /// Connects and upgrades. May turn `tty` on or off, as the container of an attach demands.
    pub(crate) async fn open(&mut self) -> Result<Process, Failure> {
        let connection = Connection::open(std::mem::take(&mut self.server).resolve().await?)?;
        let container = self.settle(&connection).await?;
        let (command, subresource) = match &self.verb {
            Verb::Exec(command) => (command.clone(), "exec"),
            Verb::Attach => (Vec::new(), "attach"),
        };
        let mut request = Request::command(command)
            .stdin(self.stdin)
            .stdout(true)
            // A terminal has one output.
            .stderr(!self.tty)
            .tty(self.tty);
        request.container = container;
        self.upgrade(&connection, subresource, request).await
    }

    async fn upgrade(
        &self,
        connection: &Connection,
        subresource: &str,
        request: Request,
    ) -> Result<Process, Failure> {
        let start = match self.verb {
            Verb::Exec(_) => client::exec(request),
            Verb::Attach => client::attach(request),
        };
        let start = match self.protocols.as_slice() {
            [] => start,
            chosen => start.protocols(chosen.iter().cloned()).spdy_protocols(chosen.iter().cloned()),
        };
        let path = format!("{}/{subresource}", connection.pod_path(&self.pod));
        let endpoint =
            path.parse().map_err(|error| Failure::usage(format!("{path} is not a path: {error}")))?;
        let too_long = |_| {
            Failure::usage("the command is too long: it travels in a URL, which takes 64 KiB")
                .next("send it as input instead: wsstream exec -i POD -- sh < script")
        };
        if self.transport != Transport::Spdy {
            let request = start.request(&endpoint).map_err(too_long)?;
            let response = connection.send(request.map(|()| Body::empty())).await?;
            // Whatever the reason, kubectl goes on with SPDY, and shows what the server says to that.
            let last = self.transport == Transport::Websocket;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                if last {
                    return Err(connection.refused(response).await);
                }
            } else {
                match start.accept(response).await {
                    Err(error) if !last && error.is_upgrade_failure() => {}
                    accepted => return accepted.map_err(|error| not_as_it_should(&error)),
                }
            }
        }
        let request = start.spdy_request(&endpoint).map_err(too_long)?;
        let response = connection.send(request.map(|()| Body::empty())).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(connection.refused(response).await);
        }
        start.accept_spdy(response).await.map_err(|error| not_as_it_should(&error))
    }

    /// The container, and for attach whether it has a terminal.
    async fn settle(&mut self, connection: &Connection) -> Result<Option<String>, Failure> {
        if self.container.is_some() && self.verb != Verb::Attach {
            return Ok(self.container.take());
        }
        let Some(described) = Described::fetch(connection, &self.pod).await? else {
            return Ok(self.container.take());
        };
        described.running(if self.verb == Verb::Attach { "attach to" } else { "exec into" })?;
        let container = match self.container.take() {
            Some(name) => Some(name),
            None => described.default_container().map(|(name, notice)| {
                self.notices.print(notice);
                name
            }),
        };
        if self.verb == Verb::Attach
            && let Some(has_tty) = container.as_deref().and_then(|name| described.has_tty(name))
        {
            // The bytes of a terminal can only be read as such, whatever was typed.
            if self.tty && !has_tty {
                self.notices.warn(&format!(
                    "the container {} has no terminal; -t is ignored",
                    container.as_deref().unwrap_or_default()
                ));
            }
            self.tty = has_tty;
        }
        Ok(container)
    }
}

fn not_as_it_should(error: &ConnectError) -> Failure {
    Failure::refused(format!("wsstream: the server does not upgrade as it should: {}", chain(error)))
}

#[cfg(test)]
mod tests {
    use super::parse_protocol;
    use wsstream::proto::subprotocol::Subprotocol;

    #[test]
    fn protocols_are_named_as_on_the_wire() {
        assert_eq!(parse_protocol("v5.channel.k8s.io"), Ok(Subprotocol::V5));
        assert_eq!(parse_protocol("v4.base64.channel.k8s.io"), Ok(Subprotocol::V4_BASE64_CHANNEL));
        assert_eq!(parse_protocol("none"), Ok(Subprotocol::NONE));
        for typed in ["", "v5", "v6.channel.k8s.io", "binary.k8s.io"] {
            parse_protocol(typed).expect_err(typed);
        }
    }
}
