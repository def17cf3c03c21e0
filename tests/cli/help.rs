//! What the program says of itself, and what it says when it is asked in a wrong way.

use super::program::{command, finish, ringback};

#[tokio::test]
async fn the_help_has_the_commands_and_the_exit_codes() {
    let help = ringback(&["--help"]).await.ok().stdout;
    for command in
        ["app", "endpoint", "event-type", "send", "log", "messages", "show", "resend", "cancel", "replay", "doctor"]
    {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
    }
    for code in
        ["0   done", "1   failed", "2   the command line", "3   no server", "4   what was named", "130 interrupted"]
    {
        assert!(help.contains(code), "{code}: {help}");
    }
    for command in ["app", "endpoint", "event-type", "replay"] {
        ringback(&[command, "--help"]).await.ok();
    }
}

#[tokio::test]
async fn every_shell_gets_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = ringback(&["completions", shell]).await.ok().stdout;
        assert!(script.contains("ringback") && script.contains("endpoint"), "{shell}");
    }
}

#[tokio::test]
async fn a_wrong_command_line_ends_with_2() {
    let wrong: [&[&str]; 6] = [
        &["nonsense"],
        &["send", "app"],
        &["send", "app", "--type", "a", "--ndjson", "x"],
        &["log", "app", "--since", "yesterday"],
        &["verify", "--header", "no colon"],
        &["listen", "--status", "99"],
    ];
    for arguments in wrong {
        let ended = ringback(arguments).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{arguments:?}: {ended:?}");
    }
}

#[tokio::test]
async fn a_command_that_finds_no_server_says_what_to_do_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["app", "list"][..], &["doctor"], &["send", "app", "--type", "a.b", "--with", "{}"]] {
        let mut command = command(arguments);
        command.current_dir(dir.path());
        let ended = finish(command, None).await;
        assert_eq!(ended.code, 3, "{ended:?}");
        assert!(ended.stderr.contains("ringback serve") && ended.stderr.contains("--server"), "{ended:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    // A folder that holds other things is nobody's queue, and is left alone.
    std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let data = dir.path().to_str().unwrap();
    assert_eq!(ringback(&["app", "list", "--data", data]).await.code, 3);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_server_that_does_not_answer_ends_with_3() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let server = format!("http://{address}");
    let mut with_token = command(&["app", "list", "--server", &server]);
    with_token.env("RINGBACK_TOKEN", "t");
    let ended = finish(with_token, None).await;
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("nothing answers at"), "{ended:?}");

    let without_token = ringback(&["app", "list", "--server", &server]).await;
    assert_eq!(without_token.code, 3, "{without_token:?}");
    assert!(without_token.stderr.contains("RINGBACK_TOKEN"), "{without_token:?}");
}
