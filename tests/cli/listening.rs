//! `ringback listen`: a receiver that verifies what arrives.

use std::collections::BTreeMap;

use ringback::clock::{Clock, SystemClock};
use ringback::signature::{Signable, sign};
use ringback::{Profile, Secret, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::program::{Running, command, ringback};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A listener on a free port, and its address.
async fn listen(arguments: &[&str]) -> (Running, String) {
    let mut listener = command(&[&["listen", "--port", "0"], arguments].concat());
    listener.env("RINGBACK_SECRET", SECRET);
    let mut listener = Running::start(listener);
    let line = listener.says("listening on http://").await;
    let address = line.split("http://").nth(1).unwrap().split([',', ' ']).next().unwrap().to_owned();
    (listener, address)
}

fn now() -> Timestamp {
    SystemClock::starting_after(Timestamp::ZERO).now()
}

/// Posts a body, signed by a profile, and gives the answer's status.
async fn post(address: &str, profile: &str, signed: &[u8], sent: &[u8]) -> u16 {
    let profile = Profile::builtin(profile).unwrap();
    let what = Signable { id: "msg_1", time: now(), url: "", body: signed };
    let headers = if profile.signing.keys.is_empty() { &[][..] } else { &[Secret::from(SECRET)] };
    let headers = sign(&profile, headers, what).unwrap();
    let mut request = format!("POST /hook?x=1 HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    request.push_str(&format!("Content-Length: {}\r\n\r\n", sent.len()));
    #[allow(clippy::disallowed_methods, reason = "a test calls what it started")]
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(&[request.as_bytes(), sent].concat()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_delivery_is_verified_and_an_altered_one_is_not() {
    for profile in Profile::BUILTIN {
        let (listener, address) = listen(&["--profile", profile, "--json", "--exit-after", "2"]).await;
        let body = br#"{"type":"a.b","event":"a.b","eventType":"a.b","data":{"n":1.0}}"#;
        assert_eq!(post(&address, profile, body, body).await, 200);
        assert_eq!(post(&address, profile, body, br#"{"n":2}"#).await, 200);
        let (code, lines) = listener.ended().await;
        let seen: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&seen[0]["eventType"], &seen[0]["target"]), (&"a.b".into(), &"/hook?x=1".into()), "{seen:?}");
        assert_eq!(seen[0]["body"], std::str::from_utf8(body).unwrap());
        let headers: BTreeMap<String, String> = seen[0]["headers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(headers["host"], address);
        if profile == "subverse" {
            assert_eq!((code, &seen[0]["verified"]), (0, &serde_json::Value::Null), "it signs nothing");
        } else {
            assert_eq!((&seen[0]["verified"], &seen[1]["verified"]), (&true.into(), &false.into()), "{seen:?}");
            assert!(seen[1]["why"].as_str().unwrap().contains("no signature fits"), "{seen:?}");
            assert_eq!(code, 1, "{profile}");
        }
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_to_be() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ended = ringback(&["listen", "--port", &port]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains(&port) && ended.stderr.contains("choose another with --port"), "{ended:?}");
}

#[tokio::test]
async fn it_answers_as_it_was_told_and_says_what_it_saw() {
    let (listener, address) = listen(&["--status", "503", "--status", "204", "--exit-after", "3"]).await;
    let body = br#"{"type": "call.ended", "n": 1.0}"#;
    let answers = [
        post(&address, "svix", body, body).await,
        post(&address, "svix", body, body).await,
        post(&address, "svix", body, body).await,
    ];
    assert_eq!(answers, [503, 204, 204]);
    let (code, lines) = listener.ended().await;
    assert_eq!(code, 0);
    let shown = lines.join("\n");
    assert!(shown.contains("call.ended msg_1 POST /hook?x=1  verified  answered 503"), "{shown}");
    assert!(shown.contains("\n    \"n\": 1.0\n"), "{shown}");
}

#[tokio::test]
async fn nothing_that_arrives_can_command_the_terminal() {
    let (listener, address) = listen(&["--exit-after", "2"]).await;
    let json = "{\"type\":\"\u{202e}\\u001b[2J\",\"\u{9b}31m\":1}".as_bytes();
    post(&address, "svix", json, json).await;
    let text = b"\x1b]0;owned\x07 \xff not json";
    post(&address, "svix", text, text).await;
    let (code, lines) = listener.ended().await;
    assert_eq!(code, 0);
    let shown = lines.join("\n");
    assert!(shown.contains("owned") && shown.contains("verified"), "{shown}");
    let obeyed = |char: char| char != '\n' && (char.is_control() || ('\u{202a}'..='\u{202e}').contains(&char));
    assert!(!shown.contains(obeyed), "{shown:?}");
}

#[tokio::test]
async fn without_a_secret_nothing_is_said_to_be_verified() {
    let mut listener = Running::start(command(&["listen", "--port", "0", "--exit-after", "1"]));
    let line = listener.says("listening on http://").await;
    let address = line.split("http://").nth(1).unwrap().split([',', ' ']).next().unwrap().to_owned();
    listener.says("nothing is verified").await;
    assert_eq!(post(&address, "svix", b"{}", b"{}").await, 200);
    let (code, lines) = listener.ended().await;
    assert_eq!(code, 0);
    assert!(lines[0].contains("not looked at"), "{lines:?}");
}
