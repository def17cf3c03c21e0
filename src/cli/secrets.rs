//! Where the secrets of commands without a server come from.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use ringback::Secret;
use ringback::profile::SecretRule;
use ringback::{Profile, signature};

use super::arguments::read;
use super::exit::Problem;

/// Where a secret comes from: an argument, a file, the environment, or whoever sits at the terminal.
#[derive(Debug, clap::Args)]
pub(super) struct Source {
    /// The secret; can be given more than once, newest first. Others on this machine can read an argument: use
    /// --secret-file or RINGBACK_SECRET for one that is in use
    #[arg(long, value_name = "SECRET", conflicts_with = "secret_file")]
    secret: Vec<String>,
    /// The file with the secret; more than one, one a line, newest first. Also: RINGBACK_SECRET, the secret itself
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl Source {
    /// The secrets that are given, checked against the profile; none for a profile that has none.
    ///
    /// # Errors
    /// A secret that the profile cannot use.
    pub(super) fn given(&self, profile: &Profile) -> Result<Vec<Secret>, Problem> {
        if profile.signing.secret == SecretRule::None {
            return Ok(Vec::new());
        }
        let lines =
            |text: String| text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Secret::from).collect();
        let secrets: Vec<Secret> = if let Some(file) = &self.secret_file {
            lines(read(file)?)
        } else if self.secret.is_empty() {
            let set = std::env::var_os("RINGBACK_SECRET").and_then(|value| value.into_string().ok());
            set.map(lines).unwrap_or_default()
        } else {
            self.secret.iter().map(|secret| Secret::from(secret.as_str())).collect()
        };
        for secret in &secrets {
            signature::validate_secret(profile, secret).map_err(|error| Problem::usage(error.to_string()))?;
        }
        Ok(secrets)
    }

    /// The secrets that are given, or the one that is typed in. `stdin_is_body`: the terminal cannot give both.
    ///
    /// # Errors
    /// There is none, and the profile wants one.
    pub(super) fn wanted(&self, profile: &Profile, stdin_is_body: bool) -> Result<Vec<Secret>, Problem> {
        let secrets = self.given(profile)?;
        let optional = match profile.signing.secret {
            SecretRule::None | SecretRule::Optional => true,
            SecretRule::Generated | SecretRule::Required => false,
        };
        if !secrets.is_empty() || optional {
            return Ok(secrets);
        }
        if stdin_is_body || !std::io::stdin().is_terminal() {
            return Err(Problem::usage("give the secret: --secret-file FILE, or RINGBACK_SECRET in the environment"));
        }
        let typed = Secret::new(ask()?.trim());
        signature::validate_secret(profile, &typed).map_err(|error| Problem::usage(error.to_string()))?;
        Ok(vec![typed])
    }
}

/// Asks at the terminal, which shows nothing of what is typed.
fn ask() -> Result<String, Problem> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let failed = |error: std::io::Error| Problem::failed(format!("the secret cannot be read: {error}"));
    let before = tcgetattr(&stdin).map_err(|error| failed(error.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    let _ = write!(std::io::stderr().lock(), "secret: ");
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(|error| failed(error.into()))?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    let restored = tcsetattr(&stdin, OptionalActions::Flush, &before);
    let _ = writeln!(std::io::stderr().lock());
    read.map_err(failed)?;
    restored.map_err(|error| failed(error.into()))?;
    Ok(line)
}
