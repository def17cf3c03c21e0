//! Who asks, and what it may reach.
//!
//! Invariant: a handler under `/app/{app_id}` gets its application from [`Tenant`] or [`Administered`], which have
//! checked the token: what a token does not reach cannot be told from what does not exist.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, header};
use ringback::{ApplicationId, Endpoint, EndpointId, Error, MessageId};

use super::api::Api;
use super::guesses::Refused;
use super::problem::Problem;
use super::source::Source;

/// Whose token a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// The operator's: everything.
    Operator,
    /// An application's: what belongs to it.
    Application(ApplicationId),
}

/// The operator; for everything that belongs to no application.
pub(super) struct Operator;

/// The application that the path names, which the caller may reach.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tenant(pub(super) ApplicationId);

/// The application that the path names, for what only the operator may do with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Administered(pub(super) ApplicationId);

/// What the path names an application by, for what only the operator may do; there need not be such an application yet.
pub(super) struct Named(pub(super) String);

/// The endpoint that the path names, of an application that the caller may reach.
pub(super) struct EndpointOf {
    pub(super) application: ApplicationId,
    pub(super) endpoint: Endpoint,
}

/// The message that the path names, of an application that the caller may reach. It was looked up only if the path
/// has an event id.
pub(super) struct MessageOf {
    pub(super) application: ApplicationId,
    pub(super) message: MessageId,
}

/// The token that a request carries.
pub(super) fn token(headers: &HeaderMap) -> Result<&str, Problem> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, token) = value.and_then(|value| value.split_once(' ')).ok_or_else(Problem::unauthenticated)?;
    match scheme.eq_ignore_ascii_case("bearer") {
        true => Ok(token.trim()),
        false => Err(Problem::unauthenticated()),
    }
}

/// Who presents the token of a request. Once a request: a wrong token counts against its source.
pub(super) fn authenticate(api: &Api, headers: &HeaderMap, extensions: &Extensions) -> Result<Caller, Problem> {
    let source = *extensions.get::<Source>().expect("the listener says where each request comes from");
    api.caller(token(headers)?, source).map_err(|refused| match refused {
        Refused::Unknown => Problem::unauthenticated(),
        Refused::TooMany => Problem::too_many_guesses(),
    })
}

async fn path_parameter(parts: &mut Parts, api: &Arc<Api>, name: &str) -> Result<String, Problem> {
    let parameters = RawPathParams::from_request_parts(parts, api).await.map_err(|_| Problem::not_found("path"))?;
    let found = parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    found.ok_or_else(|| Problem::not_found("path"))
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Caller, Problem> {
        authenticate(api, &parts.headers, &parts.extensions)
    }
}

impl FromRequestParts<Arc<Api>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Operator, Problem> {
        match authenticate(api, &parts.headers, &parts.extensions)? {
            Caller::Operator => Ok(Operator),
            Caller::Application(_) => Err(Problem::forbidden()),
        }
    }
}

async fn tenant(parts: &mut Parts, api: &Arc<Api>) -> Result<(Caller, ApplicationId), Problem> {
    let caller = authenticate(api, &parts.headers, &parts.extensions)?;
    let named = path_parameter(parts, api, "app_id").await?;
    let found = api.application_id(&named);
    match caller {
        Caller::Operator => Ok((caller, found?)),
        Caller::Application(own) if found.as_ref().is_ok_and(|found| *found == own) => Ok((caller, own)),
        Caller::Application(_) => Err(Problem::not_found("application")),
    }
}

impl FromRequestParts<Arc<Api>> for Tenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Tenant, Problem> {
        Ok(Tenant(tenant(parts, api).await?.1))
    }
}

impl FromRequestParts<Arc<Api>> for Administered {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Administered, Problem> {
        match tenant(parts, api).await? {
            (Caller::Operator, id) => Ok(Administered(id)),
            (Caller::Application(_), _) => Err(Problem::forbidden()),
        }
    }
}

impl FromRequestParts<Arc<Api>> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Named, Problem> {
        let named = path_parameter(parts, api, "app_id").await?;
        match authenticate(api, &parts.headers, &parts.extensions)? {
            Caller::Operator => Ok(Named(named)),
            Caller::Application(own) if api.application_id(&named).is_ok_and(|id| id == own) => {
                Err(Problem::forbidden())
            }
            Caller::Application(_) => Err(Problem::not_found("application")),
        }
    }
}

impl FromRequestParts<Arc<Api>> for EndpointOf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<EndpointOf, Problem> {
        let Tenant(application) = Tenant::from_request_parts(parts, api).await?;
        let named = path_parameter(parts, api, "endpoint_id").await?;
        Ok(EndpointOf { application, endpoint: api.endpoint(application, &named)? })
    }
}

impl FromRequestParts<Arc<Api>> for MessageOf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<MessageOf, Problem> {
        let Tenant(application) = Tenant::from_request_parts(parts, api).await?;
        let named = path_parameter(parts, api, "msg_id").await?;
        Ok(MessageOf { application, message: api.message_id(application, &named).await? })
    }
}

impl Api {
    /// An application by its id or uid.
    pub(super) fn application_id(&self, named: &str) -> Result<ApplicationId, Problem> {
        let found = match named.parse() {
            Ok(id) => self.ringback.application(id),
            Err(_) => self.ringback.application_by_uid(named),
        };
        Ok(found?.id)
    }

    /// An endpoint by its id or uid.
    pub(super) fn endpoint(&self, application: ApplicationId, named: &str) -> Result<Endpoint, Problem> {
        Ok(match named.parse::<EndpointId>() {
            Ok(id) => self.ringback.endpoint(application, id)?,
            Err(_) => self.ringback.endpoint_by_uid(application, named)?,
        })
    }

    /// A message's id, given it or the event id.
    pub(super) async fn message_id(&self, application: ApplicationId, named: &str) -> Result<MessageId, Problem> {
        match named.parse() {
            Ok(id) => Ok(id),
            Err(_) => match self.ringback.message_by_event_id(application, named).await {
                Ok(message) => Ok(message.id),
                Err(Error::NotFound(_)) => Err(Problem::not_found("message")),
                Err(error) => Err(error.into()),
            },
        }
    }
}
