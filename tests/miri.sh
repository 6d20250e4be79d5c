#!/usr/bin/env bash
# Looks for undefined behaviour in what the unit tests of the codec and of the tables do, with Miri of a nightly
# toolchain (`rustup component add --toolchain nightly miri rust-src`). Takes a few minutes; not a part of `.ci/run`.
set -euo pipefail
cd "$(dirname "$0")/.."

# Isolation would take the clock away from the tests that look at it.
export MIRIFLAGS=${MIRIFLAGS:-'-Zmiri-strict-provenance -Zmiri-disable-isolation'}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/miri} PROPTEST_CASES=${PROPTEST_CASES:-8}

# The one that is left out scans a million values.
cargo +nightly miri test --locked -p rmi-core --lib "$@" -- --skip number_of_values_is_bounded_exactly
# Those of the queue that fill it with large messages take Miri too long.
cargo +nightly miri test --locked -p rmi-net --lib "$@" -- budget connection::pending peers::table \
    outgoing::tests::a_message_that_fits outgoing::tests::what_has_not_left
