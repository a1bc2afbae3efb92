//! A peer that vanishes without a word: its machine is off, or the network between is gone.

use super::support::{LIMIT, run};
use tokio::process::Command;

/// In a network of its own, whose only link goes down. The reader is slow, so that the server waits to write and TCP
/// probes a closed window: about 15 minutes by itself.
const SCRIPT: &str = r#"
set -eu
ip link set lo up
"$WSSTREAM" serve --listen 127.0.0.1:7443 --kubeconfig "$DIR/config" --dead-peer-timeout 2s --ping-interval 1s \
    > "$DIR/out" 2> "$DIR/log" &
until grep -q '^kubectl ' "$DIR/out"; do sleep 0.05; done
"$WSSTREAM" exec --kubeconfig "$DIR/config" host -- sh -c 'echo $$; exec yes' | { read -r pid; echo "$pid" > "$DIR/pid"; sleep 60; } &
until [ -s "$DIR/pid" ]; do sleep 0.05; done
pid=$(cat "$DIR/pid")
# Until every buffer is full, and for longer than the deadline: a slow reader that lives is left in peace.
sleep 4
kill -0 "$pid"
echo "alive"
ip link set lo down
waited=0
while kill -0 "$pid" 2> /dev/null; do
    waited=$((waited + 1))
    [ "$waited" -lt 250 ] || { cat "$DIR/log"; exit 1; }
    sleep 0.1
done
grep -q "nothing came from the peer for 2s" "$DIR/log" || { cat "$DIR/log"; exit 1; }
echo "given up"
"#;

#[tokio::test]
async fn a_client_that_vanishes_while_it_is_sent_to_is_given_up() {
    let tried = run(Command::new("unshare").args(["--user", "--map-root-user", "--net", "ip", "link"])).await;
    if !tried.status.success() {
        eprintln!(
            "SKIP: a network of its own needs `unshare` (util-linux), `ip` (iproute2) and user namespaces"
        );
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", SCRIPT])
        .env("WSSTREAM", env!("CARGO_BIN_EXE_wsstream"))
        .env("DIR", directory.path())
        .env("HOME", "/nonexistent")
        .env("RUST_LOG", "info")
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT * 2, command.output()).await.expect("it hangs").unwrap();
    let (out, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(out, "alive\ngiven up\n", "{log}");
}
