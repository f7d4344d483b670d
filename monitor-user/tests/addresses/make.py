#!/usr/bin/env python3
"""Makes the databases of this folder: networks of the documentation, and a public resolver.

In: nothing. Out: asn.mmdb and country.mmdb beside this file, in the layout of GeoLite2.
Needs mmdb_writer 0.2.7 (pip install mmdb_writer==0.2.7). None of the values is anybody's data.
"""

import time
from pathlib import Path

from mmdb_writer import MMDBWriter, MmdbU32
from netaddr import IPSet

HERE = Path(__file__).parent
BUILT = 1_767_225_600  # 2026-01-01: the same bytes in every run.
NETWORKS = {
    "203.0.113.0/24": (64496, {"country": {"iso_code": "CN"}}),
    "198.51.100.0/24": (64511, {"country": {"iso_code": "US"}}),
    "192.0.2.0/24": (None, {"registered_country": {"iso_code": "SG"}}),
    "2001:db8::/32": (65551, {"country": {"iso_code": "DE"}}),
    "9.9.9.0/24": (64500, {"country": {"iso_code": "CH"}}),
}
# The writer puts the present time into the file.
time.time = lambda: BUILT


def write(kind, records):
    writer = MMDBWriter(6, f"Test-{kind}", ipv4_compatible=True)
    for network, record in records:
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(HERE / f"{kind.lower()}.mmdb"))


write(
    "ASN",
    [
        (network, {"autonomous_system_number": MmdbU32(asn), "autonomous_system_organization": "Test"})
        for network, (asn, _) in NETWORKS.items()
        if asn
    ],
)
write("Country", [(network, country) for network, (_, country) in NETWORKS.items()])
