//! The rules of the source tree that a compiler does not check.

#![allow(clippy::unwrap_used, reason = "all of it is a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first, and the top-level modules of each. A module imports from its own layer and below.
const LAYERS: [(&str, &[&str]); 7] = [
    (
        "values",
        &[
            "application",
            "body",
            "endpoint",
            "event_type",
            "example",
            "header",
            "id",
            "invalid",
            "keyring",
            "levers",
            "levrage",
            "message",
            "open_enum",
            "ordering",
            "profile",
            "retention",
            "retry",
            "secret",
            "signature",
            "subverse",
            "time",
        ],
    ),
    ("decisions", &["attempt", "breaker", "delivery", "fanout", "health", "standing", "testing", "throttle"]),
    ("ports", &["clock", "store", "transport"]),
    ("adapters", &["egress", "http", "key_file", "random"]),
    ("engine", &["board", "directory", "dispatcher", "observed", "plan"]),
    ("front", &["error", "front"]),
    ("root", &["fuzzing", "lib"]),
];

/// Crates that are named in one place alone.
const ONE_PLACE: [(&str, &[&str]); 10] = [
    ("sled::", &["store/sled"]),
    ("reqwest::", &["cli/client.rs"]),
    ("hickory_resolver::", &["egress"]),
    ("tokio_rustls::", &["egress"]),
    ("backoff::", &["retry.rs"]),
    ("chacha20poly1305::", &["keyring.rs"]),
    ("clap::", &["cli", "main.rs", "demo"]),
    ("axum::", &["server", "cli/listen"]),
    ("utoipa::", &["server"]),
    ("toml::", &["settings"]),
];

fn sources() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(&root).unwrap().to_owned(), text);
            }
        }
    }
    found
}

/// The code of a file without its tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text)
}

fn module(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|(_, modules)| modules.contains(&module))
}

fn is_program(module: &str) -> bool {
    matches!(module, "main" | "cli" | "demo" | "serve" | "server" | "settings")
}

#[test]
fn modules_import_only_downwards() {
    for (path, text) in sources() {
        let own = module(&path);
        if is_program(&own) {
            assert!(!text.contains("ringback::store::sled"), "{}: the program uses the public front", path.display());
            continue;
        }
        let own_layer = layer(&own).unwrap_or_else(|| panic!("{own} stands in no layer: see tests/tidy.rs"));
        // The simulator drives the engine with a store, as the tests of the engine do.
        let test_only = path.starts_with("plan/simulator");
        for line in code(&text).lines().filter(|_| !test_only) {
            let Some(rest) = line.trim_start().strip_prefix("use crate::") else { continue };
            let imported = rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
            if let Some(imported_layer) = layer(imported) {
                assert!(imported_layer <= own_layer, "{}: {line}", path.display());
            }
        }
    }
}

#[test]
fn each_heavy_crate_is_named_in_one_place() {
    for (path, text) in sources() {
        let shown = path.to_string_lossy();
        for (name, places) in ONE_PLACE {
            let here = places.iter().any(|place| shown.starts_with(place));
            let named = code(&text).lines().any(|line| {
                let line = line.trim_start();
                let at = line.find(name);
                let whole_word = at.is_some_and(|at| at == 0 || !line[..at].ends_with([':', '_', '"', '`']));
                whole_word && !line.starts_with("//")
            });
            assert!(here || !named, "{shown} names {name}");
        }
    }
}

#[test]
fn files_stay_within_about_500_lines_before_their_tests() {
    for (path, text) in sources() {
        let lines = code(&text).lines().count();
        assert!(lines <= 520, "{}: {lines} lines: it has outgrown its idea", path.display());
    }
}

#[test]
fn every_file_starts_with_its_purpose() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{}", path.display());
    }
}

#[test]
fn every_test_name_is_a_promise() {
    for (path, text) in sources() {
        assert!(!text.contains("fn test_"), "{}: a test's name says what holds", path.display());
    }
}
