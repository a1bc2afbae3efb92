//! The signals to this process, as events: those that ask it to end, and those about the terminal.
//!
//! A signal that was ignored when we started stays ignored: `nohup wsstream serve &` is meant to outlive its
//! terminal, and a shell without job control starts background jobs with SIGINT ignored.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for SIGINT, SIGTERM, SIGHUP and SIGQUIT. While this lives, none of them ends the process by itself.
#[derive(Debug)]
pub(crate) struct Interrupts(Vec<(Interrupt, Signal)>);

/// One signal: its number and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interrupt {
    /// As in `128 + number`.
    pub(crate) number: u8,
    /// As in `kill -l`, with `SIG`.
    pub(crate) name: &'static str,
}

const ALL: [Interrupt; 4] = [
    Interrupt { number: 1, name: "SIGHUP" },
    Interrupt { number: 2, name: "SIGINT" },
    Interrupt { number: 3, name: "SIGQUIT" },
    Interrupt { number: 15, name: "SIGTERM" },
];

impl Interrupts {
    /// Starts listening. Needs a runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        let ignored = std::fs::read_to_string("/proc/self/status").map(|text| ignored(&text)).unwrap_or(0);
        let mut streams = Vec::with_capacity(ALL.len());
        for interrupt in ALL {
            if ignored & bit(interrupt.number) == 0 {
                let kind = SignalKind::from_raw(i32::from(interrupt.number));
                streams.push((interrupt, signal(kind)?));
            }
        }
        Ok(Self(streams))
    }

    /// The next signal. Cancel-safe. Never resolves if all four are ignored.
    pub(crate) async fn next(&mut self) -> Interrupt {
        poll_fn(|cx| {
            for (interrupt, stream) in &mut self.0 {
                if let Poll::Ready(Some(())) = stream.poll_recv(cx) {
                    return Poll::Ready(*interrupt);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Waits for what asks to look at the terminal again.
#[derive(Debug)]
pub(crate) struct Moved {
    resized: Signal,
    resumed: Signal,
}

impl Moved {
    /// Starts listening. Needs a runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        // tokio has no name for it.
        let resumed = SignalKind::from_raw(rustix::process::Signal::CONT.as_raw());
        Ok(Self { resized: signal(SignalKind::window_change())?, resumed: signal(resumed)? })
    }

    /// Waits for SIGWINCH (false) or SIGCONT (true: we were stopped). Several signals may count as one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.resized.recv() => false,
            _ = self.resumed.recv() => true,
        }
    }
}

fn bit(number: u8) -> u64 {
    1_u64.checked_shl(u32::from(number).saturating_sub(1)).unwrap_or(0)
}

/// The mask of ignored signals in `/proc/self/status`: the disposition itself cannot be asked for without
/// `unsafe`. Where there is no such file nothing counts as ignored.
fn ignored(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{bit, ignored};

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = "Name:\twsstream\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        assert_eq!(ignored(status) & bit(1), 1, "SIGHUP is ignored");
        assert_eq!(ignored(status) & bit(15), 0);
        assert_ne!(ignored(status) & bit(13), 0);
        assert_eq!(ignored("nothing here"), 0);
    }
}
