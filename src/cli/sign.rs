//! `ringback sign` and `ringback verify`: the two sides of a signature, without a server.

use std::path::PathBuf;
use std::time::Duration;

use ringback::Timestamp;
use ringback::profile::SecretRule;
use ringback::signature::{self, Signable};

use super::arguments::{Header, ProfileChoice, input};
use super::escape::shown;
use super::exit::{Exit, Problem};
use super::out::Out;
use super::secrets::Source;
use super::style::Style;
use super::times;

/// Signs a body by any profile, and prints the headers
#[derive(Debug, clap::Args)]
pub(super) struct Sign {
    /// The body's file; `-` or nothing is the standard input. Its bytes are signed as they are
    file: Option<PathBuf>,
    /// Whose way: svix, standard-webhooks, levers, levrage, subverse, or @file.json
    #[arg(long, value_name = "NAME", default_value = "svix")]
    profile: ProfileChoice,
    /// The message's id
    #[arg(long, value_name = "ID", default_value = "msg_test")]
    id: String,
    /// The time in the signature: Unix seconds or RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", value_parser = times::instant)]
    timestamp: Option<Timestamp>,
    /// The endpoint's URL, for profiles that sign it
    #[arg(long, default_value = "")]
    url: String,
    #[command(flatten)]
    secret: Source,
    /// Print the headers as one JSON object
    #[arg(long)]
    json: bool,
}

/// Verifies a request as its receiver would, by any profile
///
/// The exit code is 0 only if the signature fits.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// The body's file; `-` or nothing is the standard input
    file: Option<PathBuf>,
    /// Whose way: svix, standard-webhooks, levers, levrage, subverse, or @file.json
    #[arg(long, value_name = "NAME", default_value = "svix")]
    profile: ProfileChoice,
    /// A header of the request; can be given more than once
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<Header>,
    /// The endpoint's URL, for profiles that sign it
    #[arg(long, default_value = "")]
    url: String,
    /// When it was received: Unix seconds or RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", value_parser = times::instant)]
    at: Option<Timestamp>,
    /// How far the signature's time may be from then
    #[arg(long, value_name = "DURATION", value_parser = times::duration, default_value = "5m")]
    tolerance: Duration,
    #[command(flatten)]
    secret: Source,
    /// Print {"verified":…,"why":…}
    #[arg(long)]
    json: bool,
}

fn is_stdin(file: Option<&PathBuf>) -> bool {
    file.is_none_or(|file| file.as_os_str() == "-")
}

/// Signs.
pub(super) async fn sign(options: Sign) -> Result<Exit, Problem> {
    let out = Out::new(options.json);
    let profile = options.profile.profile()?;
    let secrets = options.secret.wanted(&profile, is_stdin(options.file.as_ref()))?;
    let body = input(options.file.as_deref()).await?;
    let time = options.timestamp.unwrap_or_else(times::now);
    let what = Signable { id: &options.id, time, url: &options.url, body: &body };
    let headers = signature::sign(&profile, &secrets, what).map_err(|error| Problem::usage(error.to_string()))?;
    if out.json() {
        let headers: serde_json::Map<_, _> = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
        out.value(&headers)?;
        return Ok(Exit::Done);
    }
    if headers.is_empty() {
        out.note(&format!("the profile {} writes no headers without a secret", profile.name));
    }
    headers.iter().try_for_each(|(name, value)| out.line(&shown(&format!("{name}: {value}"))))?;
    Ok(Exit::Done)
}

/// Verifies.
pub(super) async fn verify(options: Verify) -> Result<Exit, Problem> {
    let out = Out::new(options.json);
    let profile = options.profile.profile()?;
    let secrets = options.secret.wanted(&profile, is_stdin(options.file.as_ref()))?;
    if profile.signing.secret == SecretRule::None {
        return Err(Problem::usage(format!(
            "the profile {} signs nothing, so there is nothing to verify",
            profile.name
        )));
    }
    if secrets.is_empty() {
        return Err(Problem::usage("give the secret: --secret-file FILE, or RINGBACK_SECRET in the environment"));
    }
    let body = input(options.file.as_deref()).await?;
    let header = |name: &str| {
        let found = options.header.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| header.value.as_str())
    };
    let at = options.at.unwrap_or_else(times::now);
    let verified = signature::verify(&profile, &secrets, header, &options.url, &body, at, options.tolerance);
    let why = verified.as_ref().err().map(ToString::to_string);
    if out.json() {
        out.value(&serde_json::json!({"verified": verified.is_ok(), "why": why}))?;
    } else {
        match &why {
            None => out.line(&out.paint(Style::Good, "verified"))?,
            Some(why) => out.line(&out.paint(Style::Bad, &format!("not verified: {}", shown(why))))?,
        }
    }
    Ok(if verified.is_ok() { Exit::Done } else { Exit::Failed })
}
