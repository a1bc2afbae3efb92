//! The command behind `cargo xtask bench`, and the peers that it starts.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use wsstream_bench::bars::{BARS, Limit, Verdict};
use wsstream_bench::place::{LOAD_CORE, Place, pin};
use wsstream_bench::report::{self, Results};
use wsstream_bench::section::{Context, SECTIONS, Section};
use wsstream_bench::{child, peer};

/// What wsstream costs, beside the raw relay and beside Go's servers. The last line is the worst bar; the exit status is 1
/// when one is missed.
#[derive(Parser)]
#[command(name = "cargo xtask bench", args_conflicts_with_subcommands = true)]
struct Args {
    /// Only this section; may be repeated
    #[arg(long, value_name = "NAME")]
    section: Vec<String>,
    /// Interleaved runs of each measurement [default: 11, quick: 5]
    #[arg(long)]
    runs: Option<usize>,
    /// Less to do in each run, and fewer of them: under 10 minutes; the page is left alone
    #[arg(long)]
    quick: bool,
    /// List sections and bars, and measure nothing
    #[arg(long)]
    list: bool,
    /// Write what was found here as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave docs/performance.md and docs/performance.json alone
    #[arg(long)]
    no_page: bool,
    /// Write docs/performance.md anew from docs/performance.json, and measure nothing
    #[arg(long)]
    page_only: bool,
    /// The root of the repository
    #[arg(long, hide = true, default_value = ".")]
    root: PathBuf,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// A server under test
    #[command(hide = true)]
    Peer { words: Vec<String> },
    /// A command that a session runs
    #[command(hide = true)]
    Child { words: Vec<String> },
}

fn main() -> ExitCode {
    let result = match Args::parse() {
        Args { role: Some(Role::Peer { words }), .. } => peer::run(&words).map(|()| true),
        Args { role: Some(Role::Child { words }), .. } => child::run(&words).map(|()| true),
        args => bench(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &Args) -> Result<bool> {
    if args.list {
        list();
        return Ok(true);
    }
    let file = args.root.join("docs/performance.json");
    if args.page_only {
        report::write(&args.root, &Results::load(&file)?)?;
        return Ok(true);
    }
    let chosen = chosen(&args.section)?;
    let place = Place::new(&args.root.canonicalize()?)?;
    if place.go_server.is_none() {
        println!("Go's server was not built: its columns stay empty and its bars are not measured");
    }
    // Before it is bound to one core, which would be all that it sees.
    let machine = report::machine();
    pin(LOAD_CORE);
    let runs = args.runs.unwrap_or(if args.quick { 5 } else { 11 }).max(1);
    let context = Context { place, runs, quick: args.quick };
    let mut found = Results { machine, ..Results::default() };
    let mut failed = Vec::new();
    for section in chosen {
        println!("== {}: {}", section.name, section.about);
        let started = Instant::now();
        match (section.run)(&context) {
            Ok(mut findings) => {
                (findings.runs, findings.quick) = (runs, args.quick);
                report::print(&findings);
                findings.verdicts.iter().for_each(|verdict| println!("  {}", report::line(verdict)));
                println!("  {:.0} s\n", started.elapsed().as_secs_f64());
                found.sections.insert(section.name.to_owned(), findings);
            }
            // The others are worth having all the same.
            Err(error) => {
                println!("  FAILED: {error:#}\n");
                failed.push(section.name);
            }
        }
    }
    if let Some(path) = &args.json {
        found.save(path)?;
    }
    if !args.quick && !args.no_page && !found.sections.is_empty() {
        let mut all = Results::load(&file)?;
        all.machine.clone_from(&found.machine);
        all.sections.extend(found.sections.clone());
        all.save(&file)?;
        report::write(&args.root, &all)?;
    }
    Ok(totals(&found, &failed))
}

fn chosen(names: &[String]) -> Result<Vec<&'static Section>> {
    if names.is_empty() {
        return Ok(SECTIONS.iter().collect());
    }
    let find = |name: &String| SECTIONS.iter().find(|section| section.name == *name);
    for name in names {
        if find(name).is_none() {
            let known: Vec<_> = SECTIONS.iter().map(|section| section.name).collect();
            bail!("{name}: no such section; there are {}", known.join(", "));
        }
    }
    Ok(names.iter().filter_map(find).collect())
}

fn list() {
    for section in SECTIONS {
        println!("{:12} {}", section.name, section.about);
    }
    println!();
    for bar in BARS {
        let (side, limit) = match bar.limit {
            Limit::AtMost(limit) => ("at most ", limit),
            Limit::AtLeast(limit) => ("at least", limit),
        };
        println!("{:68} {side} {} {}", bar.what, report::number(limit), bar.unit);
    }
}

/// Every bar, the worst last. Whether all were kept.
fn totals(found: &Results, failed: &[&str]) -> bool {
    let mut all: Vec<&Verdict> = found.sections.values().flat_map(|section| &section.verdicts).collect();
    // What could not be computed is worst of all.
    all.sort_by(|a, b| a.strain().abs().total_cmp(&b.strain().abs()));
    let missed = all.iter().filter(|verdict| !verdict.kept()).count();
    println!("== bars: {} kept, {missed} missed, {} sections failed", all.len() - missed, failed.len());
    for verdict in &all {
        println!("  {}", report::line(verdict));
    }
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    match all.last().context("none") {
        Ok(worst) => println!("worst bar: {}", report::line(worst)),
        Err(_) => println!("worst bar: none was measured"),
    }
    missed == 0 && failed.is_empty()
}
