"""The Python package `kubernetes` as a real client of `wsstream serve`, driven by `cargo xtask interop`.

Prints one JSON object a line for each case, and one that counts them at the end, so that a crash on the way
cannot look like success. The cluster is the one of KUBECONFIG.
"""

import argparse
import hashlib
import json
import os
import socket
import threading
import time
import traceback

from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import portforward, stream

CASES = []
SHORT = 30


def case(name):
    def register(function):
        CASES.append((name, function))
        return function

    return register


def check(condition, *what):
    if not condition:
        raise AssertionError(" ".join(str(item) for item in what))


def same(got, want):
    check(got == want, f"expected {want!r}, got {got!r}")


class Env:
    def __init__(self, args):
        configuration = client.Configuration()
        config.load_kube_config(client_configuration=configuration)
        self.configuration = configuration
        self.folder = args.folder
        self.helper = args.helper
        self.big = args.big

    def api(self):
        # `stream` replaces the request method of the API client for the time of a call: one client a session.
        return client.CoreV1Api(client.ApiClient(self.configuration))

    def exec(self, command, pod="host", binary=False, **options):
        options = {"stdin": False, "stdout": True, "stderr": True, "tty": False, **options}
        session = stream(
            self.api().connect_get_namespaced_pod_exec,
            pod, "default", command=command, binary=binary, _preload_content=False, **options,
        )
        same(session.subprotocol, "v5.channel.k8s.io")
        return session

    def attach(self, pod, **options):
        options = {"stdin": False, "stdout": True, "stderr": True, "tty": False, **options}
        return stream(
            self.api().connect_get_namespaced_pod_attach, pod, "default", _preload_content=False, **options,
        )


def until(session, read, text):
    """Reads one stream of the session until the text has come."""
    seen = ""
    deadline = time.time() + SHORT
    while text not in seen:
        check(time.time() < deadline, f"no {text!r} after {SHORT} s, only {seen!r}")
        check(session.is_open() or session.peek_channel(1), f"the session ended without {text!r}, after {seen!r}")
        seen += read(timeout=1)
    return seen


def ended(session):
    session.run_forever(timeout=SHORT)
    check(not session.is_open(), f"not ended after {SHORT} s")
    return session


@case("exec: preloaded output")
def preloaded(env):
    text = stream(
        env.api().connect_get_namespaced_pod_exec, "host", "default", command=["echo", "hello"],
        stdin=False, stdout=True, stderr=True, tty=False,
    )
    same(text, "hello\n")


@case("exec: separate stdout and stderr")
def streams(env):
    session = ended(env.exec(["sh", "-c", "echo out; echo err >&2"]))
    same(session.read_stdout(), "out\n")
    same(session.read_stderr(), "err\n")
    same(session.returncode, 0)


@case("exec: exit codes 0, 7, 255 and a signal")
def exit_codes(env):
    for script, code in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137)]:
        same(ended(env.exec(["sh", "-c", script])).returncode, code)


@case("exec: stdin as text, as bytes, then its end")
def stdin(env):
    session = env.exec(["sh", "-c", "cat; echo after; exit 7"], stdin=True)
    session.write_stdin("text ünïcode\n")
    session.write_stdin(b"bytes \xc3\xa9\n")
    session.close_channel(0)
    ended(session)
    same(session.read_stdout(), "text ünïcode\nbytes é\nafter\n")
    same(session.returncode, 7)


@case("exec: big stdin, hashed by the remote")
def big_stdin(env):
    session = env.exec(["sha256sum"], stdin=True)
    digest = hashlib.sha256()
    left = env.big
    block = os.urandom(1 << 20)
    # Also sizes that no other client sends: a megabyte in one message, then odd ones.
    sizes = [1 << 20, 1, 32769, 65537]
    turn = 0
    while left:
        piece = block[: min(left, sizes[turn % len(sizes)])]
        session.write_stdin(piece)
        digest.update(piece)
        left -= len(piece)
        turn += 1
    session.close_channel(0)
    session.run_forever(timeout=SHORT * 4)
    same(session.read_stdout(), f"{digest.hexdigest()}  -\n")
    same(session.returncode, 0)


@case("exec: big stdout, hashed here, exit 7")
def big_stdout(env):
    # The package appends every message to one bytes object: the time grows with the square of the size.
    size = min(env.big, 16 << 20)
    expected = ended(env.exec(["sh", "-c", f"'{env.helper}' emit --bytes {size} | sha256sum"]))
    want = expected.read_stdout().split()[0]
    session = env.exec([env.helper, "emit", "--bytes", str(size), "--exit", "7"], binary=True)
    digest = hashlib.sha256()
    count = 0
    while session.is_open():
        session.update(timeout=1)
        piece = session.read_channel(1)
        digest.update(piece)
        count += len(piece)
    same((count, digest.hexdigest()), (size, want))
    same(session.returncode, 7)


@case("exec: a terminal and its size")
def terminal(env):
    session = env.exec(["bash", "-c", "trap 'stty size; exit 9' WINCH; echo armed; while :; do sleep 0.05; done"],
                       stdin=True, tty=True)
    until(session, session.read_stdout, "armed")
    session.write_channel(4, json.dumps({"Height": 44, "Width": 155}))
    until(session, session.read_stdout, "44 155\r\n")
    same(ended(session).returncode, 9)


@case("exec: Ctrl-C on a terminal")
def interrupt(env):
    # A shell keeps a signal that comes before its child for after it: wait without a child.
    session = env.exec(["sh", "-c", "echo armed; read line"], stdin=True, tty=True)
    until(session, session.read_stdout, "armed")
    session.write_stdin("\x03")
    same(ended(session).returncode, 130)


@case("exec: closing ends the command")
def closing(env):
    session = env.exec(["sh", "-c", "echo $$; exec sleep 1000"], stdin=True)
    pid = int(until(session, session.read_stdout, "\n"))
    session.close()
    deadline = time.time() + 15
    while os.path.exists(f"/proc/{pid}"):
        check(time.time() < deadline, f"process {pid} still runs 15 s after the client closed")
        time.sleep(0.05)


@case("exec: a missing binary is named")
def missing(env):
    session = ended(env.exec(["no-such-program-here"]))
    check("no-such-program-here" in session.read_channel(3), "the status does not name the program")


@case("attach: sees the output")
def attach_output(env):
    session = env.attach("ticker")
    until(session, session.read_stdout, "tick ")
    until(session, session.read_stderr, "tock ")
    session.close()


@case("attach: reaches stdin")
def attach_input(env):
    session = env.attach("echo", stdin=True)
    session.write_stdin("hello from python\n")
    until(session, session.read_stdout, "hello from python\n")
    session.close()


@case("attach: a terminal")
def attach_terminal(env):
    session = env.attach("shell", stdin=True, tty=True)
    session.write_stdin("echo $((40+2))\n")
    until(session, session.read_stdout, "42\r\n")
    session.close()


@case("logs: whole, tail, timestamps, since")
def logs(env):
    api = env.api()
    want = [f"line {n}" for n in range(1, 21)]
    same(api.read_namespaced_pod_log("story", "default").splitlines(), want)
    same(api.read_namespaced_pod_log("story", "default", tail_lines=3).splitlines(), want[-3:])
    stamped = api.read_namespaced_pod_log("story", "default", timestamps=True).splitlines()
    same([line.split(" ", 1)[1] for line in stamped], want)
    same(api.read_namespaced_pod_log("story", "default", since_seconds=3600).splitlines(), want)
    same(api.read_namespaced_pod_log("two", "default", container="second"), "from second\n")


@case("logs: follow to the end of the container")
def follow(env):
    gate = os.path.join(env.folder, "python-follow")
    lines = []
    for line in watch.Watch().stream(env.api().read_namespaced_pod_log, name="python-follow", namespace="default"):
        lines.append(line)
        if line == "before":
            # Following, as the first line shows: now let the container end.
            threading.Thread(target=lambda: open(gate, "w").write("go\n"), daemon=True).start()
    same(lines, ["before", "after"])


@case("pods: list and watch")
def pods(env):
    names = {pod.metadata.name for pod in env.api().list_namespaced_pod("default").items}
    check({"host", "story", "two"} <= names, "pods missing in", names)
    seen = set()
    for event in watch.Watch().stream(env.api().list_namespaced_pod, "default", timeout_seconds=2):
        seen.add(event["object"].metadata.name)
    check({"host", "story", "two"} <= seen, "pods missing in the watch:", seen)


def listen():
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(SHORT)
    return server, server.getsockname()[1]


def forward(env, *ports):
    return portforward(
        env.api().connect_get_namespaced_pod_portforward, "host", "default", ports=",".join(map(str, ports)),
    )


def receive(connection, size):
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        check(piece, f"the connection ended after {len(data)} of {size} bytes")
        data += piece
    return bytes(data)


@case("port-forward: two ports at once, the server speaks first")
def forward_two(env):
    (one, first), (two, second) = listen(), listen()
    session = forward(env, first, second)
    for server, port in (one, first), (two, second):
        local = session.socket(port)
        local.settimeout(SHORT)
        remote, _ = server.accept()
        remote.sendall(b"220 ready %d" % port)
        want = b"220 ready %d" % port
        same(receive(local, len(want)), want)
        local.sendall(b"question")
        same(receive(remote, 8), b"question")
        remote.close()
        same(session.error(port), None)


@case("port-forward: the server closes first, and so does the client")
def forward_ends(env):
    server, port = listen()
    local = forward(env, port).socket(port)
    local.settimeout(SHORT)
    remote, _ = server.accept()
    remote.sendall(b"bye")
    remote.close()
    same(receive(local, 3), b"bye")
    same(local.recv(1), b"")
    local = forward(env, port).socket(port)
    remote, _ = server.accept()
    remote.settimeout(SHORT)
    local.sendall(b"bye")
    local.close()
    same(receive(remote, 3), b"bye")
    same(remote.recv(1), b"")


@case("port-forward: big both ways at once")
def forward_big(env):
    server, port = listen()
    local = forward(env, port).socket(port)
    local.settimeout(SHORT)
    remote, _ = server.accept()
    remote.settimeout(SHORT)
    data = os.urandom(min(env.big, 16 << 20))
    senders = [threading.Thread(target=end.sendall, args=(data,)) for end in (local, remote)]
    for sender in senders:
        sender.start()
    # The package has one thread for a session, which stops at a full socket: both ends are read at once.
    got = {}
    readers = [
        threading.Thread(target=lambda name=name, end=end: got.update({name: receive(end, len(data))}))
        for name, end in (("local", local), ("remote", remote))
    ]
    for thread in readers:
        thread.start()
    for thread in senders + readers:
        thread.join(SHORT * 4)
    check(got.get("local") == data and got.get("remote") == data, "the bytes differ")
    local.close()
    same(remote.recv(1), b"")


@case("port-forward: a refused port says why and ends no other")
def forward_refused(env):
    (server, port), (closed, refused) = listen(), listen()
    closed.close()
    session = forward(env, port, refused)
    local = session.socket(port)
    local.settimeout(SHORT)
    remote, _ = server.accept()
    deadline = time.time() + SHORT
    while session.error(refused) is None:
        check(time.time() < deadline, "no cause")
        time.sleep(0.01)
    check(f"error forwarding port {refused}" in session.error(refused), session.error(refused))
    remote.sendall(b"still here")
    same(receive(local, 10), b"still here")
    same(session.error(port), None)


@case("errors: wrong pod, wrong container, wrong token")
def errors(env):
    def refused(call):
        try:
            call()
        except ApiException as error:
            return error
        raise AssertionError("not refused")

    error = refused(lambda: env.api().read_namespaced_pod("nobody", "default"))
    same(error.status, 404)
    error = refused(lambda: env.exec(["true"], pod="nobody"))
    check("404" in str(error), "404 expected in", error)
    error = refused(lambda: env.exec(["true"], pod="two", container="third"))
    check("400" in str(error) or "404" in str(error), "400 or 404 expected in", error)
    stranger = client.Configuration()
    config.load_kube_config(client_configuration=stranger)
    stranger.api_key = {"authorization": "Bearer wrong"}
    stranger.refresh_api_key_hook = None
    error = refused(lambda: client.CoreV1Api(client.ApiClient(stranger)).list_namespaced_pod("default"))
    same(error.status, 401)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--group", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--helper", required=True)
    parser.add_argument("--big", type=int, required=True)
    parser.add_argument("--only", action="append", default=[])
    args = parser.parse_args()
    env = Env(args)
    count = 0
    for name, function in CASES:
        if args.only and not any(part in f"{args.group}/{name}" for part in args.only):
            continue
        started = time.time()
        why = None
        try:
            function(env)
        except BaseException:  # a case may fail in any way; the next one still runs
            why = traceback.format_exc(limit=4)
        count += 1
        print(json.dumps({"case": name, "seconds": time.time() - started, "why": why}), flush=True)
    print(json.dumps({"done": count}), flush=True)


main()
