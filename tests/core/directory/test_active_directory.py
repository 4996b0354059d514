"""Entries of Active Directory as a directory, and changes as LDAP operations: with nothing running."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.directory import active_directory as ad
from casarray.core.directory import edits
from casarray.core.directory.active_directory import Entry, EntryKind, Partitions, child, first_value, parent
from casarray.core.directory.ad_reading import Reading, read, setting_text, setting_value
from casarray.core.directory.ad_schema import ATTRIBUTES, CLASSES, VOCABULARY, schema_ldif
from casarray.core.directory.ad_steps import Add, Bare, Delete, Edit, Modify, OnlyArray, Rename, Step, words
from casarray.core.directory.ad_writing import plan
from casarray.core.directory.changes import difference
from casarray.core.directory.model import (
    CLIENT_ACCESS,
    MAILBOX,
    Account,
    Array,
    Copy,
    Database,
    Directory,
    Kind,
    RpcClientAccess,
    Server,
    Site,
)
from casarray.core.errors import MovedOn

BASE = "DC=domain,DC=tld"
PARTITIONS = Partitions(BASE, f"CN=Configuration,{BASE}", f"CN=Schema,CN=Configuration,{BASE}", BASE)
ORG = f"CN=Contoso,{PARTITIONS.exchange}"
GROUP = f"CN=Group,CN=Administrative Groups,{ORG}"
PADERBORN = f"CN=Paderborn,{PARTITIONS.sites}"
LEGACY = "/o=Contoso/ou=Group/cn=Configuration/cn=Servers/cn="
ALL = frozenset(name.casefold() for name in VOCABULARY)


def entry(dn: str, *classes: str, **values: str | Sequence[str]) -> Entry:
    """As a domain controller shows it; its GUID is its DN, so that tests can tell."""
    read_values = {name: (v,) if isinstance(v, str) else tuple(v) for name, v in values.items()}
    return Entry(dn, dn, ad.kind_of(classes, dn), ("top", *classes), read_values)


def server(name: str, roles: int = 4, **values: str | Sequence[str]) -> Entry:
    usual: Mapping[str, str | Sequence[str]] = {
        "networkAddress": [f"netbios:{name}", f"ncacn_ip_tcp:{name.lower()}.domain.tld"],
        "msExchServerSite": PADERBORN,
        "msExchCurrentServerRoles": str(roles),
        "legacyExchangeDN": LEGACY + name,
    }
    return entry(f"CN={name},CN=Servers,{GROUP}", "server", "msExchExchangeServer", **{**usual, **values})


SITE = entry(PADERBORN, "site")
CONTAINERS = [
    entry(f"CN=Administrative Groups,{ORG}", "msExchContainer"),
    *(entry(f"CN={name},{GROUP}", "msExchContainer") for name in ("Servers", "Arrays", "Databases")),
]
ARRAY = entry(
    f"CN=CAS,CN=Arrays,{GROUP}",
    "server",
    "msExchExchangeServer",
    "msExchClientAccessArray",
    networkAddress="ncacn_ip_tcp:cas.domain.tld",
    msExchServerSite=PADERBORN,
    legacyExchangeDN=f"{LEGACY}cas.domain.tld",
)
DATABASE = entry(
    f"CN=DB1,CN=Databases,{GROUP}",
    "msExchMDB",
    "msExchPrivateMDB",
    msExchOwningServer=f"CN=MBX1,CN=Servers,{GROUP}",
    legacyExchangeDN=f"{LEGACY}cas.domain.tld/cn=Microsoft Private MDB",
)
USUAL = [SITE, *CONTAINERS, server("CAS1"), server("MBX1", 2), ARRAY, DATABASE]


def planned(reading: Reading, after: Directory, schema: frozenset[str] = ALL) -> tuple[Step, ...]:
    return plan(reading, difference(reading.directory, after), PARTITIONS, schema)


# Names and filters.


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_name_can_be_told_from_its_dn(name: str, other: str) -> None:
    name = name.replace("\0", "0").encode("utf-8", "ignore").decode() or "x"
    dn = child(name, child(other, BASE))
    assert first_value(dn) == name
    assert parent(dn) == child(other, BASE)


def test_what_means_something_in_a_dn_is_escaped() -> None:
    assert child(' a,b+c"d\\e<f>g;h=i ', "DC=x") == 'CN=\\ a\\,b\\+c\\"d\\\\e\\<f\\>g\\;h\\=i\\ ,DC=x'
    assert child("#1", "DC=x") == "CN=\\#1,DC=x"


def test_escapes_of_octets_are_read() -> None:
    assert first_value("CN=Z\\C3\\BCrich\\2C CH,DC=x") == "Zürich, CH"


def test_what_means_something_in_a_filter_is_escaped() -> None:
    assert (
        ad.account_filter("a*)(b\\")
        == "(&(objectCategory=person)(objectClass=user)(sAMAccountName=a\\2a\\29\\28b\\5c))"
    )


def test_a_domain_has_a_dn_and_a_dn_a_domain() -> None:
    assert ad.domain_dn("lab.example") == "DC=lab,DC=example"
    assert ad.domain_name("CN=Schema,CN=Configuration,DC=lab,DC=example") == "lab.example"


@pytest.mark.parametrize(
    ("classes", "dn", "kind"),
    [
        (["server", "msExchExchangeServer", "msExchClientAccessArray"], "CN=CAS", EntryKind.ARRAY),
        (["server", "MSEXCHEXCHANGESERVER"], "CN=CAS1", EntryKind.SERVER),
        (["protocolCfg", "whatever"], "CN=RpcClientAccess,CN=CAS1", EntryKind.ACCESS),
        (["person", "user"], "CN=alice", EntryKind.ACCOUNT),
        (["person", "user", "computer"], "CN=PC1", EntryKind.OTHER),
        (["container"], "CN=Databases", EntryKind.CONTAINER),
        (["device"], "CN=x", EntryKind.OTHER),
    ],
)
def test_classes_tell_what_an_entry_is(classes: list[str], dn: str, kind: EntryKind) -> None:
    assert ad.kind_of(classes, dn) is kind


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_setting_is_read_as_it_was_written(value: object) -> None:
    text = setting_text(value)
    assert setting_value(text) == value
    assert ad.settings_of([f"name={text}"]) == {"name": text.strip()}


def test_a_plain_setting_stays_plain() -> None:
    assert (setting_text("3h"), setting_text(True), setting_text("true")) == ("3h", "true", '"true"')


# Reading.


def test_an_organisation_is_read() -> None:
    reading = read(USUAL)
    found = reading.directory
    assert reading.missing == ()
    assert (found.organization, found.admin_group) == ("Contoso", "Group")
    assert found.servers["cas1"] == Server("CAS1", "cas1.domain.tld", "Paderborn")
    assert found.servers["mbx1"] == Server("MBX1", "mbx1.domain.tld", "Paderborn", (MAILBOX,), None)
    assert found.arrays == {"cas": Array("CAS", "cas.domain.tld", "Paderborn")}
    assert found.databases == {"db1": Database("DB1", "MBX1", (Copy("MBX1"),), "cas.domain.tld")}
    assert found.servers["cas1"].guid == f"CN=CAS1,CN=Servers,{GROUP}"


def test_nothing_is_an_empty_directory() -> None:
    reading = read([])
    assert difference(Directory(), reading.directory) == ()
    assert reading.admin_group_dn == ""


def test_a_database_that_names_a_server_by_its_short_name_names_its_fqdn() -> None:
    database = replace(
        DATABASE, values={**DATABASE.values, "legacyExchangeDN": (f"{LEGACY}CAS1/cn=Microsoft Private MDB",)}
    )
    assert read([*USUAL[:-1], database]).directory.databases["db1"].rpc_client_access_server == "cas1.domain.tld"


def test_copies_stand_below_their_database() -> None:
    copies = [
        entry(f"CN={n},{DATABASE.dn}", "msExchMDBCopy", msExchHostServerLink=f"CN={n},CN=Servers,{GROUP}",
              msExchActivationPreference=rank) for n, rank in (("CAS1", "2"), ("MBX1", "1"))
    ]  # fmt: skip
    assert read([*USUAL, *copies]).directory.databases["db1"].copies == (Copy("MBX1", 1), Copy("CAS1", 2))


@pytest.mark.parametrize("link", ["on servers", "on databases"])
def test_servers_of_an_availability_group_are_found_by_their_links(link: str) -> None:
    group = entry(f"CN=DAG1,CN=Database Availability Groups,{GROUP}", "msExchMDBAvailabilityGroup")
    if link == "on servers":
        entries = [*USUAL, server("MBX2", 2, msExchMDBAvailabilityGroupLink=group.dn)]
    else:
        owner = {"msExchMasterServerOrAvailabilityGroup": (group.dn,)}
        entries = [*USUAL[:-1], replace(DATABASE, values={**DATABASE.values, **owner})]
    expected = ("MBX2",) if link == "on servers" else ("MBX1",)
    assert read([*entries, group]).directory.groups["dag1"].servers == expected


def test_where_exchange_keeps_objects_for_rpc_client_access_they_decide() -> None:
    access = entry(f"CN=RpcClientAccess,CN=Protocols,CN=CAS1,CN=Servers,{GROUP}", "protocolCfg")
    found = read([*USUAL, server("CAS2"), access]).directory.servers
    assert (found["cas1"].is_member, found["cas2"].is_member) == (True, False)
    assert found["cas1"].rpc_client_access == RpcClientAccess()


def test_our_settings_are_read() -> None:
    lines = ["addresses=10.1.0.1,fd00::1", "weight=50", "public_folders=true", "rpc.maximum_connections=9", "x=y"]
    found = read([*USUAL, server("CAS2", casarraySettings=lines)]).directory.servers["cas2"]
    assert found.addresses == (ip_address("10.1.0.1"), ip_address("fd00::1"))
    assert (found.weight, found.public_folders) == (50, True)
    assert found.rpc_client_access == RpcClientAccess(maximum_connections=9)


def test_a_server_with_a_public_folder_database_has_public_folders() -> None:
    public = entry("CN=PF", "msExchPublicMDB", msExchOwningServer=f"CN=MBX1,CN=Servers,{GROUP}")
    assert read([*USUAL, public]).directory.servers["mbx1"].public_folders


def test_an_account_is_known_by_its_logon_name_and_primary_address() -> None:
    found = read([
        *USUAL,
        entry("CN=Alice L,CN=Users", "user", sAMAccountName="alice", homeMDB=DATABASE.dn, displayName="Alice",
              mail="old@domain.tld", proxyAddresses=["smtp:second@domain.tld", "SMTP:first@domain.tld"]),
    ])  # fmt: skip
    alice = Account("alice", "DB1", "first@domain.tld", "Alice", ("second@domain.tld",))
    assert found.directory.accounts == {"alice": alice}


@pytest.mark.parametrize(
    ("odd", "sentence"),
    [
        (server("CAS9", 0), "CAS9: left out: it has neither the client-access nor the mailbox role"),
        (server("CAS9", networkAddress="netbios:CAS9"), "CAS9: left out: its networkAddress has no name for TCP"),
        (server("CAS9", msExchServerSite=[]), "CAS9: left out: it belongs to no site"),
        (server("CAS9", msExchServerSite="CN=Ulm"), "CAS9: left out: its site Ulm is not there, or may not be read"),
        (server("CAS9", msExchServerSite="CN=Ulm\\0ADEL:1"), "CAS9: left out: it belongs to no site"),
        (
            server("CAS9\\0ACNF:00"),
            "CAS9: left out: set aside by replication, since two servers of that name were made at once",
        ),
        (
            replace(server("CAS1"), dn=f"CN=cas1,CN=Servers,CN=Other,{ORG}", guid="2"),
            "cas1: left out: there are two servers of that name, only the first is read",
        ),
        (
            entry(f"CN=x,CN=Arrays,{GROUP}", "device"),
            "x: passed over: a device does not belong in Arrays",
        ),
        (
            entry(f"CN=DB9,CN=Databases,{GROUP}", "msExchPrivateMDB", legacyExchangeDN="/x"),
            "DB9: left out: it is on no server",
        ),
        (
            entry("CN=all,CN=Subnets", "subnet", siteObject=PADERBORN),
            "all: left out: this cannot be a subnet",
        ),
        (
            server("CAS9", casarraySettings="addresses=home"),
            'CAS9: "home" in its casarraySettings is no address, and passed over',
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_left_out_with_a_sentence(odd: Entry, sentence: str) -> None:
    assert read([*USUAL, odd]).missing == (sentence,)


def test_a_setting_that_no_array_has_is_passed_over_and_the_array_is_read() -> None:
    array = replace(ARRAY, values={**ARRAY.values, "casarraySettings": ("affinity=source", "affinity_timeout=3h")})
    reading = read([*USUAL[:-2], array])
    assert reading.directory.arrays["cas"].settings == {"affinity_timeout": "3h"}
    assert reading.missing == ('CAS: "affinity" in its casarraySettings is no setting of an array, and passed over',)


DNS = st.sampled_from(
    [e.dn for e in USUAL] + ["", "x", "CN=", "CN=a\\", "CN=x\\0ADEL:1,DC=x", f"CN=fd::/1,{PADERBORN}"]
)
VALUES = st.lists(
    DNS
    | st.text(max_size=8)
    | st.integers().map(str)
    | st.sampled_from(
        ["ncacn_ip_tcp:", "--5", "4", "6", "weight=-", "addresses=::,1", "=", "order=,", "panic=NaN", "SMTP:"]
    ),
    max_size=3,
).map(tuple)
ANYTHING = st.builds(
    Entry,
    DNS | st.builds(child, st.text(min_size=1, max_size=4), DNS),
    st.text(max_size=2),
    st.sampled_from(EntryKind),
    st.lists(st.text(max_size=3), max_size=2).map(tuple),
    st.dictionaries(st.sampled_from([*ad.ATTRIBUTES, *ad.ACCOUNT_ATTRIBUTES]), VALUES, max_size=5),
)


@given(
    st.lists(
        ANYTHING.filter(lambda e: ad.dn_key(e.dn) not in {ad.dn_key(usual.dn) for usual in USUAL}),
        max_size=8,
        unique_by=lambda e: ad.dn_key(e.dn),
    )
)
def test_whatever_stands_there_is_read_or_left_out_and_can_be_removed(odd: list[Entry]) -> None:
    reading = read([*USUAL, *odd])
    assert difference(reading.directory, read([*odd, *USUAL]).directory) == ()
    everything = [thing for kind in Kind for thing in reading.directory.of(kind).values()]
    planned(reading, reading.directory.without(*everything))


def test_of_many_that_are_left_out_some_are_named() -> None:
    odd = [server(f"S{n}", 0) for n in range(9)]
    assert read([*USUAL, *odd]).missing == (
        "S0, S1, S2, S3, S4 and 4 more: left out: it has neither the client-access nor the mailbox role",
    )


def test_when_an_object_is_renamed_what_refers_to_it_follows() -> None:
    new = f"CN=PB,{PARTITIONS.sites}"
    followed = [ad.followed(e, PADERBORN, new) for e in USUAL]
    assert followed[0].dn == new
    assert {s.site for s in read(followed).directory.servers.values()} == {"PB"}
    assert followed[1] is USUAL[1]


# Writing.


def test_an_array_is_made_where_exchange_keeps_arrays() -> None:
    reading = read([*USUAL[:-2]])
    steps = planned(reading, edits.new_array(reading.directory, "CAS", "cas.domain.tld", "Paderborn"))
    assert steps == (
        Add(
            f"CN=CAS,CN=Arrays,{GROUP}",
            ("msExchClientAccessArray",),
            {
                "networkAddress": ("ncacn_ip_tcp:cas.domain.tld",),
                "msExchServerSite": (PADERBORN,),
                "legacyExchangeDN": (f"{LEGACY}cas.domain.tld",),
                "systemFlags": ("1073741824",),
            },
        ),
        OnlyArray(f"CN=CAS,CN=Arrays,{GROUP}", PADERBORN, (Delete(f"CN=CAS,CN=Arrays,{GROUP}"),)),
    )


def test_the_first_thing_brings_its_containers() -> None:
    reading = read([SITE])
    steps = planned(reading, edits.new_server(reading.directory, "CAS1", "cas1.domain.tld", "Paderborn"))
    made = [step.dn for step in steps if isinstance(step, Add)]
    assert [first_value(dn) for dn in made] == [
        "Microsoft Exchange",
        "First Organization",
        "Administrative Groups",
        "Exchange Administrative Group (FYDIBOHF23SPDLT)",
        "Servers",
        "CAS1",
    ]
    assert all(parent(dn) in {*made, f"CN=Services,{PARTITIONS.configuration}"} for dn in made)


def test_a_value_is_changed_from_what_it_is() -> None:
    reading = read(USUAL)
    after = edits.change(reading.directory, Kind.SERVER, "CAS1", fqdn="new.domain.tld")
    assert planned(reading, after) == (
        Modify(
            f"CN=CAS1,CN=Servers,{GROUP}",
            (Edit("networkAddress", ("ncacn_ip_tcp:cas1.domain.tld",), ("ncacn_ip_tcp:new.domain.tld",)),),
        ),
    )


def test_roles_that_are_not_ours_stay() -> None:
    reading = read([*USUAL, server("HUB", 32 + 4)])
    after = edits.change(reading.directory, Kind.SERVER, "HUB", roles=(CLIENT_ACCESS, MAILBOX))
    (step,) = planned(reading, after)
    assert step == Modify(f"CN=HUB,CN=Servers,{GROUP}", (Edit("msExchCurrentServerRoles", ("36",), ("38",)),))


def test_settings_of_others_stay() -> None:
    reading = read([*USUAL, server("CAS2", casarraySettings=["theirs=1", "weight = 50"])])
    after = edits.change(reading.directory, Kind.SERVER, "CAS2", weight=70)
    assert planned(reading, after)[-1] == Modify(
        f"CN=CAS2,CN=Servers,{GROUP}", (Edit("casarraySettings", ("weight = 50",), ("weight=70",)),)
    )


def test_what_only_got_another_name_is_renamed_and_followed() -> None:
    reading = read(USUAL)
    after = edits.change(reading.directory, Kind.SITE, "Paderborn", name="PB")
    assert planned(reading, after) == (Rename(PADERBORN, "PB"),)


def test_links_to_what_is_renamed_in_the_same_plan_are_expected_under_the_new_name() -> None:
    reading = read([*USUAL, entry(f"CN=Berlin,{PARTITIONS.sites}", "site")])
    after = edits.change(reading.directory, Kind.SITE, "Paderborn", name="PB")
    steps = planned(reading, edits.change(after, Kind.ARRAY, "CAS", site="Berlin"))
    renamed, berlin = f"CN=PB,{PARTITIONS.sites}", f"CN=Berlin,{PARTITIONS.sites}"
    back = Modify(ARRAY.dn, (Edit("msExchServerSite", (berlin,), (renamed,)),))
    assert steps == (
        Rename(PADERBORN, "PB"),
        Modify(ARRAY.dn, (Edit("msExchServerSite", (renamed,), (berlin,)),)),
        OnlyArray(ARRAY.dn, berlin, (back,)),
    )


def test_databases_that_name_a_server_follow_its_new_name() -> None:
    legacy = f"{LEGACY}CAS1/cn=Microsoft Private MDB"
    database = replace(DATABASE, values={**DATABASE.values, "legacyExchangeDN": (legacy,)})
    reading = read([*USUAL[:-1], database])
    steps = planned(reading, edits.change(reading.directory, Kind.SERVER, "CAS1", name="CAS7"))
    assert steps == (
        Rename(f"CN=CAS1,CN=Servers,{GROUP}", "CAS7"),
        Modify(DATABASE.dn, (Edit("legacyExchangeDN", (legacy,), (f"{LEGACY}CAS7/cn=Microsoft Private MDB",)),)),
        Modify(f"CN=CAS7,CN=Servers,{GROUP}", (Edit("legacyExchangeDN", (f"{LEGACY}CAS1",), (f"{LEGACY}CAS7",)),)),
    )


def test_what_is_removed_is_looked_at_before_anything_is_done() -> None:
    reading = read(USUAL)
    steps = planned(reading, reading.directory.without(reading.directory.databases["db1"], Array("CAS", "", "")))
    assert steps[:2] == (Bare(DATABASE.dn), Bare(ARRAY.dn))
    assert steps[2:] == (Delete(DATABASE.dn), Delete(ARRAY.dn))


def test_whoever_is_no_account_any_more_stays_a_user() -> None:
    alice = entry("CN=alice", "user", sAMAccountName="alice", homeMDB=DATABASE.dn, mail="a@domain.tld")
    reading = read([*USUAL, alice])
    steps = planned(reading, edits.remove(reading.directory, Kind.ACCOUNT, "alice"))
    assert steps == (Modify("CN=alice", (Edit("homeMDB", (DATABASE.dn,)),)),)


def test_a_server_is_taken_out_by_a_setting_where_exchange_keeps_no_object() -> None:
    reading = read(USUAL)
    steps = planned(reading, edits.remove_rpc_client_access(reading.directory, "CAS1"))
    assert steps == (
        Modify(f"CN=CAS1,CN=Servers,{GROUP}", (Edit("objectClass", (), ("casarrayObject",)),)),
        Modify(f"CN=CAS1,CN=Servers,{GROUP}", (Edit("casarraySettings", (), ("rpc_client_access=false",)),)),
    )


def test_without_our_attribute_the_object_alone_says_it() -> None:
    access = [
        entry(f"CN=RpcClientAccess,CN={name},CN=Servers,{GROUP}", "protocolCfg", "theirClass")
        for name in ("CAS1", "CAS2")
    ]
    reading = read([*USUAL, server("CAS2"), *access])
    without = ALL - {"casarraysettings", "casarrayobject"}
    out = edits.remove_rpc_client_access(reading.directory, "CAS1")
    assert planned(reading, out, without) == (Delete(access[0].dn, may_lack=True),)
    fresh = edits.new_server(reading.directory, "CAS3", "cas3.domain.tld", "Paderborn")
    (made,) = [s for s in planned(reading, fresh, without) if isinstance(s, Add) and "RpcClientAccess" in s.dn]
    assert (made.dn, made.classes) == (f"CN=RpcClientAccess,CN=CAS3,CN=Servers,{GROUP}", ("theirClass",))


def test_what_is_no_longer_as_expected_is_not_planned() -> None:
    reading = read(USUAL)
    wrong = replace(reading.directory.arrays["cas"], fqdn="other.domain.tld")
    with pytest.raises(MovedOn, match="the array CAS was changed by somebody else"):
        plan(reading, difference(reading.directory.put(wrong), reading.directory), PARTITIONS, ALL)


def test_steps_tell_what_the_schema_must_know() -> None:
    reading = read([SITE])
    after = reading.directory.put(
        Site("Ulm"),
        Server("MBX1", "mbx1.domain.tld", "Paderborn", (MAILBOX,), None, weight=7),
        Database("DB1", "MBX1", (Copy("MBX1", 2),), "x.domain.tld"),
    )
    used = {word for step in planned(reading, after) for word in words(step)} & VOCABULARY
    assert used == {
        "msExchContainer",
        "msExchExchangeServer",
        "casarrayObject",
        "casarraySettings",
        "msExchServerSite",
        "msExchCurrentServerRoles",
        "msExchPrivateMDB",
        "msExchOwningServer",
        "msExchMasterServerOrAvailabilityGroup",
        "msExchMDBCopy",
        "msExchHostServerLink",
        "msExchActivationPreference",
    }


# The schema.


def test_every_name_of_the_schema_is_in_the_ldif_once() -> None:
    ldif = schema_ldif(BASE)
    for name in VOCABULARY:
        assert ldif.count(f"lDAPDisplayName: {name}\n") == 1
    numbers = [line for line in ldif.splitlines() if line.startswith(("attributeID:", "governsID:"))]
    assert len(set(numbers)) == len(ATTRIBUTES) + len(CLASSES)


def test_what_the_schema_knows_already_is_left_out() -> None:
    ldif = schema_ldif(BASE, VOCABULARY - {"casarraySettings", "casarrayObject"})
    added = [line for line in ldif.splitlines() if line.startswith("lDAPDisplayName")]
    assert added == ["lDAPDisplayName: casarraySettings", "lDAPDisplayName: casarrayObject"]
    assert "mayContain: homeMDB" not in ldif


def test_classes_stand_after_what_they_name() -> None:
    known = {"top", "container"}
    for cls in CLASSES:
        assert {cls.parent, *cls.below} <= known | {cls.name}
        known.add(cls.name)
