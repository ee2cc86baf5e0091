#!/usr/bin/env python3
"""What is left for honest clients while a flood of SYNs comes in by another port of the same worker.

    bench/flood.py [--rates 500000,0] [--seconds 6] [--rounds 3]

Needs target/release/{ferrogate,ferrogate-bench,examples/flood} built with DPDK:
    cargo build --release -p ferrogate -p ferrogate-bench --features ferrogate/dpdk
    cargo build --release -p dataplane-dpdk --features dpdk --example flood
No root and no hugepages: the ports are memif, shared memory. The gateway's worker polls two of them on one core; client and origin are on
the first, the flooder on the second, both on the other core. A round measures requests a second without a flood and under each rate, in turn:
over connections that stay open, and over a new connection for each request. A rate of 0 is as many SYNs as the port takes.
Enough connections keep the worker busy while the flooder has its clients' core; a worker that was not busy was not what held a figure back.
The last column is what was answered in the second after the last SYN of a flood, against the quiet figure.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ADMIN = 34_901
PORTS = range(8080, 8084)


def config(folder, fixed):
    listeners = "".join(
        f"""      - name: web{port}
        address: 0.0.0.0:{port}
        connection_idle_timeout: 1h
        filter_chains:
          - filters:
              - {{type: proxy, config: {{downstream_protocol: Http1, router_config_name: web}}}}
"""
        for port in PORTS
    )
    return f"""servers:
  - default_log_path: stderr
    default_log_level: WARN
    graceful_timeout: 1s
    listeners:
{listeners}    routers:
      - router_config_name: web
        virtual_hosts:
          - name: all
            domains: ["*"]
            routers:
              - {{match: {{prefix: /}}, route: {{cluster_name: app}}}}
cluster_manager:
  clusters:
    - {{name: app, type: SIMPLE, lb_type: LB_ROUNDROBIN, hosts: [{{address: "10.99.0.2:9000"}}]}}
limits: {{idle_conns_per_host_max: 1024, upstream_idle_timeout: 1h}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {ADMIN}}}}}}}
dataplane:
  type: dpdk
  workers: 1
  fallback: none
  dpdk:
    hugepages: false
    memory_mib: 256
    {fixed}
    ports:
      - {{device: "net_memif0,role=server,id=0,socket={folder}/a.sock,socket-abstract=no,rsize=11", address: 10.99.0.1/24}}
      - {{device: "net_memif1,role=server,id=1,socket={folder}/b.sock,socket-abstract=no,rsize=11", address: 10.98.0.1/24}}
"""


def start(words, core, **how):
    pipe = subprocess.PIPE
    return subprocess.Popen(["taskset", "-c", str(core), *words], stdin=pipe, stdout=pipe, text=True, **how)


def metrics():
    with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/metrics", timeout=5) as answer:
        lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {key: float(value) for key, value in (line.rsplit(" ", 1) for line in lines)}


def resident_mib(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


class Scene:
    """A gateway with its two ports, for one measurement: a memif peer that goes away takes the port with it."""

    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        path = folder / "gateway.yaml"
        path.write_text(config(folder, args.dpdk))
        log = (folder / "gateway.log").open("w")
        self.gateway = start([args.bin / "ferrogate", "start", "-c", path], 0, stderr=log)
        self.held = []
        deadline = time.time() + 20
        while not ((folder / "a.sock").exists() and (folder / "b.sock").exists()):
            if time.time() > deadline or self.gateway.poll() is not None:
                self.gateway.kill()
                sys.exit(f"the gateway did not start: {(folder / 'gateway.log').read_text()}")
            time.sleep(0.05)

    def flood(self, rate, seconds):
        device = f"net_memif0,role=client,id=1,socket={self.folder}/b.sock,socket-abstract=no,rsize=11"
        words = [self.args.bin / "examples/flood", device, "10.98.0.2", "10.98.0.1:8080", str(rate), str(seconds)]
        flooder = start(words, 1)
        self.held.append(flooder)
        if flooder.stdout.readline().strip() != "flooding":
            sys.exit("the flooder did not start")
        return flooder

    def load(self, per_connection, seconds, rate):
        to = ",".join(f"10.99.0.1:{port}" for port in PORTS)
        words = [self.args.bin / "ferrogate-bench", "load", "--memif", f"{self.folder}/a.sock", "--to", to, "--origin-port", "9000"]
        words += ["--memif-address", "10.99.0.2/24", "--no-huge", "--hold", "--connections", str(self.args.connections)]
        words += ["--requests-per-connection", str(per_connection), "--seconds", str(seconds), "--warmup", "0.5"]
        words += ["--ring-bytes", "16384"] + (["--rate", str(rate)] if rate else [])
        load = start(words, 1, stderr=subprocess.DEVNULL)
        self.held.append(load)
        if load.stdout.readline().strip() != "measuring":
            sys.exit("the load did not start")
        return load

    def end(self):
        self.gateway.terminate()
        self.gateway.wait(timeout=20)
        for process in self.held:
            process.stdin.close()
            process.wait(timeout=20)
        for name in ("a.sock", "b.sock"):
            (self.folder / name).unlink(missing_ok=True)


def result(load):
    load.stdout.readline()
    return json.loads(load.stdout.readline())


def answered():
    return time.time(), sum(value for key, value in metrics().items() if key.startswith("downstream_request_total"))


def recovery(args, folder, per_connection, rate):
    """Requests a second in the second that follows a flood."""
    scene = Scene(args, folder)
    try:
        flooder = scene.flood(rate, 5)
        load = scene.load(per_connection, 8, args.load_rate)
        flooder.stdout.readline()
        at, before = answered()
        time.sleep(1)
        end, after = answered()
        result(load)
        return (after - before) / (end - at)
    finally:
        scene.end()


def measure(args, folder, per_connection, rate):
    """Requests a second while `rate` SYNs a second come in; None for none."""
    scene = Scene(args, folder)
    try:
        seconds = args.seconds
        if rate is not None:
            # Half a second before the window, and beyond its end.
            flooder = scene.flood(rate, seconds + 4)
        load = scene.load(per_connection, seconds, args.load_rate)
        before, began = metrics(), time.time()
        rss = resident_mib(scene.gateway)
        found = result(load)
        after, took = metrics(), time.time() - began
        if scene.gateway.poll() is not None:
            sys.exit("the gateway is gone")
        came = sum(after[key] - before[key] for key in after if "syn_cookies_sent_total" in key) / took
        busy, idle = (sum(after[k] - before[k] for k in after if f"_{kind}_nanoseconds_total" in k) for kind in ("busy", "idle"))
        errors = sum(found["errors"].values())
        figure = {"requests": found["requests"] / found["seconds"], "errors": errors, "cookies": came, "busy": busy / (busy + idle)}
        figure |= {"p99": found["latency_us"]["p99"], "spare": found["spare"], "grown": resident_mib(scene.gateway) - rss}
        if rate is not None:
            figure["syns"] = int(flooder.stdout.readline().split()[1]) / (seconds + 4)
    finally:
        scene.end()
    figure["recovered"] = figure["requests"] if rate is None else recovery(args, folder, per_connection, rate)
    return figure


def main():
    here = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rates", default="500000,0", help="SYNs a second, separated by commas; 0: as many as the port takes")
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=512)
    parser.add_argument("--load-rate", type=float, default=0, help="requests a second that are asked for; 0: as many as are answered")
    parser.add_argument("--bin", type=pathlib.Path, default=here / "target/release")
    parser.add_argument("--dpdk", default="syn_cookies: true", help="another line of dataplane.dpdk")
    args = parser.parse_args()
    rates = [None] + [int(rate) for rate in args.rates.split(",")]
    cells = {}
    with tempfile.TemporaryDirectory() as name:
        for turn in range(args.rounds):
            for per_connection in (0, 1):
                for rate in rates:
                    cells.setdefault((per_connection, rate), []).append(measure(args, pathlib.Path(name), per_connection, rate))
                    print(f"round {turn + 1}: {per_connection} {rate}: {cells[per_connection, rate][-1]}", file=sys.stderr)
    print("| clients | SYNs/s | cookies/s | requests/s | of the quiet figure | worker busy | errors | p99, us | memory grown, MiB | the second after |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for (per_connection, rate), figures in cells.items():
        middle = {key: statistics.median(f.get(key, 0) for f in figures) for key in ("syns", *figures[0])}
        quiet = statistics.median(f["requests"] for f in cells[per_connection, None])
        who = "a new connection for each request" if per_connection else "connections that stay open"
        print(
            f"| {who} | {middle['syns']:,.0f} | {middle['cookies']:,.0f} | {middle['requests']:,.0f} "
            f"| {100 * middle['requests'] / quiet:.0f} % | {100 * middle['busy']:.0f} % | {middle['errors']:.0f} | {middle['p99']:,.0f} | {middle['grown']:.1f} | {100 * middle['recovered'] / quiet:.0f} % |"
        )


if __name__ == "__main__":
    main()
