#!/usr/bin/env python3
"""What clients notice while an operator works and while others misbehave: reloads, restarts, slow clients, too much load.

    bench/operations.py [--only reloads,restarts,slow,overload] [--rounds 7] [--seconds 4] [--clients 512] [--binary PATH]

Needs wrk, and target/release/{ferrogate,ferrogate-bench} (make bench builds them). No root: all is on loopback. The gateway has the first core, its
origin and the load the second. What each row is:
  reloads   100 HUPs under 64 connections of wrk, every fifth of a broken file: requests lost, the generation that serves at the end, and
            connections to the origin that were opened meanwhile.
  restarts  10 times USR2 under wrk with a new connection for each request: requests lost.
  slow      99th percentile of a sixth of the capacity, in turn alone, alone again (what the machine's noise is) and beside 1,000 clients that send a
            byte a second, half of them heads, half bodies. More of it fills the core of load and origin, whose queue is what would be measured then.
  overload  requests a second when --clients (512) ask for two and three times the most that they get, to that most; and resident memory.
"""

import argparse
import itertools
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import flood
import offload

GATEWAY_CORE, LOAD_CORE = "0", "1"
RELOADS, BROKEN_EVERY, RESTARTS, SLOW_CLIENTS = 100, 5, 10, 1000
# Of what 64 clients get: where to look for the most that so many get.
OVERLOADS, OVERLOAD_PARTS = (2, 3), (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def config(listen, origin, admin, version):
    """A gateway in front of one origin; `version` is answered to /version, so that a reload changes something."""
    return f"""servers:
  - default_log_path: stderr
    default_log_level: ERROR
    graceful_timeout: 10s
    listeners:
      - name: web
        address: 127.0.0.1:{listen}
        filter_chains: [{{filters: [{{type: proxy, config: {{downstream_protocol: Http1, router_config_name: web}}}}]}}]
    routers:
      - router_config_name: web
        virtual_hosts:
          - name: all
            domains: ["*"]
            routers:
              - {{match: {{path: /version}}, direct_response: {{status: 200, body: "{version}"}}}}
              - {{match: {{prefix: /}}, route: {{cluster_name: app}}}}
cluster_manager:
  clusters: [{{name: app, type: SIMPLE, lb_type: LB_ROUNDROBIN, hosts: [{{address: "127.0.0.1:{origin}"}}]}}]
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
dataplane: {{type: kernel, workers: 1}}
"""


class Scene:
    """A gateway in front of an origin, until the end of a `with`."""

    def __init__(self, args):
        self.args = args
        self.listen, self.origin_port, self.admin = free_port(), free_port(), free_port()
        self.held = []

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name) / "gateway.yaml"
        self.log = (pathlib.Path(self.folder.name) / "gateway.log").open("w+", encoding="utf-8")
        self.write(0)
        self.start(LOAD_CORE, self.args.load_binary, "origin", "--listen", f"127.0.0.1:{self.origin_port}")
        self.gateway = self.start(GATEWAY_CORE, self.args.binary, "start", "-c", self.path, stderr=self.log)
        self.pid = self.gateway.pid
        self.wait("it serves", lambda: self.state() == (self.pid, "6"))
        return self

    def __exit__(self, *_):
        # After restarts another process serves, which is nobody's child here.
        if self.pid != self.gateway.pid:
            os.kill(self.pid, signal.SIGINT)
        for child in reversed(self.held):
            child.terminate()
            child.wait(timeout=20)
            for pipe in (child.stdin, child.stdout):
                pipe.close()
        self.folder.cleanup()

    def start(self, core, *words, **how):
        pipe = subprocess.PIPE
        child = subprocess.Popen(["taskset", "-c", core, *map(str, words)], stdin=pipe, stdout=pipe, text=True, **how)
        self.held.append(child)
        return child

    def write(self, version, break_it=lambda text: text):
        self.path.write_text(break_it(config(self.listen, self.origin_port, self.admin, version)), encoding="utf-8")

    def ask(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=5) as answer:
            return answer.read().decode()

    def state(self):
        try:
            return tuple(int(v) if k == "pid" else v for k, v in (p.split("=") for p in self.ask("/api/v1/states").strip().split("&")))
        except (urllib.error.URLError, OSError):
            return None

    def metric(self, begin):
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.ask("/metrics").splitlines() if line.startswith(begin))

    def wait(self, what, holds):
        deadline = time.monotonic() + 30
        while not holds():
            if time.monotonic() > deadline or (self.gateway.poll() and self.pid == self.gateway.pid):
                self.log.seek(0)
                sys.exit(f"not after 30 s: {what}\n{self.log.read()[-2000:]}")
            time.sleep(0.01)

    def load(self, *words):
        """Puts the bench's load on it, and what that found."""
        begin = [self.args.load_binary, "load", "--to", f"127.0.0.1:{self.listen}"]
        child = self.start(LOAD_CORE, *begin, *words, stderr=subprocess.DEVNULL)
        out, _ = child.communicate()
        self.held.remove(child)
        found = json.loads(out.splitlines()[-1])
        if sum(found["errors"].values()):
            sys.exit(f"requests failed: {found['errors']}")
        return found

    def wrk(self, seconds, *words):
        words = ["wrk", "-t1", "-c64", f"-d{seconds}s", *words, f"http://127.0.0.1:{self.listen}/"]
        return self.start(LOAD_CORE, *words, stderr=subprocess.STDOUT)


def told(scene, wrk):
    """What wrk says, once its time is over: requests, and those that were lost."""
    out, _ = wrk.communicate()
    scene.held.remove(wrk)
    lost = [int(n) for line in out.splitlines() if re.match(r"\s*(Socket errors|Non-2xx)", line) for n in re.findall(r"\d+(?!xx)\b", line.split(":", 1)[1])]
    return int(re.search(r"(\d+) requests in", out).group(1)), sum(lost)


def reloads(args):
    breaks = [lambda text: text[: text.index("cluster_name")], lambda text: text.replace("cluster_name: app", "cluster_name: nowhere")]
    with Scene(args) as scene:
        wrk = scene.wrk(30)
        scene.wait("the load is there", lambda: scene.metric("upstream_connection_total") >= 64)
        before, failures = scene.metric("upstream_connection_total"), 0
        for number in range(1, RELOADS + 1):
            broken = number % BROKEN_EVERY == 0
            failures += broken
            scene.write(number, breaks[failures % 2] if broken else lambda text: text)
            os.kill(scene.pid, signal.SIGHUP)
            want = (number - failures + 1, failures)
            scene.wait(
                f"reload {number} is over",
                lambda: (scene.metric("ferrogate_config_generation "), scene.metric("ferrogate_config_reload_failure_total")) == want,
            )
        if wrk.poll() is not None:
            sys.exit("the load was over before the last reload: this machine is too slow for the 30 seconds of it")
        opened, generation = scene.metric("upstream_connection_total") - before, scene.metric("ferrogate_config_generation ")
        requests, lost = told(scene, wrk)
    print(f"reloads: {RELOADS}, {failures} of broken files; {requests} requests, {lost} lost; generation {generation:.0f}; {opened:.0f} connections opened")


def restarts(args):
    with Scene(args) as scene:
        wrk = scene.wrk(30, "-H", "Connection: close")
        for number in range(RESTARTS):
            old = scene.pid
            os.kill(old, signal.SIGUSR2)

            def another_serves():
                state = scene.state()
                if state and state[1] == "6":
                    scene.pid = state[0]
                return scene.pid != old

            scene.wait(f"restart {number + 1}: another process serves", another_serves)
            scene.wait("the old process is gone", lambda: is_gone(old))
        if wrk.poll() is not None:
            sys.exit("the load was over before the last restart: this machine is too slow for the 30 seconds of it")
        requests, lost = told(scene, wrk)
    print(f"restarts: {RESTARTS}; {requests} requests, each on a new connection, {lost} lost")


def is_gone(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


class SlowClients(threading.Thread):
    """So many clients that send a byte a second; one that is cut comes back."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.over, self.cut = port, threading.Event(), 0
        self.conns = [self.connect(number) for number in range(SLOW_CLIENTS)]
        self.start()

    def connect(self, number):
        conn = socket.create_connection(("127.0.0.1", self.port))
        conn.sendall([b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"][number % 2])
        return conn

    def run(self):
        # Who else is on this core goes first: it is the gateway's time that is compared.
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
        begun, sent = time.monotonic(), 0
        while not self.over.is_set():
            due = int((time.monotonic() - begun) * SLOW_CLIENTS)
            for number in range(sent, due):
                number %= SLOW_CLIENTS
                try:
                    self.conns[number].sendall(b"x")
                except OSError:
                    self.cut += 1
                    self.conns[number] = self.connect(number)
            sent = due
            time.sleep(0.001)

    def end(self):
        if not self.is_alive():
            sys.exit("the slow clients could not go on")
        self.over.set()
        self.join()
        for conn in self.conns:
            conn.close()


def slow(args):
    found = {"alone": [], "again": [], "beside": []}
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    with Scene(args) as scene:
        words = ["--connections", 64, "--seconds", args.seconds, "--warmup", 0.5]
        rate = scene.load(*words)["requests"] / args.seconds / 6
        orders, cut = list(itertools.permutations(found)), 0
        for turn in range(args.rounds):
            for way in orders[turn % len(orders)]:
                # Alone, they send to nobody who reads: what it costs this machine to be so many clients is in all of them.
                with socket.create_server(("127.0.0.1", 0), backlog=2 * SLOW_CLIENTS) as sink:
                    crowd = SlowClients(scene.listen if way == "beside" else sink.getsockname()[1])
                    found[way].append(scene.load(*words, "--rate", int(rate))["latency_us"]["p99"])
                    if way == "beside" and scene.metric("downstream_connection_active") < SLOW_CLIENTS:
                        sys.exit("the slow clients are not there")
                    crowd.end()
                    cut += crowd.cut
                scene.wait("the slow clients are gone", lambda: scene.metric("downstream_connection_active") < 8)
    alone, beside = (statistics.median(found[way]) for way in ("alone", "beside"))
    said = f"slow: {rate:.0f} requests/s, 99th percentile alone {alone:.0f} us, beside {SLOW_CLIENTS} slow clients, {cut} of them cut, {beside:.0f} us"
    for way, other in (("beside", "beside to alone"), ("again", "alone to alone")):
        ratios = sorted(b / a for a, b in zip(found["alone"], found[way]))
        low, high = offload.interval(ratios)
        said += f"; {other} {statistics.median(ratios):.2f} x (95 %: {low:.2f}-{high:.2f}; rounds {ratios[0]:.2f}-{ratios[-1]:.2f})"
    print(said)


def overload(args):
    """Each connection has one request under way at most, so that it takes many clients to overload anything. What they get at best is found first, at
    rates that leave most of them at rest: what is lost beyond is lost to the overload, not to their number."""
    ratios, busy, memory = {times: [] for times in OVERLOADS}, [], []
    with Scene(args) as scene:

        def answered(clients, *words):
            load = scene.load("--seconds", args.seconds, "--warmup", 0.5, "--connections", clients, *words)
            return load["requests"] / args.seconds

        for _ in range(args.rounds):
            few = answered(64)
            peak = max(answered(args.clients, "--rate", int(part * few)) for part in OVERLOAD_PARTS)
            memory.append(flood.resident_mib(scene.gateway))
            for times, found in ratios.items():
                began, before = time.monotonic(), offload.cpu_seconds(scene.gateway)
                found.append(answered(args.clients, "--rate", int(times * peak)) / peak)
                busy.append((offload.cpu_seconds(scene.gateway) - before) / (time.monotonic() - began))
            memory.append(flood.resident_mib(scene.gateway))
    for times, found in ratios.items():
        print(f"overload: {args.clients} clients that ask for {times} times the most that they get: {statistics.median(found):.2f} x of it ({min(found):.2f}-{max(found):.2f})")
    print(f"overload: gateway's worker {statistics.median(busy):.0%} busy; resident {memory[0]:.1f} MiB before, {memory[1]:.1f} MiB after the first, {memory[-1]:.1f} MiB after {args.rounds} rounds")


def main():
    rows = {"reloads": reloads, "restarts": restarts, "slow": slow, "overload": overload}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(rows))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--clients", type=int, default=512, help="who overload")
    parser.add_argument("--binary", default="target/release/ferrogate")
    parser.add_argument("--load-binary", default="target/release/ferrogate-bench")
    args = parser.parse_args()
    for name in args.only.split(","):
        rows[name](args)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
