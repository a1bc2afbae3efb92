//! `cargo xtask`: every helper command of the workspace, one verb each.
//!
//! The commands are Rust and not shell so that they share one way to run a program, one way to report
//! (`N passed, N failed, N skipped` is the last line, and the exit status is 1 when anything failed) and one
//! rule for a tool that is missing: a loud skip on a developer's machine, a failure where `CI=true`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{
    audit, autobahn, bench, chaos, counts, dependencies, dist, docs, examples, fuzz, interop, layers,
    licences, lint, load, miri, msrv, operations, payload, publish, readme, report::Totals, soak, wasm,
    workspace::Workspace,
};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Helper commands of the wsstream workspace")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Format, clippy, rustdoc and licences, warnings denied
    Lint,
    /// Who may import whom: the rules of ARCHITECTURE.md
    Layers,
    /// The licence of every dependency against deny.toml
    Licences,
    /// rustdoc of the workspace, warnings denied
    Docs,
    /// The stated minimum Rust version against the dependencies, and by that toolchain where it is installed
    Msrv,
    /// wsstream-proto for wasm32, where that target is installed
    Wasm,
    /// A dry run of publishing every crate
    PublishCheck {
        /// Accept uncommitted changes (never in CI)
        #[arg(long)]
        allow_dirty: bool,
    },
    /// Build and run every example; each stays under 60 lines
    Examples,
    /// Run the commands of the README's tour
    Readme,
    /// Run the commands of docs/operations.md
    Operations,
    /// Units, users, sample configuration and Containerfile
    Dist,
    /// cargo-deny and cargo-audit, installed if they are missing
    Audit,
    /// Compare docs/dependencies.md with the dependencies
    Dependencies {
        /// Write it anew
        #[arg(long)]
        write: bool,
    },
    /// Real clients (kubectl, Python, kube-rs, our own) against the binary
    Interop(interop::Args),
    /// Sessions over wires that break, judged: complete, reported as lost, or a lie
    Chaos(chaos::Args),
    /// Every fuzz target for an equal share of the time
    Fuzz(fuzz::Args),
    /// The Autobahn cases against our WebSocket engine, as server and as client
    Autobahn,
    /// The tests of wsstream-proto under Miri, where that is installed
    Miri,
    /// Mixed real sessions with faults against one server, and what it leaks
    Soak(soak::Args),
    /// Ten times every limit at once, and what that does to running sessions, memory and descriptors
    Load(load::Args),
    /// What wsstream costs beside the raw relay and beside Go's servers
    Bench(bench::Args),
    /// Instructions of the hot paths against the recorded counts, by callgrind
    Counts(counts::Args),
    /// Everything above, the tests and the bench, with the full tier of the real clients
    Full,
    /// Write the test pattern to stdout (the remote side of interop cases)
    #[command(hide = true)]
    Emit(payload::Emit),
    /// Do as a script of the chaos sweeps says (the remote side)
    #[command(hide = true)]
    Puppet(chaos::puppet::Puppet),
}

fn main() -> ExitCode {
    let args = Args::parse();
    // These have a last line and an exit status of their own.
    let verb = match args.verb {
        Verb::Emit(emit) => return emit.run(),
        Verb::Puppet(puppet) => return puppet.run(),
        Verb::Chaos(args) => return args.run(),
        Verb::Soak(args) => return args.run(),
        Verb::Load(args) => return args.run(),
        Verb::Bench(args) => return args.run(),
        Verb::Counts(args) => return args.run(),
        Verb::Fuzz(args) => return args.run(),
        verb => verb,
    };
    match run(verb) {
        Ok(totals) => {
            println!("{totals}");
            if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            // The closing line stays the last line, whatever went wrong before the first case.
            println!("0 passed, 1 failed, 0 skipped");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<Totals> {
    let workspace = Workspace::find()?;
    let mut totals = Totals::default();
    match verb {
        Verb::Lint => lint::run(&workspace, &mut totals),
        Verb::Layers => layers::run(&workspace, &mut totals),
        Verb::Licences => licences::run(&workspace, &mut totals),
        Verb::Docs => docs::run(&workspace, &mut totals),
        Verb::Msrv => msrv::run(&workspace, &mut totals),
        Verb::Wasm => wasm::run(&workspace, &mut totals),
        Verb::Autobahn => autobahn::run(&workspace, &mut totals),
        Verb::Miri => miri::run(&workspace, &mut totals),
        Verb::PublishCheck { allow_dirty } => publish::run(&workspace, allow_dirty, &mut totals),
        Verb::Examples => examples::run(&workspace, &mut totals),
        Verb::Readme => readme::run(&workspace, &mut totals),
        Verb::Operations => operations::run(&workspace, &mut totals),
        Verb::Dist => dist::run(&workspace, &mut totals),
        Verb::Audit => audit::run(&workspace, &mut totals),
        Verb::Dependencies { write } => dependencies::run(&workspace, write, &mut totals),
        Verb::Interop(args) => interop::run(&workspace, &args, &mut totals)?,
        Verb::Full => {
            // Commands with totals of their own, and workspaces of their own.
            for (name, args) in [
                ("full: tests", &["test", "--workspace", "--no-fail-fast"][..]),
                ("full: chaos", &["xtask", "chaos", "--minutes", "5"]),
                ("full: slow readers", &["xtask", "chaos", "--only", "slow", "--only", "paused"]),
                ("full: soak", &["xtask", "soak", "--minutes", "5"]),
                ("full: ten times every limit", &["xtask", "load"]),
                ("full: bench", &["xtask", "bench", "--quick"]),
                ("full: fuzz targets compile", &["check", "--manifest-path", "fuzz/Cargo.toml"]),
            ] {
                totals.case(name, || xtask::workspace::show(&mut workspace.cargo(args)));
            }
            let mut deeper = workspace.cargo(&["test", "--package", "wsstream-testing", "--test", "explore"]);
            totals.case("full: stories one step deeper than the tests tell", || {
                xtask::workspace::show(deeper.env("WSSTREAM_EXPLORE_DEEPER", "1"))
            });
            counts::Args::default().cases(&workspace, &mut totals)?;
            fuzz::Args::for_minutes(8.0).cases(&workspace, &mut totals)?;
            autobahn::run(&workspace, &mut totals);
            miri::run(&workspace, &mut totals);
            lint::run(&workspace, &mut totals);
            layers::run(&workspace, &mut totals);
            msrv::run(&workspace, &mut totals);
            wasm::run(&workspace, &mut totals);
            publish::run(&workspace, false, &mut totals);
            examples::run(&workspace, &mut totals);
            readme::run(&workspace, &mut totals);
            operations::run(&workspace, &mut totals);
            dist::run(&workspace, &mut totals);
            audit::run(&workspace, &mut totals);
            interop::run(&workspace, &interop::Args::full(), &mut totals)?;
        }
        Verb::Emit(_)
        | Verb::Puppet(_)
        | Verb::Chaos(_)
        | Verb::Soak(_)
        | Verb::Load(_)
        | Verb::Bench(_)
        | Verb::Counts(_)
        | Verb::Fuzz(_) => {}
    }
    Ok(totals)
}
