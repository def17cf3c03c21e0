//! A name server on loopback that answers as a test tells it, over UDP.

#![allow(dead_code, reason = "not every suite needs every method")]

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

/// What a question is answered with. No answer is to be kept.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These addresses; of the kind that is not asked for, none.
    Addresses(Vec<IpAddr>),
    /// Another name, and its addresses in the same answer.
    Alias(&'static str, Vec<IpAddr>),
    /// Another name, which has to be asked for.
    AliasAlone(&'static str),
    /// There is no such name.
    NoSuchName,
    /// The server has a fault.
    Fault,
    /// Nothing at all.
    Silence,
    /// Bytes that are no answer.
    Garbage,
}

/// These addresses.
pub fn addresses(texts: &[&str]) -> Answer {
    Answer::Addresses(parsed(texts))
}

pub fn parsed(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A running name server. It ends with the runtime.
#[derive(Clone)]
pub struct Dns {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
}

impl Dns {
    /// Answers each question as `script` says, which is told the name, without its final dot.
    pub async fn start(script: impl Fn(&str) -> Answer + Send + 'static) -> Dns {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let dns = Dns { address: socket.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&dns.asked);
        #[expect(clippy::disallowed_methods, reason = "a server under test is a task of its own")]
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
                let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
                let query = question.queries[0].clone();
                let name = query.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
                asked.lock().unwrap().push((name.clone(), query.query_type()));
                if let Some(bytes) = reply(&question, script(&name)) {
                    let _ = socket.send_to(&bytes, client).await;
                }
            }
        });
        dns
    }

    /// How often a name was asked for, by either kind of address.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(asked, _)| asked == name).count()
    }

    /// All names that were asked for.
    pub fn names(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }
}

fn reply(question: &Message, answer: Answer) -> Option<Vec<u8>> {
    let query = question.queries[0].clone();
    let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
    reply.metadata.recursion_desired = true;
    reply.metadata.recursion_available = true;
    let (name, kind) = (query.name().clone(), query.query_type());
    reply.add_query(query);
    let add_addresses = |reply: &mut Message, owner: &Name, addresses: Vec<IpAddr>| {
        for address in addresses {
            match (address, kind) {
                (IpAddr::V4(v4), RecordType::A) => {
                    reply.add_answer(Record::from_rdata(owner.clone(), 0, RData::A(A(v4))));
                }
                (IpAddr::V6(v6), RecordType::AAAA) => {
                    reply.add_answer(Record::from_rdata(owner.clone(), 0, RData::AAAA(AAAA(v6))));
                }
                _ => {}
            }
        }
    };
    let alias = |reply: &mut Message, to: &str| {
        let target = Name::from_ascii(format!("{to}.")).unwrap();
        reply.add_answer(Record::from_rdata(name.clone(), 0, RData::CNAME(CNAME(target.clone()))));
        target
    };
    match answer {
        Answer::Addresses(addresses) => add_addresses(&mut reply, &name, addresses),
        Answer::Alias(to, addresses) => {
            let target = alias(&mut reply, to);
            add_addresses(&mut reply, &target, addresses);
        }
        Answer::AliasAlone(to) => {
            alias(&mut reply, to);
        }
        Answer::NoSuchName => reply.metadata.response_code = ResponseCode::NXDomain,
        Answer::Fault => reply.metadata.response_code = ResponseCode::ServFail,
        Answer::Silence => return None,
        Answer::Garbage => return Some(vec![0xff; 7]),
    }
    Some(reply.to_vec().unwrap())
}
