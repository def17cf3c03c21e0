//! `ringback serve` and `ringback config`: their flags, which are read off the table of settings.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::serve::{self, Ended};
use crate::settings::{self, Environment, Flags, Key, Kind, Settings};

/// What `ringback serve` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeOptions {
    #[command(flatten)]
    settings: SettingFlags,
}

/// What `ringback config` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigOptions {
    #[command(flatten)]
    settings: SettingFlags,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// The settings file, and a flag for each setting that may have one.
#[derive(Debug, Clone, Default)]
struct SettingFlags(Flags);

/// Serves until a signal comes.
pub(crate) async fn serve(options: ServeOptions) -> anyhow::Result<ExitCode> {
    let settings = match Settings::read(&options.settings.0, &Environment::of_process()) {
        Ok(settings) => settings,
        Err(error) => return Ok(wrong(&error)),
    };
    match serve::run(settings).await {
        Ok(Ended::InOrder) => Ok(ExitCode::SUCCESS),
        Ok(Ended::AtOnce) => Ok(ExitCode::FAILURE),
        Err(serve::Error::Settings(error)) => Ok(wrong(&error)),
        Err(serve::Error::Failed(error)) => Err(error),
    }
}

/// Prints the settings in force.
pub(crate) fn config(options: &ConfigOptions) -> anyhow::Result<ExitCode> {
    let settings = match Settings::read(&options.settings.0, &Environment::of_process()) {
        Ok(settings) => settings,
        Err(error) => return Ok(wrong(&error)),
    };
    for warning in &settings.warnings {
        eprintln!("ringback: {warning}");
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&settings.as_json())?);
    } else {
        print!("{}", settings.as_text());
    }
    Ok(ExitCode::SUCCESS)
}

/// Settings that cannot be taken end the program as a wrong command line does.
fn wrong(error: &settings::Error) -> ExitCode {
    eprintln!("ringback: {error}");
    ExitCode::from(2)
}

impl clap::FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = SettingFlags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.config = matches.get_one::<PathBuf>("config").cloned();
        let flags = Key::ALL.into_iter().filter(|key| key.flag().is_some());
        let given = flags.filter_map(|key| Some((key, matches.get_many::<String>(key.name())?.cloned().collect())));
        self.0.given = given.collect();
        Ok(())
    }
}

impl clap::Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("The settings file [environment: RINGBACK_CONFIG]");
        Key::ALL.into_iter().filter_map(argument).fold(command.arg(config), Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// A setting's flag. The default is said, not set: whether a flag was given matters.
fn argument(key: Key) -> Option<Arg> {
    let entry = key.entry();
    let help = match entry.default {
        Some(default) => format!("{} [default: {default}]", entry.help),
        None => entry.help.to_owned(),
    };
    let argument = Arg::new(entry.name).long(key.flag()?).value_name(entry.value).help(help);
    Some(match entry.kind {
        Kind::Text | Kind::Secret | Kind::Number => argument,
        Kind::Switch => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Kind::List => argument.action(ArgAction::Append),
    })
}
