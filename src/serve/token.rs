//! The operator's token of a data folder: made at the first start, shown once, kept where its owner alone reads it.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use rand::rngs::SysRng;
use ringback::Secret;
use zeroize::Zeroizing;

use crate::settings::token_problem;

use super::private;

/// The file's name in the data folder. Commands on this machine read it, too.
pub(crate) const NAME: &str = "operator.token";
/// What tokens of ours start with, so that one that leaked is recognised.
const PREFIX: &str = "ringback_";

/// The token of the folder. If it has none, one is made, and shown on the standard error.
pub(super) fn kept_or_made(folder: &Path) -> anyhow::Result<Secret> {
    let path = folder.join(NAME);
    let shown = path.display();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let token = made()?;
            private::write(folder, NAME, format!("{}\n", token.expose()).as_bytes())
                .with_context(|| format!("cannot write {shown}"))?;
            eprintln!("ringback: the operator's token is kept in {shown} and is shown this once: {}", token.expose());
            return Ok(token);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
    };
    let mode = std::fs::metadata(&path).with_context(|| format!("cannot read {shown}"))?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!("{shown} can be read by others; `chmod 600` it, or remove it to have a new one made");
    }
    let token = Secret::from(text.trim());
    if token.expose().is_empty() {
        bail!("{shown} is empty; remove it, and the next start makes a new one");
    }
    if let Some(problem) = token_problem(&token) {
        bail!("{shown} holds no token: {problem}; remove it, and the next start makes a new one");
    }
    Ok(token)
}

fn made() -> anyhow::Result<Secret> {
    let mut bytes = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(&mut *bytes).context("the operating system gives no randomness")?;
    Ok(Secret::from(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(*bytes))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_kept_where_its_owner_alone_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = kept_or_made(dir.path()).unwrap();
        assert_eq!(kept_or_made(dir.path()).unwrap(), first);
        let mode = std::fs::metadata(dir.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(token_problem(&first), None);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(kept_or_made(other.path()).unwrap(), first);
    }

    #[test]
    fn a_file_without_a_token_is_neither_used_nor_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for content in ["", "\n", "short", "two words that are long enough"] {
            std::fs::write(dir.path().join(NAME), content).unwrap();
            let error = kept_or_made(dir.path()).unwrap_err().to_string();
            assert!(error.contains("operator.token"), "{error}");
            assert_eq!(std::fs::read_to_string(dir.path().join(NAME)).unwrap(), content);
        }
    }

    #[test]
    fn what_a_crash_left_half_written_does_not_become_the_token() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("operator.token.new"), "half").unwrap();
        let token = kept_or_made(dir.path()).unwrap();
        assert_eq!(kept_or_made(dir.path()).unwrap(), token);
    }
}
