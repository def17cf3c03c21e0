//! Tokens: what an application's own callers show to the API.
//!
//! Invariant: a token is shown when it is issued and never again. The store and the memory have its SHA-256 alone,
//! which is also what it is looked up by, so no comparison tells how much of a guess was right.

use std::collections::{BTreeMap, HashMap};
use std::sync::RwLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::id::{ApplicationId, TokenId};
use crate::invalid::Invalid;
use crate::random::secret_bytes;
use crate::secret::Secret;
use crate::store::{Put, RecordKind};
use crate::time::Timestamp;

use super::{Ringback, records};

/// The most tokens of an application that have not expired.
pub const MAX_TOKENS: usize = 1_000;
/// The longest that a token lives: 10 years.
pub const MAX_LIFETIME: Duration = Duration::from_secs(3_653 * 24 * 3600);

/// What a token starts with, so that whoever finds one knows what it is.
const PREFIX: &str = "rbk_";
/// How long a token is: the prefix and 32 bytes in base 64.
const LENGTH: usize = PREFIX.len() + 43;
const UNPOISONED: &str = "no code panics while it holds the tokens";

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// The application that it speaks for.
    pub application: ApplicationId,
    /// A name for people.
    pub name: Option<String>,
    /// When it was issued.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}

/// A token as it was issued: the only time that its secret is shown.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IssuedToken {
    /// Its id, by which it is listed and revoked.
    pub id: TokenId,
    /// What a caller presents: `rbk_` and 43 letters and digits, `-` and `_`. It is stored nowhere.
    pub secret: Secret,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}

type Hash = [u8; 32];

/// Every token, by its hash and by its application.
#[derive(Default)]
pub(super) struct Tokens(RwLock<Held>);

#[derive(Default)]
struct Held {
    by_hash: HashMap<Hash, Token>,
    hashes: BTreeMap<(ApplicationId, TokenId), Hash>,
}

impl Held {
    fn insert(&mut self, hash: Hash, token: Token) {
        self.hashes.insert((token.application, token.id), hash);
        self.by_hash.insert(hash, token);
    }

    fn of(&self, application: ApplicationId) -> impl Iterator<Item = (Hash, &Token)> {
        let [first, last] = [0, 0xff].map(|byte| (application, TokenId::from_bytes([byte; 16])));
        self.hashes.range(first..=last).filter_map(|(_, hash)| Some((*hash, self.by_hash.get(hash)?)))
    }

    fn take(&mut self, hash: Hash) -> Option<(Hash, Token)> {
        let token = self.by_hash.remove(&hash)?;
        self.hashes.remove(&(token.application, token.id));
        Some((hash, token))
    }
}

impl Tokens {
    fn read<T>(&self, look: impl FnOnce(&Held) -> T) -> T {
        look(&self.0.read().expect(UNPOISONED))
    }

    fn insert(&self, hash: Hash, token: Token) {
        self.0.write().expect(UNPOISONED).insert(hash, token);
    }

    /// Takes out those that fit.
    fn take(&self, of: Option<ApplicationId>, fits: impl Fn(&Token) -> bool) -> Vec<(Hash, Token)> {
        let mut held = self.0.write().expect(UNPOISONED);
        let fitting: Vec<Hash> = match of {
            Some(application) => held.of(application).filter(|(_, token)| fits(token)).map(|(hash, _)| hash).collect(),
            None => held.by_hash.iter().filter(|(_, token)| fits(token)).map(|(hash, _)| *hash).collect(),
        };
        fitting.into_iter().filter_map(|hash| held.take(hash)).collect()
    }

    fn take_one(&self, hash: Hash) -> Vec<(Hash, Token)> {
        self.0.write().expect(UNPOISONED).take(hash).into_iter().collect()
    }
}

/// The hash of what somebody presents; `None` for what is no token at all.
fn hash_of(presented: &str) -> Option<Hash> {
    let may_be_one = presented.len() == LENGTH && presented.starts_with(PREFIX);
    may_be_one.then(|| Sha256::digest(presented).into())
}

impl Ringback {
    /// Issues a token that speaks for an application for so long: 1 second to 10 years. Its secret is in the answer
    /// and nowhere else. `name` is for people: 1 to 256 characters.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] (`lifetime`, `name`); [`Error::ApplicationOverloaded`] if the application has 1,000
    /// tokens that have not expired; [`Error::Storage`].
    pub async fn issue_token(
        &self,
        application: ApplicationId,
        lifetime: Duration,
        name: Option<String>,
    ) -> Result<IssuedToken, Error> {
        self.tenant(application)?;
        if !(Duration::from_secs(1)..=MAX_LIFETIME).contains(&lifetime) {
            return Err(Invalid::new("lifetime", "must be between 1 second and 10 years").into());
        }
        if name.as_ref().is_some_and(|name| name.is_empty() || name.chars().count() > 256) {
            return Err(Invalid::new("name", "must have 1 to 256 characters").into());
        }
        let now = self.now();
        let live = self.inner.tokens.read(|held| held.of(application).filter(|(_, t)| t.expires_at > now).count());
        if live >= MAX_TOKENS {
            return Err(Error::ApplicationOverloaded(
                "the application has 1,000 tokens; revoke some, or let them expire".to_owned(),
            ));
        }
        let secret = Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret_bytes())));
        let hash: Hash = Sha256::digest(secret.expose()).into();
        let (time, random) = self.inner.ids.next(now);
        let id = TokenId::from_parts(time, random);
        let token = Token { id, application, name, created_at: now, expires_at: now + lifetime };
        let value = Some(records::token_to(&token));
        let put = Put { key: records::token_key(hash), expected: 0, active: true, value };
        if !self.inner.store.put(vec![put]).await? {
            return Err(Error::Conflict("a token with this hash exists; try again"));
        }
        let expires_at = token.expires_at;
        self.inner.tokens.insert(hash, token);
        if self.tenant(application).is_err() {
            // It was deleted meanwhile, and has revoked the tokens that it had by then.
            self.revoke(self.inner.tokens.take_one(hash)).await?;
            return Err(Error::NotFound("application"));
        }
        Ok(IssuedToken { id, secret, expires_at })
    }

    /// The application that a token speaks for; `None` for what is no token, and for one that has expired, was revoked,
    /// or whose application was deleted. It asks the memory alone.
    pub fn authenticate(&self, presented: &str) -> Option<ApplicationId> {
        let hash = hash_of(presented)?;
        let now = self.now();
        let live = |held: &Held| held.by_hash.get(&hash).filter(|t| t.expires_at > now).map(|t| t.application);
        let application = self.inner.tokens.read(live)?;
        self.inner.directory.tenant(application).map(|_| application)
    }

    /// The tokens of an application that have not expired, oldest first.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn tokens(&self, application: ApplicationId) -> Result<Vec<Token>, Error> {
        self.tenant(application)?;
        let now = self.now();
        let live = |held: &Held| {
            let of = held.of(application).map(|(_, token)| token);
            of.filter(|token| token.expires_at > now).cloned().collect()
        };
        Ok(self.inner.tokens.read(live))
    }

    /// Revokes a token: it is refused at once. If the future is dropped before it returns, the token may be there again
    /// after a restart.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Storage`]: it is not revoked, try again.
    pub async fn revoke_token(&self, application: ApplicationId, id: TokenId) -> Result<(), Error> {
        match self.revoke(self.inner.tokens.take(Some(application), |token| token.id == id)).await? {
            0 => Err(Error::NotFound("token")),
            _ => Ok(()),
        }
    }

    /// Revokes all tokens of an application; answers how many there were, those that had expired included.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Storage`]: some may not be revoked, try again.
    pub async fn revoke_tokens(&self, application: ApplicationId) -> Result<usize, Error> {
        self.tenant(application)?;
        self.revoke(self.inner.tokens.take(Some(application), |_| true)).await
    }

    /// Revokes the token that somebody presents; answers whether there was one.
    ///
    /// # Errors
    /// [`Error::Storage`]: it is not revoked, try again.
    pub async fn revoke_presented(&self, presented: &str) -> Result<bool, Error> {
        let Some(hash) = hash_of(presented) else { return Ok(false) };
        Ok(self.revoke(self.inner.tokens.take_one(hash)).await? > 0)
    }

    /// Removes tokens that were taken out of the memory; puts them back if the store fails.
    async fn revoke(&self, taken: Vec<(Hash, Token)>) -> Result<usize, Error> {
        let keys = taken.iter().map(|(hash, _)| records::token_key(*hash)).collect();
        if let Err(error) = self.remove_records(keys).await {
            taken.into_iter().for_each(|(hash, token)| self.inner.tokens.insert(hash, token));
            return Err(error);
        }
        Ok(taken.len())
    }

    pub(super) async fn prune_tokens(&self) -> Result<(), Error> {
        let now = self.now();
        self.revoke(self.inner.tokens.take(None, |token| token.expires_at <= now)).await.map(|_| ())
    }

    pub(super) async fn read_tokens(&self) -> Result<(), Error> {
        for record in self.all_records(RecordKind::Token, None).await? {
            let token = records::token_from(&record.value);
            match (Hash::try_from(record.key.key.as_slice()), token) {
                (Ok(hash), Some(token)) => self.inner.tokens.insert(hash, token),
                _ => tracing::error!("a token's record cannot be read; the token is refused"),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::NewApplication;
    use crate::front::fixture::Fixture;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn application(ringback: &Ringback) -> ApplicationId {
        ringback.create_application(NewApplication::named("A")).await.unwrap().id
    }

    async fn stored(fixture: &Fixture) -> usize {
        fixture.store.list(RecordKind::Token, None, None, 250).await.unwrap().len()
    }

    #[tokio::test]
    async fn a_token_speaks_for_its_application_until_it_expires() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let (one, other) = (application(&ringback).await, application(&ringback).await);
        let first = ringback.issue_token(one, HOUR, Some("ci".into())).await.unwrap();
        let second = ringback.issue_token(other, 2 * HOUR, None).await.unwrap();
        let who = |ringback: &Ringback| [&first, &second].map(|token| ringback.authenticate(token.secret.expose()));
        assert_eq!(who(&ringback), [Some(one), Some(other)]);
        let listed = ringback.tokens(one).unwrap();
        assert_eq!((listed.len(), listed[0].id, listed[0].name.as_deref()), (1, first.id, Some("ci")));
        fixture.clock.pass(HOUR - Duration::from_millis(1));
        assert_eq!(who(&ringback), [Some(one), Some(other)]);
        fixture.clock.pass(Duration::from_millis(1));
        assert_eq!((who(&ringback), who(&fixture.open().await)), ([None, Some(other)], [None, Some(other)]));
        assert!(ringback.tokens(one).unwrap().is_empty());
        ringback.prune().await.unwrap();
        assert_eq!((stored(&fixture).await, who(&ringback)), (1, [None, Some(other)]));
    }

    #[tokio::test]
    async fn what_is_no_live_token_speaks_for_nobody() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let app = application(&ringback).await;
        let token = ringback.issue_token(app, HOUR, None).await.unwrap();
        let secret = token.secret.expose();
        assert!(secret.len() == 47 && secret.starts_with("rbk_"), "{secret}");
        let flipped = format!("{}{}", &secret[..46], if secret.ends_with('A') { 'E' } else { 'A' });
        let id = token.id.to_string();
        let record = &fixture.store.list(RecordKind::Token, None, None, 9).await.unwrap()[0];
        let hash = format!("rbk_{}", URL_SAFE_NO_PAD.encode(&record.key.key));
        for guess in ["", "rbk_", &secret[..46], &secret[4..], &format!("{secret}A"), &flipped, &id, &hash] {
            assert_eq!(ringback.authenticate(guess), None, "{guess}");
            assert_eq!(ringback.revoke_presented(guess).await, Ok(false), "{guess}");
        }
        let stored = [&record.key.key[..], &record.value[..]].concat();
        assert!(!stored.windows(43).any(|window| window == &secret.as_bytes()[4..]), "the secret is stored");
        assert!(!format!("{token:?}").contains(secret));
        assert_eq!(ringback.authenticate(secret), Some(app));
    }

    #[tokio::test]
    async fn a_revoked_token_is_refused_also_after_a_restart() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let (app, other) = (application(&ringback).await, application(&ringback).await);
        let mut issued = Vec::new();
        for _ in 0..5 {
            issued.push(ringback.issue_token(app, HOUR, None).await.unwrap());
        }
        let kept = ringback.issue_token(other, HOUR, None).await.unwrap();
        assert_eq!(ringback.revoke_token(other, issued[0].id).await, Err(Error::NotFound("token")), "another's");
        assert_eq!(ringback.revoke_token(app, issued[0].id).await, Ok(()));
        assert_eq!(ringback.revoke_token(app, issued[0].id).await, Err(Error::NotFound("token")));
        assert_eq!(ringback.revoke_presented(issued[1].secret.expose()).await, Ok(true));
        let live =
            |ringback: &Ringback| issued.iter().filter(|t| ringback.authenticate(t.secret.expose()).is_some()).count();
        assert_eq!((live(&ringback), live(&fixture.open().await)), (3, 3));
        assert_eq!(ringback.revoke_tokens(app).await, Ok(3));
        assert_eq!((live(&ringback), live(&fixture.open().await), stored(&fixture).await), (0, 0, 1));
        assert_eq!(ringback.authenticate(kept.secret.expose()), Some(other));
    }

    #[tokio::test]
    async fn an_application_that_is_deleted_takes_its_tokens_along() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let app = application(&ringback).await;
        let token = ringback.issue_token(app, HOUR, None).await.unwrap();
        ringback.delete_application(app).await.unwrap();
        assert_eq!(stored(&fixture).await, 0);
        assert_eq!(ringback.authenticate(token.secret.expose()), None);
        let issued = ringback.issue_token(app, HOUR, None).await;
        assert_eq!(issued.unwrap_err(), Error::NotFound("application"));
    }

    #[tokio::test]
    async fn tokens_have_limits() {
        let fixture = Fixture::new();
        let ringback = fixture.open().await;
        let app = application(&ringback).await;
        for lifetime in [Duration::ZERO, Duration::from_millis(999), MAX_LIFETIME + Duration::from_millis(1)] {
            assert!(matches!(ringback.issue_token(app, lifetime, None).await, Err(Error::Invalid(_))), "{lifetime:?}");
        }
        assert!(matches!(ringback.issue_token(app, HOUR, Some(String::new())).await, Err(Error::Invalid(_))));
        ringback.issue_token(app, MAX_LIFETIME, None).await.unwrap();
        for _ in 1..MAX_TOKENS {
            ringback.issue_token(app, HOUR, None).await.unwrap();
        }
        assert!(matches!(ringback.issue_token(app, HOUR, None).await, Err(Error::ApplicationOverloaded(_))));
        fixture.clock.pass(HOUR);
        ringback.issue_token(app, HOUR, None).await.unwrap();
        assert_eq!(ringback.tokens(app).unwrap().len(), 2, "those that expired do not count");
        ringback.delete_application(app).await.unwrap();
        assert_eq!(stored(&fixture).await, 0, "more than one write holds");
    }
}
