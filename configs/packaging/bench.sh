#!/usr/bin/env bash
# make bench, make profile, make microbench: installs what is missing, builds a release, measures.
#
# Further words go to ferrogate-bench as they are: make bench ARGS='--scenario h1-close --rounds 15'
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=configs/packaging/lib.sh
. configs/packaging/lib.sh
# shellcheck source=configs/packaging/trained.sh
. configs/packaging/trained.sh

usage() {
    echo "usage: bench.sh run [ARGUMENT...] | profile SCENARIO [ARGUMENT...] | micro"
    exit 2
}

main() {
    local verb=${1:-}
    [ $# -eq 0 ] || shift
    ensure_build_tools
    case "$verb" in
        run) side_by_side "$@" ;;
        profile) profile "$@" ;;
        micro) cargo bench --locked --package ferrogate-bench --bench '*' ;;
        *) usage ;;
    esac
}

# Scenarios on all backends, then the report beside the results. A first look takes the gateway as it is; figures are of what is shipped.
side_by_side() {
    local results
    local -a gateway=()
    ensure nginx:nginx nginx_stream:libnginx-mod-stream haproxy:haproxy ip:iproute2 ethtool:ethtool setpriv:util-linux
    ensure_perf
    case " $* " in
        *" --quick "* | *" --ferrogate"*) build ;;
        *) build_shipped ;;
    esac
    results=$(measure run "${gateway[@]}" "$@" | tail -n 1)
    "$binary" report "$results" --md "${results%.jsonl}.md" --html "${results%.jsonl}.html"
    say "report: ${results%.jsonl}.html"
}

# The bench, and the gateway as it is shipped; where it can't be had, as it is otherwise.
build_shipped() {
    local features
    features=$(features_here)
    build_bench "$features"
    binary=$bench
    if build_trained "$features" "$bench"; then
        gateway=(--ferrogate "$trained")
    else
        say "measuring a gateway that is not trained"
        build
    fi
}

# With frame pointers, for whole stacks; in a folder of its own, so that the usual release stays as it is.
profile() {
    local scenario=${1:-} out
    [ -n "$scenario" ] || die "which scenario? make profile SCENARIO=h1-keepalive"
    shift
    ensure nginx:nginx nginx_stream:libnginx-mod-stream haproxy:haproxy ip:iproute2 ethtool:ethtool setpriv:util-linux
    ensure_perf
    have perf || die "perf can't be had (Debian: linux-perf)"
    out=$(target_dir)/profile
    RUSTFLAGS="${RUSTFLAGS:-} -C force-frame-pointers=yes" CARGO_TARGET_DIR=$out build
    binary=$out/release/ferrogate-bench
    measure profile "$scenario" --out "$out/$scenario.svg" "$@"
    say "open it in a browser: $out/$scenario.svg"
}

# nginx relays connections with a module of its own package; one that was built elsewhere may lack it, and then sits out.
probe_nginx_stream() {
    [ -e /usr/lib/nginx/modules/ngx_stream_module.so ]
}

# perf counts system calls and takes profiles; a run goes without it.
ensure_perf() {
    have perf || (install_packages linux-perf) || say "perf can't be had: system calls are not counted"
}

binary=
build() {
    local features
    # Of the bench and the product what each has.
    features=$(features_here | sed 's/dpdk/ferrogate\/dpdk,ferrogate-bench\/dpdk/; s/openssl/ferrogate\/openssl/')
    # shellcheck disable=SC2046 # two words or none
    cargo build --release --locked --package ferrogate --package ferrogate-bench $(feature_flags "$features")
    binary=$(target_dir)/release/ferrogate-bench
}

# As root, for its network namespace and packet ports; else over loopback.
measure() {
    local verb=$1
    shift
    if is_root; then
        "$binary" "$verb" "$@"
    elif have sudo && [ -t 0 ]; then
        say "a network namespace and packet ports need root: going on by sudo"
        sudo "$binary" "$verb" "$@"
    elif [ "$verb" = run ]; then
        say "not root: over loopback, without af_xdp and af_packet"
        "$binary" run --wire loopback "$@"
    else
        "$binary" "$verb" --loopback "$@"
    fi
}

main "$@"
