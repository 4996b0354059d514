"""The `[autodiscover]` table."""

import pytest

from casarray.core.config import Proof
from casarray.core.config_autodiscover import redirect_of
from casarray.core.config_file import load_config
from casarray.core.errors import ConfigError

WHOLE = """
[directory]
store = "embedded"

[autodiscover]
listen = "10.11.0.5:443"
certificate = "/etc/casarray/a.pem"
key = "/etc/casarray/a.key"
keytab = "/etc/casarray/a.keytab"
url = "https://autodiscover.domain.tld/autodiscover/autodiscover.xml"
redirect_listen = "10.11.0.5:80"
redirects = ["alice@old.tld = alice@domain.tld"]
"""


def test_by_itself_nobody_is_told_anything() -> None:
    assert load_config("").autodiscover.listen == ""


def test_a_whole_table_is_taken_and_wants_a_ticket() -> None:
    found = load_config(WHOLE).autodiscover
    assert (found.listen, found.authentication) == ("10.11.0.5:443", (Proof.KERBEROS,))
    assert found.redirects == ("alice@old.tld = alice@domain.tld",)


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ('store = "embedded"', 'store = "file"', "no mailboxes that clients could be told of"),
        ('key = "/etc/casarray/a.key"\n', "", "there is no key"),
        ('keytab = "/etc/casarray/a.keytab"\n', "", "without a keytab nobody can prove"),
        ('url = "https://autodiscover.domain.tld/autodiscover/autodiscover.xml"\n', "", "has to lead somewhere"),
        ("https://autodiscover.domain.tld/auto", "http://autodiscover.domain.tld/auto", "is no URL of Autodiscover"),
        ("alice@old.tld = alice@domain.tld", "alice@old.tld", "is no redirect"),
        ("alice@old.tld = alice@domain.tld", "alice@old.tld = http://x.tld/", "is no redirect"),
        ("[autodiscover]", '[autodiscover]\nauthentication = ["none", "basic"]', "answered anyway"),
        ("10.11.0.5:80", "10.11.0.5:443", "serves something else already"),
    ],
)
def test_what_could_not_work_is_refused(was: str, becomes: str, said: str) -> None:
    assert was in WHOLE
    with pytest.raises(ConfigError, match=said):
        load_config(WHOLE.replace(was, becomes))


def test_without_any_logon_no_keytab_is_needed() -> None:
    text = WHOLE.replace('keytab = "/etc/casarray/a.keytab"', 'authentication = "none"')
    assert load_config(text).autodiscover.authentication == (Proof.NONE,)


def test_a_redirect_leads_to_an_address_or_a_url() -> None:
    assert redirect_of("a@b.tld=c@d.tld") == ("a@b.tld", "c@d.tld")
    assert redirect_of("a@b.tld = https://d.tld/x?y=z") == ("a@b.tld", "https://d.tld/x?y=z")
    assert redirect_of("b.tld = c@d.tld") is None
