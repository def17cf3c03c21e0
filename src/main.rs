//! The `ringback` program.

mod cli;
mod demo;
mod serve;
mod server;
mod settings;

fn main() -> std::process::ExitCode {
    cli::run()
}
