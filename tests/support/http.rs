//! A plain HTTP/1.1 client for tests: one connection a request, nothing added, everything seen.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// How long an answer may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks one server with one token.
#[derive(Debug, Clone)]
pub struct Http {
    /// `127.0.0.1:8071`.
    pub address: String,
    pub token: Option<String>,
    /// The address of this machine that it asks from; `None` for the usual one.
    pub from: Option<Ipv4Addr>,
}

/// What came back.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "not every suite looks at every part")]
pub struct Answered {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

#[allow(dead_code, reason = "not every suite needs every method")]
impl Answered {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The status must be this one; gives the JSON.
    #[track_caller]
    pub fn is(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The status must be 422, and the answer name this field.
    #[track_caller]
    pub fn names(&self, loc: &[&str]) {
        let json = self.is(422);
        assert_eq!(json["detail"][0]["loc"], serde_json::json!(loc), "{json}");
        assert_eq!(json["detail"][0]["type"], "value_error", "{json}");
        assert!(!json["detail"][0]["msg"].as_str().unwrap().is_empty(), "{json}");
    }
}

#[allow(dead_code, reason = "not every suite needs every method")]
impl Http {
    pub fn with(&self, token: impl Into<String>) -> Http {
        Http { token: Some(token.into()), ..self.clone() }
    }

    pub fn anonymous(&self) -> Http {
        Http { token: None, ..self.clone() }
    }

    /// The same, from another address of loopback.
    pub fn from(&self, last: u8) -> Http {
        Http { from: Some(Ipv4Addr::new(127, 0, 0, last)), ..self.clone() }
    }

    pub async fn get(&self, path: &str) -> Answered {
        self.ask("GET", path, &[], b"").await
    }

    pub async fn delete(&self, path: &str) -> Answered {
        self.ask("DELETE", path, &[], b"").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answered {
        self.ask("POST", path, &[], body.to_string().as_bytes()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answered {
        self.ask("PUT", path, &[], body.to_string().as_bytes()).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answered {
        self.ask("PATCH", path, &[], body.to_string().as_bytes()).await
    }

    pub async fn post_under(&self, key: &str, path: &str, body: Value) -> Answered {
        self.ask("POST", path, &[("idempotency-key", key)], body.to_string().as_bytes()).await
    }

    /// Asks; a path without `/api` is under `/api/v1`.
    pub async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answered {
        let path = if path.starts_with("/api") { path.to_owned() } else { format!("/api/v1{path}") };
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        if let Some(token) = &self.token {
            head.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        if !body.is_empty() || !matches!(method, "GET" | "DELETE" | "HEAD") {
            head.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    /// A connection on which nothing is written yet.
    pub async fn connect(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(from) = self.from {
            socket.bind((from, 0).into()).unwrap();
        }
        socket.connect(self.address.parse().unwrap()).await.unwrap()
    }

    /// Sends these bytes and reads one answer.
    pub async fn raw(&self, request: &[u8]) -> Answered {
        let exchange = async {
            let mut connection = self.connect().await;
            // A server that has refused the head need not read the body.
            let _ = connection.write_all(request).await;
            let mut answer = Vec::new();
            let _ = connection.read_to_end(&mut answer).await;
            parse(&answer)
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time")
    }
}

/// Reads the one answer of a connection that was closed after it.
pub fn parse(answer: &[u8]) -> Answered {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(answer)));
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let chunked =
        headers.iter().any(|(name, value)| name.eq_ignore_ascii_case("transfer-encoding") && value == "chunked");
    let body = &answer[end + 4..];
    Answered { status, headers, body: if chunked { dechunk(body) } else { body.to_vec() } }
}

fn dechunk(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap().trim(), 16).unwrap();
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
        if size == 0 {
            break;
        }
    }
    whole
}
