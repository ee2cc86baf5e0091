#!/usr/bin/env python3
"""Answers of the gateway's own over one veth pair: the DPDK plane beside kernel sockets, with wrk as the client.

    bench/direct.py [--planes kernel,net_af_xdp,net_af_packet] [--connections 1,64] [--seconds 2] [--rounds 7]

Needs root, wrk, and target/release/ferrogate built with DPDK (make bench builds it). The gateway is on one core, in a network namespace, and
answers by itself (direct_response); wrk is on the other core, in the namespace at the other end of the veth pair, the same for all. A round
starts each plane anew, in turn. Printed are medians over the rounds: requests a second, the median and the 99th percentile of the time that
wrk saw, and both as ratios to kernel sockets, round by round. Everything that was made goes away at the end.
"""

import argparse
import os
import re
import statistics
import tempfile

import idle


def make_net(plane):
    """On kernel sockets Linux has the address, and a kernel that is tuned its segmentation offload, which a polled port can't take."""
    idle.make_net("net_af_xdp")
    if plane != "kernel":
        return
    idle.run("ip", "-n", idle.GATEWAY, "addr", "add", f"{idle.GATEWAY_IP}/24", "dev", "fgig0")
    for name, link in ((idle.CLIENT, "fgic0"), (idle.GATEWAY, "fgig0")):
        idle.run("ip", "netns", "exec", name, "ethtool", "-K", link, "tx", "on", "tso", "on", "gso", "on", "gro", "on")


def dataplane(plane):
    return "dataplane: {type: kernel, workers: 1}\n" if plane == "kernel" else idle.polled(plane, "{}")


def measure(plane, args, connections):
    """Requests a second, and the times in microseconds."""
    try:
        make_net(plane)
        with tempfile.TemporaryDirectory() as folder:
            gateway = idle.Gateway(plane, dataplane(plane), folder, args.binary)
            try:
                gateway.wait(plane)
                return load(args.seconds, connections)
            finally:
                gateway.stop()
    finally:
        idle.remove_net()


def load(seconds, connections):
    words = ["ip", "netns", "exec", idle.CLIENT, "taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", "--latency"]
    url = f"http://{idle.GATEWAY_IP}:{idle.PORT}/"
    idle.run(*words, "-d1", url)
    text = idle.run(*words, f"-d{seconds}", url).stdout
    if re.search("Non-2xx|Socket errors", text):
        raise RuntimeError(f"requests failed: {text}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    return rate, *(microseconds(re.search(rf"^ +{part}% +(\S+)$", text, re.MULTILINE)[1]) for part in (50, 99))


def microseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planes", default="kernel,net_af_xdp,net_af_packet")
    parser.add_argument("--connections", default="1,64")
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--binary", default="target/release/ferrogate")
    args = parser.parse_args()
    planes = args.planes.split(",")
    print("| connections | plane | requests a second | median, us | 99th, us | requests to kernel sockets | median to kernel sockets |")
    print("|---:|---|---:|---:|---:|---:|---:|", flush=True)
    for connections in args.connections.split(","):
        rounds = [{plane: measure(plane, args, connections) for plane in planes} for _ in range(args.rounds)]
        for plane in planes:
            rate, half, last = (statistics.median(r[plane][n] for r in rounds) for n in range(3))
            ratios = [ratio(rounds, plane, n) for n in (0, 1)] if "kernel" in planes else ["", ""]
            print(f"| {connections} | {plane} | {rate:,.0f} | {half:.0f} | {last:.0f} | {ratios[0]} | {ratios[1]} |", flush=True)


def ratio(rounds, plane, number):
    found = sorted(r[plane][number] / r["kernel"][number] for r in rounds)
    return f"{statistics.median(found):.2f} ({found[0]:.2f}–{found[-1]:.2f})"


if __name__ == "__main__":
    if os.geteuid() != 0:
        raise SystemExit("root is needed, for the namespaces and the port")
    main()
