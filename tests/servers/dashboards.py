"""Reads dashboards with the types of Grafana, and says what these do not know.

In: paths of dashboards. Out: a line for each key or value that does not survive; exit status 1 if
there is one.
"""

import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(written, read, path=""):
    if isinstance(written, dict):
        for key, value in written.items():
            if not isinstance(read, dict) or key not in read:
                yield f"{path}.{key}"
            else:
                yield from lost(value, read[key], f"{path}.{key}")
    elif isinstance(written, list):
        for index, value in enumerate(written):
            if not isinstance(read, list) or index >= len(read):
                yield f"{path}[{index}]"
            else:
                yield from lost(value, read[index], f"{path}[{index}]")
    elif written != read:
        yield f"{path}: {written!r} is read as {read!r}"


register_default_plugins()
found = []
for path in sys.argv[1:]:
    written = json.load(open(path))
    read = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(written)))
    found += [f"{path}{it}" for it in lost(written, read)]
if found:
    sys.exit("\n".join(found))
