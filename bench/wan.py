#!/usr/bin/env python3
"""Answers over a lossy path: the DPDK plane's TCP beside Linux's, on the same wire.

    bench/wan.py [--bytes 10240,102400,1048576] [--round-trips 1,20,80] [--loss 0,0.1,1] [--effort 1] [--keep times.jsonl]
    bench/wan.py --report times.jsonl...      the table of runs that were kept
    bench/wan.py --share 60                   two long downloads through one bottleneck, one from each, for so many seconds

Needs root, and target/release/{ferrogate,ferrogate-bench} built with DPDK (make bench builds them). Network namespaces, a client and a gateway,
each with one end of a veth pair; between the other ends this program is the wire: it holds every frame for half a round trip and loses some
of TCP's, in both directions. What is lost of a connection is drawn from the seed and the number of the connection: the n-th frame of the k-th
connection has the same fate whoever sends it. The gateway is Ferrogate, once over kernel sockets (CUBIC) and once over net_af_packet, in front of the
same origin on its own loopback. They share a core, which they would not elsewhere: so the origin comes first on it (SCHED_FIFO), or a gateway
that polls would be measured by how long Linux lets the origin wait. A sample is a new connection; its time is from the request's first byte to
the answer's last. Many are under way at a time where the path is long: the wire has no bottleneck (but for --share), so they don't meet.
Everything that was made goes away at the end.
"""

import argparse
import heapq
import json
import os
import random
import select
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

CLIENT, GATEWAY, OTHER = "fgwan-client", "fgwan-gateway", "fgwan-other"
CLIENT_IP, GATEWAY_IP, OTHER_IP = "198.18.9.2", "198.18.9.1", "198.18.9.3"
ORIGIN = "127.0.0.1:9080"
PORT = 8080
ALLOWED = "net.ipv4.tcp_allowed_congestion_control"
SOL_PACKET, PACKET_IGNORE_OUTGOING, ETH_P_ALL = 263, 23, 3
# Name, inner and outer end of its veth pair, address.
HOSTS = [(CLIENT, "fgwc0", "fgwc1", CLIENT_IP), (GATEWAY, "fgwg0", "fgwg1", GATEWAY_IP), (OTHER, "fgwo0", "fgwo1", OTHER_IP)]
# Samples for an answer of so many bytes, and connections at a time for a round trip of so many milliseconds.
SAMPLES = {10240: 2000, 102400: 1000, 1048576: 400}
AT_A_TIME = {1: 1, 20: 12, 80: 32}


def run(*words, check=True):
    return subprocess.run(words, check=check, capture_output=True, text=True)


def allow_cubic():
    """A namespace may only use what the host allows. Answers what was allowed before."""
    before = run("sysctl", "-n", ALLOWED).stdout.strip()
    if "cubic" not in before.split():
        run("sysctl", "-qw", f"{ALLOWED}={before} cubic")
    return before


def make_net():
    for name, inner, outer, ip in HOSTS:
        run("ip", "netns", "add", name)
        run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
        run("ip", "netns", "exec", name, "ethtool", "-K", inner, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
        run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.tcp_congestion_control=cubic")
        # What one connection learnt of the path is not for the next.
        run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1")
        run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", check=False)
        for link in ("lo", inner):
            run("ip", "-n", name, "link", "set", link, "up")
        run("ip", "-n", name, "addr", "add", f"{ip}/24", "dev", inner)
        run("sysctl", "-qw", f"net.ipv6.conf.{outer}.disable_ipv6=1", check=False)
        run("ip", "link", "set", outer, "up")


def remove_net():
    # The links first: a namespace goes when the last socket in it has gone, and its links with it.
    for _, _, outer, _ in HOSTS:
        run("ip", "link", "del", outer, check=False)
    for name, *_ in HOSTS:
        run("ip", "netns", "del", name, check=False)


class Dice:
    """Which frames are lost: for each connection two streams of draws, one in each direction."""

    def __init__(self, loss, seed):
        self.loss, self.seed, self.number, self.flows = loss, seed, 0, {}

    def is_lost(self, end, frame):
        """Of the frame that came in at this end: 0 is the client's."""
        if self.loss == 0 or frame[12:14] != b"\x08\x00" or frame[23] != 6:
            return False
        tcp = 14 + (frame[14] & 15) * 4
        port = frame[tcp:tcp + 2] if end == 0 else frame[tcp + 2:tcp + 4]
        if end == 0 and frame[tcp + 13] & 0x12 == 2:
            first = frame[tcp + 4:tcp + 8]
            if self.flows.get(port, (None,))[0] != first:
                self.number += 1
                self.flows[port] = (first, *(random.Random(f"{self.seed} {self.number} {way}") for way in (0, 1)))
        flow = self.flows.get(port)
        return flow is not None and flow[1 + min(end, 1)].random() < self.loss


def be_the_wire(delay, loss, seed, rate, queue, overhead):
    """Carries frames between the outer ends until it is told to stop. Towards the client they pass one queue of so many bytes, at so many bytes a second (0: no such thing).

    What the client says to them is late by up to `overhead` seconds more then, by the dice. Without it the same sender is mostly the last to reach a
    full queue, whose frame is dropped (Floyd and Jacobson, On Traffic Phase Effects in Packet-Switched Gateways, 1992): Linux answers within the wire's
    own system call, a polling gateway a little later. They ask for the time of one frame at least; a millisecond is that of some eight, as the wire
    wakes up for several acknowledgements at a time."""
    ends = []
    for _, _, outer, _ in HOSTS:
        end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        end.bind((outer, 0))
        end.setblocking(False)
        ends.append(end)
    dice, late, number, free_at = Dice(loss, seed), [], 0, 0.0
    where, last_due, lateness = {}, {}, random.Random(seed)
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        while late and late[0][0] <= now:
            _, _, to, frame = heapq.heappop(late)
            for end in to:
                try:
                    end.send(frame)
                except OSError:
                    pass
        wait = max(0.0, late[0][0] - time.monotonic()) if late else 1.0
        # The kernel's timers are coarse: the last stretch is waited for awake, but for a bottleneck, whose queue is coarser.
        early = 0 if rate else 0.0002
        ready, _, _ = select.select(ends, [], [], 0 if wait < 1.5 * early else wait - early)
        # One frame from each in turn: who is asked first would have the advantage at a queue that is full.
        ready, taken = [ends.index(end) for end in ready], 0
        while ready and taken < 64:
            at = ready.pop(0)
            try:
                frame = ends[at].recv(65536)
            except BlockingIOError:
                continue
            ready.append(at)
            taken += 1
            if dice.is_lost(at, frame):
                continue
            now = time.monotonic()
            where[frame[6:12]] = ends[at]
            to = [where[frame[:6]]] if frame[:6] in where else [other for other in ends if other is not ends[at]]
            if rate and at != 0:
                free_at = max(free_at, now)
                if (free_at - now) * rate + len(frame) > queue:
                    continue
                free_at += len(frame) / rate
                now = free_at
            number += 1
            due = now + delay
            if rate and at == 0:
                due = last_due[frame[:6]] = max(last_due.get(frame[:6], 0), due + lateness.uniform(0, overhead))
            heapq.heappush(late, (due, number, to, frame))


class Sample:
    """A connection, from connect to the last byte of its answer."""

    def __init__(self, size):
        self.size, self.head, self.left, self.begun = size, b"", None, None
        self.conn = socket.socket()
        self.conn.setblocking(False)
        self.conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.conn.connect_ex((GATEWAY_IP, PORT))

    def send(self):
        assert self.conn.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0, "it does not connect"
        request = f"GET /bytes/{self.size} HTTP/1.1\r\nHost: wan\r\nConnection: close\r\n\r\n".encode()
        self.begun = time.monotonic()
        assert self.conn.send(request) == len(request)

    def receive(self):
        """The time in milliseconds once the answer is complete."""
        part = self.conn.recv(1 << 20)
        assert part, "the answer broke off"
        if self.left is None:
            self.head += part
            if b"\r\n\r\n" not in self.head:
                return None
            assert self.head.startswith(b"HTTP/1.1 200"), self.head[:100]
            self.left, part = self.size, self.head[self.head.index(b"\r\n\r\n") + 4:]
        self.left -= len(part)
        return None if self.left > 0 else (time.monotonic() - self.begun) * 1e3


def be_the_client(size, samples, at_a_time):
    """Times of so many answers in the order of their connections, in milliseconds, as JSON."""
    times, begun, waiting = [None] * samples, 0, selectors.DefaultSelector()
    last = time.monotonic()
    while None in times:
        while begun < samples and len(waiting.get_map()) < at_a_time:
            sample = Sample(size)
            waiting.register(sample.conn, selectors.EVENT_WRITE, (begun, sample))
            begun += 1
        for key, _ in waiting.select(1.0):
            number, sample = key.data
            last = time.monotonic()
            if sample.begun is None:
                sample.send()
                waiting.modify(sample.conn, selectors.EVENT_READ, key.data)
                continue
            times[number] = sample.receive()
            if times[number] is not None:
                waiting.unregister(sample.conn)
                sample.conn.close()
        assert time.monotonic() - last < 60, "nothing arrives any more"
    print(json.dumps([round(t, 3) for t in times]))


def be_the_downloader(ip, seconds):
    """What arrives of a long answer in each second, in bytes, as JSON."""
    got, begun = [0] * seconds, time.monotonic()
    with socket.create_connection((ip, PORT), timeout=60) as conn:
        conn.sendall(f"GET /bytes/{1 << 40} HTTP/1.1\r\nHost: wan\r\n\r\n".encode())
        while time.monotonic() - begun < seconds:
            part = conn.recv(1 << 20)
            assert part, "the answer broke off"
            got[min(int(time.monotonic() - begun), seconds - 1)] += len(part)
    print(json.dumps(got))


def config(plane, ip):
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
      - {{device: "net_af_packet0,iface=fgwg0,blocksz=65536,framesz=2048,framecnt=4096,qdisc_bypass=1", address: {ip}/24}}
"""
    return f"""servers:
  - default_log_path: stderr
    default_log_level: WARN
    listeners:
      - name: wan
        address: {ip}:{PORT}
        filter_chains: [{{filters: [{{type: proxy, config: {{downstream_protocol: Http1, router_config_name: web}}}}]}}]
    routers:
      - router_config_name: web
        virtual_hosts: [{{name: all, domains: ["*"], routers: [{{match: {{prefix: /}}, route: {{cluster_name: origin, timeout: 1h}}}}]}}]
cluster_manager: {{clusters: [{{name: origin, hosts: [{{address: "{ORIGIN}"}}]}}]}}
dataplane:{dpdk if plane == "dpdk" else " {type: kernel, workers: 1}"}
"""


class Served:
    """A gateway in its namespace with its origin, or an origin alone."""

    def __init__(self, plane, folder, binaries, name=GATEWAY):
        self.plane = plane
        inner, self.ip = next((inner, ip) for host, inner, _, ip in HOSTS if host == name)
        # Who has the address answers for it: Linux, or the stack on the port.
        run("ip", "-n", name, "addr", "flush", "dev", inner)
        if plane != "dpdk":
            run("ip", "-n", name, "addr", "add", f"{self.ip}/24", "dev", inner)
        path = os.path.join(folder, f"{name}.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(config(plane, self.ip))
        self.log = open(os.path.join(folder, f"{name}.log"), "w+", encoding="utf-8")
        inside = lambda core: ["ip", "netns", "exec", name, "taskset", "-c", core]
        origin = ["chrt", "--fifo", "1", binaries + "/ferrogate-bench", "origin", "--listen"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if plane == "origin":
            self.children = [subprocess.Popen(inside("1") + origin + [f"{self.ip}:{PORT}"], **quiet)]
            return
        self.children = [
            subprocess.Popen(inside("0") + origin + [ORIGIN], **quiet),
            subprocess.Popen(inside("0") + [binaries + "/ferrogate", "start", "-c", path], stdout=self.log, stderr=self.log),
        ]

    def wait(self):
        for _ in range(200):
            probe = ["ip", "netns", "exec", CLIENT, "curl", "-sf", "-m", "1", "-o", "/dev/null", f"http://{self.ip}:{PORT}/"]
            if subprocess.run(probe, check=False).returncode == 0:
                return
            time.sleep(0.1)
        self.log.seek(0)
        sys.exit(f"the {self.plane} gateway does not answer: {self.log.read()[-2000:]}")

    def stop(self):
        for child in reversed(self.children):
            child.send_signal(signal.SIGINT)
            child.wait()


def at_the_client(*words):
    words = ["ip", "netns", "exec", CLIENT, "taskset", "-c", "1", sys.executable, __file__, *map(str, words)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def answer_of(child):
    text = child.communicate()[0]
    if child.returncode:
        raise SystemExit("the client failed")
    return json.loads(text)


def wire(delay, loss, seed, rate=0, queue=0, overhead=0):
    words = map(str, ("--be-wire", delay, loss, seed, rate, queue, overhead))
    child = subprocess.Popen(["taskset", "-c", "1", sys.executable, __file__, *words], stdout=subprocess.PIPE)
    child.stdout.readline()
    return child


def end(child):
    child.terminate()
    child.wait()


def measure(args, folder):
    rows = [(s, r, l) for s in args.bytes for r in args.round_trips for l in args.loss]
    for plane in args.planes.split(","):
        served = Served(plane, folder, args.binaries)
        try:
            carrier = wire(0, 0, 0)
            served.wait()
            end(carrier)
            for size, round_trip, loss in rows:
                carrier = wire(round_trip / 2000, loss / 100, args.seed)
                samples = SAMPLES.get(size, 400) * args.effort / (1 if loss else 20)
                times = answer_of(at_the_client("--be-client", int(size), max(5, int(samples)), AT_A_TIME.get(round_trip, 8)))
                end(carrier)
                found = {"plane": plane, "row": [size, round_trip, loss], "times": times}
                with open(args.keep, "a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
                print(f"{plane} {size:.0f} bytes, {round_trip:g} ms, {loss:g} %: {statistics.mean(times):.1f} ms", file=sys.stderr)
        finally:
            served.stop()


def report(paths):
    found = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in file:
                entry = json.loads(line)
                # A later run of a row stands for an earlier one.
                found[(tuple(entry["row"]), entry["plane"])] = sorted(entry["times"])
    print("| answer | round trip, ms | loss, % | samples | Linux: mean, ms | 99th | DPDK plane: mean, ms | 99th | mean: ratio | 99th: ratio | |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|")
    for size, round_trip, loss in sorted({row for row, _ in found}):
        both = [found.get(((size, round_trip, loss), plane)) for plane in ("kernel", "dpdk")]
        if None in both:
            continue
        means = [statistics.mean(times) for times in both]
        tails = [times[int((len(times) - 1) * 0.99)] for times in both]
        mean, tail = means[1] / means[0], tails[1] / tails[0]
        verdict = "" if mean <= 1.25 and tail <= 1.5 else "misses"
        cells = f"{means[0]:.1f} | {tails[0]:.1f} | {means[1]:.1f} | {tails[1]:.1f} | {mean:.2f} | {tail:.2f} | {verdict}"
        print(f"| {size / 1024:.0f} KiB | {round_trip:g} | {loss:g} | {len(both[1])} | {cells} |")


def share(args, folder):
    """Two downloads at once, from an origin on Linux and from a gateway: 100 Mbit/s and a queue in front of the client."""
    rate, round_trip = 100e6 / 8, 0.02
    seconds, linux, ours = args.share, None, None
    try:
        linux, ours = Served("origin", folder, args.binaries, OTHER), Served(args.beside, folder, args.binaries)
        carrier = wire(0, 0, 0)
        linux.wait()
        ours.wait()
        end(carrier)
        for rounds in range(args.rounds):
            carrier = wire(round_trip / 2, 0, args.seed, rate, rate * round_trip * args.queue, args.overhead)
            # At the same moment, or nearly: who is there first has the advantage for minutes.
            pair = (linux, ours) if rounds % 2 == 0 else (ours, linux)
            children = [(served, at_the_client("--be-downloader", served.ip, seconds)) for served in pair]
            got = {served: answer_of(child) for served, child in children}
            end(carrier)
            # Without the start, and without the end, where one of them is alone.
            total = {served: sum(each[5:-1]) * 8e-6 / (seconds - 6) for served, each in got.items()}
            part = total[ours] / sum(total.values())
            print(f"Linux {total[linux]:.1f} Mbit/s, {args.beside} plane {total[ours]:.1f} Mbit/s: {part:.0%} of the traffic", flush=True)
            if args.verbose:
                print({served.ip: [round(b * 8e-6) for b in each] for served, each in got.items()})
    finally:
        for served in (linux, ours):
            if served:
                served.stop()


def main():
    roles = {"--be-wire": (be_the_wire, (float, float, int, float, float, float)), "--be-client": (be_the_client, (int, int, int)), "--be-downloader": (be_the_downloader, (str, int))}
    if len(sys.argv) > 1 and sys.argv[1] in roles:
        role, types = roles[sys.argv[1]]
        return role(*(kind(word) for kind, word in zip(types, sys.argv[2:])))
    numbers = lambda text: [float(n) for n in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=numbers, default=[10240, 102400, 1048576])
    parser.add_argument("--round-trips", type=numbers, default=[1, 20, 80])
    parser.add_argument("--loss", type=numbers, default=[0, 0.1, 1])
    parser.add_argument("--effort", type=float, default=1.0, help="times the usual number of samples")
    parser.add_argument("--planes", default="kernel,dpdk")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--keep", help="where the times are kept, a line for a row")
    parser.add_argument("--report", nargs="+", help="print the table of kept times")
    parser.add_argument("--share", type=int, help="seconds of two downloads through one bottleneck")
    parser.add_argument("--beside", default="dpdk", help="of --share: the plane beside Linux; kernel for Linux beside itself")
    parser.add_argument("--rounds", type=int, default=2, help="of --share")
    parser.add_argument("--queue", type=float, default=1.0, help="of --share, in bandwidth-delay products")
    parser.add_argument("--overhead", type=float, default=0.001, help="of --share: seconds by which acknowledgements are late at most, by the dice")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--binaries", default="target/release")
    args = parser.parse_args()
    if args.report:
        return report(args.report)
    allowed = allow_cubic()
    try:
        make_net()
        with tempfile.TemporaryDirectory() as folder:
            args.keep = args.keep or os.path.join(folder, "times.jsonl")
            if args.share:
                return share(args, folder)
            measure(args, folder)
            report([args.keep])
    finally:
        remove_net()
        run("sysctl", "-qw", f"{ALLOWED}={allowed}", check=False)


if __name__ == "__main__":
    main()
