//! One process at a time, and no format from the future.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringback::store::Error as StoreError;
use ringback::{Error, Ringback, StateKind};

use crate::support::{Receiver, World, config, quick};

const FOLDER: &str = "RINGBACK_TEST_FOLDER";

/// Not a test of its own: what another process does with the folder that it is given.
#[tokio::test]
async fn as_another_process() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    match Ringback::open(config(Path::new(&folder))).await {
        Ok(ringback) => {
            println!("opened with {} applications", ringback.applications().len());
            ringback.shutdown().await.unwrap();
        }
        Err(error) => println!("refused: {error}"),
    }
}

/// What another process says that opens this folder.
fn another_process(folder: &Path) -> String {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holder::as_another_process", "--nocapture"])
        .env(FOLDER, folder)
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    String::from_utf8(child.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_refused_and_told_who_holds_the_folder() {
    let mut world = World::running().await;
    let folder = world.config.path.clone();
    let said = another_process(&folder);
    let name = std::env::current_exe().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    assert!(said.contains("refused: ") && said.contains(&folder.display().to_string()), "{said}");
    assert!(said.contains(&format!("process {} ({name})", std::process::id())), "{said}");
    let receiver = Receiver::answering(200).await;
    world.endpoint(quick(&receiver.url)).await;
    let sent = world.send("e", "{}").await;
    assert_eq!(world.ended(sent).await.kind(), StateKind::Delivered, "the first one is not disturbed");
    world.stop().await;
    let said = another_process(&folder);
    assert!(said.contains("opened with 1 applications"), "{said}");
    world.reopen().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_process_can_open_the_folder_again_once_it_has_shut_down() {
    let mut world = World::open().await;
    // A handle that is kept does not keep the folder.
    let kept = world.ringback.clone();
    for _ in 0..3 {
        world.reopen().await;
    }
    assert_eq!(kept.health().await.unwrap_err(), Error::Closed);
}

/// Every file of a folder with its content.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(content(&path)),
            false => drop(files.insert(path.clone(), fs::read(path).unwrap())),
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_format_is_refused_and_not_touched() {
    let mut world = World::open().await;
    world.send("e", "{}").await;
    world.stop().await;
    let format = world.config.path.join("FORMAT");
    let known: u32 = fs::read_to_string(&format).unwrap().trim().parse().unwrap();
    fs::write(&format, format!("{}\n", known + 1)).unwrap();
    let before = content(&world.config.path);
    let error = Ringback::open(world.config.clone()).await.unwrap_err();
    let expected = StoreError::NewerFormat { folder: world.config.path.display().to_string(), found: known + 1, known };
    assert_eq!(error, Error::Storage(expected));
    assert!(error.to_string().contains("use a newer version"));
    assert_eq!(content(&world.config.path), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_one_is_refused_with_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let foreign = dir.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("FORMAT"), "not a number").unwrap();
    for path in [&file, &foreign] {
        let error = Ringback::open(config(path)).await.unwrap_err();
        assert!(matches!(&error, Error::Storage(StoreError::Open { .. })), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_lose_nothing_silently_and_make_nothing_panic() {
    for place in 0..12 {
        let mut world = World::open().await;
        let mut sent = Vec::new();
        for _ in 0..20 {
            sent.push(world.send("e", "{}").await);
        }
        world.stop().await;
        let file = world.config.path.join("sled").join("db");
        let mut bytes = fs::read(&file).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        let at = used * (place + 1) / 13;
        bytes[at..(at + 64).min(used)].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(&file, bytes).unwrap();
        match Ringback::open(world.config.clone()).await {
            Err(error) => assert!(matches!(&error, Error::Storage(StoreError::Open { .. })), "{error:?}"),
            Ok(ringback) => {
                let mut there = 0;
                for id in &sent {
                    there += usize::from(ringback.message(world.app, *id).await.is_ok());
                }
                let health = ringback.health().await.unwrap();
                assert!(there == 20 || !health.warnings.is_empty() || health.damaged > 0, "{there} of 20: {health:?}");
                ringback.shutdown().await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_made_is_its_owner_s_alone_and_one_that_is_there_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (made, there) = (place.path().join("made"), place.path().join("there"));
    fs::create_dir(&there).unwrap();
    fs::set_permissions(&there, fs::Permissions::from_mode(0o750)).unwrap();
    for (folder, expected) in [(made, 0o700), (there, 0o750)] {
        let ringback = Ringback::open(config(&folder)).await.unwrap();
        ringback.shutdown().await.unwrap();
        assert_eq!(mode(&folder), expected, "{}", folder.display());
    }
}
