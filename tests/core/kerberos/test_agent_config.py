"""The agent's file: what it may say, and what is wrong with it."""

import pytest

from casarray.core.errors import ConfigError
from casarray.core.kerberos.agent_config import AgentSettings, KeytabFile, load_agent

LEAST = '[agent]\nadministrators = ["admin@LAB.EXAMPLE"]\n'


def test_little_is_needed() -> None:
    found = load_agent(LEAST, hostname="cas1.lab.example")
    assert found == AgentSettings(("admin@LAB.EXAMPLE",), fqdn="cas1.lab.example")


def test_keytabs_are_as_the_file_says() -> None:
    text = f'{LEAST}[[keytab]]\npath = "/etc/a"\nowner = "dovecot"\nservices = ["imap"]\nreload = ["true"]\n'
    (found,) = load_agent(text, hostname="cas1.lab.example").keytabs
    assert found == KeytabFile("/etc/a", "dovecot", services=("imap",), reload=("true",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "administrators"),
        ("[agent]\nadministrators = []\n", "administrators"),
        ("agent = 1", "agent"),
        ("[agnt]\n", "agnt"),
        (f'{LEAST}fqdn = "cas1"\n', "has no domain"),
        (f'{LEAST}check_interval = "0s"\n', "out of range"),
        (f'{LEAST}listen = "everywhere"\n', "not an address with a port"),
        (f'{LEAST}listen = ""\n', "listen"),
        ('[agent]\nadministrators = ["admin"]\n', "administrators"),
        (f"{LEAST}[[keytab]]\n", "path"),
        (f'{LEAST}[[keytab]]\npath = "/a"\n[[keytab]]\npath = "/a"\n', "kept twice"),
        (f'{LEAST}[[keytab]]\npath = "/etc/krb5.keytab"\n', "machine's own keytab"),
        (f'{LEAST}keytab = "/m"\n[[keytab]]\npath = "/m"\n', "machine's own keytab"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_agent(text, hostname="cas1.lab.example")


def test_a_host_without_a_domain_has_to_be_told_its_name() -> None:
    with pytest.raises(ConfigError, match="this host has no domain"):
        load_agent(LEAST, hostname="cas1")
    assert load_agent(f'{LEAST}fqdn = "cas1.lab.example"\n', hostname="cas1").fqdn == "cas1.lab.example"
