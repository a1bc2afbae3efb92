//! `wsstream`: make any Linux host reachable by stock kubectl, and run commands on any Kubernetes-style server.
//!
//! This file starts the runtime, runs one verb and turns its end into an exit code; each verb is a file.

mod admin;
mod args;
mod attach;
mod connection;
mod exec;
mod exit;
mod failure;
mod generate;
mod kubeconfig;
mod log;
mod logs;
mod notice;
mod output;
mod pod;
mod port_forward;
mod proxy;
mod remote;
mod serve;
mod session;
mod signals;
mod socket;
mod status;
mod stdin;
mod terminal;
mod token;
mod words;

use clap::Parser as _;
use exit::Exit;
use failure::Failure;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    // Started by `serve`, for the process that keeps its commands: before anything that costs time or memory, and before
    // there are threads.
    if serve::is_keeper() {
        return wsstream_server::target::Keeper::run();
    }
    terminal::restore_on_panic();
    let args::Cli { log, mut verb } = args::Cli::parse();
    let ended = verb.inherit().and_then(|()| log::start(&log, &verb)).and_then(|()| run(verb));
    // Before anything is printed, and whatever the verb did: the shell that follows wants its terminal back.
    terminal::restore();
    let exit = match ended {
        Ok(exit) => exit,
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                notice::print_line(&text);
            }
            failure.exit()
        }
    };
    exit.into()
}

/// How long tasks get to be dropped: a task of the server that is dropped kills the command it runs.
const LEAVE: Duration = Duration::from_secs(2);

fn run(verb: args::Verb) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local(format!("cannot start: {error}")))?;
    let serves = matches!(verb, args::Verb::Serve(_));
    let ended = runtime.block_on(verb.run());
    if serves {
        runtime.shutdown_timeout(LEAVE);
    } else {
        // Not dropped: that would wait for a write to a pager that nobody scrolls.
        runtime.shutdown_background();
    }
    ended
}
