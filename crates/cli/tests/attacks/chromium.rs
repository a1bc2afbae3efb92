//! A real browser on another site's page: it knows the server's address and, which is more than it could know, a token.

use crate::fixture::{EXEC, Target};
use crate::support::LIMIT;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

/// The browser of this machine. Without one: a loud skip for a developer, a failure in CI.
fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = std::env::split_paths(&path)
        .flat_map(|directory| names.map(|name| directory.join(name)))
        .find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "there is no chromium: apt-get install chromium");
        eprintln!("SKIPPED: there is no chromium on this machine, and nobody has seen what a browser does");
    }
    found
}

/// What the page of the other site does: everything that a page can try, and then it tells how each went.
const PAGE: &str = r#"<!doctype html><script>
const tried = {};
const note = (name, how) => { tried[name] = how; };
const socket = (name, protocols, path) => new Promise(done => {
  const s = new WebSocket("ws://HOST" + path, protocols);
  s.onopen = () => { note(name, "open"); setTimeout(done, 300); };
  s.onerror = () => { note(name, "refused"); done(); };
});
const load = (name, make) => new Promise(done => {
  const element = make();
  element.onload = () => { note(name, "loaded"); done(); };
  element.onerror = () => { note(name, "refused"); done(); };
  document.documentElement.append(element);
});
const get = (name, options) => fetch("http://HOSTEXEC" + options.path, options)
  .then(r => note(name, "read " + r.status), () => note(name, "refused"));
(async () => {
  await socket("websocket", ["v4.channel.k8s.io", "base64url.bearer.authorization.k8s.io.TOKEN64"], "EXECASK");
  await socket("websocket without a token", ["v4.channel.k8s.io"], "EXECASK");
  await get("fetch", { path: "ASK", headers: { Authorization: "Bearer TOKEN" } });
  await get("fetch, no cors", { path: "ASK", mode: "no-cors", method: "POST" }).then(() => 0);
  await load("image", () => { const i = new Image(); i.src = "http://HOSTEXECASK"; return i; });
  await load("script", () => { const s = document.createElement("script"); s.src = "http://HOST/api"; return s; });
  await fetch("/told", { method: "POST", body: JSON.stringify(tried) });
})();
</script>"#;

async fn site() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn origin_of(site: &TcpListener) -> String {
    format!("http://site.example:{}", site.local_addr().unwrap().port())
}

/// Serves the page, runs the browser, and yields what the page tells.
async fn visit(browser: &Path, site: TcpListener, page: &str) -> String {
    let url = origin_of(&site);
    let profile = tempfile::tempdir().unwrap();
    let mut child = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg("--host-resolver-rules=MAP *.example 127.0.0.1")
        // Asking a person whether a public page may reach this machine: nobody is there to answer.
        .arg("--disable-features=LocalNetworkAccessChecks,PrivateNetworkAccessChecks,BlockInsecurePrivateNetworkRequests")
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let told = async {
        loop {
            let (mut socket, _) = site.accept().await.unwrap();
            // What asks looks like an answer but for its first line.
            let Some((first, body)) = request(&mut socket).await else { continue };
            let text = if first.starts_with("GET / ") { page } else { "" };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                text.len()
            );
            let _ = socket.write_all(format!("{head}{text}").as_bytes()).await;
            if first.starts_with("POST /told") {
                return body;
            }
        }
    };
    let told = timeout(LIMIT * 2, told).await.expect("the page never tells");
    let _ = child.kill().await;
    told
}

async fn request(socket: &mut tokio::net::TcpStream) -> Option<(String, String)> {
    use tokio::io::AsyncReadExt as _;
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(timeout(LIMIT, socket.read_u8()).await.ok()?.ok()?);
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let length = head.to_ascii_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    socket.read_exact(&mut body).await.ok()?;
    Some((head.lines().next()?.to_owned(), String::from_utf8_lossy(&body).into_owned()))
}

fn page(target: &Target, host: &str, marker: &Path) -> String {
    let token = &target.tokens.admin;
    PAGE.replace("EXEC", EXEC)
        .replace("ASK", &format!("?command=touch&command={}&stdout=true", marker.display()))
        .replace("TOKEN64", &crate::table::base64url(token))
        .replace("TOKEN", token)
        .replace("HOST", host)
}

#[tokio::test]
async fn another_sites_page_gets_nothing_and_runs_nothing() {
    let Some(browser) = browser() else { return };
    let mut target = Target::start(&[]).await;
    let marker = target.marker();
    let host = target.address.to_string();
    let told = visit(&browser, site().await, &page(&target, &host, &marker)).await;
    for part in [
        "\"websocket\":\"refused\"",
        "\"websocket without a token\":\"refused\"",
        "\"fetch\":\"refused\"",
        "\"image\":\"refused\"",
        "\"script\":\"refused\"",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    target.nothing_ran(&marker, "another site's page").await;
    assert!(target.log().contains("pages of this origin"), "{}", target.log());
}

/// The same page under a name that resolves to the server: its origin is then the server's own, port and all.
#[tokio::test]
async fn a_name_that_is_rebound_to_the_server_gets_nothing() {
    let Some(browser) = browser() else { return };
    let mut target = Target::start(&[]).await;
    let marker = target.marker();
    let host = format!("rebound.example:{}", target.address.port());
    let told = visit(&browser, site().await, &page(&target, &host, &marker)).await;
    assert!(told.contains("\"websocket\":\"refused\"") && told.contains("\"fetch\":\"refused\""), "{told}");
    target.nothing_ran(&marker, "a rebound name").await;
    assert!(target.log().contains("not known as"), "{}", target.log());
}

/// What the two rely on: allowed, the same page by the same browser runs its command, so it is the check that stops it.
#[tokio::test]
async fn an_allowed_page_may() {
    let Some(browser) = browser() else { return };
    let site = site().await;
    let target = Target::start(&["--allowed-origin", &origin_of(&site)]).await;
    let marker = target.marker();
    let told = visit(&browser, site, &page(&target, &target.address.to_string(), &marker)).await;
    assert!(told.contains("\"websocket\":\"open\"") && told.contains("\"fetch\":\"read 400\""), "{told}");
    assert!(told.contains("\"websocket without a token\":\"refused\""), "{told}");
    crate::support::eventually("it runs", || marker.exists()).await;
}
