//! A small HTTP/1.1 receiver on loopback. It reads requests and asks the stage what to answer; it judges nothing.
//!
//! A receiver that is down keeps its port, without listening: connections are refused, and no other process can
//! take the port meanwhile.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::scenario::Vendor;

/// The largest request that is read.
const MAX_REQUEST: usize = 1 << 20;
/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request that arrived whole.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Whose customer got it.
    pub(super) vendor: Vendor,
    /// Its method.
    pub(super) method: String,
    /// Its headers, as they were written.
    pub(super) headers: Vec<(String, String)>,
    /// Its body, as it was sent.
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What a receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// A status and a body.
    Reply(u16, &'static str),
    /// Nothing, until the sender hangs up.
    Silence,
}

/// A request that waits for its answer.
pub(super) struct Asked {
    /// What arrived.
    pub(super) request: Request,
    /// Where the answer goes.
    pub(super) answer: oneshot::Sender<Answer>,
}

/// A receiver that is down.
pub(super) struct Down {
    vendor: Vendor,
    socket: TcpSocket,
    address: SocketAddr,
}

impl Down {
    /// Takes a free port of loopback, and does not listen there yet.
    pub(super) fn at_a_free_port(vendor: Vendor) -> anyhow::Result<Self> {
        let taken = || {
            let socket = TcpSocket::new_v4()?;
            socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
            let address = socket.local_addr()?;
            std::io::Result::Ok(Down { vendor, socket, address })
        };
        taken().context("cannot take a port of 127.0.0.1 for a receiver")
    }

    /// Where requests to it go.
    pub(super) fn url(&self) -> String {
        format!("http://{}/webhook/{}", self.address, self.vendor.name())
    }

    /// Starts to listen. Every request is sent to `asked`; the receiver ends with the set.
    pub(super) fn come_up(self, receivers: &mut JoinSet<()>, asked: mpsc::Sender<Asked>) -> anyhow::Result<()> {
        let listener = self.socket.listen(128).context("cannot listen on 127.0.0.1")?;
        receivers.spawn(accept(listener, self.vendor, asked));
        Ok(())
    }
}

async fn accept(listener: TcpListener, vendor: Vendor, asked: mpsc::Sender<Asked>) {
    // Connections end with their receiver.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) => drop(connections.spawn(serve(connection, vendor, asked.clone()))),
                // Out of descriptors, or the peer left already: the next one may do better.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers the requests of a connection, one after the other.
async fn serve(mut connection: TcpStream, vendor: Vendor, asked: mpsc::Sender<Asked>) {
    let mut buffer = Vec::new();
    while let Some(request) = next_request(&mut connection, &mut buffer, vendor).await {
        let (answer, answered) = oneshot::channel();
        if asked.send(Asked { request, answer }).await.is_err() {
            return;
        }
        let Ok(answer) = answered.await else { return };
        match answer {
            Answer::Reply(status, body) => {
                let head = format!(
                    "HTTP/1.1 {status} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    reason(status),
                    body.len()
                );
                if connection.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.is_err() {
                    return;
                }
            }
            Answer::Silence => {
                // Ends when the sender has had enough, or was killed.
                let _ = connection.read(&mut [0; 1]).await;
                return;
            }
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        _ => "Internal Server Error",
    }
}

/// Waits for a request; `None` when the connection ends, or sends something else.
async fn next_request(connection: &mut TcpStream, buffer: &mut Vec<u8>, vendor: Vendor) -> Option<Request> {
    if buffer.is_empty() {
        // Between requests a connection may be idle.
        fill(connection, buffer).await?;
    }
    tokio::time::timeout(PATIENCE, read_request(connection, buffer, vendor)).await.ok()?
}

async fn read_request(connection: &mut TcpStream, buffer: &mut Vec<u8>, vendor: Vendor) -> Option<Request> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        fill(connection, buffer).await?;
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let method = lines.next()?.split(' ').next()?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut request = Request { vendor, method, headers, body: Vec::new() };
    let length: usize = request.header("content-length")?.parse().ok().filter(|length| *length <= MAX_REQUEST)?;
    let start = end + 4;
    while buffer.len() < start + length {
        fill(connection, buffer).await?;
    }
    request.body = buffer[start..start + length].to_vec();
    buffer.drain(..start + length);
    Some(request)
}

async fn fill(connection: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 16 * 1024];
    match connection.read(&mut chunk).await {
        Ok(read) if read > 0 && buffer.len() + read <= 2 * MAX_REQUEST => {
            buffer.extend_from_slice(&chunk[..read]);
            Some(())
        }
        Ok(_) | Err(_) => None,
    }
}
