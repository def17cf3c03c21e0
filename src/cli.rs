//! The command line: what the program can be asked to do, and how it ends.
//!
//! Invariants: logs go to the standard error and only where `RUST_LOG` asks for them; the exit code is 0 only if
//! everything that was asked for held.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::demo;

mod serve;

/// A durable webhook sender: it signs events the way each vendor's receivers expect, queues them on disk, delivers,
/// retries, logs and replays.
#[derive(Debug, Parser)]
#[command(name = "ringback", version, arg_required_else_help = true)]
#[command(after_help = "Environment:\n  RUST_LOG   what to log to the standard error, for example `ringback=info`\n  \
                        NO_COLOR   no colours, whatever the output is")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows it all on this machine, in under a minute
    ///
    /// The example events of three vendors go to three difficult receivers. The sender is killed in the middle and
    /// goes on from the same queue; a delivery that gave up is replayed; every receiver verifies what it gets with code
    /// of its own. Delays and time limits are scaled down, and said so. The exit code is 0 only if all of it holds.
    Demo(demo::Options),
    /// Serves the HTTP API and delivers, until SIGTERM or SIGINT
    ///
    /// Settings come from the file, the environment (`RINGBACK_` and the name in upper case) and flags; the latter win.
    /// `ringback config` shows what is in force.
    Serve(serve::ServeOptions),
    /// Shows every setting in force and where it came from
    Config(serve::ConfigOptions),
    /// The sender of `ringback demo`
    #[command(hide = true)]
    DemoSender(demo::SenderOptions),
}

/// Does what the command line says.
pub(crate) fn run() -> ExitCode {
    let Cli { command } = Cli::parse();
    // The server's log is a setting.
    if !matches!(command, Command::Serve(_)) {
        log_if_asked();
    }
    execute(command).unwrap_or_else(|error| {
        eprintln!("ringback: {error:#}");
        ExitCode::FAILURE
    })
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        match command {
            Command::Demo(options) => demo::run(options).await,
            Command::Serve(options) => serve::serve(options).await,
            Command::Config(options) => serve::config(&options),
            Command::DemoSender(options) => demo::run_sender(options).await.map(|()| ExitCode::SUCCESS),
        }
    });
    // A read of the standard input cannot be interrupted: the program must not wait for one.
    runtime.shutdown_background();
    result
}

/// Whether output to this stream may be coloured.
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn log_if_asked() {
    if std::env::var_os("RUST_LOG").is_none_or(|value| value.is_empty()) {
        return;
    }
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .with_ansi(colours(&std::io::stderr()))
        .init();
}
