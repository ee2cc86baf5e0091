# shellcheck shell=bash
# The gateway as it is shipped: compiled for the work that it does under load (rustc's profile-guided optimisation).
#
# Sourced after lib.sh, never run. The compiler is run twice: once with counters in the code, which the bench's scenarios then fill, and once
# with what they said. The counts are kept under the target folder by the source that they belong to, so the first step is
# left out while that stays the same.

# What a gateway is asked to do while it is counted, so that neither side of a choice looks rare: a word of ferrogate-bench each.
readonly trained_on=h1-keepalive,h1-real,h1-close,h1-body-1m,https-keepalive,https-body-1m,tls-full-rsa2048,tls-full-ecdsa-p256,tls-resumed,tls-to-origin,h2-clear,h2-tls,tcp-proxy,bolt,bolt-multiplexed
readonly trained_on_dpdk=h1-keepalive,h1-close,h1-body-1m,https-keepalive,tls-resumed,h2-clear,conns-1k

# build_trained FEATURES BENCH: the gateway, with the counts that BENCH, a ferrogate-bench, makes it fill. Its path is in $trained after
# it; status 1 and the reason when this toolchain can't.
trained=
build_trained() {
    local features=$1 bench=$2 host dir key profdata_tool
    host=$(rustc -vV | sed -n 's/^host: //p')
    compgen -G "$(rustc --print sysroot)/lib/rustlib/$host/lib/libprofiler_builtins-*.rlib" >/dev/null ||
        { say "this toolchain can't count what a program does (no profiler_builtins)"; return 1; }
    profdata_tool=$(find_profdata) || { say "llvm-profdata of the compiler's LLVM can't be had (rustup component add llvm-tools)"; return 1; }
    dir=$(realpath -m "$(target_dir)/trained")
    mkdir -p "$dir"
    key=$(source_key "$features")
    if [ ! -e "$dir/$key.profdata" ]; then
        count "$features" "$bench" "$dir" "$host" || return 1
        "$profdata_tool" merge --sparse --failure-mode=all --output "$dir/$key.part" "$dir"/counts/*.profraw || return 1
        find "$dir" -maxdepth 1 -name '*.profdata' -delete
        mv "$dir/$key.part" "$dir/$key.profdata"
        rm -rf "$dir/counts"
    fi
    # With a target of its own: build scripts and macros go without.
    # shellcheck disable=SC2046 # two words or none
    RUSTFLAGS="${RUSTFLAGS:-} -Cprofile-use=$dir/$key.profdata" CARGO_TARGET_DIR=$dir/optimised FERROGATE_TRAINED=1 \
        cargo build --release --locked --target "$host" --package ferrogate $(feature_flags "$features") || return 1
    trained=$dir/optimised/$host/release/ferrogate
}

# build_bench FEATURES: the load generator. Its path is in $bench after it.
bench=
build_bench() {
    local features
    features=$(sed -n 's/^dpdk$/ferrogate-bench\/dpdk/p' <<<"$1")
    # shellcheck disable=SC2046 # two words or none
    cargo build --release --locked --package ferrogate-bench $(feature_flags "$features")
    bench=$(target_dir)/release/ferrogate-bench
}

# count FEATURES BENCH DIR HOST: a gateway with counters, under load; what they say is in DIR/counts after it.
count() {
    local features=$1 bench=$2 dir=$3 host=$4 gateway
    gateway=$dir/counting/$host/release/ferrogate
    # shellcheck disable=SC2046 # two words or none
    RUSTFLAGS="${RUSTFLAGS:-} -Cprofile-generate" CARGO_TARGET_DIR=$dir/counting \
        cargo build --release --locked --target "$host" --package ferrogate $(feature_flags "$features") || return 1
    rm -rf "$dir/counts"
    mkdir -p "$dir/counts"
    say "putting it under load, to see which way it goes (three minutes)"
    train "$bench" "$gateway" "$dir" --backend ferrogate-kernel --scenario "$trained_on" || return 1
    if has_feature dpdk "$features" && is_root; then
        train "$bench" "$gateway" "$dir" --backend ferrogate-memif --scenario "$trained_on_dpdk" || say "its DPDK plane goes without"
    fi
    if has_feature dpdk "$features"; then
        train_flooded "$bench" "$gateway" "$dir" || say "its DPDK plane goes without a flood of SYNs; see $dir/flooded/log"
    fi
}

# train_flooded BENCH GATEWAY DIR: clients beside a flood. Where none was seen all that answers one is compiled as if it never ran.
train_flooded() {
    local bench=$1 gateway=$2 dir=$3 flooder
    have python3 || return 1
    cargo build --release --locked --package dataplane-dpdk --features dpdk --example flood || return 1
    flooder=$(target_dir)/release/examples/flood
    rm -rf "$dir/flooded"
    mkdir -p "$dir/flooded/examples"
    ln -s "$(realpath "$bench")" "$dir/flooded/ferrogate-bench"
    ln -s "$(realpath "$gateway")" "$dir/flooded/ferrogate"
    ln -s "$(realpath "$flooder")" "$dir/flooded/examples/flood"
    LLVM_PROFILE_FILE="$dir/counts/%m-%p.profraw" bench/flood.py --bin "$dir/flooded" --rates 500000 --rounds 1 --seconds 1 >"$dir/flooded/log" 2>&1
}

# train BENCH GATEWAY DIR ARGUMENT...: once through the scenarios.
train() {
    local bench=$1 gateway=$2 dir=$3
    local -a wire=()
    shift 3
    is_root || wire=(--wire loopback)
    LLVM_PROFILE_FILE="$dir/counts/%m-%p.profraw" "$bench" run --ferrogate "$gateway" --no-counts --rounds 1 --seconds 0.5 "${wire[@]}" --out "$dir/training.jsonl" "$@" >"$dir/training.log" 2>&1 ||
        { say "the training ended early; see $dir/training.log"; return 1; }
}

# What the counts belong to: compiler, features and every file that is compiled.
source_key() {
    local -a made_of=(Cargo.toml Cargo.lock src core dataplane-dpdk dataplane-kernel tls-offload)
    {
        rustc -vV
        echo "$1" "${RUSTFLAGS:-}" "$trained_on" "$trained_on_dpdk" flooded
        find "${made_of[@]}" -type f -not -path '*/tests/*' -not -path '*/examples/*' -not -path '*/target/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    } | sha256sum | cut -c 1-16
}

# Prints the llvm-profdata that reads what this compiler writes: its own, or Debian's of the same major version.
find_profdata() {
    local major
    major=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    ! first_profdata "$major" || return 0
    ! have rustup || rustup component add llvm-tools >&2 || true
    ! first_profdata "$major" || return 0
    (install_packages "llvm-$major") && first_profdata "$major"
}

# first_profdata MAJOR: the first that is here.
first_profdata() {
    local tool
    for tool in "$(rustc --print sysroot)"/lib/rustlib/*/bin/llvm-profdata "/usr/lib/llvm-$1/bin/llvm-profdata"; do
        [ ! -x "$tool" ] || { echo "$tool"; return 0; }
    done
    return 1
}
