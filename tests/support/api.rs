//! A running sidecar with applications, endpoints and messages, for tests of its API.

use std::path::Path;

use serde_json::{Value, json};

use super::http::Http;
use super::receiver::{Behaviour, Received, Receiver};
use super::sidecar::Sidecar;
use super::until;

/// A sidecar, and the operator's way to ask it.
pub struct Api {
    pub http: Http,
    sidecar: Option<Sidecar>,
    environment: Vec<(&'static str, &'static str)>,
    folder: tempfile::TempDir,
}

#[allow(dead_code, reason = "not every suite needs all of it")]
impl Api {
    pub async fn start() -> Api {
        Api::start_with(&[]).await
    }

    /// Starts with settings from the environment.
    pub async fn start_with(environment: &[(&'static str, &'static str)]) -> Api {
        Api::over(tempfile::tempdir().unwrap(), environment).await
    }

    /// Starts over a folder that may hold something.
    pub async fn over(folder: tempfile::TempDir, environment: &[(&'static str, &'static str)]) -> Api {
        let sidecar = Sidecar::start(folder.path(), environment).await;
        let http = Http { address: sidecar.address.clone(), token: Some(sidecar.token.clone()), from: None };
        Api { http, sidecar: Some(sidecar), environment: environment.to_vec(), folder }
    }

    pub fn data(&self) -> &Path {
        self.folder.path()
    }

    /// How many descriptors the program has open.
    pub fn descriptors(&self) -> usize {
        let process = self.sidecar.as_ref().unwrap().process();
        std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
    }

    pub async fn stop(&mut self) {
        if let Some(sidecar) = self.sidecar.take() {
            sidecar.stop().await;
        }
    }

    /// Stops the program in order, and starts it again over the same folder.
    pub async fn restart(&mut self) {
        self.stop().await;
        let sidecar = Sidecar::start(self.folder.path(), &self.environment).await;
        self.http.address = sidecar.address.clone();
        self.sidecar = Some(sidecar);
    }

    /// Ends the program as `kill -9` does, and starts it again over the same folder.
    pub async fn kill_and_restart(&mut self) {
        if let Some(sidecar) = self.sidecar.take() {
            sidecar.kill().await;
        }
        self.restart().await;
    }

    /// Makes an application with this uid.
    pub async fn application(&self, uid: &str) {
        self.http.post("/app", json!({"name": uid, "uid": uid})).await.is(201);
    }

    /// Makes a token of an application.
    pub async fn token_of(&self, application: &str) -> String {
        let path = format!("/auth/app-portal-access/{application}");
        self.http.post(&path, json!({})).await.is(200)["token"].as_str().unwrap().to_owned()
    }

    /// Makes an endpoint with a receiver that takes everything.
    pub async fn endpoint(&self, application: &str, settings: Value) -> Receiver {
        self.endpoint_that(application, settings, |_, _| Behaviour::Answer(200)).await
    }

    /// Makes an endpoint with a receiver that behaves so.
    pub async fn endpoint_that(
        &self,
        application: &str,
        settings: Value,
        behaviour: impl Fn(&Received, usize) -> Behaviour + Send + Sync + 'static,
    ) -> Receiver {
        let receiver = Receiver::start(behaviour).await;
        let mut body = settings;
        body["url"] = json!(receiver.url);
        self.http.post(&format!("/app/{application}/endpoint"), body).await.is(201);
        receiver
    }

    /// Sends a message of type `call.completed`; gives its id.
    pub async fn send(&self, application: &str, payload: Value) -> String {
        let body = json!({"eventType": "call.completed", "payload": payload});
        let sent = self.http.post(&format!("/app/{application}/msg"), body).await.is(202);
        sent["id"].as_str().unwrap().to_owned()
    }

    /// A message that was delivered to an endpoint of its own: the ids of the endpoint, the message and the attempt.
    pub async fn delivered(&self, application: &str) -> (String, String, String) {
        let receiver = Receiver::answering(200).await;
        let body = json!({"url": receiver.url});
        let endpoint = self.http.post(&format!("/app/{application}/endpoint"), body).await.is(201);
        let endpoint = endpoint["id"].as_str().unwrap().to_owned();
        let message = self.send(application, json!({})).await;
        let log = format!("/app/{application}/attempt/endpoint/{endpoint}");
        until(|| async { self.http.get(&log).await.is(200)["data"][0].is_object() }).await;
        let attempt = self.http.get(&log).await.is(200)["data"][0]["id"].as_str().unwrap().to_owned();
        (endpoint, message, attempt)
    }
}
