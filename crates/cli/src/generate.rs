//! Completions and man pages: generated from the definition that parses the command line, so that they cannot differ from it.

use crate::args::Cli;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use std::path::{Path, PathBuf};

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wsstream completions bash > ~/.local/share/bash-completion/completions/wsstream
  wsstream completions zsh > \"${fpath[1]}/_wsstream\"
  wsstream completions fish > ~/.config/fish/completions/wsstream.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// What was typed.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where to write wsstream.1, wsstream-serve.1 and the others; the directory must exist
    directory: PathBuf,
}

/// Prints the script of a shell.
pub(crate) async fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut command = Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "wsstream", &mut script);
    Output::Stdout.write(script.into()).await.map_err(|error| Output::Stdout.failed(&error))?;
    Ok(Exit::Success)
}

/// Writes a page for the program and one for each verb that is listed.
pub(crate) fn man(args: &ManArgs) -> Result<Exit, Failure> {
    let mut command = Cli::command().disable_help_subcommand(true);
    // Lines are for the pager to break.
    command.build();
    write_page(&args.directory, "wsstream", command.clone())?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let name = format!("wsstream-{}", verb.get_name());
        // Shown as it is typed: `wsstream serve [OPTIONS]`.
        let typed = verb.clone().bin_name(format!("wsstream {}", verb.get_name())).display_name(&name);
        write_page(&args.directory, &name, typed)?;
    }
    Ok(Exit::Success)
}

fn write_page(directory: &Path, name: &str, command: clap::Command) -> Result<(), Failure> {
    let path = directory.join(name).with_extension("1");
    let mut page = Vec::new();
    let written = clap_mangen::Man::new(command)
        .title(name.to_uppercase())
        .render(&mut page)
        .and_then(|()| std::fs::write(&path, page));
    written.map_err(|error| Failure::local(format!("{}: {error}", path.display())))
}
