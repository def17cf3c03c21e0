//! A small HTTP/1.1 receiver on loopback for tests and examples: it records what arrives and answers as told.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request that arrived whole.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "not every user looks at every part")]
pub struct Received {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    #[allow(dead_code, reason = "not every user looks at every part")]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What the receiver does with a request.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "not every user needs every behaviour")]
pub enum Behaviour {
    Answer(u16),
    AnswerWith(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Answer nothing for this long, then 200.
    Hang(Duration),
    /// Answer with this status once the semaphore has a permit, which is used up.
    Hold(Arc<tokio::sync::Semaphore>, u16),
    /// Close the connection without an answer.
    Close,
}

/// A running receiver. It ends with the runtime.
#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    received: Arc<Mutex<Vec<Received>>>,
    arrived: Arc<tokio::sync::Notify>,
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

#[allow(dead_code, reason = "not every user needs every method")]
impl Receiver {
    /// Answers every request as `behaviour` says, which is told how many came before it.
    pub async fn start(behaviour: impl Fn(&Received, usize) -> Behaviour + Send + Sync + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Receiver {
            url: format!("http://{}/hook", listener.local_addr().unwrap()),
            received: Arc::default(),
            arrived: Arc::default(),
            at_once: Arc::default(),
            most_at_once: Arc::default(),
        };
        let behaviour = Arc::new(behaviour);
        let accepting = receiver.clone();
        spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (receiver, behaviour) = (accepting.clone(), Arc::clone(&behaviour));
                spawn(async move { receiver.serve(connection, &*behaviour).await });
            }
        });
        receiver
    }

    /// Answers every request with this status.
    pub async fn answering(status: u16) -> Receiver {
        Receiver::start(move |_, _| Behaviour::Answer(status)).await
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    /// The most requests that waited for their answers at the same time.
    pub fn most_at_once(&self) -> usize {
        self.most_at_once.load(Ordering::SeqCst)
    }

    /// Waits until this many requests have arrived.
    pub async fn wait_for(&self, count: usize) {
        for _ in 0..1200 {
            let arrived = self.arrived.notified();
            if self.count() >= count {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_millis(50), arrived).await;
        }
        panic!("{} of {count} requests arrived", self.count());
    }

    /// Waits until this many requests have arrived, and gives all that have.
    pub async fn expect(&self, count: usize) -> Vec<Received> {
        self.wait_for(count).await;
        self.received()
    }

    async fn serve(
        &self,
        mut connection: TcpStream,
        behaviour: &(dyn Fn(&Received, usize) -> Behaviour + Send + Sync),
    ) {
        let mut buffer = Vec::new();
        while let Some(request) = read_request(&mut connection, &mut buffer).await {
            let before = {
                let mut received = self.received.lock().unwrap();
                received.push(request.clone());
                received.len() - 1
            };
            let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
            let what = behaviour(&request, before);
            self.arrived.notify_waiters();
            let answer = self.answer(what).await;
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            let Some((status, headers, body)) = answer else { return };
            let mut answer = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n", body.len());
            headers.iter().for_each(|(name, value)| answer.push_str(&format!("{name}: {value}\r\n")));
            answer.push_str("\r\n");
            if connection.write_all(&[answer.as_bytes(), &body].concat()).await.is_err() {
                return;
            }
        }
    }

    /// Waits as a behaviour says; `None` closes the connection.
    async fn answer(&self, what: Behaviour) -> Option<Answer> {
        match what {
            Behaviour::Answer(status) => Some((status, Vec::new(), Vec::new())),
            Behaviour::AnswerWith(status, headers, body) => Some((status, headers, body)),
            Behaviour::Hang(time) => {
                tokio::time::sleep(time).await;
                Some((200, Vec::new(), Vec::new()))
            }
            Behaviour::Hold(semaphore, status) => {
                semaphore.acquire().await.ok()?.forget();
                Some((status, Vec::new(), Vec::new()))
            }
            Behaviour::Close => None,
        }
    }
}

type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

#[allow(clippy::disallowed_methods, reason = "a receiver is not part of the sender")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// Reads one request; `None` when the connection ends or sends something else.
async fn read_request(connection: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        fill(connection, buffer).await?;
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?.1.parse::<usize>().ok()?;
    while buffer.len() < end + 4 + length {
        fill(connection, buffer).await?;
    }
    let body = buffer[end + 4..end + 4 + length].to_vec();
    buffer.drain(..end + 4 + length);
    Some(Received { path, headers, body })
}

async fn fill(connection: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 16 * 1024];
    match connection.read(&mut chunk).await {
        Ok(0) | Err(_) => None,
        Ok(read) => {
            buffer.extend_from_slice(&chunk[..read]);
            Some(())
        }
    }
}
