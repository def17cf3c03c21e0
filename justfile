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

# The sidecar on 127.0.0.1:8071, which may call receivers on this machine.
serve:
    cargo run --release -- serve --allow-network 127.0.0.0/8

# Official clients and receivers, and what the manual shows; needs node, python3 and curl.
official:
    tests/receivers/run
    tests/clients/run
    tests/clients/walk

# Durable sends, cycles, deliveries, a million waiting, hostile receivers.
bench:
    cargo bench

# More seeds than the tests run.
simulate seeds="5000":
    RINGBACK_SEEDS={{seeds}} cargo test --release --lib simulator

deny:
    cargo deny check bans licenses sources

# Feeds one reader of bytes from outside (docs/fuzzing.md) with what it has not seen; needs cargo-fuzz.
fuzz target seconds="180":
    mkdir -p fuzz/grown/{{target}}
    RUSTC_BOOTSTRAP=1 cargo fuzz run {{target}} fuzz/grown/{{target}} fuzz/corpus/{{target}} -- -max_total_time={{seconds}} -rss_limit_mb=2048 -timeout=10
