#!/usr/bin/env python3
"""Draws docs/img/: each dashboard with what it finds in the demo, by Grafana's own components.

In: the demo (deploy/demo/demo.py, as root), npm, and a headless Chromium. Out: one PNG a
dashboard. The packages go to target/pictures; nothing else is installed.
"""

import argparse
import functools
import http.server
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
WORK = ROOT / "target" / "pictures"
# What a person would choose at the top of a dashboard.
CHOSEN = {"$__rate_interval": "30s", "$__range": "2m", "$job": ".+", "$instance": ".+", "$tool": ".+"}
WIDTH = 1200
# The height of one grid row, and of what is above the first; main.jsx has the same.
ROW, HEAD = 38, 56


def ask(port, path, **query):
    url = f"http://127.0.0.1:{port}{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)["data"]["result"]


def fill(panel, port, start, end):
    for target in panel["targets"]:
        query = functools.reduce(lambda text, it: text.replace(*it), CHOSEN.items(), target["expr"])
        if panel["type"] == "timeseries":
            found = ask(port, "/api/v1/query_range", query=query, start=start, end=end, step=2)
        else:
            found = ask(port, "/api/v1/query", query=query, time=end)
        target["result"] = found


def collect(telltale, seconds):
    """Lets the demo run, and writes the dashboards with what their queries found."""
    demo = [sys.executable, ROOT / "deploy/demo/demo.py", "--keep", "--telltale", telltale]
    with subprocess.Popen(demo, stdout=subprocess.PIPE, text=True) as process:
        port = None
        for line in process.stdout:
            if found := re.match(r"prometheus\s+http://127.0.0.1:(\d+)/", line):
                port = int(found[1])
            if "Ctrl-C" in line:
                break
        try:
            time.sleep(seconds)
            end = time.time()
            start = end - seconds - 20
            boards = []
            for path in sorted((HERE.parent / "dashboards").glob("*.json")):
                board = json.loads(path.read_text()) | {"file": path.stem}
                for panel in board["panels"]:
                    fill(panel, port, start, end)
                boards.append(board)
        finally:
            process.send_signal(signal.SIGINT)
    data = {"start": start * 1000, "end": end * 1000, "boards": boards}
    (WORK / "data.json").write_text(json.dumps(data))
    return boards


def bundle():
    for name in ("package.json", "main.jsx", "index.html", "scrollbars.cjs"):
        shutil.copy(HERE / name, WORK)
    install = ["npm", "install", "--no-audit", "--no-fund", "--legacy-peer-deps", "--loglevel=error"]
    subprocess.run(install, cwd=WORK, check=True)
    loaders = [f"--loader:.{kind}=dataurl" for kind in ("svg", "png", "woff", "woff2", "ttf")]
    esbuild = ["node_modules/.bin/esbuild", "main.jsx", "--bundle", "--minify", "--outfile=out.js"]
    rest = ["--define:process.env.NODE_ENV=\"production\"", "--jsx=transform", "--log-level=error",
            "--alias:react-custom-scrollbars-2=./scrollbars.cjs"]
    subprocess.run(esbuild + loaders + rest, cwd=WORK, check=True)


def draw(boards, chromium):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=WORK)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for board in boards:
            rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
            picture = ROOT / "docs/img" / f"{board['file']}.png"
            command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                       f"--user-data-dir={WORK / 'profile'}", "--virtual-time-budget=8000",
                       f"--window-size={WIDTH},{rows * ROW + HEAD}", f"--screenshot={picture}",
                       f"http://127.0.0.1:{server.server_port}/index.html?board={board['file']}"]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            print(picture.relative_to(ROOT), picture.stat().st_size, "bytes")
        server.shutdown()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--telltale", default=ROOT / "target/debug/telltale", help="the program")
    parser.add_argument("--chromium", default="chromium", help="a Chromium (%(default)s)")
    parser.add_argument("--seconds", type=float, default=90, help="how long the demo runs")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    bundle()
    draw(collect(arguments.telltale, arguments.seconds), arguments.chromium)


if __name__ == "__main__":
    main()
