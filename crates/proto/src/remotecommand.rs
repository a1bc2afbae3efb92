//! What an exec or attach request asks for, read from its query string and written to one.
//!
//! The same request is spelled in two ways: clients ask the API server with `stdin=true`, the API server asks the
//! kubelet with `input=1`, and what counts as true differs too. Both spellings are a [`Request`] afterwards. The
//! numbers of the channels are constants of [`ChannelId`](crate::channel::ChannelId).

use thiserror::Error;

/// How the parameters are named and which values are true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// `stdin`, `stdout`, `stderr`, `tty`, `container`: absent, `0` and `false` in any case are false, anything
    /// else is true, the empty value included.
    ApiServer,
    /// `input`, `output`, `error`, `tty`: only `1` is true. The container is part of the path.
    Kubelet,
}

impl Spelling {
    /// Names of stdin, stdout, stderr and tty.
    const fn names(self) -> [&'static str; 4] {
        match self {
            Self::ApiServer => ["stdin", "stdout", "stderr", "tty"],
            Self::Kubelet => ["input", "output", "error", "tty"],
        }
    }

    fn is_true(self, value: &str) -> bool {
        match self {
            Self::ApiServer => value != "0" && !value.eq_ignore_ascii_case("false"),
            Self::Kubelet => value == "1",
        }
    }
}

/// What the client asked for.
///
/// ```
/// use wsstream_proto::remotecommand::{Request, Spelling};
///
/// let request = Request::command(["cat"]).stdin(true).stdout(true);
/// assert_eq!(request.to_query(Spelling::ApiServer), "command=cat&stdin=true&stdout=true");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The argument vector, empty for attach. No element contains NUL in a request that was parsed or validated.
    pub command: Vec<String>,
    /// The container, if the query names one; an empty name is none.
    pub container: Option<String>,
    /// The client will send input.
    pub stdin: bool,
    /// The client wants the output.
    pub stdout: bool,
    /// The client wants the error output apart; never together with `tty` in a request that was parsed.
    pub stderr: bool,
    /// Run on a terminal.
    pub tty: bool,
}

impl Request {
    /// A request to run `argv`, with no streams yet. The request for attach starts with [`Request::default`].
    pub fn command<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { command: argv.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Sets the container.
    #[must_use]
    pub fn container(mut self, name: impl Into<String>) -> Self {
        self.container = Some(name.into());
        self
    }

    /// Asks for stdin, or not.
    #[must_use]
    pub const fn stdin(mut self, on: bool) -> Self {
        self.stdin = on;
        self
    }

    /// Asks for stdout, or not.
    #[must_use]
    pub const fn stdout(mut self, on: bool) -> Self {
        self.stdout = on;
        self
    }

    /// Asks for stderr, or not.
    #[must_use]
    pub const fn stderr(mut self, on: bool) -> Self {
        self.stderr = on;
        self
    }

    /// Asks for a terminal, or not.
    #[must_use]
    pub const fn tty(mut self, on: bool) -> Self {
        self.tty = on;
        self
    }

    /// Reads the part of a URL after `?`.
    ///
    /// Of a repeated parameter the first counts, except `command`, whose values are the argument vector in order.
    /// Unknown parameters are ignored. `tty` turns `stderr` off, as upstream does without a word, because a
    /// terminal has one output. The command may be missing, as in attach; exec wants
    /// [`validate_exec`](Self::validate_exec) on top.
    ///
    /// # Errors
    /// The client's fault, to be answered with 400: no stream at all, or a parameter that cannot be taken as it is
    /// (malformed percent-encoding, not UTF-8, NUL). Running a command with some bytes replaced or an argument left
    /// out would be worse than not running it.
    pub fn parse(query: &str, spelling: Spelling) -> Result<Self, RequestError> {
        let mut request = Self::default();
        let mut container = None;
        let names = spelling.names();
        let mut flags = [None; 4];
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = decode(name) else { continue };
            let flag = names.iter().zip(&mut flags).find(|(flag, _)| **flag == name);
            if let Some((name, flag)) = flag {
                let value = decode(value).ok_or(RequestError::Encoding { parameter: name })?;
                flag.get_or_insert(spelling.is_true(&value));
            } else if name == "command" {
                request.command.push(argument("command", value)?);
            } else if name == "container" && spelling == Spelling::ApiServer {
                let value = argument("container", value)?;
                container.get_or_insert(value);
            }
        }
        let [stdin, stdout, stderr, tty] = flags.map(Option::unwrap_or_default);
        request.container = container.filter(|name| !name.is_empty());
        let request = request.stdin(stdin).stdout(stdout).stderr(stderr && !tty).tty(tty);
        request.validate()?;
        Ok(request)
    }

    /// What every request must have: a stream, and no NUL in what becomes arguments of a process.
    ///
    /// # Errors
    /// [`RequestError::NoStreams`], [`RequestError::Nul`].
    pub fn validate(&self) -> Result<(), RequestError> {
        if !self.stdin && !self.stdout && !self.wants_stderr() {
            return Err(RequestError::NoStreams);
        }
        if self.command.iter().any(|argument| argument.contains('\0')) {
            return Err(RequestError::Nul { parameter: "command" });
        }
        if self.container.as_ref().is_some_and(|name| name.contains('\0')) {
            return Err(RequestError::Nul { parameter: "container" });
        }
        Ok(())
    }

    /// What exec needs: all of [`validate`](Self::validate), and a command.
    ///
    /// # Errors
    /// Those of `validate`, and [`RequestError::NoCommand`].
    pub fn validate_exec(&self) -> Result<(), RequestError> {
        self.validate()?;
        if self.command.is_empty() {
            return Err(RequestError::NoCommand);
        }
        Ok(())
    }

    /// The part of a URL after `?`, without a leading `&`, in the order in which kubectl writes it. Only what is
    /// true is written; `stderr` is left out with `tty`, and the container in the kubelet's spelling.
    #[must_use]
    pub fn to_query(&self, spelling: Spelling) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for argument in &self.command {
            query.append_pair("command", argument);
        }
        if let (Some(name), Spelling::ApiServer) = (&self.container, spelling) {
            query.append_pair("container", name);
        }
        let [stdin, stdout, stderr, tty] = spelling.names();
        let mut flags =
            [(stdin, self.stdin), (stdout, self.stdout), (stderr, self.wants_stderr()), (tty, self.tty)];
        // Go sorts by name: container, stderr, stdin... and error, input, output.
        flags.sort_unstable();
        for (name, _) in flags.into_iter().filter(|(_, on)| *on) {
            query.append_pair(name, if spelling == Spelling::Kubelet { "1" } else { "true" });
        }
        query.finish()
    }

    const fn wants_stderr(&self) -> bool {
        self.stderr && !self.tty
    }
}

/// A request that cannot be served as it is: the client's fault, HTTP 400. The texts are upstream's where it has
/// the case.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// None of stdin, stdout and stderr was asked for.
    #[error("you must specify at least 1 of stdin, stdout, stderr")]
    NoStreams,
    /// Exec without a command.
    #[error("you must specify at least one command for the container")]
    NoCommand,
    /// A value is not percent-encoded UTF-8.
    #[error("query parameter \"{parameter}\" is not percent-encoded UTF-8")]
    Encoding {
        /// The parameter's name.
        parameter: &'static str,
    },
    /// A value contains NUL, which no argument of a process can.
    #[error("query parameter \"{parameter}\" contains a NUL byte")]
    Nul {
        /// The parameter's name.
        parameter: &'static str,
    },
}

fn argument(parameter: &'static str, value: &str) -> Result<String, RequestError> {
    decode(value).ok_or(RequestError::Encoding { parameter })
}

/// Undoes form encoding: `+` is a space, `%xx` a byte. `None` where general decoders guess: a `%` without two hex
/// digits, or bytes that are not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}
