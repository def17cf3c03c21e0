//! The `ringback` program.

mod cli;
#[cfg(test)]
#[path = "../tests/support/corpus.rs"]
mod corpus;
mod demo;
mod serve;
mod server;
mod settings;

fn main() -> std::process::ExitCode {
    cli::run()
}
