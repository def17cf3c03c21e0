//! Portal tokens: what they reach, and how they end.

use serde_json::json;
use svix::api::{AppPortalAccessIn, ApplicationIn, ApplicationTokenExpireIn, Svix};

use crate::client::{Client, HOOK, event, invalid, refused};

async fn enter(client: &Client, application: &str) -> Svix {
    let authentication = client.svix.authentication();
    let access = authentication.app_portal_access(application.into(), AppPortalAccessIn::new(), None).await.unwrap();
    client.with_token(&access.token)
}

#[tokio::test]
async fn a_portal_token_reaches_its_own_application_alone() {
    let client = Client::start().await;
    let (acme, other) = (client.application("acme").await, client.application("other").await);
    client.endpoint("acme", "main", HOOK).await;
    let portal = enter(&client, "acme").await;
    assert_eq!(portal.application().get(acme.clone()).await.unwrap().uid.as_deref(), Some("acme"));
    assert_eq!(portal.endpoint().list(acme.clone(), None).await.unwrap().data.len(), 1);
    portal.endpoint().get_secret(acme.clone(), "main".into()).await.unwrap();

    refused(404, portal.application().get(other.clone()).await);
    refused(404, portal.endpoint().list(other.clone(), None).await);
    refused(404, portal.message().list(other.clone(), None).await);
    refused(404, portal.message().create(other, event("call.ended", json!({})), None).await);
    refused(403, portal.message().create(acme.clone(), event("call.ended", json!({})), None).await);
    refused(403, portal.application().list(None).await);
    refused(403, portal.application().create(ApplicationIn::new("x".into()), None).await);
    refused(403, portal.application().delete(acme.clone()).await);
    refused(403, portal.authentication().app_portal_access(acme, AppPortalAccessIn::new(), None).await);
}

#[tokio::test]
async fn tokens_end_by_logout_and_by_expiring_all() {
    let client = Client::start().await;
    let acme = || "acme".to_owned();
    client.application("acme").await;
    let portals = [enter(&client, "acme").await, enter(&client, "acme").await];
    portals[0].authentication().logout(None).await.unwrap();
    refused(401, portals[0].application().get(acme()).await);
    portals[1].application().get(acme()).await.unwrap();
    let authentication = client.svix.authentication();
    let later = ApplicationTokenExpireIn { expiry: Some(60) };
    invalid(&["body", "expiry"], authentication.expire_all(acme(), later, None).await);
    portals[1].application().get(acme()).await.unwrap();
    authentication.expire_all(acme(), ApplicationTokenExpireIn::new(), None).await.unwrap();
    refused(401, portals[1].application().get(acme()).await);
    enter(&client, "acme").await.application().get(acme()).await.unwrap();
}
