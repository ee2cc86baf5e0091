#!/usr/bin/env python3
"""What a proxied request costs the DPDK plane beside the least that a userspace TCP can do: an echo of smoltcp alone.

    bench/floor.py [--connections 64] [--seconds 1] [--rounds 9] [--gateway PATH]

Needs target/release/{ferrogate,ferrogate-bench,examples/bare} built with DPDK:
    cargo build --release -p ferrogate -p ferrogate-bench --features ferrogate/dpdk,ferrogate-bench/dpdk
    cargo build --release -p dataplane-dpdk --features dpdk --example bare
No root and no hugepages: the wire is memif, shared memory. Each has one core, the load (client, and the gateway's origin) the other. Both are asked
for as much as they carry, in turn; what is compared is the time of turns to which something came. The echo sends a request's bytes back as they are:
two packets, and no second connection; a proxied request is four, on two.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import flood


def gateway(args, folder):
    """Nanoseconds of busy time a proxied request."""
    path = folder / "gateway.yaml"
    path.write_text("".join(line for line in flood.config(folder, "").splitlines(True) if "b.sock" not in line))
    with (folder / "gateway.log").open("w") as log:
        process = flood.start([args.gateway or args.bin / "ferrogate", "start", "-c", path], 0, stderr=log)

    def busy():
        return sum(value for key, value in flood.metrics().items() if "_busy_nanoseconds_total" in key)

    return cost(args, folder, process, busy, "http")


def echo(args, folder):
    """Nanoseconds of busy time an echo."""
    device = f"net_memif0,role=server,id=0,socket={folder}/a.sock,socket-abstract=no,rsize=11"
    process = flood.start([args.bin / "examples/bare", device, "10.99.0.1/24", "8080", str(args.connections + 8)], 0)

    def busy():
        process.stdin.write("\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    return cost(args, folder, process, busy, "tcp")


def cost(args, folder, process, busy, mode):
    load = None
    try:
        wait_for(folder / "a.sock", process)
        words = [args.bin / "ferrogate-bench", "load", "--memif", folder / "a.sock", "--to", "10.99.0.1:8080", "--no-huge", "--hold"]
        words += ["--connections", args.connections, "--seconds", args.seconds, "--warmup", 0.5, "--mode", mode]
        load = flood.start([str(word) for word in words], 1, stderr=subprocess.DEVNULL)
        if load.stdout.readline().strip() != "measuring":
            sys.exit("the load did not start")
        before = busy()
        load.stdout.readline()
        spent = busy() - before
        found = json.loads(load.stdout.readline())
        if sum(found["errors"].values()) or not found["requests"]:
            sys.exit(f"requests failed: {found}")
        return spent / found["requests"]
    finally:
        # The echo ends with its input; a memif peer that is polled must not go away first.
        process.stdin.close()
        process.terminate()
        process.wait(timeout=20)
        if load:
            load.stdin.close()
            load.wait(timeout=20)
        (folder / "a.sock").unlink(missing_ok=True)


def wait_for(path, process):
    deadline = time.time() + 20
    while not path.exists():
        if time.time() > deadline or process.poll() is not None:
            sys.exit(f"{process.args[3]} did not start")
        time.sleep(0.05)


def main():
    here = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--bin", type=pathlib.Path, default=here / "target/release")
    parser.add_argument("--gateway", type=pathlib.Path, help="another gateway than the one in --bin, as make release builds it")
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as name:
        for turn in range(args.rounds):
            both = [echo, gateway] if turn % 2 else [gateway, echo]
            figures = {one.__name__: one(args, pathlib.Path(name)) for one in both}
            print(f"round {turn + 1}: {figures}", file=sys.stderr)
            found.append(figures)
    request, floor = (statistics.median(f[name] for f in found) for name in ("gateway", "echo"))
    ratios = sorted(f["gateway"] / f["echo"] for f in found)
    print(f"a proxied request {request:,.0f} ns, an echo of smoltcp alone {floor:,.0f} ns: "
          f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
