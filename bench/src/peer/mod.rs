//! The servers of this program, each a process of its own: `bench peer NAME`.

mod bare;
mod bounded;
mod library;
mod raw;
mod server;
mod target;

use std::convert::Infallible;
use std::future::{Future, ready};

use anyhow::{Result, bail};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use wsstream::remotecommand::Executor;
use wsstream::remotecommand::server::{Exec, Options};

/// Runs one until its input ends: whoever started it is gone.
///
/// # Errors
///
/// There is no such peer, or it cannot serve.
pub fn run(words: &[String]) -> Result<()> {
    match words.first().map(String::as_str) {
        Some("raw") => serve(raw::serve),
        Some("library") => serve(library::serve),
        Some("bounded") => serve(bounded::serve),
        Some("server") => serve(server::serve),
        Some("target") => target::run(),
        Some("bare") => bare::run(&words[1..]),
        _ => bail!("peer {words:?}: no such peer"),
    }
}

/// One thread, as the server has one core.
fn serve<F: Future<Output = Result<()>>>(run: impl FnOnce(TcpListener) -> F) -> Result<()> {
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(stop_with_parent);
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("listening on {}", listener.local_addr()?);
        run(listener).await
    })
}

fn stop_with_parent() {
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    std::process::exit(0);
}

/// Has the kernel hold little of a connection, in both directions.
///
/// # Errors
///
/// The kernel says.
pub fn small_buffers(socket: &impl std::os::fd::AsFd) -> Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    setsockopt(socket, sockopt::SndBuf, &(16 << 10))?;
    setsockopt(socket, sockopt::RcvBuf, &(16 << 10))?;
    Ok(())
}

/// Answers the requests of one connection, and leaves it to whom one of them switches.
fn answer_all(socket: TcpStream, answer: impl Fn(Request<Incoming>) -> Response<String> + Send + 'static) {
    let service = service_fn(move |request| ready(Ok::<_, Infallible>(answer(request))));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service).with_upgrades();
    tokio::spawn(async move {
        let _ = connection.await;
    });
}

/// Runs `run` for a request that asks for a command.
fn accept_exec<E: Executor + 'static>(
    mut request: Request<Incoming>,
    options: Option<Options>,
    run: E,
) -> Response<String> {
    match Exec::accept(&mut request) {
        Ok(session) => {
            let response = session.response().map(|()| String::new());
            let session = options.into_iter().fold(session, Exec::options);
            tokio::spawn(session.serve(run));
            response
        }
        Err(rejection) => rejection.into_response(),
    }
}

/// As many descriptors as this process may have.
pub fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
