#!/usr/bin/env python3
"""Telltale, Prometheus and Alertmanager on one machine, and two AI tools that misbehave.

In: root, and `telltale`, `prometheus`, `prometheus-alertmanager`, `ip` and `curl`. Out: the alerts
as a pager gets them, with the time that each took; exit status 0 if all came within the limit.

The tools are copies of curl where a real tool would be. Their internet is a network namespace that
answers every name and every connection: nothing leaves the machine. All ports are on loopback, all
files in a temporary folder, and everything ends with this program.
"""

import argparse
import http.server
import itertools
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# An alert must be at the pager within this after its cause.
LIMIT_S = 15
# Programs must be ready within this.
START_S = 30

# The internet of the namespace: its resolver, and the address of every name.
RESOLVER = "203.0.113.53"
SERVER = "203.0.113.10"
PORT = 8443

# Where real tools have their executables.
EXPECTED_TOOL = ".local/share/claude/versions/2.1.328"
BANNED_TOOL = "lib/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"

OTHER_TOOL = ".qoder/bin/qodercli/qodercli-1.1.52"

# With --keep they go on: whom each contacts in turn, and how long an answer takes.
DAILY = {
    EXPECTED_TOOL: ["api.anthropic.com"] * 3 + ["claude.ai", "files.example.net"],
    OTHER_TOOL: ["api1.qoder.sh", "api2.qoder.sh", "openapi.qoder.sh", "sg-pum.alibabachengdun.com"],
    BANNED_TOOL: ["api.openai.com"],
}
ANSWER_S = 1

# What the pager must hear, by alertname and tool.
WANTED = [
    ("banned-tool", "codex-cli", "Telltale"),
    ("unexpected-endpoint", "claude-code", "Telltale"),
    ("TelltaleBannedTool", None, "Prometheus"),
    ("TelltaleUnexpectedEndpoint", None, "Prometheus"),
]


def world():
    """Inside the namespace: answers DNS and TCP until killed."""
    dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    dns.bind((RESOLVER, 53))
    server = http.server.ThreadingHTTPServer((SERVER, PORT), Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        query, client = dns.recvfrom(4096)
        dns.sendto(dns_answer(query), client)


class Hello(http.server.BaseHTTPRequestHandler):
    """Answers everything, and for /slow takes its time."""

    def do_GET(self):
        time.sleep(ANSWER_S if self.path == "/slow" else 0)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_message(self, *_):
        pass


def dns_answer(query):
    """SERVER for every question of type A, nothing for others."""
    end = 12
    while query[end]:
        end += 1 + query[end]
    end += 5
    (kind,) = struct.unpack(">H", query[end - 4 : end - 2])
    found = kind == 1
    head = query[:2] + struct.pack(">HHHHH", 0x8180, 1, int(found), 0, 0)
    answer = struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(SERVER)
    return head + query[12:end] + (answer if found else b"")


class Pager(http.server.BaseHTTPRequestHandler):
    """Receives what Alertmanager sends, and keeps when each alert came first."""

    heard = {}

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for alert in body["alerts"]:
            labels = alert["labels"]
            key = (labels["alertname"], labels.get("tool"))
            Pager.heard.setdefault(key, (time.monotonic(), alert))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Stage:
    """Everything that was started; ends with the `with` block."""

    def __init__(self, folder):
        self.folder = folder
        self.namespace = f"telltale-demo-{os.getpid()}"
        self.processes = []

    def __enter__(self):
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        run("ip", "-n", self.namespace, "route", "add", "local", "default", "dev", "lo")
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        run("ip", "netns", "del", self.namespace)

    def start(self, name, *command):
        """Starts a program that ends with this one; its output goes to a file."""
        log = open(self.folder / f"{name}.log", "wb")
        command = ["setpriv", "--pdeathsig", "TERM", *map(str, command)]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        self.processes.append(process)
        return process

    def start_server(self, name, port, *command):
        """Starts a server, and waits until it says that it is ready."""
        process = self.start(name, *command)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2):
                    return
            except OSError:
                time.sleep(0.1)
        log = (self.folder / f"{name}.log").read_text(errors="replace")
        sys.exit(f"{name} is not ready:\n{log}")

    def run_tool(self, path, url):
        """Runs a tool in the namespace, with the resolver of the namespace."""
        resolv = self.folder / "resolv.conf"
        script = 'mount --bind "$1" /etc/resolv.conf; shift; exec "$@"'
        inside = ["nsenter", f"--net=/run/netns/{self.namespace}", "unshare", "--mount"]
        tool = [self.folder / path, "-s", "--max-time", "5", url]
        run(*inside, "sh", "-c", script, "sh", resolv, *tool)


def run(*command):
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)


def write_files(folder, ports):
    """The configuration of all three, and the tools."""
    rules = HERE.parent / "prometheus" / "telltale.rules.yml"
    (folder / "resolv.conf").write_text(f"nameserver {RESOLVER}\n")
    telltale = folder / "telltale.toml"
    telltale.write_text(
        f"""[web]
listen_addresses = ["127.0.0.1:{ports['telltale']}"]
[policy]
banned = ["codex-cli"]
[events]
file = "{folder}/events.ndjson"
[alerts]
spool_directory = "{folder}/spool"
[[alerts.alertmanager]]
url = "http://127.0.0.1:{ports['alertmanager']}"
[resolvers]
addresses = ["{RESOLVER}"]
"""
    )
    telltale.chmod(0o600)
    (folder / "prometheus.yml").write_text(
        f"""global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
alerting:
  alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{ports['alertmanager']}"]}}]}}]
scrape_configs:
  - job_name: telltale
    static_configs: [{{targets: ["127.0.0.1:{ports['telltale']}"]}}]
"""
    )
    (folder / "alertmanager.yml").write_text(
        f"""route: {{receiver: pager, group_by: ["..."], group_wait: 0s, group_interval: 1s}}
receivers: [{{name: pager, webhook_configs: [{{url: "http://127.0.0.1:{ports['pager']}/"}}]}}]
"""
    )
    for tool in DAILY:
        path = folder / tool
        path.parent.mkdir(parents=True)
        shutil.copy(shutil.which("curl"), path)


def start_servers(stage, telltale, ports):
    folder = stage.folder
    stage.start(
        "world", "nsenter", f"--net=/run/netns/{stage.namespace}", sys.executable, __file__, "world"
    )
    listen = {name: f"--web.listen-address=127.0.0.1:{port}" for name, port in ports.items()}
    stage.start_server(
        "alertmanager", ports["alertmanager"], "prometheus-alertmanager", listen["alertmanager"],
        f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/alertmanager",
        "--cluster.listen-address=",
    )
    stage.start_server(
        "telltale", ports["telltale"], telltale, "run", "--quiet", "--config",
        folder / "telltale.toml",
    )
    stage.start_server(
        "prometheus", ports["prometheus"], "prometheus", listen["prometheus"],
        f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/prometheus",
        "--enable-feature=exemplar-storage",
    )


def show(begun):
    """Prints alerts as the pager hears them; the wanted ones that it did not hear."""
    shown, missing = set(), {(name, tool) for name, tool, _ in WANTED}
    while missing and time.monotonic() < begun + LIMIT_S:
        for key, (when, alert) in sorted(Pager.heard.items(), key=lambda it: it[1][0]):
            if key in shown:
                continue
            shown.add(key)
            missing.discard(key)
            wanted = [by for name, tool, by in WANTED if (name, tool) == key]
            by = wanted[0] if wanted else "-"
            summary = alert["annotations"].get("summary", "")
            print(f"{when - begun:6.1f} s  {by:10}  {key[0]:26}  {summary}", flush=True)
        time.sleep(0.05)
    return missing


def query(port, expression):
    """The result of an instant query."""
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)["data"]["result"]


def silent_panels(port):
    """Panels of the dashboards whose query finds nothing here, with the query."""
    values = {"$__rate_interval": "30s", "$__range": "1m", "$job": ".+", "$instance": ".+", "$tool": ".+"}
    silent = []
    for path in sorted((HERE.parent / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                expression = target["expr"]
                for name, value in values.items():
                    expression = expression.replace(name, value)
                if not query(port, expression):
                    silent.append(f"{path.name}: {panel['title']}: {expression}")
    return silent


def check_dashboards(port):
    """Waits until every panel shows something; those that do not."""
    deadline = time.monotonic() + START_S
    while (silent := silent_panels(port)) and time.monotonic() < deadline:
        time.sleep(1)
    return silent


def work(stage, tool):
    """A tool that contacts its endpoints in turn, for as long as its namespace is there."""
    for host in itertools.cycle(DAILY[tool]):
        try:
            stage.run_tool(tool, f"http://{host}:{PORT}/slow")
        except subprocess.CalledProcessError:
            return
        time.sleep(ANSWER_S / 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    built = [ROOT / "target" / kind / "telltale" for kind in ("release", "debug")]
    default = next((path for path in built if path.exists()), "telltale")
    parser.add_argument("--telltale", default=default, help="the program (%(default)s)")
    parser.add_argument(
        "--dashboards", action="store_true", help="check that every panel has something to show"
    )
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root, for the kernel programs and a network namespace")
    needed = ("prometheus", "prometheus-alertmanager", "ip", "curl", "setpriv", "nsenter")
    missing = [program for program in needed if not shutil.which(program)]
    if missing or not shutil.which(arguments.telltale):
        sys.exit(f"not found: {' '.join(missing) or arguments.telltale}")

    ports = {name: free_port() for name in ("telltale", "prometheus", "alertmanager")}
    pager = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pager)
    threading.Thread(target=pager.serve_forever, daemon=True).start()
    ports["pager"] = pager.server_port
    with tempfile.TemporaryDirectory(prefix="telltale-demo-") as name:
        folder = pathlib.Path(name)
        write_files(folder, ports)
        with Stage(folder) as stage:
            start_servers(stage, arguments.telltale, ports)
            for name in ("telltale", "prometheus", "alertmanager"):
                print(f"{name:13} http://127.0.0.1:{ports[name]}/")
            print("claude-code contacts its API, then an endpoint nobody knows; codex-cli is banned.")
            begun = time.monotonic()
            stage.run_tool(EXPECTED_TOOL, f"http://api.anthropic.com:{PORT}/")
            stage.run_tool(EXPECTED_TOOL, f"http://files.example.net:{PORT}/")
            stage.run_tool(BANNED_TOOL, f"http://api.openai.com:{PORT}/")
            missing = show(begun)
            silent = check_dashboards(ports["prometheus"]) if arguments.dashboards else []
            if arguments.keep:
                for tool in DAILY:
                    threading.Thread(target=work, args=(stage, tool), daemon=True).start()
                print("They go on. Ctrl-C ends it.", flush=True)
                try:
                    threading.Event().wait()
                except KeyboardInterrupt:
                    pass
    if silent:
        sys.exit("panels with nothing to show:\n" + "\n".join(silent))
    if missing:
        sys.exit(f"not at the pager within {LIMIT_S} s: {sorted(map(str, missing))}")


if __name__ == "__main__":
    world() if sys.argv[1:] == ["world"] else main()
