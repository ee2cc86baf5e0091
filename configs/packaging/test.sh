#!/usr/bin/env bash
# make test, and so CI: formatting, lints, every test without and with the two features, documentation, and the benches once each.
#
# A test row that can't run here is skipped by name, never silently: the names are listed at the end. With CI=true a skipped row is a
# failure unless tests/unavailable.txt lists it, and so is a row that is listed there but ran.
#
# Steps share what they compile: clippy and doc the checked metadata, all test runs one profile, and the features change what is above
# tls-offload and dataplane-dpdk, no other package.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=configs/packaging/lib.sh
. configs/packaging/lib.sh

usage() {
    echo "usage: test.sh [test|check|sim [SEEDS]|soak]"
    exit 2
}

main() {
    ensure_build_tools
    features=$(features_here)
    case "${1:-test}" in
        test) run_tests ;;
        check)
            run_checks
            ! have cargo-deny || step "dependencies" cargo deny check
            all_steps_passed
            ;;
        sim) FERROGATE_SIM_SEEDS=${2:-10000} cargo test --locked --test sim every_seed_holds -- --nocapture ;;
        soak)
            has_feature openssl "$features" || die "libssl-dev can't be had, and what is soaked is OpenSSL's"
            ensure testssl:testssl.sh openssl:openssl
            step "a hundred thousand clients of a card" soak_card
            step "testssl.sh" cargo test --locked --features openssl --test e2e -- --ignored --nocapture testssl
            all_steps_passed
            ;;
        *) usage ;;
    esac
}

# Clients that leave at any moment, of a card that fails: under AddressSanitizer where the toolchain has it. That is not stable yet, hence
# RUSTC_BOOTSTRAP; with a target of its own build scripts and macros go without.
soak_card() {
    local features=openssl target
    local -a words=() with=()
    target=$(rustc -vV | sed -n 's/^host: //p')
    if compgen -G "$(rustc --print sysroot)/lib/rustlib/$target/lib/librustc*_rt.asan.a" >/dev/null; then
        with=(RUSTC_BOOTSTRAP=1 RUSTFLAGS="${RUSTFLAGS:-} -Zsanitizer=address" CARGO_TARGET_DIR="$(target_dir)/sanitizer")
        # libcrypto's jobs change stacks behind its back; and what it keeps back of freed memory must not hide what grows.
        with+=(ASAN_OPTIONS=detect_stack_use_after_return=0:quarantine_size_mb=16)
        features=$features,corosensei/sanitizer
        words=(--target "$target")
    else
        say "this toolchain has no AddressSanitizer: without it"
    fi
    env "${with[@]}" cargo test --locked "${words[@]}" --package tls-offload --features "$features" --test accelerator -- --ignored --nocapture soak
}

run_tests() {
    ensure curl:curl nginx:nginx haproxy:haproxy wrk:wrk nghttp:nghttp2-client h2load:nghttp2-client nghttpd:nghttp2-server grpcio:python3-grpcio h2:python3-h2 websockets:python3-websockets nghttpx:nghttp2-proxy openssl:openssl ip:iproute2 bird:bird2 ethtool:ethtool setpriv:util-linux dnsmasq:dnsmasq-base nft:nftables tshark:tshark ping:iputils-ping sysctl:procps
    # Not everywhere to be had: the row that needs them tells.
    (ensure softhsm2-util:softhsm2 pkcs11_engine:libengine-pkcs11-openssl) || true
    (ensure node:nodejs npm:npm) || true
    install_npm_peers
    results=$(mktemp -d)
    trap 'give_back_hugepages "$results/hugepages"; rm -rf "$results"' EXIT
    : >"$results/skipped"
    run_checks
    step "tests" cargo_test plain
    has_feature dpdk "$features" || skip_row "feature-dpdk" "libdpdk-dev can't be had"
    has_feature openssl "$features" || skip_row "feature-openssl" "libssl-dev can't be had"
    # What can't be had is told by the rows that need it.
    ! has_feature dpdk "$features" || take_hugepages 320 "$results/hugepages" || true
    # shellcheck disable=SC2046 # the words are arguments
    step "tests with features" cargo_test features $(packages)
    # shellcheck disable=SC2046
    step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps $(packages) $(feature_flags "$features")
    # shellcheck disable=SC2046
    ! compgen -G 'bench/benches/*.rs' >/dev/null || step "benches, once each" cargo_test benches $(packages) --bench '*'
    report
}

# The tests' gRPC server and client are Python's, as Debian has it.
probe_grpcio() {
    /usr/bin/python3 -c 'import grpc' 2>/dev/null || python3 -c 'import grpc' 2>/dev/null
}

# The tests' clients of WebSockets over HTTP/2, and their origin, are Python's too.
probe_h2() {
    /usr/bin/python3 -c 'import h2' 2>/dev/null
}

probe_websockets() {
    /usr/bin/python3 -c 'import websockets' 2>/dev/null
}

# The tests' clients and servers of Bolt, Dubbo, Thrift and Tars are npm's, as Debian has none. Where they can't be had the rows that need them say so.
install_npm_peers() {
    local folder=${CARGO_TARGET_DIR:-target}/tmp peer
    local -a peers=(sofa-rpc-node@2.10.0 apache-dubbo-service@0.0.1 apache-dubbo-consumer@4.0.0 @tars/rpc@2.0.15 thrift@0.24.0) missing=()
    for peer in "${peers[@]}"; do
        grep -qs "\"version\": *\"${peer##*@}\"" "$folder/node_modules/${peer%@*}/package.json" || missing+=("$peer")
    done
    if [ "${#missing[@]}" -eq 0 ] || ! have npm; then
        return 0
    fi
    say "installing for the tests: ${missing[*]}"
    mkdir -p "$folder"
    npm install --silent --no-audit --no-fund --ignore-scripts --no-save --prefix "$folder" "${peers[@]}" >&2 || say "npm could not install them"
}

# What is built with features: everything, or where DPDK is missing all that can be without it.
packages() {
    ! has_feature dpdk "$features" || echo --workspace
}

run_checks() {
    if cargo fmt --version >/dev/null 2>&1; then
        step "format" cargo fmt --all --check
    else
        skip_row "format" "no rustfmt for this toolchain"
    fi
    if cargo clippy --version >/dev/null 2>&1; then
        step "lints" cargo clippy --locked --all-targets -- -D warnings
        # shellcheck disable=SC2046 # the words are arguments
        step "lints with features" cargo clippy --locked --all-targets $(packages) $(feature_flags "$features") -- -D warnings
    else
        skip_row "lints" "no clippy for this toolchain"
    fi
}

# step NAME COMMAND...: runs it and says how long it took. A failed step does not keep the next from telling what it finds.
failed_steps=()
step() {
    local name=$1 start=$SECONDS verdict=ok
    shift
    printf '\n==> %s\n' "$name"
    "$@" || verdict=FAILED
    [ "$verdict" = ok ] || failed_steps+=("$name")
    printf '==> %s: %s, %d s\n' "$name" "$verdict" $((SECONDS - start))
}

# cargo_test NAME ARGUMENT...: one run of the tests, its output kept for the count, its skipped rows in a file of its own.
cargo_test() {
    local name=$1
    local -a with=()
    shift
    # shellcheck disable=SC2207 # two words or none
    [ "$name" = plain ] || with=($(feature_flags "$features"))
    FERROGATE_SKIP_FILE="$results/skipped.$name" cargo test --locked --no-fail-fast "${with[@]}" "$@" 2>&1 | tee "$results/output.$name"
}

# skip_row NAME REASON: a row that the scripts themselves can't run.
results=
skip_row() {
    printf 'SKIPPED: %s: %s\n' "$1" "$2"
    [ -z "$results" ] || printf '%s\t%s\n' "$1" "$2" >>"$results/skipped"
}

# What was skipped, how much ran, and whether CI accepts it.
report() {
    local last=plain passed failed skipped failures=0
    # A row that the run without features had to skip and the run with them did not, ran.
    [ ! -e "$results/output.features" ] || last=features
    [ ! -e "$results/skipped.$last" ] || cat "$results/skipped.$last" >>"$results/skipped"
    sort -u -t "$(printf '\t')" -k 1,1 -o "$results/skipped" "$results/skipped"
    printf '\n==> skipped rows: %d\n' "$(wc -l <"$results/skipped")"
    awk -F '\t' '{ printf "SKIPPED: %s: %s\n", $1, $2 }' "$results/skipped"
    if [ "${CI:-}" = true ]; then
        judge_skips || failures=1
    fi
    passed=$(count passed)
    failed=$(count failed)
    skipped=$(wc -l <"$results/skipped")
    printf '\ntests: %d passed, %d failed, %d skipped\n' "$passed" $((failed + failures)) "$skipped"
    [ "$passed" -gt 0 ] || die "no test ran"
    [ "$failures" -eq 0 ]
    all_steps_passed
}

all_steps_passed() {
    local name
    for name in "${failed_steps[@]}"; do
        say "FAILED: $name"
    done
    [ "${#failed_steps[@]}" -eq 0 ]
}

# count passed|failed: over every "test result:" line of cargo.
count() {
    cat "$results"/output.* | sed -n "s/^test result:.* \([0-9]*\) $1;.*/\1/p" | awk '{ n += $1 } END { print n + 0 }'
}

# CI: the skipped rows are exactly those that tests/unavailable.txt lists.
judge_skips() {
    local status=0
    sed -n 's/^\([^#:][^:]*\):.*/\1/p' tests/unavailable.txt | sort -u >"$results/listed"
    cut -f 1 "$results/skipped" | sort -u >"$results/names"
    while read -r row; do
        say "FAILED: '$row' was skipped, and tests/unavailable.txt does not list it"
        status=1
    done < <(comm -13 "$results/listed" "$results/names")
    while read -r row; do
        say "FAILED: '$row' is listed in tests/unavailable.txt, but it can run here"
        status=1
    done < <(comm -23 "$results/listed" "$results/names")
    return "$status"
}

main "$@"
