#!/usr/bin/env bash
# make release: the gateway as it is shipped, its path on standard output.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=configs/packaging/lib.sh
. configs/packaging/lib.sh
# shellcheck source=configs/packaging/trained.sh
. configs/packaging/trained.sh

main() {
    local features
    ensure_build_tools
    ensure ip:iproute2 ethtool:ethtool setpriv:util-linux
    features=$(features_here)
    build_bench "$features"
    build_trained "$features" "$bench" || die "a gateway without it:  cargo build --release"
    echo "$trained"
}

main "$@"
