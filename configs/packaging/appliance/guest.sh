#!/bin/busybox sh
# PID 1 of the guest that `make appliance-test` boots: a busybox, the gateway, and nothing else.
#
# It sets up what systemd would, then runs the lines that come in by the second serial port; each answer ends with a line
# "@@ STATUS".
export PATH=/bin:/usr/bin
readonly config=/etc/ferrogate/ferrogate.yaml
readonly log=/run/ferrogate/log
# The second serial port: orders and answers.
readonly orders=/dev/ttyS1

set_up() {
    /bin/busybox mkdir -p /dev /proc /sys /run /tmp
    /bin/busybox mount -t devtmpfs dev /dev
    /bin/busybox mount -t proc proc /proc
    /bin/busybox mount -t sysfs sys /sys
    /bin/busybox mount -t tmpfs tmp /run
    /bin/busybox --install -s /bin
    mkdir -p /run/ferrogate /var
    ln -s /run /var/run
    # What the gateway writes when it has given root up.
    chown ferrogate:ferrogate /run/ferrogate
    ip link set lo up
    while read -r module; do
        insmod "/lib/modules/$module" || echo "module $module: not loaded"
    done </lib/modules/order
}

# cards: address, driver and ids of each Ethernet card.
cards() {
    for folder in /sys/bus/pci/devices/*; do
        case $(cat "$folder/class") in
            0x0200*) echo "${folder##*/} $(driver_of "$folder") $(cat "$folder/vendor"):$(cat "$folder/device")" ;;
        esac
    done
}

driver_of() {
    if [ -e "$1/driver" ]; then
        basename "$(readlink "$1/driver")"
    else
        echo none
    fi
}

# bind DRIVER ADDRESS...: what `dpdk-devbind.py -b` does.
bind() {
    driver=$1
    shift
    for address in "$@"; do
        folder=/sys/bus/pci/devices/$address
        echo "$driver" >"$folder/driver_override"
        [ ! -e "$folder/driver" ] || echo "$address" >"$folder/driver/unbind"
        echo "$address" >/sys/bus/pci/drivers_probe
        [ "$(driver_of "$folder")" = "$driver" ] || return 1
    done
}

# mtus BYTES BYTES: of the two ports.
mtus() {
    sed -i '/^ *mtu:/d' "$config"
    sed -i -e "s|^\( *\)address: 192.0.2.1/24|&\n\1mtu: $1|" -e "s|^\( *\)address: 198.51.100.1/24|&\n\1mtu: $2|" "$config"
}

# vlan ID WORKERS: the first port is in a VLAN besides, and there are so many workers. Long segments are left to nobody: who takes a tag off outside
# sees frames as they are on a wire.
vlan() {
    cp "$config" /run/config
    sed -i -e "s|^\( *\)address: 192.0.2.1/24|&\n\1vlans: [{id: $1, address: 192.0.$1.1/24}]\n\1offloads: {tso: false}|" \
        -e "s|^\( *\)workers: .*|\1workers: $2|" "$config"
}

no_vlan() {
    cp /run/config "$config"
}

# start: the gateway, as its unit would; returns when it says that it is ready, or has ended.
gateway=
start() {
    ulimit -l unlimited
    # As the unit says: these capabilities and no others, and every core, those of isolcpus too.
    taskset ff /usr/bin/setpriv --bounding-set "$(cat /etc/ferrogate/capabilities)" ferrogate start -c "$config" >>"$log" 2>&1 &
    gateway=$!
    within 60 ready_or_ended && kill -0 "$gateway" 2>/dev/null && ready
}

ready() {
    wget -q -O /dev/null http://127.0.0.1:9901/ready 2>/dev/null
}

ready_or_ended() {
    ready || ! kill -0 "$gateway" 2>/dev/null
}

# ended: prints the exit status of the gateway, once it has ended by itself or by what it was told.
ended() {
    within 30 gone || return 1
    wait "$gateway"
    echo "exit status $?"
}

gone() {
    # A child that has ended stays a process until it is waited for.
    ! grep -q '^State:[^ZX]*$' "/proc/$gateway/status" 2>/dev/null
}

# admin PATH: what the admin API answers.
admin() {
    wget -q -O - "http://127.0.0.1:9901$1"
}

# within SECONDS COMMAND...: as soon as it succeeds.
within() {
    end=$(($(cut -d. -f1 /proc/uptime) + $1))
    shift
    while ! "$@"; do
        [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] || return 1
        usleep 100000
    done
}

set_up
stty -F "$orders" raw -echo
exec <"$orders" >"$orders" 2>&1
echo '@@ 0'
while read -r order; do
    eval "$order"
    echo "@@ $?"
done
