# What contributors run. `just ci` is what CI runs.

default:
    @just --list

# Everything CI checks.
ci:
    .ci/run

# The tests that need nothing but Rust.
test:
    cargo test

fmt:
    cargo fmt --all

lint:
    cargo clippy --all-targets -- -D warnings

docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

demo:
    cargo run --release -- demo

# Durable sends, cycles, deliveries, a million waiting.
bench:
    cargo bench

# More seeds than the tests run.
simulate seeds="5000":
    RINGBACK_SEEDS={{seeds}} cargo test --release --lib simulator

deny:
    cargo deny check bans licenses sources
