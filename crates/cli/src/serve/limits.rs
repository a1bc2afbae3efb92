//! How many sessions of whom, how fast and how long, and how much one may send: the flags, and where they go.

use super::typed::{Off, at_least_one, clock, set, set_off};
use clap::Args;
use std::time::Duration;
use wsstream_server::limits::{
    bandwidth_or_off, buffer, count_or_off, message, patience, rate_or_off, request_head,
};
use wsstream_server::{Config, Rate};

/// What was typed. What was not typed stays as the configuration file or the default has it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Sessions at once; one more is answered with 429 [default: 15 of 16 of --max-connections]
    #[arg(long, value_name = "NUMBER", value_parser = sessions)]
    max_sessions: Option<usize>,
    /// Sessions of one user at once, or `off` [default: off]
    #[arg(long, value_name = "NUMBER", value_parser = count)]
    max_sessions_per_user: Option<Off<usize>>,
    /// Sessions in one container at once, or forwarding to one pod, or `off` [default: off]
    #[arg(long, value_name = "NUMBER", value_parser = count)]
    max_sessions_per_target: Option<Off<usize>>,
    /// Watches, and logs that are not followed, at once; one more is answered with 429
    /// [default: a quarter of --max-connections]
    #[arg(long, value_name = "NUMBER", value_parser = sessions)]
    max_streams: Option<usize>,
    /// The same of one user, or `off` [default: off]
    #[arg(long, value_name = "NUMBER", value_parser = count)]
    max_streams_per_user: Option<Off<usize>>,
    /// New sessions a second (20, 20/s) or a minute (30/m), and how many at once after a pause (20/s:100), or `off`
    /// [default: off]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    session_rate: Option<Off<Rate>>,
    /// The same for each user [default: off]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    session_rate_per_user: Option<Off<Rate>>,
    /// Bytes a second of one session in each direction, such as 1MiB, or `off` [default: off]
    #[arg(long, value_name = "SIZE", value_parser = bandwidth)]
    session_bandwidth: Option<Off<usize>>,
    /// End a session that has lasted this long, however busy, or `off` [default: off]
    #[arg(long, value_name = "TIME", value_parser = clock)]
    session_duration: Option<Off<Duration>>,
    /// The longest message taken from a WebSocket client, at least 64KiB [default: 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = message)]
    max_message: Option<u64>,
    /// What may wait in one session for a command that does not read, at least 32KiB; then the client is slowed
    /// [default: 256KiB]
    #[arg(long, value_name = "SIZE", value_parser = buffer)]
    receive_buffer: Option<usize>,
    /// The longest request head, at least 8KiB; the command of an exec is part of it [default: 128KiB]
    #[arg(long, value_name = "SIZE", value_parser = request_head)]
    max_request_head: Option<usize>,
    /// How long a request head may take, and how long a connection without a request is kept [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = patience)]
    request_head_timeout: Option<Duration>,
    /// How long a TLS handshake may take [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = patience)]
    tls_handshake_timeout: Option<Duration>,
}

fn count(typed: &str) -> Result<Off<usize>, String> {
    count_or_off(typed).map(Off)
}

fn rate(typed: &str) -> Result<Off<Rate>, String> {
    rate_or_off(typed).map(Off)
}

fn bandwidth(typed: &str) -> Result<Off<usize>, String> {
    bandwidth_or_off(typed).map(Off)
}

fn sessions(typed: &str) -> Result<usize, String> {
    at_least_one(typed, "sessions")
}

impl LimitArgs {
    /// Puts what was typed over what the file said.
    pub(crate) fn apply(self, config: &mut Config) {
        let limits = &mut config.limits;
        limits.sessions = self.max_sessions.or(limits.sessions);
        set_off(self.max_sessions_per_user, &mut limits.sessions_per_user);
        set_off(self.max_sessions_per_target, &mut limits.sessions_per_target);
        limits.streams = self.max_streams.or(limits.streams);
        set_off(self.max_streams_per_user, &mut limits.streams_per_user);
        set_off(self.session_rate, &mut limits.session_rate);
        set_off(self.session_rate_per_user, &mut limits.session_rate_per_user);
        set_off(self.session_bandwidth, &mut limits.session_bandwidth);
        set_off(self.session_duration, &mut limits.session_duration);
        set(self.max_message, &mut limits.max_message);
        set(self.receive_buffer, &mut limits.receive_buffer);
        set(self.max_request_head, &mut limits.header_bytes);
        set(self.request_head_timeout, &mut limits.header_read);
        set(self.tls_handshake_timeout, &mut limits.tls_handshake);
    }
}

#[cfg(test)]
mod tests {
    use super::LimitArgs;
    use clap::{Args as _, Command, FromArgMatches as _};
    use std::time::Duration;
    use wsstream_server::{Config, Limits};

    fn applied(typed: &str, file: Limits) -> Result<Limits, String> {
        let command = LimitArgs::augment_args(Command::new("serve").no_binary_name(true));
        let matches =
            command.try_get_matches_from(typed.split_whitespace()).map_err(|error| error.to_string())?;
        let mut config = Config::default();
        config.limits = file;
        LimitArgs::from_arg_matches(&matches).unwrap().apply(&mut config);
        Ok(config.limits)
    }

    #[test]
    fn flags_win_and_what_is_not_typed_stays() {
        let mut file = Limits::default();
        (file.sessions_per_user, file.sessions_per_target) = (Some(4), Some(5));
        let typed = "--max-sessions 3 --max-streams 7 --max-streams-per-user 2 --max-sessions-per-user off --session-rate 20/s:100 --session-bandwidth 1MiB \
                     --session-duration 8h --max-message 1MiB --receive-buffer 64KiB --max-request-head 64KiB \
                     --request-head-timeout 2s --tls-handshake-timeout 3s --session-rate-per-user 30/m";
        let limits = applied(typed, file.clone()).unwrap();
        (file.sessions, file.sessions_per_user) = (Some(3), None);
        (file.streams, file.streams_per_user) = (Some(7), Some(2));
        file.session_rate = Some("20/s:100".parse().unwrap());
        file.session_rate_per_user = Some("30/m".parse().unwrap());
        (file.session_bandwidth, file.session_duration) = (Some(1 << 20), Some(Duration::from_secs(28800)));
        (file.max_message, file.receive_buffer, file.header_bytes) = (1 << 20, 64 << 10, 64 << 10);
        (file.header_read, file.tls_handshake) = (Duration::from_secs(2), Duration::from_secs(3));
        assert_eq!(limits, file);
        for (typed, part) in [
            ("--max-sessions 0", "1 or more"),
            ("--session-rate 5/h", "is not a rate"),
            ("--session-bandwidth 1KiB", "write 4KiB or more"),
            ("--session-duration 0s", "write off"),
            // These were taken, and shut everybody out or meant something else.
            ("--tls-handshake-timeout 0s", "write 100ms or more"),
            ("--request-head-timeout 0s", "write 100ms or more"),
            ("--max-message 0", "write 64KiB or more"),
            ("--receive-buffer 0", "write 32KiB or more"),
            ("--max-request-head 1", "write 8KiB or more"),
        ] {
            let error = applied(typed, Limits::default()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
