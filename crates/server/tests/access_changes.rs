//! What becomes of those who were let in when the files that let them in change.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use http::Request;
use server_support::{Answer, Running, host_pod, soon};
use std::{path::PathBuf, time::Duration};
use wsstream::{
    proto::status::Status,
    remotecommand::{ExitCode, Outcome, Request as Command, client::Process},
};
use wsstream_server::{
    Pods, ServerOptions, TlsSource,
    auth::{Identity, Token},
};

/// A server with a users file and a policy.
struct Guarded {
    server: Running,
    directory: tempfile::TempDir,
    ann: Token,
}

const EVERYTHING: &str = "[[rule]]\ngroups = ['ops']\nverbs = ['*']\nresources = ['*']\n";

impl Guarded {
    async fn start(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (users, policy) = (directory.path().join("users.toml"), directory.path().join("policy.toml"));
        let ann = Token::random();
        std::fs::write(&users, user("ann", "ops", &ann)).unwrap();
        std::fs::write(&policy, EVERYTHING).unwrap();
        let pods = Pods::new();
        pods.add(host_pod("host")).unwrap();
        let server = Running::with(pods, |options| {
            options.tls = TlsSource::Insecure;
            options.access.users = Some(users);
            options.access.policy = Some(policy);
            change(options);
        })
        .await;
        Self { server, directory, ann }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn ask(&self, path: &str, token: &Token) -> Answer {
        let request = Request::builder().uri(path).header("host", self.server.address.to_string());
        self.server.answer(request.header("authorization", format!("Bearer {}", token.expose()))).await
    }

    /// Until the answer has this code: a file is looked at once a second.
    async fn answers(&self, path: &str, token: &Token, code: u16) {
        let wanted = format!("{code} for {path}");
        soon(&wanted, async {
            while self.ask(path, token).await.status != code {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }
}

fn user(name: &str, group: &str, token: &Token) -> String {
    format!("[[user]]\nname = '{name}'\ngroups = ['{group}']\ntokens = ['{}']\n", token.hashed())
}

const PODS: &str = "/api/v1/pods";

/// What a link was traded for was good for an hour, with the groups of the time at which it was made.
#[tokio::test]
async fn the_token_of_a_link_outlived_its_user() {
    let guarded = Guarded::start(|_| {}).await;
    let links = guarded.server.api.links();
    let trade = async |identity: Identity| {
        let code = links.mint(&identity).unwrap();
        let io = hyper_util::rt::TokioIo::new(
            tokio::net::TcpStream::connect(guarded.server.address).await.unwrap(),
        );
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let body = bytes::Bytes::from(format!("{{\"code\": {:?}}}", code.expose()));
        let request = Request::post("/auth/exchange")
            .header("host", guarded.server.address.to_string())
            .header("content-type", "application/json")
            .body(http_body_util::Full::new(body))
            .unwrap();
        let answer = Answer::of(soon("an answer", sender.send_request(request)).await.unwrap()).await;
        Token::new(answer.json()["token"].as_str().unwrap()).unwrap()
    };
    // Whom the file knows, and whom an operator has named.
    let of_ann = trade(Identity::new("ann").groups(["ops"]).listed()).await;
    let of_other = trade(Identity::new("other").groups(["ops"])).await;
    assert_eq!(guarded.ask(PODS, &of_ann).await.status, 200);
    assert_eq!(guarded.ask(PODS, &of_other).await.status, 200);

    let file = guarded.file("users.toml");
    std::fs::write(&file, user("ann", "guests", &guarded.ann)).unwrap();
    guarded.answers(PODS, &of_ann, 403).await;
    std::fs::write(&file, user("ann", "ops", &guarded.ann) + "expires = 2020-01-01T00:00:00Z\n").unwrap();
    guarded.answers(PODS, &of_ann, 401).await;
    std::fs::write(&file, user("ann", "ops", &guarded.ann)).unwrap();
    guarded.answers(PODS, &of_ann, 200).await;
    std::fs::write(&file, user("ben", "ops", &Token::random())).unwrap();
    guarded.answers(PODS, &of_ann, 401).await;
    assert_eq!(guarded.ask(PODS, &of_other).await.status, 200);
}

#[tokio::test]
async fn metrics_are_for_whom_the_policy_names() {
    let guarded = Guarded::start(|_| {}).await;
    let message = guarded.ask("/metrics", &guarded.ann).await.failure(403, "Forbidden");
    assert_eq!(message, "forbidden: User \"ann\" cannot get path \"/metrics\"");
    let rule = "[[rule]]\nusers = ['ann']\nverbs = ['get']\nresources = ['/metrics']\n";
    std::fs::write(guarded.file("policy.toml"), format!("{EVERYTHING}{rule}")).unwrap();
    guarded.answers("/metrics", &guarded.ann, 200).await;
}

const HOST: &str = "/api/v1/namespaces/default/pods/host/exec";

/// A session, begun, of whoever has the token.
async fn begin(guarded: &mut Guarded, token: &Token, command: Command) -> Process {
    guarded.server.token = token.expose().to_owned();
    guarded.server.start(HOST, None, command.stdout(true)).await
}

/// One that goes on for as long as it may.
async fn sleep(guarded: &mut Guarded, token: &Token) -> Process {
    begin(guarded, token, Command::command(["sleep", "100"])).await
}

async fn refused(process: Process) -> Status {
    match soon("the end", process.output()).await.outcome {
        Outcome::Failed(status) => *status,
        other => panic!("{other:?}"),
    }
}

/// They went on for as long as they liked.
#[tokio::test]
async fn sessions_and_watches_outlived_their_users_entry() {
    let mut guarded = Guarded::start(|options| {
        options.limits.end_grace = Duration::from_secs(1);
    })
    .await;
    let (ann, ben) = (guarded.ann.clone(), Token::random());
    let file = guarded.file("users.toml");
    std::fs::write(&file, user("ann", "ops", &ann) + &user("ben", "ops", &ben)).unwrap();
    guarded.answers(PODS, &ben, 200).await;
    let of_ben = begin(&mut guarded, &ben, Command::command(["cat"]).stdin(true)).await;
    let of_ann = sleep(&mut guarded, &ann).await;
    let mut watch = guarded.server.watch("/api/v1/pods?watch=true").await;
    assert_eq!(watch.kind_and_name().await.1, "host");
    std::fs::write(&file, user("ben", "ops", &ben)).unwrap();
    let status = refused(of_ann).await;
    assert_eq!(status.code, 403);
    let text = "the server closed the session: user \"ann\" is no longer let in";
    assert!(status.message.starts_with(text), "{}", status.message);
    assert!(watch.next().await.is_none(), "the watch ends");

    // Ben's goes on, also while the file is broken.
    std::fs::write(&file, "[[user").unwrap();
    soon("a broken file", async {
        while !guarded.server.api.metrics().contains("wsstream_file_stale{file=\"users file\"} 1") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let output = soon("the end", of_ben.output_with("in".into())).await;
    assert_eq!((output.outcome, &output.stdout[..]), (Outcome::Exited(ExitCode(0)), &b"in"[..]));
}

#[tokio::test]
async fn sessions_outlived_what_the_policy_allowed() {
    let mut guarded = Guarded::start(|options| {
        options.limits.end_grace = Duration::from_secs(1);
    })
    .await;
    let ann = guarded.ann.clone();
    // The same rule in other words ends nothing.
    let process = sleep(&mut guarded, &ann).await;
    let looks = "[[rule]]\nusers = ['*']\nread_only = true\n";
    let may =
        "[[rule]]\nusers = ['ann']\nverbs = ['create']\nresources = ['pods/exec']\ncontainers = ['host']\n";
    std::fs::write(guarded.file("policy.toml"), format!("{looks}{may}")).unwrap();
    let attach = "/api/v1/namespaces/default/pods/host/attach";
    guarded.answers(attach, &ann, 403).await;
    std::fs::write(guarded.file("policy.toml"), looks).unwrap();
    let status = refused(process).await;
    assert_eq!(status.code, 403);
    assert!(status.message.contains("user \"ann\" may no longer do this"), "{}", status.message);

    // Other groups are as good as another policy.
    std::fs::write(guarded.file("policy.toml"), EVERYTHING).unwrap();
    guarded.answers(attach, &ann, 400).await;
    let process = sleep(&mut guarded, &ann).await;
    std::fs::write(guarded.file("users.toml"), user("ann", "guests", &ann)).unwrap();
    assert!(refused(process).await.message.contains("may no longer do this"));
}
