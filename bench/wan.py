#!/usr/bin/env python3
"""Answers over a lossy path: the DPDK plane's TCP beside Linux's, on the same wire.

    bench/wan.py [--samples 30] [--bytes 10240,102400,1048576] [--round-trips 1,20,80] [--loss 0,0.1,1]

Needs root, and target/release/{ferrogate,ferrogate-bench} built with DPDK (make bench builds them). Two network namespaces, a client and a gateway,
each with one end of a veth pair; between the other ends this program is the wire: it holds every frame for half a round trip and loses some,
by a seeded draw, in both directions. The gateway is Ferrogate, once over kernel sockets (CUBIC) and once over net_af_packet, in front of the same origin on
its own loopback. A sample is a new connection; its time is from the request's first byte to the answer's last. Everything that was made goes away at the end.
"""

import argparse
import heapq
import json
import os
import random
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

CLIENT, GATEWAY = "fgwan-client", "fgwan-gateway"
CLIENT_IP, GATEWAY_IP = "198.18.9.2", "198.18.9.1"
ORIGIN = "127.0.0.1:9080"
PORT = 8080
ALLOWED = "net.ipv4.tcp_allowed_congestion_control"
SOL_PACKET, PACKET_IGNORE_OUTGOING, ETH_P_ALL = 263, 23, 3


def run(*words, check=True):
    return subprocess.run(words, check=check, capture_output=True, text=True)


def allow_cubic():
    """A namespace may only use what the host allows. Answers what was allowed before."""
    before = run("sysctl", "-n", ALLOWED).stdout.strip()
    if "cubic" not in before.split():
        run("sysctl", "-qw", f"{ALLOWED}={before} cubic")
    return before


def make_net():
    for name, inner, outer, ip in ((CLIENT, "fgwc0", "fgwc1", CLIENT_IP), (GATEWAY, "fgwg0", "fgwg1", GATEWAY_IP)):
        run("ip", "netns", "add", name)
        run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
        run("ip", "netns", "exec", name, "ethtool", "-K", inner, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
        run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.tcp_congestion_control=cubic")
        # Not every kernel has these: then they are not needed, or the figures say so.
        for setting in ("net.ipv4.tcp_no_metrics_save=1", "net.ipv6.conf.all.disable_ipv6=1"):
            run("ip", "netns", "exec", name, "sysctl", "-qw", setting, check=False)
        for link in ("lo", inner):
            run("ip", "-n", name, "link", "set", link, "up")
        run("ip", "-n", name, "addr", "add", f"{ip}/24", "dev", inner)
        run("sysctl", "-qw", f"net.ipv6.conf.{outer}.disable_ipv6=1", check=False)
        run("ip", "link", "set", outer, "up")


def remove_net():
    # The links first: a namespace goes when the last socket in it has gone, and its links with it.
    for outer in ("fgwc1", "fgwg1"):
        run("ip", "link", "del", outer, check=False)
    for name in (CLIENT, GATEWAY):
        run("ip", "netns", "del", name, check=False)


def be_the_wire(delay, loss, seed):
    """Carries frames between the two outer ends until it is told to stop."""
    ends = []
    for name in ("fgwc1", "fgwg1"):
        end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        end.bind((name, 0))
        end.setblocking(False)
        ends.append(end)
    dice = [random.Random(seed), random.Random(~seed)]
    late, number = [], 0
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        while late and late[0][0] <= now:
            _, _, to, frame = heapq.heappop(late)
            try:
                ends[to].send(frame)
            except OSError:
                pass
        wait = max(0.0, late[0][0] - time.monotonic()) if late else 1.0
        # The kernel's timers are coarse: the last stretch is waited for awake.
        ready, _, _ = select.select(ends, [], [], 0 if wait < 0.0003 else wait - 0.0002)
        for end in ready:
            at = ends.index(end)
            for _ in range(64):
                try:
                    frame = end.recv(65536)
                except BlockingIOError:
                    break
                if dice[at].random() >= loss:
                    number += 1
                    heapq.heappush(late, (time.monotonic() + delay, number, 1 - at, frame))


def be_the_client(size, samples):
    """Times of so many answers, in milliseconds, as JSON."""
    times = []
    for _ in range(samples):
        with socket.create_connection((GATEWAY_IP, PORT), timeout=60) as conn:
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            begun, seen, head = time.monotonic(), 0, b""
            conn.sendall(f"GET /bytes/{size} HTTP/1.1\r\nHost: wan\r\nConnection: close\r\n\r\n".encode())
            while b"\r\n\r\n" not in head:
                part = conn.recv(65536)
                assert part, "the gateway closed without an answer"
                head += part
            assert head.startswith(b"HTTP/1.1 200"), head[:100]
            seen = len(head) - head.index(b"\r\n\r\n") - 4
            while seen < size:
                part = conn.recv(1 << 20)
                assert part, "the answer broke off"
                seen += len(part)
            times.append((time.monotonic() - begun) * 1e3)
    print(json.dumps(times))


def config(plane):
    dpdk = f"""
  type: dpdk
  workers: 1
  fallback: none
  dpdk:
    hugepages: false
    memory_mib: 128
    rx_ring_bytes: 2MiB
    tx_ring_bytes: 2MiB
    eal_args: ["--file-prefix", "fgwan"]
    ports:
      - {{device: "net_af_packet0,iface=fgwg0,blocksz=65536,framesz=2048,framecnt=4096,qdisc_bypass=1", address: {GATEWAY_IP}/24}}
"""
    return f"""servers:
  - default_log_path: stderr
    default_log_level: WARN
    listeners:
      - name: wan
        address: {GATEWAY_IP}:{PORT}
        filter_chains: [{{filters: [{{type: proxy, config: {{downstream_protocol: Http1, router_config_name: web}}}}]}}]
    routers:
      - router_config_name: web
        virtual_hosts: [{{name: all, domains: ["*"], routers: [{{match: {{prefix: /}}, route: {{cluster_name: origin}}}}]}}]
cluster_manager: {{clusters: [{{name: origin, hosts: [{{address: "{ORIGIN}"}}]}}]}}
dataplane:{dpdk if plane == "dpdk" else " {type: kernel, workers: 1}"}
"""


class Served:
    """A gateway in its namespace, and its origin."""

    def __init__(self, plane, folder, binaries):
        self.plane, address = plane, f"{GATEWAY_IP}/24"
        # Who has the address answers for it: Linux, or the stack on the port.
        run("ip", "-n", GATEWAY, "addr", "flush", "dev", "fgwg0")
        if plane == "kernel":
            run("ip", "-n", GATEWAY, "addr", "add", address, "dev", "fgwg0")
        path = os.path.join(folder, f"{plane}.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(config(plane))
        inside = ["ip", "netns", "exec", GATEWAY, "taskset", "-c", "0"]
        self.log = open(os.path.join(folder, f"{plane}.log"), "w+", encoding="utf-8")
        self.children = [
            subprocess.Popen(inside + [binaries + "/ferrogate-bench", "origin", "--listen", ORIGIN], stderr=subprocess.DEVNULL),
            subprocess.Popen(inside + [binaries + "/ferrogate", "start", "-c", path], stdout=self.log, stderr=self.log),
        ]

    def stop(self):
        for child in reversed(self.children):
            child.send_signal(signal.SIGINT)
            child.wait()


def measure(size, samples):
    words = ["ip", "netns", "exec", CLIENT, "taskset", "-c", "1", sys.executable, __file__, "--be-client", str(size), str(samples)]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)


def wire(delay, loss, seed):
    child = subprocess.Popen(["taskset", "-c", "1", sys.executable, __file__, "--be-wire", str(delay), str(loss), str(seed)], stdout=subprocess.PIPE)
    child.stdout.readline()
    return child


def wait_until_served():
    for _ in range(200):
        probe = ["ip", "netns", "exec", CLIENT, "curl", "-sf", "-m", "1", "-o", "/dev/null", f"http://{GATEWAY_IP}:{PORT}/"]
        if subprocess.run(probe, check=False).returncode == 0:
            return
        time.sleep(0.1)
    sys.exit("the gateway does not answer")


def table(args, folder):
    found = {}
    for plane in ("kernel", "dpdk"):
        served = Served(plane, folder, args.binaries)
        try:
            carrier = wire(0, 0, 0)
            wait_until_served()
            carrier.terminate()
            for row in [(s, r, l) for s in args.bytes for r in args.round_trips for l in args.loss]:
                size, round_trip, loss = row
                carrier = wire(round_trip / 2000, loss / 100, 7)
                samples = args.samples if loss else max(3, args.samples // 6)
                found[(plane, row)] = sorted(measure(int(size), samples))
                carrier.terminate()
                carrier.wait()
        finally:
            served.stop()
    print("| bytes | round trip, ms | loss, % | Linux: mean, ms | 99th | DPDK: mean, ms | 99th | mean: DPDK / Linux |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for (plane, row), ours in found.items():
        if plane == "dpdk":
            linux = found[("kernel", row)]
            cells = [f"{statistics.mean(t):.1f} | {t[int((len(t) - 1) * 0.99)]:.1f}" for t in (linux, ours)]
            size, round_trip, loss = row
            ratio = statistics.mean(ours) / statistics.mean(linux)
            print(f"| {size:.0f} | {round_trip:g} | {loss:g} | {cells[0]} | {cells[1]} | {ratio:.2f} |")


def main():
    if sys.argv[1:2] == ["--be-wire"]:
        return be_the_wire(float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
    if sys.argv[1:2] == ["--be-client"]:
        return be_the_client(int(sys.argv[2]), int(sys.argv[3]))
    numbers = lambda text: [float(n) for n in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--bytes", type=numbers, default=[10240, 102400, 1048576])
    parser.add_argument("--round-trips", type=numbers, default=[1, 20, 80])
    parser.add_argument("--loss", type=numbers, default=[0, 0.1, 1])
    parser.add_argument("--binaries", default="target/release")
    args = parser.parse_args()
    allowed = allow_cubic()
    try:
        make_net()
        with tempfile.TemporaryDirectory() as folder:
            table(args, folder)
    finally:
        remove_net()
        run("sysctl", "-qw", f"{ALLOWED}={allowed}", check=False)


if __name__ == "__main__":
    main()
