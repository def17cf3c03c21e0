//! The `ringback` program.

mod cli;
mod demo;
mod server;

fn main() -> std::process::ExitCode {
    cli::run()
}
