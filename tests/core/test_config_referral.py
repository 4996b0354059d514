"""`[referral]` and `[[retired]]`: what is read, and what is refused."""

from ipaddress import ip_address

import pytest

from casarray.core.config import Anonymous, ReferralSettings, Retired
from casarray.core.config_file import load_config
from casarray.core.errors import ConfigError

HEAD = '[gateway]\nname = "gw1"\n[directory]\nstore = "embedded"\n'
OLD = '[[retired]]\nname = "old1.domain.tld"\naddresses = ["10.11.0.50"]\n'
ARRAY = (
    '[[site]]\nname = "Ulm"\n[[array]]\nname = "CAS"\nfqdn = "cas.domain.tld"\nsite = "Ulm"\n'
    'addresses = ["10.11.0.100"]\nprofile = "exchange-2010"\n[[server]]\nname = "cas1"\nsite = "Ulm"\n'
    'address = "10.12.0.21"\n'
)


def test_everything_has_a_default_but_the_names_and_their_addresses() -> None:
    config = load_config(HEAD + OLD)
    assert config.referral == ReferralSettings()
    assert config.retired == (Retired("old1.domain.tld", (ip_address("10.11.0.50"),)),)
    assert config.retired[0].short_name == "old1"


def test_what_is_said_is_in_force() -> None:
    said = '[referral]\nmapper_port = 1135\nanonymous = "nothing"\nidle_timeout = "5m"\nencryption_required = true\n'
    referral = load_config(HEAD + said + OLD).referral
    assert (referral.mapper_port, referral.anonymous, referral.idle_timeout) == (1135, Anonymous.NOTHING, 300.0)
    assert referral.encryption_required


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OLD + OLD, "already the name of a retired server"),
        (ARRAY + OLD.replace("10.11.0.50", "10.11.0.100"), "is the address of the array CAS"),
        (ARRAY + OLD.replace("10.11.0.50", "10.12.0.21"), "is the address of the server cas1"),
        (OLD.replace("old1.domain.tld", "old1"), "full host name"),
        (OLD.replace('["10.11.0.50"]', "[]"), "addresses"),
        ("[referral]\nmailbox_port = 5000\n" + OLD, "two of its services have the same port"),
        ('[referral]\nanonymous = "some"\n' + OLD, "nothing"),
        ("[referral]\nport = 5000\n" + OLD, "unknown key"),
    ],
)
def test_what_cannot_be_right_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_config(HEAD + text)
