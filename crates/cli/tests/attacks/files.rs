//! Names that somebody else has prepared where we are about to write.

use crate::support::{run, stderr, wsstream};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use tempfile::TempDir;

/// Starts a server that should not start, and yields what it said.
async fn refused(flag: &str, path: &Path, directory: &TempDir) -> String {
    let mut command = wsstream();
    command.args(["serve", "--listen", ":0"]);
    if flag != "--kubeconfig" {
        command.arg("--kubeconfig").arg(directory.path().join("k"));
    }
    if flag != "--admin-socket" {
        command.args(["--admin-socket", "off"]);
    }
    let path = match flag {
        "--listen" => format!("unix:{}", path.display()).into(),
        _ => path.to_owned(),
    };
    let output = run(command.arg(flag).arg(path)).await;
    assert_eq!(output.status.code(), Some(252), "{}", stderr(&output));
    stderr(&output)
}

#[tokio::test]
async fn a_symlink_where_we_write_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let victim = directory.path().join("victim");
    std::fs::write(&victim, "kept").unwrap();
    let link = directory.path().join("link");
    symlink(&victim, &link).unwrap();
    for (flag, says) in
        [("--kubeconfig", "not replaced"), ("--admin-socket", "not a socket"), ("--listen", "not a socket")]
    {
        let said = refused(flag, &link, &directory).await;
        assert!(said.contains(says), "{flag}: {said}");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "kept");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    }
    // To nothing: what it names is not made.
    let nothing = directory.path().join("nothing");
    std::fs::remove_file(&link).unwrap();
    symlink(&nothing, &link).unwrap();
    refused("--admin-socket", &link, &directory).await;
    assert!(!nothing.exists());
}

#[tokio::test]
async fn somebody_elses_socket_and_an_open_directory_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let taken = directory.path().join("taken");
    let _listener = UnixListener::bind(&taken).unwrap();
    for flag in ["--admin-socket", "--listen"] {
        let said = refused(flag, &taken, &directory).await;
        assert!(said.contains("another server listens there"), "{said}");
    }
    let open = directory.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    for flag in ["--admin-socket", "--listen"] {
        let said = refused(flag, &open.join("s"), &directory).await;
        assert!(said.contains("others may write"), "{said}");
    }
}

#[tokio::test]
async fn a_file_that_never_ends_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    for flag in ["--users", "--policy"] {
        let said = refused(flag, Path::new("/dev/zero"), &directory).await;
        assert!(said.contains("/dev/zero"), "{said}");
    }
}
