#!/usr/bin/env bash
# make ktls-test: the gateway with `ktls: require` in a QEMU guest, whose kernel has TLS: Debian's own.
#
# The guest is that kernel and an initramfs with what it needs: the gateway, curl, openssl, a busybox and the kernel's modules. init.sh runs
# there and says on the serial console what it found; this script waits for its last word. Nothing of the host is changed, no network is used
# but apt's for the kernel. QEMU emulates the processor: virtual machines whose own have a /dev/kvm that does not work are many (KTLS_ACCEL=kvm
# uses it). KTLS_MEASURE=1 also measures what 1 MiB costs the gateway with and without.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=configs/packaging/lib.sh
. configs/packaging/lib.sh

# The guest says one of these words last.
readonly passed='KTLS-TEST PASSED' failed='KTLS-TEST FAILED'
readonly minutes_max=${KTLS_TEST_MINUTES:-15}

main() {
    ensure_build_tools
    ensure qemu-system-x86_64:qemu-system-x86 busybox_static:busybox-static cpio:cpio curl:curl openssl:openssl depmod:kmod unxz:xz-utils
    # What measures wants what is measured built as it is shipped.
    local profile=debug
    if [ -n "${KTLS_MEASURE:-}" ]; then
        profile=release
        cargo build --locked --release --bin ferrogate
    else
        cargo build --locked --bin ferrogate
    fi
    work=$(target_dir)/ktls-test
    mkdir -p "$work"
    work=$(cd "$work" && pwd)
    fetch_kernel
    make_root "$(target_dir)/$profile/ferrogate"
    run_guest
}

probe_busybox_static() {
    have busybox && ! ldd "$(command -v busybox)" >/dev/null 2>&1
}

# The kernel that Debian has now, unpacked and not installed; or that of a folder with another one's packages unpacked (KTLS_KERNEL).
fetch_kernel() {
    local image package
    kernel=${KTLS_KERNEL:-}
    if [ -z "$kernel" ]; then
        image=$(depends_of linux-image-cloud-amd64 'linux-image-[0-9].*')
        [ -n "$image" ] || { apt_update_once && image=$(depends_of linux-image-cloud-amd64 'linux-image-[0-9].*'); } || true
        [ -n "$image" ] || die "apt knows no linux-image-cloud-amd64; the guest needs a kernel of Debian's, or KTLS_KERNEL with one unpacked."
        kernel=$work/$image
    fi
    if [ ! -d "$kernel" ]; then
        say "fetching $image"
        rm -rf "$work/packages" && mkdir "$work/packages"
        # Since Linux 7 the image is several packages.
        for package in $image $(depends_of "$image" 'linux-[a-z]*-[0-9].*'); do
            (cd "$work/packages" && apt-get -qq download "$package" 2>/dev/null)
        done
        for package in "$work"/packages/*.deb; do
            dpkg-deb -x "$package" "$work/packages/unpacked"
        done
        mv "$work/packages/unpacked" "$kernel"
    fi
    vmlinuz=$(find "$kernel" -name 'vmlinuz*' | head -n 1)
    modules=$(find "$kernel" -type d -path '*/lib/modules/*' -prune | head -n 1)
    release=${modules##*/}
    [ -n "$vmlinuz" ] && [ -n "$release" ] || die "no kernel lies in $kernel"
}

# depends_of PACKAGE PATTERN: what it depends on that is called so.
depends_of() {
    apt-cache depends "$1" 2>/dev/null | sed -n "s/^ *Depends: \($2\)/\1/p"
}

# make_root GATEWAY: the guest's file system.
make_root() {
    local into=lib/modules/$release program
    root=$work/root
    rm -rf "$root"
    mkdir -p "$root"/{bin,proc,sys,dev,tmp,etc,www/cgi-bin} "$root/$into/kernel"
    cp "$(command -v busybox)" "$root/bin/busybox"
    cp "$1" "$root/bin/ferrogate"
    [ -n "${KTLS_MEASURE:-}" ] || strip "$root/bin/ferrogate"
    cp "$(command -v curl)" "$(command -v openssl)" "$root/bin/"
    for program in ferrogate curl openssl; do
        copy_libraries "$root/bin/$program"
    done
    for part in crypto lib arch/x86/crypto arch/x86/lib net/tls; do
        [ ! -d "$modules/kernel/$part" ] || (cd "$modules/kernel" && cp -r --parents "$part" "$root/$into/kernel/")
    done
    find "$root/$into" -name '*.ko.xz' -exec unxz {} +
    cp "$modules"/modules.{builtin,builtin.modinfo,order} "$root/$into/"
    depmod -b "$root" "$release"
    cp tests/ktls/gateway.yaml "$root/etc/"
    install -m 755 tests/ktls/init.sh "$root/init"
    install -m 755 tests/ktls/digest.cgi "$root/www/cgi-bin/digest"
    head -c 1048576 /dev/urandom >"$root/www/mib"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
        -keyout "$root/etc/server.key" -out "$root/etc/server.crt" 2>/dev/null
    (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initramfs"
}

# copy_libraries PROGRAM: what it is linked to, where it looks for it.
copy_libraries() {
    ldd "$1" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*ld-linux[^ ]*\) .*/\1/p' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -Ln "$library" "$root$library" 2>/dev/null || true
    done
}

run_guest() {
    local console=$work/console guest
    : >"$console"
    timeout $((minutes_max * 60)) qemu-system-x86_64 -machine q35 -accel "${KTLS_ACCEL:-tcg}" -cpu max -m 1024 -smp 2 -nographic -no-reboot \
        -monitor none -nodefaults -serial "file:$console" -kernel "$vmlinuz" -initrd "$work/initramfs" \
        -append "console=ttyS0 panic=-1 quiet ktls_measure=${KTLS_MEASURE:-}" 2>"$work/qemu" &
    guest=$!
    wait "$guest" || say "the guest did not end by itself in $minutes_max minutes: $(cat "$work/qemu")"
    sed -n 's/\r$//; /^ktls: /p' "$console"
    if grep -q "$passed" "$console" && ! grep -q "$failed" "$console"; then
        return 0
    fi
    say "FAILED: what the guest said is in $console"
    tail -n 60 "$console" >&2
    return 1
}

main "$@"
