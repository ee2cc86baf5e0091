# shellcheck shell=bash
# What the scripts behind the Makefile share: messages, Debian packages, the Rust toolchain.
#
# Sourced, never run. The caller has set -euo pipefail and stands in the project's root.

# The oldest toolchain that builds the workspace: rust-version in Cargo.toml, as MAJOR.MINOR.
rust_version_min() {
    sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml
}

say() {
    printf 'ferrogate: %s\n' "$*" >&2
}

die() {
    say "$*"
    exit 1
}

# A plain user's PATH lacks the folders of ip, ethtool and nginx.
export PATH="$PATH:/usr/sbin:/sbin"

have() {
    command -v "$1" >/dev/null 2>&1
}

# version_ge A B: A >= B, as dotted numbers.
version_ge() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

is_root() {
    [ "$(id -u)" -eq 0 ]
}

# How this user becomes root for apt: nothing, sudo, or not at all (status 1).
root_prefix() {
    if is_root; then
        return 0
    fi
    have sudo || return 1
    # Without a terminal sudo must not stop to ask.
    if [ -t 0 ] || sudo -n true 2>/dev/null; then
        echo sudo
        return 0
    fi
    return 1
}

# Further options of every apt command, e.g. where its sources are.
apt_options=()

# apt_run WORD...: apt-get as root, without questions.
apt_run() {
    local -a prefix=()
    local word
    word=$(root_prefix) || return 1
    [ -z "$word" ] || prefix=("$word")
    "${prefix[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "${apt_options[@]}" "$@" >&2
}

apt_lists_present() {
    compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null
}

# Refreshes apt's lists, at most once in a run.
apt_updated=
apt_update_once() {
    [ -z "$apt_updated" ] || return 0
    apt_updated=yes
    apt_run update
}

# install_packages PACKAGE...: installs them, or stops with the line to type.
install_packages() {
    local line="apt-get update && apt-get install --no-install-recommends $*"
    have apt-get || die "missing here: $*. This system has no apt-get; install what matches these Debian packages by its own means."
    root_prefix >/dev/null || die "missing here: $*. Neither root nor sudo is at hand; as root, run:  $line"
    say "installing: $*"
    apt_lists_present || apt_update_once || die "apt-get update failed; try:  $line"
    try_install "$@" || { apt_update_once && try_install "$@"; } || die "apt could not install all of them; try:  $line"
}

# Nothing is ever removed for us, and no service that comes with a package is started.
try_install() {
    local status=0
    forbid_service_starts
    apt_run install -y --no-install-recommends --no-remove "$@" || status=$?
    allow_service_starts
    return "$status"
}

# Debian's own switch for "install, but start nothing": nginx would open port 80 of the host otherwise.
policy_file=/usr/sbin/policy-rc.d
policy_made=
forbid_service_starts() {
    local word
    [ ! -e "$policy_file" ] || return 0
    word=$(root_prefix) || return 0
    printf '#!/bin/sh\nexit 101\n' | $word tee "$policy_file" >/dev/null && $word chmod 755 "$policy_file"
    policy_made=yes
}

allow_service_starts() {
    local word
    [ -n "$policy_made" ] || return 0
    word=$(root_prefix) || return 0
    $word rm -f "$policy_file"
    policy_made=
}

# ensure PROBE:PACKAGE...: installs the packages whose probe fails, all in one go. A probe is a function or a command's name.
ensure() {
    local entry probe package
    local -a missing=()
    for entry in "$@"; do
        probe=${entry%%:*}
        package=${entry#*:}
        passes "$probe" || missing+=("$package")
    done
    [ "${#missing[@]}" -eq 0 ] || install_packages "${missing[@]}"
}

passes() {
    if declare -F "probe_$1" >/dev/null; then
        "probe_$1"
    else
        have "$1"
    fi
}

probe_libc_headers() {
    have cc && printf '#include <stdio.h>\n' | cc -E -x c - >/dev/null 2>&1
}

probe_ca_certificates() {
    [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ] || [ -e /etc/ssl/cert.pem ]
}

probe_libdpdk() {
    have pkg-config && pkg-config --exists libdpdk
}

# What every build needs.
ensure_build_tools() {
    ensure cc:gcc libc_headers:libc6-dev pkg-config:pkg-config ca_certificates:ca-certificates
    ensure_rust
}

# An engine that OpenSSL finds by its name.
probe_pkcs11_engine() {
    have openssl && openssl engine pkcs11 >/dev/null 2>&1
}

probe_libssl() {
    have pkg-config && pkg-config --exists 'openssl >= 3.0.0'
}

# Prints the features of a build, a word each: those whose library is here or can be installed.
features_here() {
    if ! probe_libdpdk; then
        (install_packages libdpdk-dev) || true
    fi
    if probe_libdpdk; then
        echo dpdk
    else
        say "libdpdk-dev can't be had: building without the feature dpdk; only the kernel plane will be there."
    fi
    if ! probe_libssl; then
        (install_packages libssl-dev) || true
    fi
    if probe_libssl; then
        echo openssl
    else
        say "libssl-dev can't be had: building without the feature openssl; TLS will be that of rustls only."
    fi
}

# has_feature WORD FEATURES: whether features_here printed it.
has_feature() {
    grep -qx "$1" <<<"$2"
}

# feature_flags FEATURES: them as cargo's arguments, two words or none.
feature_flags() {
    [ -z "$1" ] || echo "--features $(paste -s -d , <<<"$1")"
}

# Puts a usable cargo first on PATH: the one that is there, else Debian's.
ensure_rust() {
    local min
    min=$(rust_version_min)
    if cargo_usable cargo "$min"; then
        return 0
    fi
    if [ -x "${HOME:-/}/.cargo/bin/cargo" ] && cargo_usable "$HOME/.cargo/bin/cargo" "$min"; then
        export PATH="$HOME/.cargo/bin:$PATH"
        return 0
    fi
    if ! cargo_usable /usr/bin/cargo "$min"; then
        install_debian_rust "$min"
    fi
    export PATH="/usr/bin:$PATH"
    hash -r
    cargo_usable cargo "$min" || die "no cargo >= $min, and Debian's did not help; install a newer toolchain and try again."
}

# cargo_usable CARGO MIN: it runs, here, and is new enough. (A rustup proxy without a toolchain is on PATH but does not run.)
cargo_usable() {
    local version
    version=$("$1" --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p') || return 1
    [ -n "$version" ] && version_ge "$version" "$2"
}

# install_debian_rust MIN: rustc-web and cargo-web are Debian's current toolchain, kept new for browsers. Their newest version is in the
# security suite, which a machine made by debootstrap does not list: then that suite is used for this one installation.
install_debian_rust() {
    local min=$1 sources
    have apt-get || die "no cargo >= $min here, and no apt-get to install one."
    root_prefix >/dev/null || die "no cargo >= $min here. Neither root nor sudo is at hand; as root, run:  apt-get update && apt-get install rustc-web cargo-web rustfmt-web rust-web-clippy  (from Debian's security suite)"
    candidate_new_enough rustc-web "$min" || apt_update_once || true
    if candidate_new_enough rustc-web "$min"; then
        install_packages rustc-web cargo-web rustfmt-web rust-web-clippy
        return
    fi
    say "this system does not list Debian's security suite: using it for rustc-web and cargo-web (apt's sources stay as they are)"
    sources=$(mktemp -d)
    security_sources "$sources"
    apt_options=(-o "Dir::Etc::SourceParts=$sources")
    apt_updated=
    apt_update_once || true
    candidate_new_enough rustc-web "$min" || die "Debian has no cargo >= $min for this release; install a toolchain by other means and try again."
    install_packages rustc-web cargo-web rustfmt-web rust-web-clippy
    apt_options=()
    rm -rf "$sources"
}

# candidate_new_enough PACKAGE MIN: what apt would install of it.
candidate_new_enough() {
    local version
    version=$(apt-cache "${apt_options[@]}" policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9.]*\).*/\1/p')
    [ -n "$version" ] && version_ge "$version" "$2"
}

# security_sources FOLDER: apt's own source parts plus the security suite of the mirror in use.
security_sources() {
    local uri release
    [ ! -d /etc/apt/sources.list.d ] || cp -r /etc/apt/sources.list.d/. "$1/"
    # shellcheck disable=SC2016 # apt expands these names, not the shell
    read -r uri release < <(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 'Component: main' | head -n 1)
    [ -n "${uri:-}" ] || die "apt names no source of packages; add Debian's to its sources."
    printf 'deb %s-security %s-security main\n' "${uri%/}" "$release" >"$1/ferrogate-security.list"
}

readonly hugepages_total=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
readonly hugepages_free=/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages

# take_hugepages MIB FILE: sees to it that so much is free in pages of 2 MiB (status 1 when it can't be had). The count that was there
# before goes into FILE, for give_back_hugepages.
take_hugepages() {
    local wanted=$(($1 / 2)) free
    [ -r "$hugepages_free" ] || return 1
    free=$(cat "$hugepages_free")
    [ "$free" -lt "$wanted" ] || return 0
    [ -w "$hugepages_total" ] || return 1
    cat "$hugepages_total" >"$2"
    echo $(($(cat "$hugepages_total") + wanted - free)) >"$hugepages_total" || return 1
    [ "$(cat "$hugepages_free")" -ge "$wanted" ]
}

# give_back_hugepages FILE: as they were before take_hugepages.
give_back_hugepages() {
    [ ! -s "$1" ] || cat "$1" >"$hugepages_total" 2>/dev/null || true
    rm -f "$1"
}

# The folder of cargo's results.
target_dir() {
    echo "${CARGO_TARGET_DIR:-target}"
}
