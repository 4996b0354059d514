"""`casarray agent` in a real Active Directory: the server's own account, and the key version of its tickets."""

import pytest
from tests.conftest import Domain
from tests.peers.ad_realms import password, realms, spns

from casarray.core.kerberos.account import AccountKind
from casarray.core.kerberos.encryption import AES
from casarray.core.kerberos.keys import Generation, Holding

pytest.importorskip("krb5", reason="pykrb5 is not installed")
pytest.importorskip("gssapi", reason="python-gssapi is not installed")

from casarray.adapters.kerberos.own_tickets import OwnTickets, machine_principal

pytestmark = [pytest.mark.samba, pytest.mark.root, pytest.mark.timeout(180)]


def test_a_server_sees_the_key_version_of_fresh_tickets(domain: Domain) -> None:
    keytab = str(domain.dc.add_machine("cas1"))
    assert machine_principal(keytab) == f"CAS1$@{domain.dc.realm}"
    tickets = OwnTickets(keytab)
    with realms(domain) as open_:
        realm = open_()
        account = realm.change_names(realm.create("asa$", AccountKind.COMPUTER, AES), spns("http/cas.lab.example"), ())
        account = realm.set_password(account, password())
        holding = Holding("asa$", domain.dc.realm, ("http/cas.lab.example",), (Generation(account.number, (), 1.0),))
        seen = tickets.seen(holding)
        assert (seen.version, seen.unknown) == (account.number, "")
        after = realm.set_password(account, password())
        assert tickets.seen(holding).version == after.number == account.number + 1
        assert abs(tickets.skew() or 0) < 60
        realm.change_names(after, (), spns("http/cas.lab.example"))
        assert tickets.seen(holding).nobody
