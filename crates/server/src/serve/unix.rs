//! Unix sockets to serve on: who is at the other end is what the kernel says, so no token is needed.
//!
//! Root and the server's own user are let in, and who else is named; everybody else is answered 403. Commands of sessions are
//! not the server's user here, although they run as it: who may run one in one pod would be whoever that user may be.

use super::{
    accept::Shared,
    http::{self, Client},
};
use crate::{
    admin::AdminSocket,
    api::{Known, UnixPeer},
    auth::{ConnectionIdentity, Identity},
    net::Socket,
    target::tree,
};
use ::http::Extensions;
use nix::unistd::{Gid, Group, Uid, User};
use rustix::{fs::Mode, process::geteuid};
use std::{path::Path, sync::Arc};
use tokio::{net::UnixStream, sync::OwnedSemaphorePermit};

/// Connections that wait to be accepted: as many as on a port.
pub(super) const BACKLOG: u16 = 1024;

/// Peers at once that are told that they may not connect.
pub(super) const REFUSALS: usize = 16;

/// Makes the file. Whom the kernel lets connect is decided by its mode; the peer is looked at all the same.
pub(super) fn bind(path: &Path, others: bool) -> Result<AdminSocket, crate::admin::AdminSocketError> {
    let own = Mode::RUSR | Mode::WUSR;
    let everybody = own | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    AdminSocket::bind_as(path, if others { everybody } else { own }, i32::from(BACKLOG))
}

/// Serves one connection.
pub(super) async fn connection(stream: UnixStream, place: OwnedSemaphorePermit, shared: Arc<Shared>) {
    let peer = match stream.peer_cred() {
        Ok(peer) => peer,
        Err(error) => return tracing::warn!(%error, "cannot tell who is on a unix socket"),
    };
    let (uid, gid, pid) = (peer.uid(), peer.gid(), peer.pid());
    let own = geteuid().as_raw();
    let known = uid == 0 || uid == own || shared.allow_uids.contains(&uid);
    if !known || (uid == own && tree::is_a_command(pid)) {
        tracing::warn!(uid, pid, "refused on a unix socket");
        // Theirs are other places: those who may come must find one. Beyond these they get no answer.
        let Ok(_refusal) = shared.refusals.clone().try_acquire_owned() else { return };
        drop(place);
        let refusing = tokio::time::timeout(shared.limits.header_read, http::answer_all(stream, REFUSAL));
        tokio::select! {
            () = shared.cut.cancelled() => {}
            _ = refusing => {}
        }
        return;
    }
    // The user database may be anywhere, and slow.
    let named = tokio::task::spawn_blocking(move || identity(uid, gid)).await;
    let Ok(identity) = named else { return };
    let name = UnixPeer { uid, pid };
    let mut known = Extensions::new();
    known.insert(name);
    known.insert(ConnectionIdentity::new(identity));
    let socket = super::accept::paced(Socket::unix(stream, place), &mut known, &shared);
    http::serve(
        socket,
        Client { name: name.to_string(), known, let_in: Known::default(), next_write: None },
        &shared,
    )
    .await;
}

/// `unix:` and the names of the user and its group, or their numbers.
fn identity(uid: u32, gid: u32) -> Identity {
    let usable = |name: &String| !name.is_empty() && !name.chars().any(char::is_control);
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name).filter(usable);
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name).filter(usable);
    let text =
        |name: Option<String>, number: u32| format!("unix:{}", name.unwrap_or_else(|| number.to_string()));
    Identity::new(text(user, uid)).groups([text(group, gid)])
}

const REFUSAL: &str = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n\
    {\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\
    \"forbidden: this socket is for the server's own user, root and those that its operator names (--allow-uid), and not \
    for commands of sessions\",\"reason\":\"Forbidden\",\"code\":403}\n";

#[cfg(test)]
mod tests {
    use super::identity;

    #[test]
    fn users_and_groups_have_names_or_numbers() {
        let root = identity(0, 0);
        assert_eq!((root.user.as_str(), &root.groups[..]), ("unix:root", &["unix:root".to_owned()][..]));
        let nobody = identity(4_000_000_000, 4_000_000_001);
        assert_eq!((nobody.user.as_str(), nobody.groups[0].as_str()), ("unix:4000000000", "unix:4000000001"));
    }
}
