"""Autodiscover and Active Directory, with Samba's real domain controller: accounts as Exchange writes them, service
connection points, and a logon with a ticket or a password over HTTPS."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from tests.adapters.api_files import write_pair
from tests.conftest import Domain, LabNames
from tests.peers.test_active_directory import GROUP, ORGANISATION, REASON, change, organisation

from casarray.adapters.stores.ldap_publications import LdapPublications, open_publications
from casarray.app.autodiscover_publishing import Publishing
from casarray.core.autodiscover.publication import CONTAINER, KEYWORD
from casarray.core.autodiscover.response import Refusal, read_response
from casarray.core.directory.lookup import accounts_with_address
from casarray.core.directory.model import Account

pytestmark = [
    pytest.mark.root,
    pytest.mark.samba,
    pytest.mark.timeout(180),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

URL = "https://autodiscover.lab.example/autodiscover/autodiscover.xml"
SERVER = f"CN=CAS1,CN=Servers,{GROUP}"
GUID = UUID("416c6368-656d-794a-6f45-57615272456e")

ALLOWED = """\
dn: {place}
changetype: modify
add: possSuperiors
possSuperiors: msExchContainer
-

dn:
changetype: modify
add: schemaUpdateNow
schemaUpdateNow: 1
-
"""

#: As Exchange makes it for each of its servers: it says the server's own name until somebody changes that.
POINTER = f"""
dn: CN=Protocols,{SERVER}
objectClass: msExchContainer

dn: CN=CAS1,CN=Protocols,{SERVER}
objectClass: serviceConnectionPoint
keywords: {KEYWORD}
keywords: Site=Paderborn
serviceBindingInformation: https://cas1.lab.example/autodiscover/autodiscover.xml
serviceClassName: ms-Exchange-AutoDiscover-Service
serviceDNSName: cas1
"""


@contextmanager
def pointers_in(domain: Domain) -> Iterator[LdapPublications]:
    settings = replace(domain.settings(), store=(f"ldap://{domain.dc.fqdn}",))
    with open_publications(settings, LabNames(domain.controllers)) as publications:
        yield publications


def publishing(domain: Domain, publications: LdapPublications) -> Publishing:
    directory = domain.open().read().directory
    return Publishing(publications, directory, URL, tuple(directory.arrays.values()))


def test_addresses_and_names_of_accounts_are_read_as_exchange_writes_them(domain: Domain) -> None:
    domain.dc.add(ORGANISATION)
    domain.dc.add_user("alice")
    domain.dc.modify(f"""\
dn: CN=alice,CN=Users,{domain.dc.base}
changetype: modify
add: homeMDB
homeMDB: CN=DB1,CN=Databases,{GROUP}
-
add: proxyAddresses
proxyAddresses: SMTP:alice@lab.example
proxyAddresses: smtp:info@lab.example
proxyAddresses: X400:c=DE;a= ;p=Lab;o=Exchange;s=alice;
-
add: legacyExchangeDN
legacyExchangeDN: /o=Lab Org/ou=Old/cn=Recipients/cn=alice2
-
""")
    store = domain.open()
    directory = store.read().directory
    alice = directory.accounts["alice"]
    assert (alice.address, alice.aliases) == ("alice@lab.example", ("info@lab.example",))
    assert alice.legacy_dn == "/o=Lab Org/ou=Old/cn=Recipients/cn=alice2"
    assert accounts_with_address(directory, "INFO@lab.example") == (alice,)


def test_an_account_gets_and_loses_addresses(domain: Domain) -> None:
    domain.dc.add_user("erin")
    store = domain.open()
    change(store, organisation)
    erin = Account("erin", "DB1", "erin@lab.example", "Erin", ("e@lab.example",), "/o=X/cn=erin", str(GUID))
    for wanted in (erin, Account("erin", "DB1", "erin@lab.example", "Erin", ("other@lab.example",))):
        change(store, lambda d, wanted=wanted: d.put(wanted))  # type: ignore[misc]  # a lambda's default has no type
        assert domain.open().read().directory.accounts["erin"] == wanted


def test_a_site_without_a_service_connection_point_gets_one_and_loses_it(domain: Domain) -> None:
    change(domain.open(), organisation)
    with pointers_in(domain) as publications:
        ours = publishing(domain, publications)
        assert [one.site for one in ours.check()] == ["Paderborn"]
        publications.perform(ours.publish())
        assert ours.check() == ()
        assert ours.publish() == ()
        place = f"CN=Configuration,{domain.dc.base}"
        found = domain.dc.search(place, f"(keywords={KEYWORD})", "serviceBindingInformation")
        assert "https://autodiscover.lab.example" in found
        publications.perform(ours.unpublish())
        assert publications.pointers() == []
        assert CONTAINER not in domain.dc.search(f"CN=Services,CN=Configuration,{domain.dc.base}", "(cn=*)", "cn")


def test_a_server_that_leads_past_the_array_is_found_and_corrected(domain: Domain) -> None:
    domain.dc.add(ORGANISATION)
    place = f"CN=Service-Connection-Point,CN=Schema,CN=Configuration,{domain.dc.base}"
    if "msExchContainer" not in domain.dc.search(place, "(cn=*)", "possSuperiors"):  # a schema is never taken back
        domain.dc.modify(ALLOWED.format(place=place))
    domain.dc.add(POINTER)
    with pointers_in(domain) as publications:
        ours = publishing(domain, publications)
        (found,) = ours.check()
        assert found.words.startswith("CAS1 says https://cas1.lab.example/autodiscover/autodiscover.xml")
        publications.perform(ours.publish())
        assert ours.check() == ()
        assert [pointer.name for pointer in publications.pointers()] == ["CAS1"]
        assert ours.unpublish() == ()


PROOFS = """
import base64, os, sys
from casarray.adapters.kerberos.http_proof import HttpProofs
from casarray.adapters.kerberos.initiator import Purse
from casarray.core.errors import Denied
from casarray.core.kerberos.approach import Protocol

keytab, password, ccache = sys.argv[1], sys.stdin.read(), os.environ["KRB5CCNAME"]
proofs = HttpProofs(keytab, "LAB.EXAMPLE")

def tried(user, secret):
    try:
        return proofs.password(base64.b64encode(f"{user}:{secret}".encode()).decode())
    except Denied as error:
        return f"no: {error}"

for user in ("alice", "LAB\\\\alice", "alice@lab.example"):
    print(tried(user, password))
print(tried("alice", "wrong"))
print(tried("alice@other.example", password))
purse = Purse(ccache=ccache)
purse.get("http/autodiscover.lab.example")
client = purse.initiator("http/autodiscover.lab.example", Protocol.HTTP)
who, answer = proofs.ticket(base64.b64encode(client.step(b"")).decode())
client.step(base64.b64decode(answer))
print(who, client.complete)
try:
    proofs.ticket(base64.b64encode(b"NTLMSSP\\0" + bytes(40)).decode())
except Denied as error:
    print(error)
"""


def test_a_password_is_tried_at_the_kdc_and_a_ticket_is_read_with_the_keytab(domain: Domain) -> None:
    password = domain.dc.add_user("alice")
    keytab = domain.dc.add_machine("web", "http/autodiscover.lab.example")
    domain.dc.export(keytab, "http/autodiscover.lab.example")
    ccache = domain.dc.ticket("alice", password)
    environment = domain.dc.environment() | {"KRB5CCNAME": ccache}
    done = domain.dc.host.run(sys.executable, "-c", PROOFS, str(keytab), input=password, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    alice = "alice@LAB.EXAMPLE"
    *right, wrong, other, ticket, ntlm = done.stdout.splitlines()
    assert right == [alice, alice, alice]
    assert wrong.startswith("no: alice: ")
    assert other == "no: alice@other.example: only users of the realm LAB.EXAMPLE are known here"
    assert ticket == f"{alice} True"
    assert "only Kerberos is spoken" in ntlm


def test_curl_logs_on_with_a_ticket_or_a_password_and_ntlm_is_refused(domain: Domain, tmp_path: Path) -> None:
    password = domain.dc.add_user("alice")
    keytab = domain.dc.add_machine("web", "http/autodiscover.lab.example")
    domain.dc.export(keytab, "http/autodiscover.lab.example")
    environment = domain.dc.environment() | {"KRB5CCNAME": domain.dc.ticket("alice", password)}
    write_pair(tmp_path, hosts=["autodiscover.lab.example"])
    (tmp_path / "casarray.toml").write_text(f"""
[gateway]
state = "{tmp_path}"

[directory]
store = "embedded"

[autodiscover]
listen = "127.0.0.1:8443"
certificate = "{tmp_path}/api.pem"
key = "{tmp_path}/api.key"
authentication = ["kerberos", "basic"]
keytab = "{keytab}"
realm = "LAB.EXAMPLE"
""")
    command = [
        str(Path(sys.executable).with_name("casarray")),
        "autodiscover",
        "run",
        "-c",
        f"{tmp_path}/casarray.toml",
    ]
    words = [
        "curl",
        "-sS",
        "-m",
        "15",
        "--cacert",
        f"{tmp_path}/api.pem",
        "-o",
        f"{tmp_path}/answer",
        "-w",
        "%{http_code}",
    ]
    words += ["--resolve", "autodiscover.lab.example:8443:127.0.0.1"]

    def curl(*more: str, secret: str = "") -> str:
        url = "https://autodiscover.lab.example:8443/autodiscover/autodiscover.xml"
        given = f'user = "{secret}"\n' if secret else ""  # a password is on no command line
        done = domain.dc.host.run(*words, *more, "-K", "-", url, input=given, env=environment, check=False)
        return done.stdout

    with subprocess.Popen(
        domain.dc.host.command(*command), stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            assert curl() == "401"
            assert curl("--negotiate", secret=":") == "200"
            found = read_response((tmp_path / "answer").read_bytes())
            assert isinstance(found, Refusal)
            assert found.code == 600
            assert curl("--basic", secret=f"alice:{password}") == "200"
            assert curl("--basic", secret="alice:wrong") == "401"
            assert curl("--ntlm", secret=f"alice:{password}") == "401"
        finally:
            process.terminate()
            assert process.wait(15) == 0
