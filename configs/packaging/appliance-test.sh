#!/usr/bin/env bash
# make appliance-test: boots Debian's kernel and the gateway in QEMU, on emulated cards that DPDK's PCI drivers have, and sends requests
# through it from outside. Needs root, for a network namespace and its TAP interfaces.
#
#   client --- [ first card  gateway  second card ] --- nginx
#
# The guest runs configs/appliance.yaml as it is. Clients and the origin are in one namespace, at two links that only the guest connects.
# Everything it makes carries the prefix "fgbox" and goes away at the end, also when it fails; what a crash left goes at the next start.
#
# PROFILE=dev tests a debug build, ACCEL=kvm runs the guests on the processor, GUESTS="vfio uio" says which.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=configs/packaging/lib.sh
. configs/packaging/lib.sh

readonly namespace=fgbox
readonly client=fgbox0 origin=fgbox1
readonly lock=/run/fgbox.lock
readonly gateway4=192.0.2.1 gateway6=2001:db8:0:1::1
readonly accel=${ACCEL:-tcg}
readonly profile=${PROFILE:-release}
readonly cards=(0000:01:00.0 0000:02:00.0)
readonly config=/etc/ferrogate/ferrogate.yaml
state=

main() {
    is_root || die "this needs root, for a network namespace and TAP interfaces.  As root, run:  make appliance-test"
    # Also held by QEMU, so that what a running test uses is never taken for leftovers.
    exec 9>"$lock"
    flock -n 9 || die "another appliance test is running on this machine ($lock)."
    ensure_build_tools
    ensure qemu-system-x86_64:qemu-system-x86 busybox_static:busybox-static cpio:cpio modprobe:kmod curl:curl nginx:nginx \
        openssl:openssl ip:iproute2 tshark:tshark ping:iputils-ping setpriv:util-linux python3:python3
    build
    state=$(mktemp -d)
    trap take_away EXIT
    fetch_kernel
    make_guest_files
    make_links
    start_origin
    local guest
    for guest in ${GUESTS:-vfio uio}; do
        "guest_$guest"
    done
    printf '\nappliance: %d checks, %d failed, %d s\n' "$checks" "$failures" "$SECONDS"
    [ "$failures" -eq 0 ]
}

# A static busybox: the guest has no other program but the gateway.
probe_busybox_static() {
    have busybox && ! ldd "$(command -v busybox)" >/dev/null 2>&1
}

binary=
build() {
    local features
    features=$(features_here)
    has_feature dpdk "$features" || die "an appliance needs libdpdk-dev; see above."
    # shellcheck disable=SC2046 # two words
    cargo build --profile "$profile" --locked --package ferrogate $(feature_flags "$features")
    binary=$(target_dir)/${profile/#dev/debug}/ferrogate
}

# ---- the guest's files

# Debian's kernel, unpacked beside cargo's results; nothing is installed on this machine.
kernel=
version=
fetch_kernel() {
    local package
    apt_lists_present || apt_update_once || true
    package=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    [ -n "$package" ] || die "apt knows no linux-image-amd64; try:  apt-get update"
    version=${package#linux-image-}
    kernel=$(realpath -m "$(target_dir)/appliance/$package")
    if [ ! -e "$kernel/complete" ]; then
        say "fetching $package"
        rm -rf "$kernel"
        mkdir -p "$kernel"
        (cd "$kernel" && apt-get -qq -o APT::Sandbox::User=root download "$package") || die "apt-get download $package failed; try:  apt-get update"
        dpkg-deb -x "$kernel"/*.deb "$kernel"
        rm "$kernel"/*.deb
        depmod -b "$kernel" "$version"
        touch "$kernel/complete"
    fi
}

# The initial RAM disk, which is all of the guest's disk: the gateway, what its unit would be for it, and the drivers of the cards.
make_guest_files() {
    local root=$state/root libraries drivers setpriv
    mkdir -p "$root"/{bin,dev,etc/ferrogate/tls,lib/modules,usr/bin}
    cp "$(command -v busybox)" "$root/bin/busybox"
    cp configs/packaging/appliance/guest.sh "$root/init"
    cp configs/appliance.yaml "$root$config"
    strip -o "$root/usr/bin/ferrogate" "$binary"
    setpriv=$(command -v setpriv)
    cp "$setpriv" "$root/usr/bin/"
    # As setpriv has them: -all,+sys_admin,...
    sed -n 's/^CapabilityBoundingSet=/-all /p' configs/packaging/ferrogate-dpdk.service | tr '[:upper:]' '[:lower:]' |
        sed 's/ cap_/,+/g' >"$root/etc/ferrogate/capabilities"
    printf '%s:x:%d:%d::/:/bin/sh\n' root 0 0 ferrogate 1000 1000 >"$root/etc/passwd"
    printf '%s:x:%d:\n' root 0 ferrogate 1000 >"$root/etc/group"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=appliance -addext "subjectAltName=IP:$gateway4" \
        -keyout "$root/etc/ferrogate/tls/key.pem" -out "$state/chain.pem" 2>/dev/null
    cp "$state/chain.pem" "$root/etc/ferrogate/tls/"
    # EAL loads every driver of its folder: these are all that this guest needs.
    libraries=$(pkg-config --variable=libdir libdpdk)
    drivers=("$libraries"/dpdk/pmds-*/librte_{bus_pci,bus_vdev,mempool_ring,net_virtio,net_e1000,net_vmxnet3}.so.*)
    # shellcheck disable=SC2046 # paths without spaces
    add_libraries "$root" "${drivers[@]}" $(ldd "$binary" "$setpriv" "${drivers[@]}" | sed -n 's/^\t\(.* => \)\?\(\/[^ ]*\) (0x.*/\2/p')
    add_modules "$root/lib/modules" virtio_pci virtio_net e1000e vmxnet3 vfio_iommu_type1 vfio-pci uio_pci_generic
    (cd "$root" && find . | cpio --quiet -o -H newc) >"$state/initrd"
}

# add_libraries FOLDER PATH...: under all their names, as links to one file: a driver that is found by two of them must not be loaded twice.
add_libraries() {
    local root=$1 path file
    shift
    for path in "$@"; do
        file=$(realpath "$path")
        [ -e "$root$file" ] || cp --parents "$file" "$root"
        mkdir -p "$root${path%/*}"
        [ -e "$root$path" ] || ln -sf "$file" "$root$path"
    done
}

# add_modules FOLDER MODULE...: with what they need, and the order in which they can be loaded.
add_modules() {
    local folder=$1 module
    shift
    for module in "$@"; do
        modprobe -d "$kernel" -S "$version" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
    done | awk '!seen[$0]++' | while read -r module; do
        cp "$module" "$folder/"
        basename "$module"
    done >"$folder/order"
}

# ---- what is outside of the guest

make_links() {
    take_links
    ip netns add "$namespace"
    inside ip link set lo up
    add_link "$client" 192.0.2.2/24 2001:db8:0:1::2/64
    add_link "$origin" 198.51.100.2/24
}

# add_link NAME ADDRESS...
add_link() {
    local name=$1 address
    shift
    inside ip tuntap add "$name" mode tap
    for address in "$@"; do
        case $address in
            *:*) inside ip address add "$address" dev "$name" nodad ;;
            *) inside ip address add "$address" dev "$name" ;;
        esac
    done
    inside ip link set "$name" up
}

inside() {
    ip netns exec "$namespace" "$@"
}

take_links() {
    ! ip netns list | grep -q "^$namespace\b" || ip netns delete "$namespace"
}

nginx=
start_origin() {
    mkdir -p "$state/web/put"
    head -c 1024 /dev/urandom >"$state/web/1k"
    head -c 1048576 /dev/urandom >"$state/web/1m"
    chmod -R a+rwX "$state"
    cat >"$state/nginx.conf" <<NGINX
worker_processes 1;
daemon off;
pid $state/nginx.pid;
error_log $state/nginx.log;
events {}
http {
    access_log off;
    client_body_temp_path $state/body;
    server {
        listen 198.51.100.2:8000;
        root $state/web;
        client_max_body_size 16m;
        location /put/ { dav_methods PUT; }
        # Slow enough to be under way when the gateway is told to stop.
        location /slow/ { alias $state/web/; limit_rate 256k; }
    }
}
NGINX
    setpriv --pdeathsig KILL -- ip netns exec "$namespace" nginx -c "$state/nginx.conf" 9>&- &
    nginx=$!
    within 10 inside curl -s -o /dev/null http://198.51.100.2:8000/1k || die "nginx does not answer: $(cat "$state/nginx.log")"
}

# ---- guests

# A box with an IOMMU: two cards behind root ports, given to vfio-pci.
guest_vfio() {
    boot "virtio-net and e1000e, vfio-pci behind an IOMMU" "intel_iommu=on iommu=pt isolcpus=1 nohz_full=1 rcu_nocbs=1" \
        -device intel-iommu,intremap=on,device-iotlb=on \
        -device virtio-net-pci,netdev=client,bus=port1,disable-legacy=on,iommu_platform=on,ats=on,mac=02:00:00:00:01:01 \
        -device e1000e,netdev=origin,bus=port2,mac=02:00:00:00:02:01
    lcore_cpu=1
    # Buffers of 82574 are powers of two: 8 KiB, where nine would be needed for the longest frames.
    mtus=(9000 8000)
    exercise vfio-pci net_virtio net_e1000_em
    shut_down
}

# One without, where Debian's kernel leaves uio_pci_generic.
guest_uio() {
    boot "vmxnet3 and virtio-net, uio_pci_generic, no IOMMU" "" \
        -device vmxnet3,netdev=client,bus=port1,mac=02:00:00:00:01:01 \
        -device virtio-net-pci,netdev=origin,bus=port2,mac=02:00:00:00:02:01
    lcore_cpu=0
    mtus=(9000 9000)
    exercise uio_pci_generic net_vmxnet3 net_virtio
    shut_down
}

# boot TITLE PARAMETERS DEVICE...: QEMU in the namespace; returns when the guest takes orders.
qemu=
boot() {
    local title=$1 parameters=$2 name
    shift 2
    printf '\n==> %s\n' "$title"
    rm -f "$state"/{orders,monitor}.*
    mkfifo "$state/orders.in" "$state/orders.out" "$state/monitor.in" "$state/monitor.out"
    : >"$state/console"
    # Read and write, so that opening them does not wait for QEMU.
    exec 3<>"$state/orders.in" 4<>"$state/orders.out" 5<>"$state/monitor.in"
    setpriv --pdeathsig KILL -- ip netns exec "$namespace" qemu-system-x86_64 -nodefaults -no-reboot -display none \
        -machine q35,kernel-irqchip=split -accel "$accel" -cpu max -smp 2 -m 1G \
        -kernel "$kernel/boot/vmlinuz-$version" -initrd "$state/initrd" \
        -append "console=ttyS0 loglevel=5 panic=-1 hugepages=160 $parameters" \
        -serial "file:$state/console" -chardev "pipe,id=orders,path=$state/orders" -serial chardev:orders \
        -chardev "pipe,id=monitor,path=$state/monitor" -monitor chardev:monitor \
        -netdev "tap,id=client,ifname=$client,script=no,downscript=no" \
        -netdev "tap,id=origin,ifname=$origin,script=no,downscript=no" \
        -device pcie-root-port,id=port1,chassis=1,addr=4 -device pcie-root-port,id=port2,chassis=2,addr=5 \
        "$@" 3<&- 4<&- 5<&- >"$state/qemu.log" 2>&1 &
    qemu=$!
    answer 120 >/dev/null || { tail -n 40 "$state/console"; die "the guest did not come up"; }
    say "the guest is up after $(guest 5 'cut -d" " -f1 /proc/uptime') s of its own time"
}

shut_down() {
    guest 5 'sync; poweroff -f' >/dev/null 2>&1 || true
    within 20 dead "$qemu" || { kill -KILL "$qemu" && say "the guest had to be killed"; }
    wait "$qemu" 2>/dev/null || true
    qemu=
}

dead() {
    ! kill -0 "$1" 2>/dev/null
}

# guest SECONDS LINE: has the guest run it; prints what it prints, and has its status.
guest() {
    printf '%s\n' "$2" >&3
    answer "$1"
}

# answer SECONDS: lines of the guest until it has done what it was told.
answer() {
    local until=$((SECONDS + $1)) line='' part
    while [ "$SECONDS" -lt "$until" ]; do
        if IFS= read -r -t 1 part <&4; then
            line+=$part
            case $line in
                '@@ '*) return "${line#@@ }" ;;
                *) printf '%s\n' "$line" ;;
            esac
            line=''
        else
            line+=$part
            ! dead "$qemu" || break
        fi
    done
    say "the guest does not answer (QEMU: $(cat "$state/qemu.log"))"
    return 124
}

# ---- what is checked

checks=0
failures=0

# check WHAT COMMAND...: has the status of the command.
check() {
    local what=$1
    shift
    checks=$((checks + 1))
    if "$@" >"$state/check" 2>&1; then
        printf 'ok      %s\n' "$what"
    else
        failures=$((failures + 1))
        printf 'FAILED  %s (%s)\n' "$what" "$*"
        tail -n 15 "$state/check" | sed 's/^/        /'
        return 1
    fi
}

# exercise BINDING DRIVER DRIVER: the life of an appliance on two cards, which DPDK has by these drivers; and on a failure, what it logged.
exercise() {
    local before=$failures
    live "$@" || true
    if [ "$failures" -gt "$before" ]; then
        show "log" 'cat /run/ferrogate/log'
        tail -n 20 "$state/console"
    fi
}

# A check that fails does not keep the next from telling what it finds, but nothing can be asked of a gateway that does not start.
live() {
    local binding=$1
    shift
    show "cards" 'cards'
    show "doctor" "ferrogate doctor -c $config"
    check "doctor: the kernel has the cards" doctor_finds 1 "the kernel's driver"
    check "a start says so too" refuses "0000:01:00.0 can't be opened .* must be bound to vfio-pci"
    check "bound to $binding" guest 20 "bind $binding ${cards[*]}"
    check "doctor: nothing keeps the plane from starting" doctor_finds 0 "^0 problems"
    show "doctor" "ferrogate doctor -c $config"
    check "started" guest 70 start || return
    guest 20 'admin /api/v1/dataplane' >"$state/plane" || true
    check "drivers: $1 and $2, both links up" plane_has "$@"
    check_traffic
    check_counters
    check_long_segments
    check_tools
    check_link
    check_restarts
    check_vlan
    check_long_packets
    check "the log tells of no error" log_is_clean
}

# show TITLE LINE: what the guest prints for it, as part of the report.
show() {
    printf '%s:\n' "$1"
    guest 60 "$2" | sed 's/^/        /' || true
}

# doctor_finds STATUS PATTERN
doctor_finds() {
    local status=0 text
    text=$(guest 60 "ferrogate doctor -c $config") || status=$?
    printf '%s\n' "$text"
    [ "$status" -eq "$1" ] && grep -q "$2" <<<"$text"
}

# refuses PATTERN: it does not start, and says why.
refuses() {
    local status=0 text
    text=$(guest 60 "ferrogate start -c $config 2>&1") || status=$?
    printf '%s\n' "$text"
    [ "$status" -eq 3 ] && grep -q "$1" <<<"$text"
}

# plane_has DRIVER DRIVER
plane_has() {
    cat "$state/plane"
    grep -q '"plane": "dpdk"' "$state/plane" && [ "$(of_ports driver)" = "$(printf '"%s"\n"%s"' "$@")" ] && within 20 links_are "true true"
}

# of_ports KEY: its value for each port, as the admin API gave it last.
of_ports() {
    sed -n "s/^ *\"$1\": \(.*[^,]\),\?\$/\1/p" "$state/plane"
}

# links_are "WORD WORD": true or false for each card.
links_are() {
    guest 20 'admin /api/v1/dataplane' >"$state/plane" && [ "$(of_ports link_up | paste -s -d ' ')" = "$1" ]
}

fetch() {
    inside curl -sS --fail --max-time 60 "$@"
}

# same FILE SITE CURL-ARGUMENT...: the gateway hands over exactly what nginx has.
same() {
    local file=$1 site=$2
    shift 2
    fetch -o "$state/got" "$@" "$site/$file" && cmp "$state/got" "$state/web/$file"
}

# put NAME [ADDRESS]: by the gateway, to nginx.
put() {
    fetch -T "$state/web/1m" "http://${2:-$gateway4}/put/$1" && cmp "$state/web/1m" "$state/web/put/$1"
}

# many COUNT: that many requests on 16 connections, each answer compared.
many() {
    local number
    rm -rf "$state/many"
    mkdir "$state/many"
    fetch -Z --no-progress-meter --parallel-max 16 -o "$state/many/#1" "http://$gateway4/1k?[1-$1]"
    for number in $(seq "$1"); do
        cmp "$state/many/$number" "$state/web/1k" || return 1
    done
}

check_traffic() {
    check "ping, with the longest packets" inside ping -q -c 3 -i 0.2 -W 5 -M "do" -s 1472 "$gateway4"
    check "ping over IPv6" inside ping -6 -q -c 3 -i 0.2 -W 5 "$gateway6"
    check "1 KiB, byte for byte" same 1k "http://$gateway4"
    check "1 MiB, byte for byte" same 1m "http://$gateway4"
    check "1 MiB to the origin, byte for byte" put first
    check "1 MiB over IPv6" same 1m "http://[$gateway6]" -g
    check "1 MiB over HTTP/2 and TLS" same 1m "https://$gateway4" --http2 --cacert "$state/chain.pem"
    check "200 requests of 16 connections" many 200
}

# counter NAME CARD: its value.
counter() {
    awk -v name="$1{port=\"$2\"}" '$1 == name { print $2 }' "$state/metrics"
}

check_counters() {
    local card name value
    guest 30 'admin /metrics' >"$state/metrics" || true
    for card in "${cards[@]}"; do
        for name in rx_packets tx_packets rx_bytes tx_bytes; do
            value=$(counter "ferrogate_dpdk_port_${name}_total" "$card")
            # A long segment is one packet for the card.
            [ "$name" != tx_packets ] || value=$((${value:-0} + $(counter ferrogate_dpdk_port_tx_joined_segments_total "$card")))
            # Three bodies of 1 MiB have passed both ways of both cards.
            check "$card $name: ${value:-none}" [ "${value:-0}" -gt 1000 ]
        done
        for name in rx_missed rx_errors tx_errors rx_no_mbuf; do
            value=$(counter "ferrogate_dpdk_port_${name}_total" "$card")
            check "$card $name: ${value:-none}" [ "${value:-1}" -eq 0 ]
        done
    done
}

# The client's bodies of 1 MiB have left by the first card: in long segments, if it cuts them (all but the first of each are counted).
check_long_segments() {
    local joined
    joined=$(counter ferrogate_dpdk_port_tx_joined_segments_total "${cards[0]}")
    check "${cards[0]} cuts long segments: ${joined:-none}" [ "${joined:-0}" -gt 500 ]
}

# The CPU that the worker is to have: one that the kernel keeps free, where there is one.
lcore_cpu=
check_tools() {
    check "the worker polls on CPU $lcore_cpu" grep -x "ferrogate_dpdk_lcore_cpu{lcore=\"0\"} $lcore_cpu" "$state/metrics"
    show "lcores" "ferrogate lcores -c $config"
    show "dropped" 'admin /metrics | grep dropped_frames_total | grep -v " 0$" || echo nothing'
    check "flows: the gateway's own to its origin" flows_has_origin
}

flows_has_origin() {
    guest 30 "ferrogate flows -c $config" | tee "$state/flows" | grep "198.51.100.2:8000" || {
        cat "$state/flows"
        return 1
    }
}

# A cable that is pulled and put back.
check_link() {
    echo "set_link client off" >&5
    check "a link that goes down is told" within 20 links_are "false true"
    echo "set_link client on" >&5
    check "a link that comes back is told" within 20 links_are "true true"
    check "and serves again" within 20 same 1k "http://$gateway4"
}

check_restarts() {
    # Of the guest before.
    rm -f "$state/slow"
    fetch -o "$state/slow" "http://$gateway4/slow/1m" &
    local slow=$!
    check "a slow answer is under way" within 20 [ -s "$state/slow" ]
    # shellcheck disable=SC2016 # the guest expands these
    guest 5 'kill -TERM $gateway' || true
    check "TERM: what runs is finished" wait "$slow"
    check "TERM: byte for byte" cmp "$state/slow" "$state/web/1m"
    check "TERM: it ends well" ends_with "exit status 0"
    check "started again" guest 70 start
    check "1 MiB after it" same 1m "http://$gateway4"
    # shellcheck disable=SC2016
    guest 5 'kill -KILL $gateway' || true
    check "KILL: it is gone" ends_with "exit status 137"
    check "what passed before it is on record, for tshark" record_is_read 20
    check "started once more" guest 70 start
    check "1 MiB after it, both ways" both_ways
    # shellcheck disable=SC2016
    guest 5 'kill -TERM $gateway' || true
    check "TERM: it ends well, idle" ends_with "exit status 0"
}

# A VLAN beside what comes untagged, and two workers, whatever queues and tags the cards know of.
check_vlan() {
    guest 10 "vlan 100 2" || true
    add_vlan 100 192.0.100.2/24
    check "started with a VLAN and two workers" guest 70 start || return 0
    check "ping in the VLAN, with the longest packets" inside ping -q -c 3 -i 0.2 -W 5 -M "do" -s 1472 192.0.100.1
    check "1 MiB in the VLAN, byte for byte" same 1m http://192.0.100.1
    check "1 MiB to the origin from the VLAN" put third 192.0.100.1
    check "200 requests of 16 connections, untagged" many 200
    guest 30 'admin /metrics' >"$state/metrics" || true
    check "both workers have served" both_have_served
    check "no long segments where they are switched off" [ "$(counter ferrogate_dpdk_port_tx_joined_segments_total "${cards[0]}")" = 0 ]
    show "lcores" "ferrogate lcores -c $config"
    # shellcheck disable=SC2016
    guest 5 'kill -TERM $gateway' || true
    check "TERM: it ends well" ends_with "exit status 0"
    guest 10 no_vlan || true
    take_vlan
}

both_have_served() {
    local lcore
    for lcore in 0 1; do
        awk -v name="ferrogate_dpdk_lcore_flows_accepted_total{lcore=\"$lcore\"}" '$1 == name && $2 > 2 { found = 1 } END { exit !found }' \
            "$state/metrics" || { grep flows_accepted "$state/metrics"; return 1; }
    done
}

# add_vlan ID ADDRESS: the client's end of a VLAN. Where the kernel has no such devices, a TAP and a program that tags.
tagger=
add_vlan() {
    local name=${client}v
    if ! inside ip link add link "$client" name "$name" type vlan id "$1" 2>/dev/null; then
        inside ip tuntap add "$name" mode tap
        setpriv --pdeathsig KILL -- ip netns exec "$namespace" python3 tests/e2e/vlan/tagger.py "$client" "$1:$name" 9>&- &
        tagger=$!
    fi
    inside ip address add "$2" dev "$name"
    inside ip link set "$name" up
}

take_vlan() {
    [ -z "$tagger" ] || kill "$tagger" 2>/dev/null || true
    tagger=
    inside ip link delete "${client}v"
}

# Longer packets than Ethernet's usual ones, each of whose frames has to fit one buffer of the card.
mtus=()
check_long_packets() {
    inside ip link set "$client" mtu "${mtus[0]}"
    inside ip link set "$origin" mtu "${mtus[1]}"
    guest 10 "mtus ${mtus[*]}"
    check "started with an MTU of ${mtus[0]} and ${mtus[1]}" guest 70 start || return 0
    check "ping with packets of ${mtus[0]} bytes" inside ping -q -c 3 -i 0.2 -W 5 -M "do" -s $((mtus[0] - 28)) "$gateway4"
    check "1 MiB, both ways" both_ways
    [ "${mtus[1]}" -eq 9000 ] || check "told of: ${cards[1]} may cut longer frames" guest 10 "grep 'several buffers.*device=${cards[1]}' /run/ferrogate/log"
    # shellcheck disable=SC2016
    guest 5 'kill -TERM $gateway' || true
    check "TERM: it ends well" ends_with "exit status 0"
    inside ip link set "$client" mtu 1500
    inside ip link set "$origin" mtu 1500
}

both_ways() {
    same 1m "http://$gateway4" && put second
}

# record_is_read FRAMES: of the flight recorder, in tshark's eyes.
record_is_read() {
    guest 60 "ferrogate capture --from /run/ferrogate/flight -n $1 -w /run/record 'tcp port 80' >&2 && base64 /run/record" | tee "$state/record" |
        base64 -di >"$state/record.pcapng" || return 1
    tshark -r "$state/record.pcapng" -Y "tcp.port == 80 && ip.addr == $gateway4" 2>/dev/null | tee "$state/frames"
    [ "$(wc -l <"$state/frames")" -eq "$1" ]
}

ends_with() {
    guest 40 ended | tee "$state/end" | grep -x "$1" || {
        cat "$state/end"
        return 1
    }
}

# An emulated processor that has to share takes long for a handshake: turns that are too long are no error here.
log_is_clean() {
    guest 10 'cat /run/ferrogate/log' >"$state/log" || return 1
    ! grep -E 'ERROR|panicked' "$state/log" | grep -v -e 'limits.stall_timeout' -e 'held its worker up'
}

# ---- waiting and clearing up

# within SECONDS COMMAND...: as soon as it succeeds.
within() {
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || return 1
        sleep 0.2
    done
}

take_away() {
    local process
    trap '' INT TERM HUP
    for process in $qemu $nginx $tagger; do
        kill -KILL "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    take_links || true
    rm -rf "$state"
}

main "$@"
