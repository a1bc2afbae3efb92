//! An exec session with a terminal: one descriptor for all streams, sizes, and a session of processes.

use bytes::Bytes;
use futures_util::FutureExt as _;
use rustix::{
    process::Signal,
    termios::{LocalModes, SpecialCodeIndex, tcgetattr},
};
use tokio_util::sync::CancellationToken;
use wsstream::remotecommand::{Resizes, Streams, TerminalSize};

use super::{
    command::SessionOptions,
    descriptor::{Descriptor, sleep},
    ending::{Ending, Step, carry_out, due},
    pump::{Source, aside, output},
    session::{SessionError, SessionResult, finish, forced},
    spawn::{Terminal, resize, with_terminal},
};

/// Runs a command on a terminal until it has ended and its output has been handed over; a client that leaves hangs
/// the terminal up.
///
/// All three streams of the command are the terminal, whether or not the client asked for them: that is what programs
/// test for. There is no separate stderr. Dropping the future kills every process of the session.
pub(crate) async fn run(
    argv: &[String],
    options: &SessionOptions,
    mut streams: Streams,
    ending: &Ending,
) -> SessionResult {
    let size = first_size(streams.resize.as_mut(), options).await;
    let Terminal { master, slave, mut processes } = with_terminal(argv, &options.command, size).await?;
    {
        let leader = &mut processes.leader;
        let exited = CancellationToken::new();
        let exit = async {
            let exit = leader.exited().await;
            drop(slave);
            exited.cancel();
            exit.map_err(SessionError::Wait)
        };
        let relay = async { tokio::join!(exit, output(&master, streams.stdout, &exited, options.drain)).0 };
        let feed = aside(async {
            if let Some(from) = streams.stdin {
                input(from, &master).await;
            }
        });
        let sizes = aside(async {
            if let Some(mut sizes) = streams.resize {
                while let Some(size) = sizes.next().await {
                    if let Err(error) = resize(&master, size) {
                        tracing::debug!(%error, "cannot resize a terminal");
                    }
                }
            }
        });
        let side = async { tokio::join!(feed, sizes).0 };
        let due = due(&options.disconnect, true, &exited, &streams.disconnect, ending);
        let mut relay = std::pin::pin!(relay);
        let mut side = std::pin::pin!(side);
        let plan = tokio::select! {
            exit = &mut relay => return finish(processes.group, exit, options.background),
            never = &mut side => match never {},
            plan = due => plan,
        };
        if plan.step != Step::HangUp {
            // The group goes out of scope armed.
            return forced(plan.why, carry_out(plan, &processes.group, relay, side).await);
        }
    }

    // The kernel does the rest: SIGHUP and SIGCONT to the leader and to the foreground job, end of input for all. A
    // shell passes SIGHUP on to its background jobs.
    tracing::debug!("the client is gone: its terminal is hung up");
    drop(master);
    let ended = async {
        let exit = processes.leader.exited().await;
        processes.group.gone(options.disconnect.kill).await;
        exit
    };
    let timely = tokio::select! {
        exit = ended => Some(exit),
        () = sleep(options.disconnect.kill) => None,
    };
    let exit = match timely {
        Some(exit) => exit,
        None => {
            tracing::debug!("hanging up was not enough: SIGKILL");
            processes.group.signal(Signal::KILL);
            processes.leader.exited().await
        }
    };
    // The group goes out of scope armed: whoever is left in the session goes as well.
    exit.map_err(SessionError::Wait)
}

/// The size to start with: what has come already, or comes within the time that a stock client needs to send it.
async fn first_size(sizes: Option<&mut Resizes>, options: &SessionOptions) -> Option<TerminalSize> {
    let sizes = sizes?;
    match sizes.next().now_or_never() {
        Some(size) => size,
        None => tokio::time::timeout(options.first_size, sizes.next()).await.ok().flatten(),
    }
}

/// Feeds the input to a terminal. When it ends, the terminal's end-of-file character is typed; when it breaks off,
/// nothing is: the terminal is about to be hung up, and a Ctrl-D into whatever program has it may do harm.
///
/// Upstream has no end of input for terminals (containerd stops relaying the output instead); typing the character is
/// what `script` of util-linux does.
pub(crate) async fn input(mut from: impl Source, master: &Descriptor) {
    let mut open = true;
    let mut last = None;
    loop {
        match from.chunk().await {
            Ok(Some(data)) => {
                last = data.last().copied().or(last);
                open = open && write(master, &data).await;
            }
            Ok(None) => {
                if open {
                    write(master, &end_of_file(master, last)).await;
                }
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "the input of a terminal broke off");
                return;
            }
        }
    }
}

async fn write(master: &Descriptor, data: &[u8]) -> bool {
    let result = master.write_all(data).await;
    if let Err(error) = &result {
        tracing::debug!(%error, "a terminal takes no more input; the rest is discarded");
    }
    result.is_ok()
}

/// What a person would type to end the input. In line mode the character hands over the line as it is, and means the
/// end only when that is empty: behind an unfinished line it takes two. Programs that read key by key (shells with
/// line editing) see one key. Empty where the terminal has no such character.
fn end_of_file(master: &Descriptor, last: Option<u8>) -> Bytes {
    let Ok(modes) = tcgetattr(master.file()) else { return Bytes::new() };
    let character = modes.special_codes[SpecialCodeIndex::VEOF];
    if character == 0 {
        return Bytes::new();
    }
    let by_line = modes.local_modes.contains(LocalModes::ICANON);
    let unfinished = last.is_some_and(|last| last != b'\n' && last != b'\r' && last != character);
    if by_line && unfinished {
        Bytes::copy_from_slice(&[character, character])
    } else {
        Bytes::copy_from_slice(&[character])
    }
}
