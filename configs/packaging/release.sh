#!/usr/bin/env bash
# make release: the gateway as it is shipped, its path on standard output.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=configs/packaging/lib.sh
. configs/packaging/lib.sh
# shellcheck source=configs/packaging/trained.sh
. configs/packaging/trained.sh

main() {
    local features bench
    ensure_build_tools
    ensure ip:iproute2 ethtool:ethtool setpriv:util-linux
    features=$(features_here)
    # shellcheck disable=SC2046 # two words or none
    cargo build --release --locked --package ferrogate-bench $(feature_flags "$(grep -x dpdk <<<"$features" | sed 's/^/ferrogate-bench\//')")
    bench=$(target_dir)/release/ferrogate-bench
    build_trained "$features" "$bench" || die "a gateway without it:  cargo build --release"
    echo "$trained"
}

main "$@"
