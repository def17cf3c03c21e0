//! The command line: what the program can be asked to do, and how it ends.
//!
//! Reading order: [`Command`] (what there is), `target` and `client` (the way to a server), then a file a command. All of
//! them talk to the HTTP API; where no server runs on a folder, this process serves it for the one command (`offline`).
//!
//! Invariants: logs go to the standard error and only where `RUST_LOG` asks for them; the exit code is 0 only if
//! everything that was asked for held; what others wrote goes to the terminal through `escape` and `json_text` alone.

mod app;
mod arguments;
mod cancel;
mod client;
mod compact;
mod doctor;
mod endpoint;
mod erase;
mod escape;
mod event_type;
mod exit;
mod interrupt;
mod json_text;
mod key;
mod listen;
mod log;
mod messages;
mod offline;
mod out;
mod records;
mod replay;
mod retention;
mod secrets;
mod send;
mod serve;
mod show;
mod sign;
mod style;
mod table;
mod target;
mod times;

use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};

use crate::demo;
use exit::{Exit, Problem};

pub(crate) use escape::escaped;
pub(crate) use style::{Style, colours};

const ENVIRONMENT: &str = "Environment:
  RINGBACK_SERVER, RINGBACK_TOKEN   a server and its token, as --server and --token-file
  RINGBACK_DATA                     the folder of a server on this machine, as --data
  RINGBACK_SECRET                   the secret that listen, sign and verify use
  RUST_LOG                          what to log to the standard error, such as `ringback=info`
  NO_COLOR                          no colours, whatever the output is";

/// A durable webhook sender: it signs events the way each vendor's receivers expect, queues them on disk, delivers,
/// retries, logs and replays.
#[derive(Debug, Parser)]
#[command(name = "ringback", version, arg_required_else_help = true)]
#[command(after_help = format!("{}\n\n{ENVIRONMENT}", exit::TABLE))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the HTTP API and delivers, until SIGTERM or SIGINT
    ///
    /// Settings come from the file, the environment (`RINGBACK_` and the name in upper case) and flags; the latter win.
    /// `ringback config` shows what is in force.
    Serve(serve::ServeOptions),
    /// Shows every setting in force and where it came from
    Config(serve::ConfigOptions),
    App(app::Options),
    Endpoint(endpoint::Options),
    EventType(event_type::Options),
    Send(send::Options),
    Log(log::Options),
    Messages(messages::Options),
    Show(show::Options),
    Resend(show::Resend),
    Cancel(cancel::Options),
    Replay(replay::Options),
    Doctor(doctor::Options),
    Compact(compact::Options),
    Erase(erase::Options),
    Key(key::Options),
    Listen(listen::Options),
    Sign(sign::Sign),
    Verify(sign::Verify),
    /// Prints what a shell needs to complete this program's commands
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Shows it all on this machine, in under a minute
    ///
    /// The example events of three vendors go to three difficult receivers. The sender is killed in the middle and
    /// goes on from the same queue; a delivery that gave up is replayed; every receiver verifies what it gets with code
    /// of its own. Delays and time limits are scaled down, and said so. The exit code is 0 only if all of it holds.
    Demo(demo::Options),
    /// The sender of `ringback demo`
    #[command(hide = true)]
    DemoSender(demo::SenderOptions),
}

/// Does what the command line says.
pub(crate) fn run() -> ExitCode {
    // Whatever this program writes may hold secrets: it is its owner's alone, in a folder of whatever mode.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let Cli { command } = Cli::parse();
    // The server's log is a setting.
    if !matches!(command, Command::Serve(_)) {
        log_if_asked();
    }
    execute(command).unwrap_or_else(|problem| {
        out::complain(&problem.text);
        problem.exit.into()
    })
}

fn execute(command: Command) -> Result<ExitCode, Problem> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(carry_out(command));
    // A read of the standard input cannot be interrupted: the program must not wait for one.
    runtime.shutdown_background();
    result
}

async fn carry_out(command: Command) -> Result<ExitCode, Problem> {
    let exit = match command {
        Command::App(options) => options.at.with(async |session| app::run(session, options.what).await).await?,
        Command::Endpoint(options) => {
            options.at.with(async |session| endpoint::run(session, options.what).await).await?
        }
        Command::EventType(options) => {
            options.at.with(async |session| event_type::run(session, options.what).await).await?
        }
        Command::Send(options) => options.at.clone().with(async |session| send::run(session, options).await).await?,
        Command::Log(options) => options.at.clone().with(async |session| log::run(session, options).await).await?,
        Command::Messages(options) => {
            options.at.clone().with(async |session| messages::run(session, options).await).await?
        }
        Command::Show(options) => options.at.clone().with(async |session| show::run(session, options).await).await?,
        Command::Resend(options) => {
            options.at.clone().with(async |session| show::resend(session, options).await).await?
        }
        Command::Cancel(options) => {
            options.at.clone().with(async |session| cancel::run(session, options).await).await?
        }
        Command::Replay(options) => {
            options.at.clone().with(async |session| replay::run(session, options).await).await?
        }
        Command::Doctor(options) => options.at.with(async |session| doctor::run(session).await).await?,
        Command::Compact(options) => options.at.with(async |session| compact::run(session).await).await?,
        Command::Erase(options) => options.at.clone().with(async |session| erase::run(session, options).await).await?,
        Command::Key(options) => key::run(options).await?,
        Command::Listen(options) => listen::run(options).await?,
        Command::Sign(options) => sign::sign(options).await?,
        Command::Verify(options) => sign::verify(options).await?,
        Command::Completions { shell } => completions(shell)?,
        Command::Serve(options) => return Ok(serve::serve(options).await?),
        Command::Config(options) => return Ok(serve::config(&options)?),
        Command::Demo(options) => return Ok(demo::run(options).await?),
        Command::DemoSender(options) => {
            demo::run_sender(options).await?;
            Exit::Done
        }
    };
    Ok(exit.into())
}

fn completions(shell: clap_complete::Shell) -> Result<Exit, Problem> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ringback", &mut script);
    out::Out::new(false).line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
