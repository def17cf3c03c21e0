//! The keys that secrets are sealed under: from each source, turned over by the command line, and refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use ringback::{NewApplication, NewEndpoint};
use serde_json::Value;

use super::sidecar::{Ended, Place};
use super::{stored, until};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ONE: &str = "1:h2RyRnN9W6FRb0v0xGdqkDNHvbCUy2pOGiIWUWFWfi4";
const TWO: &str = "2:+/dyRnN9W6FRb0v0xGdqkDNHvbCUy2pOGiIWUWFWfi4=";

fn at_once(place: &Place, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    place.run(&[arguments, &["--data", "data"]].concat(), environment)
}

/// The JSON values that a command prints.
fn json(ended: &Ended) -> Vec<Value> {
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Makes an application `acme` with an endpoint `main`.
fn with_an_endpoint(place: &Place, environment: &[(&str, &str)]) {
    for arguments in [
        &["app", "create", "Acme", "--uid", "acme"][..],
        &[
            "endpoint",
            "create",
            "acme",
            "https://a.example/",
            "--uid",
            "main",
            "--secret-file",
            &place.file("s", SECRET),
        ],
    ] {
        let ended = at_once(place, arguments, environment);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
}

fn secret(place: &Place, environment: &[(&str, &str)]) -> String {
    let ended = at_once(place, &["endpoint", "secret", "acme", "main"], environment);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout.trim().to_owned()
}

fn refused(ended: &Ended, code: i32, says: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}{}", ended.stdout, ended.stderr);
    for says in says {
        assert!(ended.stderr.contains(says), "{says}: {}", ended.stderr);
    }
    for key in [ONE, TWO] {
        assert!(!ended.stderr.contains(&key[2..]), "{}", ended.stderr);
    }
}

#[test]
fn a_first_start_makes_the_key_says_so_and_a_start_without_it_is_refused() {
    let place = Place::new();
    let said = place.serve(&[], &[]).stop().stderr;
    let line = said.lines().find(|line| line.contains("data/secrets.key was made")).unwrap();
    assert!(line.contains("WARN") && line.contains("Back it up apart from the folder"), "{line}");
    let path = place.data().join("secrets.key");
    let made = fs::read_to_string(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let key = made.lines().find_map(|line| line.strip_prefix("1:")).unwrap();
    assert!(!said.contains(key));
    with_an_endpoint(&place, &[]);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let said = place.serve(&[], &[]).stop().stderr;
    assert!(
        said.lines().any(|line| line.contains("WARN") && line.contains("secrets.key can be read by others")),
        "{said}"
    );

    fs::remove_file(&path).unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let gone = ["data/secrets.key is not there", "1 endpoint are sealed under key 1", "put it back"];
    refused(&at_once(&place, &serve, &[]), 1, &gone);
    refused(&at_once(&place, &["app", "list"], &[]), 3, &gone);
    refused(&at_once(&place, &["key", "add"], &[]), 1, &["data/secrets.key is not there", "put it back"]);
    assert!(!path.exists(), "no key was made");
    fs::write(&path, format!("{ONE}\n")).unwrap();
    refused(&at_once(&place, &serve, &[]), 1, &["1 secret does not open under key 1", "it is another key"]);
    fs::write(&path, format!("# a remark\n{ONE}\n{ONE}\n")).unwrap();
    refused(&at_once(&place, &serve, &[]), 1, &["data/secrets.key:3: the id 1 stands twice"]);
    fs::write(&path, &made).unwrap();
    assert_eq!(secret(&place, &[]), SECRET);
}

#[test]
fn keys_come_from_the_environment_or_from_a_file_that_is_named() {
    let place = Place::new();
    let given = [("RINGBACK_KEY", ONE)];
    place.serve(&[], &given).stop();
    with_an_endpoint(&place, &given);
    assert!(!place.data().join("secrets.key").exists());
    refused(&at_once(&place, &["app", "list"], &[]), 3, &["data/secrets.key is not there"]);
    refused(&at_once(&place, &["app", "list"], &[("RINGBACK_KEY", TWO)]), 3, &["sealed under key 1"]);
    let both = format!("{TWO}, {ONE}");
    place.serve(&[], &[("RINGBACK_KEY", &both)]).stop();
    assert_eq!(secret(&place, &[("RINGBACK_KEY", &both)]), SECRET);
    let keys = json(&at_once(&place, &["key", "list", "--json"], &[("RINGBACK_KEY", &both)]));
    assert_eq!(keys.iter().map(|key| &key["id"]).collect::<Vec<_>>(), [1, 2]);
    refused(&at_once(&place, &["key", "add"], &given), 2, &["RINGBACK_KEY"]);

    let file = place.file("keys", &format!("{ONE}\n{TWO}\n"));
    let config = place.file("x.toml", "data = 'data'\nkey_file = 'keys'\n");
    place.serve(&["--config", &config], &[]).stop();
    assert_eq!(place.run(&["endpoint", "secret", "acme", "main", "--config", &config], &[]).stdout.trim(), SECRET);
    assert!(!place.data().join("secrets.key").exists());

    // A command that was not told where the server's keys are says so, and makes none.
    let serving = place.serve(&["--config", &config], &[]);
    let listed = at_once(&place, &["key", "list"], &[]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    assert!(listed.stdout.contains("active") && !listed.stdout.contains("there are no keys"), "{}", listed.stdout);
    assert!(listed.stderr.contains("secrets.key: 2. The server was given its keys otherwise"), "{}", listed.stderr);
    refused(&at_once(&place, &["key", "add"], &[]), 1, &["a server runs on the folder with keys from elsewhere"]);
    assert!(!place.data().join("secrets.key").exists());
    serving.stop();

    // It is not there, as a mount that has failed.
    fs::remove_file(&file).unwrap();
    refused(
        &at_once(&place, &["serve", "--key-file", "keys"], &[]),
        1,
        &["keys, the file of the keys", "is not there"],
    );
    assert!(!place.path("keys").exists());
}

#[test]
fn keys_that_cannot_be_taken_end_the_start_before_it_touches_anything_and_no_output_shows_one() {
    let place = Place::new();
    for (given, says) in [
        (&ONE[2..], "must be an id, a colon and a key"),
        ("1:short", "a key is 32 bytes in base 64"),
        (&format!("{ONE},{ONE}"), "the id 1 stands twice"),
        (&ONE.replace("1:", "0:"), "from 1 on"),
    ] {
        refused(&at_once(&place, &["serve"], &[("RINGBACK_KEY", given)]), 2, &["RINGBACK_KEY: ", says]);
    }
    let both = place.file("both.toml", &format!("key = '{ONE}'\nkey_file = 'keys'\n"));
    refused(&at_once(&place, &["serve", "--key", ONE], &[]), 2, &[]);
    refused(&place.run(&["config", "--config", &both], &[]), 2, &["both.toml:2: key_file: the keys are given twice"]);
    assert!(!place.data().exists());
    let file = place.file("x.toml", &format!("key = '{ONE}'\n"));
    for arguments in [&["config", "--config", &file][..], &["config", "--json", "--config", &file]] {
        let shown = place.run(arguments, &[]);
        assert!(shown.stdout.contains("[redacted]") && !shown.stdout.contains(&ONE[2..]), "{}", shown.stdout);
    }
}

#[test]
fn keys_are_turned_over_by_the_command_line_while_a_server_runs() {
    let place = Place::new();
    let server = place.serve(&[], &[]);
    with_an_endpoint(&place, &[]);
    let list = || json(&at_once(&place, &["key", "list", "--json"], &[]));
    let states = || -> Vec<_> {
        list().iter().map(|key| (key["id"].clone(), key["state"].clone(), key["endpoints"].clone())).collect()
    };
    assert_eq!(states(), [(1.into(), "active".into(), 1.into())]);
    assert_eq!(json(&at_once(&place, &["key", "add", "--json"], &[]))[0]["id"], 2);
    assert_eq!(states(), [(1.into(), "active".into(), 1.into()), (2.into(), "from the next start".into(), 0.into())]);
    refused(&at_once(&place, &["key", "retire", "1"], &[]), 1, &["key 1 is the key that seals"]);
    refused(&at_once(&place, &["key", "retire", "2"], &[]), 1, &["no newer key than 2"]);
    refused(&at_once(&place, &["key", "retire", "3"], &[]), 1, &["has no key 3"]);
    refused(&at_once(&place, &["key", "list", "--server", "http://127.0.0.1:1"], &[]), 2, &["--data"]);
    server.stop();

    // Without a server nothing is sealed anew, and the old key is still needed.
    refused(&at_once(&place, &["key", "retire", "1"], &[]), 1, &["1 endpoint are sealed under key 1"]);
    let doctor = at_once(&place, &["doctor"], &[]);
    assert!(doctor.stdout.contains("sealed under key 2; 1 endpoint is still to be"), "{}", doctor.stdout);
    let server = place.serve(&[], &[]);
    for _ in 0..500 {
        if states()[1].2 == 1 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(states(), [(1.into(), "older".into(), 0.into()), (2.into(), "active".into(), 1.into())]);
    assert_eq!(json(&at_once(&place, &["key", "retire", "1", "--json"], &[]))[0]["id"], 1);
    server.stop();
    let text = fs::read_to_string(place.data().join("secrets.key")).unwrap();
    assert!(!text.contains("\n1:") && text.contains("\n2:"));
    let server = place.serve(&[], &[]);
    assert_eq!(secret(&place, &[]), SECRET);
    server.stop();
}

#[test]
fn a_file_of_keys_is_made_by_hand_for_a_folder_that_has_nothing_sealed() {
    let place = Place::new();
    let made = at_once(&place, &["key", "add"], &[("RINGBACK_KEY_FILE", "keys")]);
    assert!(made.stdout.contains("key 1 was added to keys"), "{}{}", made.stdout, made.stderr);
    let file = [("RINGBACK_KEY_FILE", "keys")];
    place.serve(&[], &file).stop();
    // The folder is there, and nothing in it is sealed: the file may be made anew.
    fs::remove_file(place.path("keys")).unwrap();
    assert_eq!(json(&at_once(&place, &["key", "add", "--json"], &file))[0]["id"], 1);
    with_an_endpoint(&place, &file);
    fs::remove_file(place.path("keys")).unwrap();
    refused(&at_once(&place, &["key", "add"], &file), 1, &["put it back"]);
    assert!(!place.path("keys").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_while_it_turns_keys_over_loses_no_secret() {
    const ENDPOINTS: usize = 400;
    let place = Place::new();
    let ringback = stored(&place).await;
    let app = ringback.create_application(NewApplication::named("Acme")).await.unwrap().id;
    for _ in 0..ENDPOINTS {
        let new = NewEndpoint::at("https://a.example/").secret(SECRET).header("Authorization", "Bearer t");
        ringback.create_endpoint(app, new).await.unwrap();
    }
    ringback.shutdown().await.unwrap();
    for key in 2..5_u32 {
        assert_eq!(json(&at_once(&place, &["key", "add", "--json"], &[]))[0]["id"], key);
        // Killed at another moment each time; dropping it is a kill.
        let server = place.serve(&[], &[]);
        tokio::time::sleep(std::time::Duration::from_millis(u64::from(key) * 3)).await;
        drop(server);
        let ringback = stored(&place).await;
        let endpoints = ringback.endpoints(app).unwrap();
        assert_eq!(endpoints.len(), ENDPOINTS);
        assert!(endpoints.iter().all(|endpoint| endpoint.keys[0].secret.expose() == SECRET));
        ringback.shutdown().await.unwrap();
    }
    let server = place.serve(&[], &[]);
    until(async || {
        let listed = json(&at_once(&place, &["key", "list", "--json"], &[]));
        listed.iter().all(|key| (key["id"] == 4) == (key["endpoints"] == ENDPOINTS as u64))
    })
    .await;
    server.stop();
}
