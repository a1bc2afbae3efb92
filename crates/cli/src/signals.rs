//! The signals to this process, as events: those that ask it to end, and those about the terminal.
//!
//! A signal that was ignored when we started stays ignored: `nohup wsstream serve &` is meant to outlive its
//! terminal, and a shell without job control starts background jobs with SIGINT ignored.

use rustix::process::Signal as Known;
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

/// What people, shells and service managers send to end a program.
const REQUESTS: [(Known, &str); 4] =
    [(Known::HUP, "SIGHUP"), (Known::INT, "SIGINT"), (Known::QUIT, "SIGQUIT"), (Known::TERM, "SIGTERM")];

/// What else ends a process unless it is caught. Without the faults (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP,
/// SIGSYS), which leave nothing to go on with, and SIGPIPE, which Rust has ignored from the start.
const REST: &[(Known, &str)] = &[
    (Known::ABORT, "SIGABRT"),
    (Known::USR1, "SIGUSR1"),
    (Known::USR2, "SIGUSR2"),
    (Known::ALARM, "SIGALRM"),
    (Known::VTALARM, "SIGVTALRM"),
    (Known::PROF, "SIGPROF"),
    (Known::XCPU, "SIGXCPU"),
    (Known::XFSZ, "SIGXFSZ"),
    #[cfg(target_os = "linux")]
    (Known::IO, "SIGIO"),
    #[cfg(target_os = "linux")]
    (Known::POWER, "SIGPWR"),
    #[cfg(all(
        target_os = "linux",
        any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")
    ))]
    (Known::STKFLT, "SIGSTKFLT"),
];

/// Linux's real-time signals. The C library keeps the first of them for itself, how many depends on the library.
const REAL_TIME: std::ops::RangeInclusive<u8> = 32..=64;

impl Interrupts {
    /// Starts listening. Needs a runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut interrupts = Self(Vec::with_capacity(REQUESTS.len()));
        interrupts.add(&REQUESTS)?;
        Ok(interrupts)
    }

    /// Listens from now on to every other signal too that would end the process and can be caught: for the time
    /// in which dying at once would leave something behind. Needs a runtime.
    pub(crate) fn listen_to_all(&mut self) -> io::Result<()> {
        self.add(REST)?;
        if cfg!(target_os = "linux") {
            let ignored = ignored_now();
            for number in REAL_TIME {
                // One that the C library keeps for itself is not ours to answer, and nobody sends it.
                let _ = self.add_one(number, "a real-time signal", ignored);
            }
        }
        Ok(())
    }

    fn add(&mut self, signals: &[(Known, &'static str)]) -> io::Result<()> {
        let ignored = ignored_now();
        for (known, name) in signals {
            let number = u8::try_from(known.as_raw()).map_err(io::Error::other)?;
            self.add_one(number, name, ignored)?;
        }
        Ok(())
    }

    fn add_one(&mut self, number: u8, name: &'static str, ignored: u64) -> io::Result<()> {
        if ignored & bit(number) == 0 {
            let stream = signal(SignalKind::from_raw(i32::from(number)))?;
            self.0.push((Interrupt { number, name }, stream));
        }
        Ok(())
    }

    /// The next signal. Cancel-safe. Never resolves if all of them are ignored.
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
        let resumed = SignalKind::from_raw(Known::CONT.as_raw());
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

fn ignored_now() -> u64 {
    std::fs::read_to_string("/proc/self/status").map(|text| ignored(&text)).unwrap_or(0)
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
