//! The OpenAPI document: its head, and what all operations have in common.

use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, ResponseBuilder, Type,
};
use utoipa::{PartialSchema, ToSchema};

use super::problem::{HTTPValidationError, HttpErrorOut, ValidationErrorItem};

const ABOUT: &str = "Sends webhooks: what `POST /api/v1/app/{app_id}/msg` accepts is on stable storage, and is delivered.\n\n\
    Every path takes a uid in place of an id, and an event id in place of a message's. Lists give `iterator` and \
    `prevIterator` for the pages around. Every POST takes an `idempotency-key`.";

/// What an answer means that says nothing else: the format asks for words.
const DONE: &str = "It was done";

/// What the document begins with.
pub(super) fn head() -> OpenApi {
    let info = InfoBuilder::new().title("ringback").version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT)).build();
    OpenApiBuilder::new().info(info).build()
}

/// Adds the token, the path's parameters and the errors, which every operation has.
pub(super) fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    for (name, schema) in [
        (HttpErrorOut::name(), HttpErrorOut::schema()),
        (HTTPValidationError::name(), HTTPValidationError::schema()),
        (ValidationErrorItem::name(), ValidationErrorItem::schema()),
    ] {
        components.schemas.insert(name.into_owned(), schema);
    }
    document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    for (path, item) in &mut document.paths.paths {
        let PathItem { get, put, post, delete, patch, .. } = item;
        let is_post = post.is_some();
        for (operation, is_post) in [(get, false), (put, false), (post, is_post), (delete, false), (patch, false)] {
            if let Some(operation) = operation {
                complete_operation(path, operation, is_post);
            }
        }
    }
}

fn complete_operation(path: &str, operation: &mut Operation, is_post: bool) {
    let text = || ObjectBuilder::new().schema_type(Type::String).build();
    let parameters = operation.parameters.get_or_insert_default();
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    for name in names {
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True);
        parameters.push(parameter.schema(Some(text())).build().into());
    }
    if is_post {
        let parameter = ParameterBuilder::new().name("idempotency-key").parameter_in(ParameterIn::Header);
        let about = "The same key with the same body is answered as before, for 24 hours; with another body: 409";
        parameters
            .push(parameter.required(Required::False).description(Some(about)).schema(Some(text())).build().into());
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            DONE.clone_into(&mut response.description);
        }
    }
    if operation.security.is_some() {
        // Open to everybody: health.
        return;
    }
    let error = |about: &str, schema: &str| {
        let content = Content::new(Some(Ref::from_schema_name(schema)));
        ResponseBuilder::new().description(about).content("application/json", content).build()
    };
    for (status, about, schema) in [
        ("401", "No token, or not a valid one", "HttpErrorOut"),
        ("403", "The token is not the operator's", "HttpErrorOut"),
        ("404", "There is none such, or it belongs to another application", "HttpErrorOut"),
        ("409", "It exists already, or is being changed", "HttpErrorOut"),
        ("413", "The payload or the request is too large", "HttpErrorOut"),
        ("422", "A value cannot be taken", "HTTPValidationError"),
        (
            "429",
            "This application has no room left, or too many wrong tokens came from this address; see Retry-After",
            "HttpErrorOut",
        ),
        ("503", "The server has no room left, or cannot write; see Retry-After", "HttpErrorOut"),
    ] {
        operation.responses.responses.insert(status.to_owned(), error(about, schema).into());
    }
}
