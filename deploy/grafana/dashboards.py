#!/usr/bin/env python3
"""Writes the Grafana dashboards beside it: what each shows is one table here.

In: nothing. Out: dashboards/*.json, in Grafana's classic model, which every version imports.
With `--check`, nothing is written, and the exit status is 1 if a file differs.
"""

import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent / "dashboards"

# Every query is of the chosen monitors.
HERE = 'job=~"$job",instance=~"$instance"'
# And of the chosen tools; what belongs to no tool is none of them.
TOOLS = HERE + ',tool=~"$tool"'
UNEXPECTED = 'verdict=~"undeclared|denied|unknown"'

# Width of a panel, of Grafana's 24 columns, and height by type.
HEIGHT = {"stat": 4, "timeseries": 8, "table": 9, "bargauge": 8}

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def rate(metric, by, labels=TOOLS, range_="$__rate_interval"):
    return f"sum by ({by}) (rate({metric}{{{labels}}}[{range_}]))"


def newly(metric, by, labels=TOOLS):
    """What was counted in the chosen time, without zeros. A series that is new since has no increase
    of its first count: all that it has is new."""
    series = f"{metric}{{{labels}}}"
    return (f"sum by ({by}) (increase({series}[$__range]) > 0"
            f" or ({series} unless {series} offset $__range) > 0)")


def variable(name, label, query, multi):
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": query,
        "refresh": 2,
        "sort": 1,
        "multi": multi,
        "includeAll": multi,
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def templating(with_tool):
    variables = [
        {
            "type": "datasource",
            "name": "datasource",
            "label": "Data source",
            "query": "prometheus",
            "refresh": 1,
            "current": {"selected": False, "text": "default", "value": "default"},
        },
        variable("job", "Job", "label_values(telltale_build_info, job)", True),
        variable(
            "instance", "Host", 'label_values(telltale_build_info{job=~"$job"}, instance)', True
        ),
    ]
    if with_tool:
        query = (
            "label_values(telltale_tool_last_seen_timestamp_seconds"
            '{job=~"$job",instance=~"$instance"}, tool)'
        )
        variables.append(variable("tool", "Tool", query, True))
    return {"list": variables}


def thresholds(steps):
    """Colours from the first value on that each is for; none has a value."""
    return {
        "mode": "absolute",
        "steps": [{"color": color, "value": value} for value, color in steps],
    }


GREEN = [(None, "green")]
BAD_ABOVE_0 = [(None, "green"), (1, "red")]
WARN_ABOVE_0 = [(None, "green"), (1, "orange")]
GOOD_AT_1 = [(None, "red"), (1, "green")]


class Panel:
    """One panel: what it asks, what it shows, and why one looks at it."""

    def __init__(self, kind, title, description, expr, legend="", unit="short", width=6, steps=GREEN):
        self.kind, self.title, self.description = kind, title, description
        self.expr, self.legend, self.unit = expr, legend, unit
        self.width, self.steps = width, steps

    def json(self, number, x, y):
        instant = self.kind in ("stat", "table", "bargauge")
        target = {
            "refId": "A",
            "datasource": DATASOURCE,
            "expr": self.expr,
            "legendFormat": self.legend or "__auto",
            "instant": instant,
            "range": not instant,
        }
        if self.kind == "table":
            target["format"] = "table"
        panel = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": HEIGHT[self.kind]},
            "targets": [target],
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit,
                    "thresholds": thresholds(self.steps),
                    "color": {"mode": "palette-classic" if self.kind == "timeseries" else "thresholds"},
                },
                "overrides": [],
            },
            "options": self.options(),
        }
        if self.kind == "timeseries":
            panel["fieldConfig"]["defaults"]["custom"] = {
                "drawStyle": "line",
                "fillOpacity": 10,
                "lineWidth": 1,
                "showPoints": "never",
            }
        if self.kind == "table":
            panel["transformations"] = [
                {
                    "id": "organize",
                    "options": {"excludeByName": {"Time": True, "__name__": True}},
                }
            ]
        return panel

    def options(self):
        reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        if self.kind == "stat":
            return {"reduceOptions": reduce, "colorMode": "background", "graphMode": "none"}
        if self.kind == "bargauge":
            return {"reduceOptions": reduce, "orientation": "horizontal", "displayMode": "basic"}
        if self.kind == "timeseries":
            legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        return {"showHeader": True}


def dashboard(uid, title, description, panels, with_tool=True):
    x = y = row = 0
    placed = []
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > 24:
            x, y, row = 0, y + row, 0
        placed.append(panel.json(number, x, y))
        x, row = x + panel.width, max(row, HEIGHT[panel.kind])
    return {
        "uid": uid,
        "title": f"Telltale / {title}",
        "description": description,
        "tags": ["telltale"],
        "schemaVersion": 41,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": templating(with_tool),
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "title": "Telltale",
                "tags": ["telltale"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
                "icon": "external link",
                "tooltip": "",
                "url": "",
                "targetBlank": False,
            }
        ],
        "panels": placed,
    }


FLEET = [
    Panel("stat", "Hosts", "Monitors that are scraped now.",
          f"count(telltale_build_info{{{HERE}}})", width=4),
    Panel("stat", "Hosts that see everything",
          "Share of monitors whose coverage is complete: only there does a silence mean something.",
          f"avg(telltale_coverage_complete{{{HERE}}})", unit="percentunit", width=5,
          steps=GOOD_AT_1),
    Panel("stat", "Alerts firing", "Of all rules.",
          f"sum(telltale_alerts_firing{{{HERE}}})", width=5, steps=BAD_ABOVE_0),
    Panel("stat", "Hosts with AI tools", "Hosts where a tool was seen since its monitor started.",
          f"count(count by (instance) (telltale_tool_last_seen_timestamp_seconds{{{TOOLS}}}))",
          width=5),
    Panel("stat", "Policies in force",
          "Different digests of bans and catalog. More than one: hosts judge differently.",
          f"count(count by (digest) (telltale_policy_info{{{HERE}}}))", width=5,
          steps=[(None, "green"), (2, "orange")]),
    Panel("timeseries", "Connections by tool", "New flows per second.",
          rate("telltale_connections_total", "tool"), "{{tool}}", "cps", 12),
    Panel("timeseries", "Not expected, by tool",
          "New flows per second that are undeclared, denied or unknown.",
          rate("telltale_unexpected_connections_total", "tool"), "{{tool}}", "cps", 12),
    Panel("table", "Tools and versions", "What ran where since the monitor started.",
          f"max by (instance, tool, version, vendor, jurisdiction) (telltale_tool_info{{{TOOLS}}})",
          width=12),
    Panel("table", "Alerts by host and rule", "What fires now.",
          f"sum by (instance, rule) (telltale_alerts_firing{{{HERE}}}) > 0", width=12),
    Panel("timeseries", "Bytes sent by tool", "Payload bytes per second that left the hosts.",
          rate("telltale_transmit_bytes_total", "tool"), "{{tool}}", "Bps", 12),
    Panel("timeseries", "Running processes by tool", "Processes of tools and of their children.",
          f"sum by (tool) (telltale_running_processes{{{TOOLS}}})", "{{tool}}", "short", 12),
]

TOOL = [
    Panel("stat", "Running processes", "Now, on all chosen hosts.",
          f"sum(telltale_running_processes{{{TOOLS}}})", width=6),
    Panel("stat", "Open connections", "TCP connections that have not ended.",
          f"sum(telltale_active_connections{{{TOOLS}}})", width=6),
    Panel("stat", "Last seen", "When a process or a flow of the tool was last seen.",
          f"max(telltale_tool_last_seen_timestamp_seconds{{{TOOLS}}}) * 1000",
          unit="dateTimeFromNow", width=6),
    Panel("stat", "Not expected", "Flows in the chosen time.",
          f"sum(increase(telltale_unexpected_connections_total{{{TOOLS}}}[$__range]))",
          width=6, steps=WARN_ABOVE_0),
    Panel("timeseries", "Connections by purpose", "What the contacted endpoints are for.",
          rate("telltale_connections_total", "purpose"), "{{purpose}}", "cps", 8),
    Panel("timeseries", "Connections by role",
          "Who went: the tool itself, a helper, or a child that it started.",
          rate("telltale_connections_total", "role"), "{{role}}", "cps", 8),
    Panel("timeseries", "Failures by reason", "Flows that did not reach their remote.",
          rate("telltale_connection_failures_total", "reason"), "{{reason}}", "cps", 8),
    Panel("timeseries", "Duration", "95 of 100 connections end sooner than this.",
          "histogram_quantile(0.95, "
          + rate("telltale_connection_duration_seconds_bucket", "tool, le") + ")",
          "{{tool}}", "s", 8),
    Panel("timeseries", "Round-trip time", "95 of 100 connections have a shorter one.",
          "histogram_quantile(0.95, "
          + rate("telltale_connection_rtt_seconds_bucket", "tool, le") + ")",
          "{{tool}}", "s", 8),
    Panel("timeseries", "Bytes received", "Payload bytes per second.",
          rate("telltale_receive_bytes_total", "tool"), "{{tool}}", "Bps", 8),
    Panel("table", "Versions by host", "What ran where since the monitor started.",
          f"max by (instance, tool, version) (telltale_tool_info{{{TOOLS}}})", width=12),
    Panel("table", "How it was recognised", "Program images, by the strongest evidence.",
          f"sum by (tool, method) (telltale_attributions_total{{{TOOLS}}})", width=12),
]

POLICY = [
    Panel("stat", "Banned tools", "Alerts of the rule banned-tool that fire now.",
          f'sum(telltale_alerts_firing{{{HERE},rule="banned-tool"}})', width=6,
          steps=BAD_ABOVE_0),
    Panel("stat", "Unexpected endpoints", "Alerts of the rule unexpected-endpoint that fire now.",
          f'sum(telltale_alerts_firing{{{HERE},rule="unexpected-endpoint"}})', width=6,
          steps=WARN_ABOVE_0),
    Panel("stat", "Ways past the hooks",
          "Alerts for raw, packet and vsock sockets, and for rewritten destinations.",
          "sum(telltale_alerts_firing{" + HERE
          + ',rule=~"raw-socket|packet-socket|vsock-socket|dst-mismatch"})', width=6,
          steps=WARN_ABOVE_0),
    Panel("stat", "Unidentified programs",
          "Flows to AI providers by programs that are no known tool, in the chosen time.",
          f'sum(increase(telltale_unexpected_connections_total{{{HERE},tool="unidentified"}}'
          "[$__range])) or vector(0)", width=6, steps=WARN_ABOVE_0),
    Panel("timeseries", "Not expected, by rule", "Flows per second.",
          rate("telltale_unexpected_connections_total", "rule"), "{{rule}}", "cps", 12),
    Panel("timeseries", "Verdicts", "All flows of tools.",
          rate("telltale_connections_total", "verdict"), "{{verdict}}", "cps", 12),
    Panel("table", "Not expected, by host, tool and rule", "Flows in the chosen time.",
          newly("telltale_unexpected_connections_total", "instance, tool, rule"), width=12),
    Panel("table", "Alerts that began", "In the chosen time, by host and rule.",
          newly("telltale_alerts_total", "instance, rule, severity", HERE), width=12),
    Panel("table", "Policy by host", "Hosts with the same digest judge alike.",
          f"max by (instance, digest) (telltale_policy_info{{{HERE}}})", width=24),
]

ENDPOINTS = [
    Panel("stat", "Endpoints", "Names that the chosen tools contacted.",
          f"count(count by (endpoint) (telltale_endpoint_connections_total{{{TOOLS}}}))", width=8),
    Panel("stat", "Without a name", "Share of flows whose remote has no known name.",
          f'(sum(telltale_endpoint_connections_total{{{TOOLS},endpoint="unnamed"}}) or vector(0)) '
          f"/ sum(telltale_endpoint_connections_total{{{TOOLS}}})", unit="percentunit", width=8,
          steps=[(None, "green"), (0.1, "orange")]),
    Panel("stat", "Beyond the budget",
          "Times that a name found no room of its own. Above 0, a tool contacts very many names.",
          f"sum(telltale_endpoint_overflow_total{{{TOOLS}}})", width=8, steps=WARN_ABOVE_0),
    Panel("table", "Endpoints by tool and verdict", "Flows in the chosen time, most first.",
          "sort_desc(" + newly("telltale_endpoint_connections_total", "tool, endpoint, verdict")
          + ")", width=14),
    Panel("table", "Bytes sent by endpoint", "Payload bytes in the chosen time, most first.",
          "sort_desc(" + newly("telltale_endpoint_transmit_bytes_total", "tool, endpoint") + ")",
          unit="bytes", width=10),
    Panel("timeseries", "Connections by jurisdiction",
          "Flows per second of tools, by the home of who runs the remote.",
          rate("telltale_operator_connections_total", "jurisdiction"), "{{jurisdiction}}", "cps", 12),
    Panel("timeseries", "Bytes sent by jurisdiction",
          "Payload bytes per second of tools, by the home of who runs the remote.",
          rate("telltale_operator_transmit_bytes_total", "jurisdiction"), "{{jurisdiction}}", "Bps",
          12),
    Panel("table", "Who runs the remotes", "Flows in the chosen time, most first.",
          "sort_desc(" + newly("telltale_operator_connections_total", "tool, operator, jurisdiction")
          + ")", width=24),
    Panel("timeseries", "Where names come from", "Flows per second, by the source of the best name.",
          f"sum by (source) (rate(telltale_flow_names_total{{{HERE}}}[$__rate_interval]))",
          "{{source}}", "cps", 24),
]

HEALTH = [
    Panel("stat", "Coverage complete", "1 where everything was seen in the last minute.",
          f"min(telltale_coverage_complete{{{HERE}}})", width=6, steps=GOOD_AT_1),
    Panel("stat", "Hooks not attached", "Kernel programs that see nothing.",
          f"sum(1 - telltale_hook_attached{{{HERE}}})", width=6, steps=BAD_ABOVE_0),
    Panel("stat", "Books", "Operations that nothing accounts for. Anything but 0 is a fault.",
          f"max(abs(telltale_books_remainder{{{HERE}}}))", width=6, steps=BAD_ABOVE_0),
    Panel("stat", "Alerts that wait", "For receivers that are away.",
          f'sum(telltale_sink_queue_length{{{HERE},sink!="console"}}) or vector(0)', width=6,
          steps=WARN_ABOVE_0),
    Panel("timeseries", "Records lost in the kernel", "By outcome; all at 0.",
          "sum by (outcome) (rate(telltale_kernel_operations_total{" + HERE
          + ',outcome=~"ring_full|flows_full|unreadable|over_budget"}[$__rate_interval]))',
          "{{outcome}}", "cps", 12),
    Panel("timeseries", "Operations seen by hook", "What the kernel side looks at.",
          "sum by (hook) (rate(telltale_kernel_operations_total{" + HERE
          + ',outcome="attempted"}[$__rate_interval]))', "{{hook}}", "ops", 12),
    Panel("timeseries", "Events by kind", "Records decoded.",
          f"sum by (kind) (rate(telltale_events_total{{{HERE}}}[$__rate_interval]))",
          "{{kind}}", "cps", 8),
    Panel("timeseries", "Tables", "How full the tables in memory are.",
          f"max by (table) (telltale_table_entries{{{HERE}}} / telltale_table_capacity{{{HERE}}})",
          "{{table}}", "percentunit", 8),
    Panel("timeseries", "Kernel maps", "How full they are.",
          f"max by (map) (telltale_map_entries{{{HERE}}} / telltale_map_capacity{{{HERE}}})",
          "{{map}}", "percentunit", 8),
    Panel("timeseries", "Rings", "How full they were at most within a minute. At 100 % records are lost.",
          f"max by (ring) (telltale_ring_peak_bytes{{{HERE}}} / telltale_ring_capacity_bytes{{{HERE}}})",
          "{{ring}}", "percentunit", 6),
    Panel("timeseries", "CPU", "Cores that Telltale takes.",
          f"sum by (instance) (rate(process_cpu_seconds_total{{{HERE}}}[$__rate_interval]))",
          "{{instance}}", "short", 6),
    Panel("timeseries", "Memory", "Resident memory of Telltale.",
          f"sum by (instance) (process_resident_memory_bytes{{{HERE}}})",
          "{{instance}}", "bytes", 6),
    Panel("timeseries", "Event log", "Lines written per second, and dropped.",
          f"sum by (instance) (rate(telltale_event_log_lines_total{{{HERE}}}[$__rate_interval]))",
          "{{instance}}", "cps", 6),
    Panel("table", "Gaps", "Reasons why something may have been missed; 0 stands for none.",
          f"sum by (instance, reason) (telltale_coverage_gap_info{{{HERE}}}) or "
          f"(0 * telltale_coverage_complete{{{HERE}}})", width=12),
    Panel("table", "Builds", "Versions in use.",
          "max by (instance, version, revision) (telltale_build_info{" + HERE + "})", width=12),
]

DASHBOARDS = {
    "fleet.json": dashboard(
        "telltale-fleet", "Fleet overview", "Which AI tools run where, and what fires.", FLEET),
    "tool.json": dashboard("telltale-tool", "Tool detail", "What one tool does, in depth.", TOOL),
    "policy.json": dashboard(
        "telltale-policy", "Policy & violations", "What was not as it should be.", POLICY),
    "endpoints.json": dashboard(
        "telltale-endpoints", "Endpoints & jurisdictions", "Whom the tools contact.", ENDPOINTS),
    "health.json": dashboard(
        "telltale-health", "Monitor health", "Whether the monitors see everything.", HEALTH,
        with_tool=False),
}


def main():
    differs = []
    for name, content in DASHBOARDS.items():
        path, text = FOLDER / name, json.dumps(content, indent=1) + "\n"
        if "--check" in sys.argv:
            if not path.exists() or path.read_text() != text:
                differs.append(name)
        else:
            FOLDER.mkdir(exist_ok=True)
            path.write_text(text)
    if differs:
        sys.exit(f"run dashboards.py: {', '.join(differs)} differ")


if __name__ == "__main__":
    main()
