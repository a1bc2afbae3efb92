//! The file of an admin socket: made so that nobody else can be there first, reached by nobody else, and gone at the end.
//!
//! A name in a directory that others may write to can be taken by others, so the directory has to be ours or root's. What
//! stands under the name is looked at without following it, and replaced only if it is a socket of ours that nobody listens
//! on any more. The new socket gets its mode before it listens, and its name by a rename, under a lock on the directory: of
//! two servers that start at once one sees the other.

use crate::dry;
use rustix::{
    fs::{
        AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, chmodat, fchmod, flock, openat, renameat,
        statat, unlinkat,
    },
    io::Errno,
    process::geteuid,
};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs::DirBuilder,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::DirBuilderExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The kernel's `sun_path`, without the NUL at its end.
const LONGEST: usize = 107;

/// Connections that wait to be accepted. People and scripts of one machine.
const BACKLOG: i32 = 16;

/// A socket that listens and its name. Dropped, the name is removed, unless somebody else has it by now.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    file: Option<Named>,
}

#[derive(Debug)]
struct Named {
    directory: OwnedFd,
    name: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// Why there is no socket. The text names the path.
#[derive(Debug, Error)]
#[error("unix socket {path}: {fault}", path = path.display())]
pub struct AdminSocketError {
    path: PathBuf,
    fault: Fault,
}

#[derive(Debug, Error)]
enum Fault {
    #[error("{what}: {error}")]
    Io { what: &'static str, error: io::Error },
    #[error("the path is longer than {LONGEST} bytes, which is what a socket's name may have")]
    Long,
    #[error("this is a directory or nothing; name a file")]
    NoName,
    #[error("others may write to its directory: put it where only you may write, mode 0700")]
    OpenDirectory,
    #[error("others are allowed to connect (--allow-uid) and cannot get through its directory: chmod 711 it")]
    ClosedDirectory,
    #[error("its directory belongs to user {0}, who is neither you nor root")]
    ForeignDirectory(u32),
    #[error("something that is not a socket has this name; it is not replaced")]
    NotASocket,
    #[error("the socket there belongs to user {0}; it is not replaced")]
    Foreign(u32),
    #[error("another server listens there: stop it, or name another path")]
    InUse,
}

impl AdminSocket {
    /// Makes it, mode 0600. A missing directory is made with mode 0700.
    ///
    /// # Errors
    /// The directory can be written to by others, something else has the name, or a server listens there.
    pub fn bind(path: &Path) -> Result<Self, AdminSocketError> {
        Self::bind_as(path, Mode::RUSR | Mode::WUSR, BACKLOG)
    }

    /// Whether it could be made there, without making it. A server that listens there now is none of its business: it may
    /// be the one that is to be restarted.
    pub(crate) fn check(path: &Path) -> Result<(), AdminSocketError> {
        check(path).map_err(|fault| AdminSocketError { path: path.to_owned(), fault })
    }

    /// The same for another use, with its own mode and backlog.
    pub(crate) fn bind_as(path: &Path, mode: Mode, backlog: i32) -> Result<Self, AdminSocketError> {
        bind(path, mode, backlog).map_err(|fault| AdminSocketError { path: path.to_owned(), fault })
    }

    /// One that somebody else made, a service manager for example, who also takes care of its name and its mode. It must
    /// listen.
    pub fn given(listener: UnixListener) -> Self {
        Self { listener, file: None }
    }

    /// To accept from.
    pub(crate) fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(listener)
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let Some(Named { directory, name, identity }) = &self.file else { return };
        let ours = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| (found.st_dev, found.st_ino) == *identity);
        if ours {
            let _ = unlinkat(directory, name, AtFlags::empty());
        }
    }
}

fn failed<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Fault {
    move |error| Fault::Io { what, error: error.into() }
}

/// The directory and the name in it.
fn parts(path: &Path) -> Result<(&Path, PathBuf), Fault> {
    if path.as_os_str().as_bytes().len() > LONGEST {
        return Err(Fault::Long);
    }
    let name = path.file_name().map(PathBuf::from).ok_or(Fault::NoName)?;
    Ok((dry::directory_of(path), name))
}

fn check(path: &Path) -> Result<(), Fault> {
    let (parent, name) = parts(path)?;
    dry::writable_or_missing(parent).map_err(failed("cannot write to its directory"))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match openat(CWD, parent, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened.map_err(failed("cannot open its directory"))?,
    };
    check_directory(&directory, false)?;
    is_there(&directory, &name).map(|_| ())
}

fn bind(path: &Path, mode: Mode, backlog: i32) -> Result<AdminSocket, Fault> {
    let (parent, name) = parts(path)?;
    let others = mode.intersects(Mode::WGRP | Mode::WOTH);
    let missing = others && !parent.exists();
    DirBuilder::new()
        .recursive(true)
        .mode(if others { 0o711 } else { 0o700 })
        .create(parent)
        .map_err(failed("cannot create its directory"))?;
    let directory = openat(CWD, parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed("cannot open its directory"))?;
    if missing {
        // Whatever the umask is: those who may connect have to get through.
        fchmod(&directory, Mode::from_raw_mode(0o711)).map_err(failed("cannot set its directory's mode"))?;
    }
    check_directory(&directory, others)?;
    // Until the name is ours.
    flock(&directory, FlockOperation::LockExclusive).map_err(failed("cannot lock its directory"))?;
    let made = check_old(&directory, &name).and_then(|()| make(&directory, &name, mode, backlog));
    let _ = flock(&directory, FlockOperation::Unlock);
    let (listener, identity) = made?;
    Ok(AdminSocket { listener, file: Some(Named { directory, name, identity }) })
}

/// Whoever may write to a directory may put another socket in the place of ours.
fn check_directory(directory: &OwnedFd, others: bool) -> Result<(), Fault> {
    let found = rustix::fs::fstat(directory).map_err(failed("cannot look at its directory"))?;
    if found.st_uid != geteuid().as_raw() && found.st_uid != 0 {
        return Err(Fault::ForeignDirectory(found.st_uid));
    }
    if Mode::from_raw_mode(found.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        return Err(Fault::OpenDirectory);
    }
    // A group's bit may be an access list's.
    if others && !Mode::from_raw_mode(found.st_mode).intersects(Mode::XGRP | Mode::XOTH) {
        return Err(Fault::ClosedDirectory);
    }
    Ok(())
}

/// Whether the name is taken, by nothing but a socket of ours.
fn is_there(directory: &OwnedFd, name: &Path) -> Result<bool, Fault> {
    let found = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(failed("cannot look at what is there")(error)),
    };
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Err(Fault::NotASocket);
    }
    if found.st_uid != geteuid().as_raw() {
        return Err(Fault::Foreign(found.st_uid));
    }
    Ok(true)
}

fn check_old(directory: &OwnedFd, name: &Path) -> Result<(), Fault> {
    if !is_there(directory, name)? {
        return Ok(());
    }
    match UnixStream::connect(inside(directory, name)) {
        // Its server was killed.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // Its backlog is full.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Fault::InUse),
        Err(error) => Err(failed("cannot tell whether a server listens there")(error)),
        Ok(_) => Err(Fault::InUse),
    }
}

/// There is no bindat and no connectat: this way it is this directory, and no other that has got its name since.
fn inside(directory: &OwnedFd, name: &Path) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name)
}

fn make(
    directory: &OwnedFd,
    name: &Path,
    mode: Mode,
    backlog: i32,
) -> Result<(UnixListener, (u64, u64)), Fault> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed("cannot make a socket"))?;
    // Nobody but us and root may write here, so this name is not guessed by anybody who could use it.
    let temporary = PathBuf::from(format!(".admin-{}", std::process::id()));
    let _ = unlinkat(directory, &temporary, AtFlags::empty());
    let made = || -> io::Result<_> {
        socket.bind(&SockAddr::unix(inside(directory, &temporary))?)?;
        // Before it listens: until then nobody gets in, whatever the umask was.
        chmodat(directory, &temporary, mode, AtFlags::empty())?;
        let found = statat(directory, &temporary, AtFlags::SYMLINK_NOFOLLOW)?;
        socket.listen(backlog)?;
        renameat(directory, &temporary, directory, name)?;
        Ok((found.st_dev, found.st_ino))
    };
    match made() {
        Ok(identity) => Ok((UnixListener::from(OwnedFd::from(socket)), identity)),
        Err(error) => {
            let _ = unlinkat(directory, &temporary, AtFlags::empty());
            Err(failed("cannot make it")(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn error(path: &Path) -> String {
        AdminSocket::bind(path).unwrap_err().to_string()
    }

    #[test]
    fn it_is_private_and_goes_when_its_server_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/admin.sock");
        let socket = AdminSocket::bind(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        UnixStream::connect(&path).unwrap();
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
        drop(socket);
        assert!(!path.exists());
    }

    /// Who was allowed to connect could not get there.
    #[test]
    fn a_directory_of_a_socket_for_others_kept_them_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/s");
        let everybody = Mode::from_raw_mode(0o666);
        let socket = AdminSocket::bind_as(&path, everybody, 1).unwrap();
        let parent = path.parent().unwrap();
        assert_eq!(std::fs::metadata(parent).unwrap().permissions().mode() & 0o777, 0o711);
        drop(socket);
        for (mode, through) in [(0o700, false), (0o744, false), (0o710, true), (0o755, true)] {
            std::fs::set_permissions(parent, PermissionsExt::from_mode(mode)).unwrap();
            match AdminSocket::bind_as(&path, everybody, 1) {
                Ok(_) => assert!(through, "{mode:o}"),
                Err(error) => {
                    assert!(!through && error.to_string().contains("chmod 711"), "{mode:o} {error}");
                }
            }
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_one_that_is_served_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the name of a socket outlives it");
        let socket = AdminSocket::bind(&path).unwrap();
        assert!(error(&path).contains("another server listens there"), "{}", error(&path));
        UnixStream::connect(&path).unwrap();

        // Somebody has put another in its place: that one stays.
        let inode = |path: &Path| std::fs::symlink_metadata(path).unwrap().ino();
        let ours = inode(&path);
        std::fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        assert_ne!(inode(&path), ours);
        drop(socket);
        assert!(path.exists());
    }

    #[test]
    fn of_two_that_start_at_once_one_gets_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let start = || {
            std::thread::spawn({
                let path = path.clone();
                move || AdminSocket::bind(&path)
            })
        };
        let threads: Vec<_> = (0..8).map(|_| start()).collect();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_not_a_socket_of_ours_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let target = directory.path().join("target");
        std::fs::write(&target, "kept").unwrap();
        symlink(&target, &path).unwrap();
        assert!(error(&path).contains("not a socket"), "{}", error(&path));
        std::fs::remove_file(&path).unwrap();
        // To a socket, too: following it, somebody else's would be replaced.
        let socket = directory.path().join("other");
        drop(UnixListener::bind(&socket).unwrap());
        symlink(&socket, &path).unwrap();
        assert!(error(&path).contains("not a socket"), "{}", error(&path));
        assert!(error(&target).contains("not a socket"));
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "kept");
    }

    #[test]
    fn a_directory_that_others_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let open = directory.path().join("open");
        std::fs::create_dir(&open).unwrap();
        for mode in [0o777, 0o770, 0o1777] {
            std::fs::set_permissions(&open, PermissionsExt::from_mode(mode)).unwrap();
            assert!(error(&open.join("s")).contains("others may write"), "{mode:o}");
        }
        let long = directory.path().join("x".repeat(LONGEST));
        assert!(error(&long).contains("longer than 107"), "{}", error(&long));
        assert!(error(Path::new("/")).contains("name a file"));
        if geteuid().is_root() {
            std::os::unix::fs::chown(&open, Some(12345), None).unwrap();
            std::fs::set_permissions(&open, PermissionsExt::from_mode(0o700)).unwrap();
            assert!(error(&open.join("s")).contains("belongs to user 12345"));
        }
    }
}
