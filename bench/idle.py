#!/usr/bin/env python3
"""An idle gateway on a polled port: how much of a core it takes, and how long the first request after a silence waits.

    bench/idle.py [--drivers net_af_packet,net_af_xdp,net_tap] [--seconds 10] [--requests 100] [--idle "{mode: busy}"]

Needs root, and target/release/ferrogate built with DPDK (make bench builds it). The gateway is in a network namespace; the client is Linux's TCP at
the other end of a veth pair, for net_tap in the namespace of the device. The gateway answers by itself. CPU is what /proc says that the whole
process took over so many seconds without a packet. Then so many requests come one by one, each after a silence of 200 to 300 ms, on a new
connection and on one that is open; a time is from connect(), or from the request's first byte, to the answer's last. Everything that was made
goes away at the end.
"""

import argparse
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

CLIENT, GATEWAY = "fgidle-client", "fgidle-gateway"
CLIENT_IP, GATEWAY_IP, PORT = "198.18.8.2", "198.18.8.1", 8080
TAP = "fgidletap0"
DEVICES = {
    "net_af_packet": "net_af_packet0,iface=fgig0,blocksz=65536,framesz=2048,framecnt=1024,qdisc_bypass=1",
    "net_af_xdp": "net_af_xdp0,iface=fgig0",
    "net_tap": f"net_tap0,iface={TAP}",
}


def run(*words, check=True):
    return subprocess.run(words, check=check, capture_output=True, text=True)


def make_net(driver):
    for name in (CLIENT, GATEWAY):
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", check=False)
    if driver == "net_tap":
        return
    run("ip", "-n", GATEWAY, "link", "add", "fgig0", "type", "veth", "peer", "name", "fgic0", "netns", CLIENT)
    for name, link in ((CLIENT, "fgic0"), (GATEWAY, "fgig0")):
        run("ip", "netns", "exec", name, "ethtool", "-K", link, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
        run("ip", "-n", name, "link", "set", link, "up")
    run("ip", "-n", CLIENT, "addr", "add", f"{CLIENT_IP}/24", "dev", "fgic0")


def remove_net():
    for name in (CLIENT, GATEWAY):
        run("ip", "netns", "del", name, check=False)


def config(dataplane):
    """A gateway that answers by itself, on the plane that these lines say."""
    return f"""servers:
  - default_log_path: stderr
    default_log_level: WARN
    listeners:
      - name: idle
        address: {GATEWAY_IP}:{PORT}
        filter_chains: [{{filters: [{{type: proxy, config: {{downstream_protocol: Http1, router_config_name: web}}}}]}}]
    routers:
      - router_config_name: web
        virtual_hosts: [{{name: all, domains: ["*"], routers: [{{match: {{prefix: /}}, direct_response: {{status: 200, body: awake}}}}]}}]
{dataplane}"""


def polled(driver, idle):
    return f"""dataplane:
  type: dpdk
  workers: 1
  fallback: none
  dpdk:
    hugepages: false
    memory_mib: 128
    idle: {idle}
    eal_args: ["--file-prefix", "fgidle"]
    ports: [{{device: "{DEVICES[driver]}", address: {GATEWAY_IP}/24}}]
"""


class Gateway:
    def __init__(self, driver, dataplane, folder, binary):
        path = os.path.join(folder, "idle.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(config(dataplane))
        self.log = open(os.path.join(folder, "idle.log"), "w+", encoding="utf-8")
        words = ["ip", "netns", "exec", GATEWAY, "taskset", "-c", "0", binary, "start", "-c", path]
        self.child = subprocess.Popen(words, stdout=self.log, stderr=self.log)
        self.client = GATEWAY if driver == "net_tap" else CLIENT

    def wait(self, driver):
        for _ in range(200):
            if driver == "net_tap":
                run("ip", "-n", GATEWAY, "addr", "replace", f"{CLIENT_IP}/24", "dev", TAP, check=False)
                run("ip", "-n", GATEWAY, "link", "set", TAP, "up", check=False)
            probe = ["ip", "netns", "exec", self.client, "curl", "-sf", "-m", "1", "-o", "/dev/null", f"http://{GATEWAY_IP}:{PORT}/"]
            if subprocess.run(probe, check=False).returncode == 0:
                return
            time.sleep(0.1)
        self.log.seek(0)
        raise RuntimeError(f"the gateway does not answer: {self.log.read()[-2000:]}")

    def cpu_seconds(self):
        with open(f"/proc/{self.child.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.child.send_signal(signal.SIGINT)
        self.child.wait()


def ask(conn):
    """Sends a request and reads its answer."""
    conn.sendall(b"GET / HTTP/1.1\r\nHost: idle\r\n\r\n")
    answer = b""
    while not answer.endswith(b"awake"):
        part = conn.recv(4096)
        assert part, "the answer broke off"
        answer += part


def connect():
    conn = socket.create_connection((GATEWAY_IP, PORT), timeout=10)
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return conn


def be_the_client(requests):
    """Times in milliseconds, as JSON: on new connections, and on an open one."""
    draw, new, kept = random.Random(7), [], []
    open_conn = connect()
    ask(open_conn)
    for _ in range(requests):
        time.sleep(draw.uniform(0.2, 0.3))
        begun = time.monotonic()
        with connect() as conn:
            ask(conn)
            new.append((time.monotonic() - begun) * 1e3)
        time.sleep(draw.uniform(0.2, 0.3))
        begun = time.monotonic()
        ask(open_conn)
        kept.append((time.monotonic() - begun) * 1e3)
    print(json.dumps([new, kept]))


def measure(driver, args, folder):
    make_net(driver)
    gateway = Gateway(driver, polled(driver, args.idle), folder, args.binary)
    try:
        gateway.wait(driver)
        time.sleep(1)
        before, begun = gateway.cpu_seconds(), time.monotonic()
        time.sleep(args.seconds)
        share = (gateway.cpu_seconds() - before) / (time.monotonic() - begun)
        words = ["ip", "netns", "exec", gateway.client, "taskset", "-c", "1", sys.executable, __file__, "--be-client", str(args.requests)]
        cells = []
        for times in json.loads(run(*words).stdout):
            times.sort()
            cells.append(f"{statistics.median(times):.2f} | {times[int((len(times) - 1) * 0.99)]:.2f} | {times[-1]:.2f}")
        print(f"| {driver} | {share:.1%} | {' | '.join(cells)} |", flush=True)
    finally:
        gateway.stop()


def main():
    if sys.argv[1:2] == ["--be-client"]:
        return be_the_client(int(sys.argv[2]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drivers", default=",".join(DEVICES))
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--idle", default="{}", help="dataplane.dpdk.idle, as YAML")
    parser.add_argument("--binary", default="target/release/ferrogate")
    args = parser.parse_args()
    print("| port | CPU idle, of a core | new connection: median, ms | 99th | longest | open connection: median, ms | 99th | longest |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for driver in args.drivers.split(","):
        try:
            with tempfile.TemporaryDirectory() as folder:
                measure(driver, args, folder)
        finally:
            remove_net()


if __name__ == "__main__":
    main()
