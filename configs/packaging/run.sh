#!/usr/bin/env bash
# make run: installs what is missing, builds, and starts the demo gateway on the plane of the first argument.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=configs/packaging/lib.sh
. configs/packaging/lib.sh

main() {
    local plane=${1:-kernel} features binary
    case "$plane" in
        kernel | dpdk) ;;
        *) die "PLANE is kernel or dpdk, not '$plane'." ;;
    esac
    ensure_build_tools
    ensure curl:curl
    [ "$plane" = kernel ] || ensure ip:iproute2 ethtool:ethtool
    features=$(features_here)
    [ "$plane" = kernel ] || has_feature dpdk "$features" || die "PLANE=dpdk needs libdpdk-dev; see above."
    # shellcheck disable=SC2046 # two words or none
    cargo build --release --locked --package ferrogate $(feature_flags "$features")
    binary=$(target_dir)/release/ferrogate
    if [ "$plane" = kernel ]; then
        exec "$binary" start -c configs/demo.yaml --demo
    elif is_root; then
        exec configs/packaging/demo-dpdk.sh "$binary"
    elif have sudo; then
        say "a network namespace and a packet port need root: going on by sudo"
        exec sudo configs/packaging/demo-dpdk.sh "$binary"
    else
        die "PLANE=dpdk needs root, for its network namespace and packet port. As root, run:  make run PLANE=dpdk"
    fi
}

main "$@"
