//! Sockets that a service manager opened for us (`LISTEN_FDS`, sd_listen_fds(3)): the port is there before we are, also one
//! below 1024 for which we have no privilege, and connections wait in it while we are restarted.

use crate::failure::Failure;
use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

/// The name (`FileDescriptorName=`) of the unix socket that is the admin socket.
const ADMIN: &str = "admin";

/// What was handed over. All of it is closed in the commands that we run.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// To be served.
    pub(crate) tcp: Vec<TcpListener>,
    /// For `wsstream ps` and the like.
    pub(crate) admin: Option<UnixListener>,
}

impl Inherited {
    /// Takes what there is; nothing where no service manager is. Changes the environment: call it before there are
    /// threads, and once.
    ///
    /// # Errors
    /// A descriptor is something that we cannot serve. To go on without it would leave a port open that nobody answers.
    pub(crate) fn take() -> Result<Self, Failure> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut handed = ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..handed.len() {
            let name = names.next().unwrap_or_default();
            let fail = |what: &str| {
                Failure::local(format!("the descriptor {index} ({name:?}) of the service manager {what}")).next(
                    "hand over TCP sockets that listen, and a unix socket named `admin` if you like (FileDescriptorName=)",
                )
            };
            let tcp = handed.take_tcp_listener(index).ok().flatten();
            let unix = match &tcp {
                Some(_) => None,
                None => handed.take_unix_listener(index).ok().flatten(),
            };
            match (tcp, unix) {
                (Some(tcp), _) => {
                    prepare(&tcp, tcp.set_nonblocking(true)).map_err(fail)?;
                    inherited.tcp.push(tcp);
                }
                (None, Some(unix)) if name == ADMIN => {
                    prepare(&unix, unix.set_nonblocking(true)).map_err(fail)?;
                    inherited.admin = Some(unix);
                }
                (None, Some(_)) => return Err(fail("is a unix socket of another name than `admin`")),
                (None, None) => return Err(fail("is no socket that we serve")),
            }
        }
        Ok(inherited)
    }
}

fn prepare(socket: &impl AsFd, made_nonblocking: std::io::Result<()>) -> Result<(), &'static str> {
    made_nonblocking.map_err(|_| "cannot be made non-blocking")?;
    match socket_acceptconn(socket) {
        Ok(true) => Ok(()),
        // With Accept=yes each connection would come as a service of its own.
        Ok(false) | Err(_) => Err("is a socket that does not listen (is Accept=yes set?)"),
    }
}
