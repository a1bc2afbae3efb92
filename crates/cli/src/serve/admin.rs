//! The admin socket: the flag, and where it is when nobody says.

use crate::admin;
use crate::failure::Failure;
use clap::Args;
use std::os::unix::net::UnixListener;
use wsstream_server::Config;
use wsstream_server::admin::AdminSocket;
use wsstream_server::config::AdminPlace;

/// What was typed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Operation")]
pub(crate) struct AdminArgs {
    /// The unix socket for `wsstream ps`, `kill` and `drain`, for you and root alone, or `off`
    /// [default: $XDG_RUNTIME_DIR/wsstream/ADDR-PORT.admin, or below /run/wsstream if that is there; else none. With
    /// unix sockets alone the name is made of the first one's path]
    #[arg(long, value_name = "PATH")]
    pub(super) admin_socket: Option<AdminPlace>,
}

impl AdminArgs {
    /// Puts what was typed over what the file said.
    pub(crate) fn apply(self, config: &mut Config) {
        if let Some(place) = self.admin_socket {
            config.admin_socket = place;
        }
    }
}

/// Makes the socket; none if there is no place for it that nobody named.
///
/// # Errors
/// It cannot be made where it should be.
pub(super) fn open(
    place: &AdminPlace,
    given: Option<UnixListener>,
    name: &str,
) -> Result<Option<AdminSocket>, Failure> {
    if let Some(given) = given {
        return Ok(Some(AdminSocket::given(given)));
    }
    match place {
        AdminPlace::Off => Ok(None),
        AdminPlace::At(path) => AdminSocket::bind(path).map(Some).map_err(Failure::local),
        AdminPlace::Default => {
            let Some(directory) = admin::directories().into_iter().next() else { return Ok(None) };
            let path = directory.join(name.to_owned() + admin::SUFFIX);
            let bound = AdminSocket::bind(&path);
            // Nobody asked for it: the server is worth more.
            Ok(bound.inspect_err(|error| tracing::warn!(%error, "no `wsstream ps`")).ok())
        }
    }
}
