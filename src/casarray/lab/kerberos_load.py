"""A forest full of accounts with service principal names: ``python -m casarray.lab.kerberos_load 10000``.

Starts a domain controller in a namespace (as root), puts so many accounts into it, and prints as JSON how long it takes
to fetch who has which name. `populate` fills a domain controller that is there already.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from casarray.adapters.kerberos.ad_realm import ActiveDirectoryRealm
from casarray.core.config import DirectorySettings, KerberosSettings
from casarray.core.kerberos.principal import parse
from casarray.lab import netns, samba_ad
from casarray.lab.directory_load import OneName
from casarray.lab.samba_ad import ADMINISTRATOR, DomainController

ROUNDS = 3
CHUNK = 2000  # entries in one transaction: the database keeps a transaction in memory
SERVICES = ("host", "RestrictedKrbHost", "WSMAN", "TERMSRV")


def populate(dc: DomainController, accounts: int = 10_000) -> int:
    """Put so many computers into the domain, with the eight names that a usual one has; returns how many names.

    They have no passwords, and stand in an OU of their own. It takes two minutes for 10,000.
    """
    dc.add(f"dn: OU=Load,{dc.base}\nobjectClass: organizationalUnit\n")
    for start in range(0, accounts, CHUNK):
        numbers = range(start, min(start + CHUNK, accounts))
        dc.add("\n".join(_computer(dc, f"W{number:06}") for number in numbers))
    return accounts * len(SERVICES) * 2


def _computer(dc: DomainController, name: str) -> str:
    hosts = (name, f"{name.lower()}.{dc.domain}")
    lines = [
        f"dn: CN={name},OU=Load,{dc.base}",
        "objectClass: computer",
        f"sAMAccountName: {name}$",
        "userAccountControl: 4096",
        *(f"servicePrincipalName: {service}/{host}" for service in SERVICES for host in hosts),
    ]
    return "\n".join(lines) + "\n"


def measure(dc: DomainController) -> dict[str, Any]:
    """How long it takes to ask, in seconds."""
    settings = KerberosSettings(ccache=dc.ticket(ADMINISTRATOR, dc.password))
    realm = ActiveDirectoryRealm([f"ldap://{dc.fqdn}"], settings, DirectorySettings(timeout=60), OneName(dc.address))
    os.environ["KRB5_CONFIG"] = str(dc.krb5_conf)
    with dc.host.inside():
        try:
            realm.owners([parse("http/nobody.example")])  # connected
            found: dict[str, Any] = {"all_owners": [], "owners_of_100": []}
            asked = [parse(f"TERMSRV/w{number:06}.{dc.domain}") for number in range(100)]
            for _ in range(ROUNDS):
                start = time.perf_counter()
                found["accounts"] = len(list(realm.all_owners()))
                found["all_owners"].append(round(time.perf_counter() - start, 2))
                start = time.perf_counter()
                found["owned_of_100"] = len(realm.owners(asked))
                found["owners_of_100"].append(round(time.perf_counter() - start, 2))
            return found
        finally:
            realm.close()


def main() -> None:
    """Fill a domain controller and measure."""
    accounts = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    if reason := netns.missing() or samba_ad.missing():
        sys.exit(reason)
    with (
        tempfile.TemporaryDirectory(prefix="casarray-lab-") as folder,
        netns.Lab() as lab,
        DomainController(lab, Path(folder)) as dc,
    ):
        start = time.perf_counter()
        populate(dc, accounts)
        filled = round(time.perf_counter() - start, 1)
        print(json.dumps({"filled_in": filled, **measure(dc)}, indent=2))


if __name__ == "__main__":
    main()
