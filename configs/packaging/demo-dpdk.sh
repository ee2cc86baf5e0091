#!/usr/bin/env bash
# make run PLANE=dpdk: the demo over a DPDK port, on a veth pair whose other end is a network namespace. Needs root.
#
# Everything it makes carries the prefix "fgdemo" and goes away at the end; what a crash left goes away at the next start. Nothing else is
# touched but the count of hugepages, which is put back.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=configs/packaging/lib.sh
. configs/packaging/lib.sh

readonly namespace=fgdemo
readonly port=fgdemo0 peer=fgdemo1
# Addresses for tests between devices (RFC 2544), so that no real network is hidden.
readonly port_address=198.18.0.1 peer_address=198.18.0.2 prefix_len=24
readonly state=.ferrogate/dpdk
readonly config=$state/demo.yaml
readonly lock=/run/fgdemo.lock
readonly memory_mib=256
hugepages=false
# The gateway's exit code for "the plane can't start".
readonly plane_failed=3

main() {
    local binary=$1
    is_root || die "this needs root."
    # Held by the gateway too, so that what a running demo uses is never taken for leftovers.
    exec 9>"$lock"
    flock -n 9 || die "another DPDK demo is running on this machine ($lock)."
    take_away
    mkdir -p "$state"
    trap take_away EXIT
    make_link
    if take_hugepages $((memory_mib + 32)) "$state/hugepages"; then
        hugepages=true
    else
        say "no hugepages of 2 MiB to be had: running without (slower)"
    fi
    say "try:  ip netns exec $namespace curl -i http://$port_address:8080/"
    say "and:  ip netns exec $namespace curl -ik https://$port_address:8443/"
    if run_on "net_af_xdp0,iface=$port" "$binary"; then
        return 0
    elif [ "$gateway_status" -ne "$plane_failed" ]; then
        return "$gateway_status"
    fi
    say "net_af_xdp can't be opened here (see above): falling back to net_af_packet"
    run_on "net_af_packet0,iface=$port,blocksz=65536,framesz=2048,framecnt=1024,qdisc_bypass=1" "$binary" || return "$gateway_status"
}

# A veth pair: one end for the port, without an address, so that the kernel leaves its packets alone; the other in the namespace.
# Offloads are off on both ends, because a packet with a checksum still to be made is a broken packet to a userspace stack.
make_link() {
    local end
    ip netns add "$namespace"
    ip link add "$port" type veth peer name "$peer" netns "$namespace" ||
        die "no veth pair can be made here: the kernel or the container does not allow it."
    # No link-local address of the kernel's own, where the kernel has IPv6 at all.
    [ ! -w "/proc/sys/net/ipv6/conf/$port/disable_ipv6" ] || echo 1 >"/proc/sys/net/ipv6/conf/$port/disable_ipv6"
    # Should the host forward packets: not these, they are the port's.
    [ ! -w "/proc/sys/net/ipv4/conf/$port/forwarding" ] || echo 0 >"/proc/sys/net/ipv4/conf/$port/forwarding"
    ip link set "$port" up
    ip -n "$namespace" link set lo up
    ip -n "$namespace" address add "$peer_address/$prefix_len" dev "$peer"
    ip -n "$namespace" link set "$peer" up
    for end in "ethtool -K $port" "ip netns exec $namespace ethtool -K $peer"; do
        $end tx off rx off gso off tso off gro off >/dev/null || die "offloads can't be turned off: $end"
    done
}

# write_config DEVICE: the demo's file with its dataplane section changed.
write_config() {
    awk '/^dataplane:/ { skip = 1; next } /^[^ \t#]/ { skip = 0 } !skip' configs/demo.yaml >"$config"
    cat >>"$config" <<YAML
dataplane:
  type: dpdk
  workers: 1
  fallback: none
  dpdk:
    hugepages: $hugepages
    memory_mib: $memory_mib
    ports:
      - device: "$1"
        address: $port_address/$prefix_len
YAML
}

# run_on DEVICE BINARY: the gateway in the foreground. It has a process group of its own, so that Ctrl-C reaches it through us, once; and
# it is told to end should this script die.
gateway=
gateway_status=0
run_on() {
    write_config "$1"
    say "packet backend: ${1%%[0-9],*} on $port"
    set -m
    setpriv --pdeathsig TERM -- "$2" start -c "$config" --demo &
    gateway=$!
    set +m
    trap 'forward INT' INT
    trap 'forward TERM' TERM HUP
    gateway_status=0
    wait "$gateway" || gateway_status=$?
    while kill -0 "$gateway" 2>/dev/null; do
        # A signal interrupted the wait; the gateway is still ending.
        gateway_status=0
        wait "$gateway" || gateway_status=$?
    done
    gateway=
    return "$gateway_status"
}

forward() {
    [ -z "$gateway" ] || kill -s "$1" "$gateway" 2>/dev/null || true
}

# Removes what this script makes, of this run or of one that crashed. Deleting a link detaches an XDP program that is left on it.
take_away() {
    trap '' INT TERM HUP
    if ip link show "$port" >/dev/null 2>&1; then
        ip link delete "$port" || true
    fi
    if ip netns list | grep -q "^$namespace\b"; then
        ip netns delete "$namespace" || true
    fi
    give_back_hugepages "$state/hugepages"
    rm -rf "$state"
    trap - INT TERM HUP
}

main "$@"
