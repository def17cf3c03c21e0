//! Runs a property over the committed seeds of its fuzz target, and over what becomes of them under small changes.

#![allow(clippy::unwrap_used, reason = "all of it is for tests")]

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

/// How many seeds each target has at least.
const SEEDS: usize = 10;

/// The property panics where it does not hold.
pub fn holds(target: &str, property: impl Fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    // The published package leaves the folder out.
    if !root.exists() {
        return;
    }
    let mut seeds: Vec<Vec<u8>> = std::fs::read_dir(root.join("corpus").join(target))
        .unwrap_or_else(|error| panic!("{target}: {error}"))
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(seeds.len() >= SEEDS, "{target} has {} seeds", seeds.len());
    seeds.iter().for_each(|seed| property(seed));
    seeds.push(Vec::new());
    let changes = prop::collection::vec((0..4_u8, any::<Index>(), any::<Index>(), any::<u8>()), 0..6);
    let mut runner = TestRunner::new(Config { cases: 512, failure_persistence: None, ..Config::default() });
    let ran = runner.run(&(prop::sample::select(seeds), changes), |(mut bytes, changes)| {
        for (what, at, until, byte) in changes {
            let place = at.index(bytes.len() + 1);
            match what {
                0 => bytes.insert(place, byte),
                1 => drop(bytes.drain(place..place + until.index(bytes.len() - place + 1))),
                2 => bytes.get_mut(place).into_iter().for_each(|old| *old = byte),
                _ => bytes.extend_from_within(place..),
            }
            bytes.truncate(1 << 16);
        }
        property(&bytes);
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{target}: {error}"));
}
