//! How sessions and their commands end: the flags, and where they go.

use super::typed::{Off, at_least_one, clock, set, set_off};
use clap::{Args, ValueEnum};
use std::time::Duration;
use wsstream_server::limits::{buffer, count_or_off};
use wsstream_server::target::{Background, Keeper, OnDisconnect};
use wsstream_server::{Config, duration};

/// The word by which this program is started to keep commands. Not a verb: nobody types it.
pub(super) const KEEPER: &str = "__keep";

/// What was typed. What was not typed stays as the configuration file or the default has it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sessions")]
pub(crate) struct PolicyArgs {
    /// What happens to a command whose client has left: `hup`, `term`, `kill`, `keep` (it runs on), `keep:TIME`, or
    /// `auto`: a terminal is hung up, anything else gets SIGTERM [default: auto]
    #[arg(long, value_name = "POLICY")]
    on_disconnect: Option<OnDisconnect>,
    /// From SIGTERM or the hang-up to SIGKILL for such a command [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    kill_grace: Option<Duration>,
    /// Before that, how long a command without a terminal has to end with its input [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    finish_grace: Option<Duration>,
    /// How long background processes may keep the output of a command open that has ended [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    output_grace: Option<Duration>,
    /// What happens to background processes of a command that has ended by itself: `keep` or `kill`
    /// [default: keep]
    #[arg(long, value_name = "POLICY", value_enum, hide_possible_values = true)]
    background: Option<BackgroundArg>,
    /// How long sessions may go on when the server is stopped; then their commands are ended, and their clients
    /// told [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    shutdown_grace: Option<Duration>,
    /// Ping a client that has been silent, or has been sent nothing, for this long, or `off` [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = clock)]
    ping_interval: Option<Off<Duration>>,
    /// Give a client up from which nothing came for this long, not even an answer to a ping, or `off`
    /// [default: 90s]
    #[arg(long, value_name = "TIME", value_parser = clock)]
    dead_peer_timeout: Option<Off<Duration>>,
    /// End a session in which no data went either way for this long, or `off` [default: 4h]
    #[arg(long, value_name = "TIME", value_parser = clock)]
    idle_timeout: Option<Off<Duration>>,
    /// Connections open at once; further ones wait until one ends [default: 1024]
    #[arg(long, value_name = "NUMBER", value_parser = connections)]
    max_connections: Option<usize>,
    /// Connections of one address on which nobody was let in yet, or `off`; one more is closed
    /// [default: a quarter of --max-connections]
    #[arg(long, value_name = "NUMBER", value_parser = per_address)]
    max_connections_per_address: Option<Off<usize>>,
    /// What may wait in all sessions together for readers that are slow, beyond 32 KiB of each, at least 32KiB. When it is used up
    /// sessions are slowed to the speed of their readers [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = buffer)]
    shared_buffer: Option<usize>,
    /// Start commands directly, without the small process beside each that ends everything they have started, also
    /// what has left their process group, and also when the server is killed
    #[arg(long)]
    no_keeper: bool,
}

fn per_address(typed: &str) -> Result<Off<usize>, String> {
    count_or_off(typed).map(Off)
}

fn connections(typed: &str) -> Result<usize, String> {
    at_least_one(typed, "connections")
}

/// The words for [`Background`].
#[derive(Debug, Clone, Copy, ValueEnum)]
enum BackgroundArg {
    /// They live on
    Keep,
    /// They end with it
    Kill,
}

impl PolicyArgs {
    /// Puts what was typed over what the file said.
    pub(crate) fn apply(self, config: &mut Config) {
        let (limits, session) = (&mut config.limits, &mut config.session);
        set(self.on_disconnect, &mut session.disconnect.action);
        set(self.kill_grace, &mut session.disconnect.kill);
        set(self.finish_grace, &mut session.disconnect.finish);
        set(self.output_grace, &mut session.drain.0);
        let background = self.background.map(|background| match background {
            BackgroundArg::Keep => Background::Keep,
            BackgroundArg::Kill => Background::Kill,
        });
        set(background, &mut session.background);
        set(self.shutdown_grace, &mut limits.drain);
        set_off(self.ping_interval, &mut limits.ping_interval);
        set_off(self.dead_peer_timeout, &mut limits.dead_peer);
        set_off(self.idle_timeout, &mut limits.idle);
        set(self.max_connections, &mut limits.connections);
        if let Some(Off(most)) = self.max_connections_per_address {
            limits.connections_per_address = Some(most.unwrap_or(usize::MAX));
        }
        set(self.shared_buffer, &mut limits.shared_buffer);
        config.no_keeper |= self.no_keeper;
        session.command.keeper = (!config.no_keeper).then(|| Keeper::this_program([KEEPER]));
    }
}

#[cfg(test)]
mod tests {
    use super::PolicyArgs;
    use clap::{Args as _, Command, FromArgMatches as _};
    use std::time::Duration;
    use wsstream_server::Config;
    use wsstream_server::target::{Background, OnDisconnect};

    fn applied(typed: &[&str]) -> Result<Config, String> {
        let command = PolicyArgs::augment_args(Command::new("serve").no_binary_name(true));
        let matches = command.try_get_matches_from(typed).map_err(|error| error.to_string())?;
        let mut config = Config::default();
        config.limits.drain = Duration::from_secs(77);
        PolicyArgs::from_arg_matches(&matches).unwrap().apply(&mut config);
        Ok(config)
    }

    #[test]
    fn flags_win_and_what_is_not_typed_stays() {
        let typed = "--on-disconnect keep:1h --kill-grace 3s --finish-grace 0s --output-grace 1s --background kill \
                     --ping-interval off --dead-peer-timeout 2m --idle-timeout 1h --max-connections 9 --max-connections-per-address off --shared-buffer 2MiB --no-keeper";
        let config = applied(&typed.split_whitespace().collect::<Vec<_>>()).unwrap();
        let mut expected = Config::default();
        expected.limits.drain = Duration::from_secs(77);
        let hour = Duration::from_secs(3600);
        expected.session.disconnect.action = OnDisconnect::Keep(Some(hour));
        expected.session.disconnect.kill = Duration::from_secs(3);
        expected.session.disconnect.finish = Duration::ZERO;
        expected.session.drain.0 = Duration::from_secs(1);
        expected.session.background = Background::Kill;
        expected.limits.ping_interval = None;
        expected.limits.dead_peer = Some(Duration::from_secs(120));
        expected.limits.idle = Some(hour);
        (expected.limits.connections, expected.limits.shared_buffer) = (9, 2 << 20);
        expected.limits.connections_per_address = Some(usize::MAX);
        expected.no_keeper = true;
        assert_eq!(config, expected);
        let config = applied(&["--shutdown-grace", "5s"]).unwrap();
        assert_eq!(config.limits.drain, Duration::from_secs(5));
        assert!(config.session.command.keeper.is_some());
    }

    /// The help repeats them; they are defined in the server's `limits` and `target`.
    #[test]
    fn the_defaults_in_the_help_are_the_real_ones() {
        let help = PolicyArgs::augment_args(Command::new("serve")).render_long_help().to_string();
        let Config { limits, session, .. } = Config::default();
        let defaults = [
            ("kill-grace", Some(session.disconnect.kill)),
            ("finish-grace", Some(session.disconnect.finish)),
            ("output-grace", Some(session.drain.0)),
            ("shutdown-grace", Some(limits.drain)),
            ("ping-interval", limits.ping_interval),
            ("dead-peer-timeout", limits.dead_peer),
            ("idle-timeout", limits.idle),
        ];
        let shown = |flag: &str| {
            let text = help.split(&format!("--{flag} ")).nth(1).unwrap();
            text.split("[default: ").nth(1).unwrap().split(']').next().unwrap()
        };
        for (flag, default) in defaults {
            assert_eq!(wsstream_server::duration::parse(shown(flag)).ok(), default, "{flag}");
        }
        for (flag, default) in
            [("max-connections", limits.connections), ("shared-buffer", limits.shared_buffer)]
        {
            assert_eq!(wsstream_server::size::parse(shown(flag)), Ok(default), "{flag}");
        }
    }

    #[test]
    fn slips_are_named() {
        for (typed, part) in [
            (["--on-disconnect", "detach"], "none of auto, hup, term, kill"),
            (["--idle-timeout", "0s"], "write off"),
            (["--kill-grace", "10"], "is not a time"),
            (["--max-connections", "0"], "1 or more"),
            (["--shared-buffer", "64M"], "is not a size"),
            (["--shared-buffer", "0"], "write 32KiB or more"),
        ] {
            let error = applied(&typed).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
