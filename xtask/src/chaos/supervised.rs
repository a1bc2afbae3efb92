//! A server with supervised commands, for the sweeps over attach and logs: each command plays once and has then ended,
//! so that a sweep is one such server after the other.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;
use wsstream_testing::chaos::Tally;

use super::{
    crowd::{BRISK, settle},
    server::{Place, Running, Target, puppets},
};

/// How long a server with commands that nobody has started may take to stop.
const STOPS: Duration = Duration::from_secs(20);

/// Runs `sessions` against a server with these commands, as the pods `p0`, `p1` and so on, each with a stdin to attach
/// to; then looks at what the server still holds, stops it, and looks for commands that outlived it.
pub(super) async fn supervised(
    place: &Place,
    target: Target,
    commands: &[Vec<String>],
    sessions: impl AsyncFnOnce(&Running) -> Tally,
) -> Result<Tally> {
    let mut words: Vec<String> = BRISK.iter().map(|word| (*word).to_owned()).collect();
    words.push("--shutdown-grace=1s".to_owned());
    for (number, command) in commands.iter().enumerate() {
        words.push("--run-stdin".to_owned());
        words.push(format!("p{number}={} {}", place.puppet.display(), command.join(" ")));
    }
    let mut server = Running::start_with(place, target, None, &words).await?;
    server.supervises(place, commands.len()).await?;
    let before = server.reading()?;
    let mut tally = sessions(&server).await;
    settle(&server, &before, &mut tally).await?;
    server.signal(Signal::TERM)?;
    if !server.ends(STOPS).await {
        tally.lies += 1;
        tally.example(format!("the server still ran {STOPS:?} after SIGTERM"));
    }
    let left = puppets(place);
    if left > 0 {
        tally.leaks += left as u64;
        tally.example(format!("{left} commands outlived their server"));
    }
    Ok(tally)
}
