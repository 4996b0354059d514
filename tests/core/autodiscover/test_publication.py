"""Service connection points: what has to be done, and what is wrong, without a directory."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.core.directory.example import ORGANISATION

from casarray.core.autodiscover.publication import (
    KEYWORD,
    URL,
    Pointer,
    container,
    differences,
    plan_publish,
    plan_unpublish,
    read_pointer,
)
from casarray.core.directory.active_directory import Partitions
from casarray.core.directory.ad_steps import Add, Delete, Edit, Modify

FOREST = Partitions(
    "DC=d,DC=tld", "CN=Configuration,DC=d,DC=tld", "CN=Schema,CN=Configuration,DC=d,DC=tld", "DC=d,DC=tld"
)
TOLD = "https://autodiscover.domain.tld/autodiscover/autodiscover.xml"
CAS, BER = ORGANISATION.arrays["cas"], ORGANISATION.arrays["ber"]


def pointer(name: str, url: str, *sites: str) -> Pointer:
    found = read_pointer(
        f"CN={name},CN=Autodiscover,CN=Protocols,CN={name},CN=Servers,CN=Configuration,DC=d,DC=tld",
        {"keywords": [KEYWORD.lower(), *(f"site={site}" for site in sites)], URL: [url]},
    )
    assert found is not None
    return found


RIGHT = pointer("cas1", TOLD, "Paderborn")
WRONG = pointer("cas2", "https://cas2.domain.tld/autodiscover/autodiscover.xml", "paderborn")


def test_a_server_of_the_site_that_says_its_own_name_is_the_difference() -> None:
    (found,) = differences([RIGHT, WRONG], ORGANISATION, [CAS], TOLD)
    assert found.words.startswith(
        "cas2 says https://cas2.domain.tld/autodiscover/autodiscover.xml, so its clients go past"
    )


def test_it_is_corrected_and_nothing_else_is_touched() -> None:
    assert plan_publish([RIGHT, WRONG], ORGANISATION, [CAS], TOLD, FOREST) == (
        Modify(WRONG.dn, (Edit(URL, WRONG.urls, (TOLD,)),)),
    )
    assert plan_unpublish([RIGHT, WRONG], [CAS], FOREST) == ()


def test_a_server_without_a_site_keyword_belongs_to_the_site_of_the_server() -> None:
    lonely = pointer("cas2", "https://cas2.domain.tld/")
    assert len(plan_publish([lonely], ORGANISATION, [CAS], TOLD, FOREST)) == 1
    steps = plan_publish([lonely], ORGANISATION, [BER], TOLD, FOREST)
    assert [type(step) for step in steps] == [Add, Add]


def test_a_site_that_has_none_gets_one_and_loses_it_with_its_container() -> None:
    made = plan_publish([], ORGANISATION, [CAS, BER], TOLD, FOREST)
    assert [type(step) for step in made] == [Add, Add, Add]
    own = [read_pointer(step.dn, step.values) for step in made[1:] if isinstance(step, Add)]
    ours = [one for one in own if one is not None]
    assert [one.sites for one in ours] == [("Berlin",), ("Paderborn",)]
    assert plan_publish(ours, ORGANISATION, [CAS, BER], TOLD, FOREST) == ()
    assert [step.dn for step in plan_unpublish(ours, [CAS], FOREST) if isinstance(step, Delete)] == [ours[1].dn]
    gone = plan_unpublish(ours, [CAS, BER], FOREST)
    assert [step.dn for step in gone if isinstance(step, Delete)][-1] == container(FOREST)


def test_a_pointer_for_every_site_is_named_and_left_alone() -> None:
    everywhere = replace(WRONG, dn="CN=old,CN=Services,CN=Configuration,DC=d,DC=tld", sites=())
    words = [found.words for found in differences([RIGHT, everywhere], ORGANISATION, [CAS], TOLD)]
    assert len(words) == 1
    assert words[0].startswith("old says https://cas2.domain.tld/")
    assert plan_publish([RIGHT, everywhere], ORGANISATION, [CAS], TOLD, FOREST) == ()


def test_a_pointer_to_another_forest_is_none_of_ours() -> None:
    assert read_pointer("CN=x", {"keywords": ["67661d7F-8FC4-4fa7-BFAC-E1D7794C1F68"], URL: ["LDAP://other"]}) is None


@given(st.lists(st.text(max_size=20)), st.lists(st.text(max_size=20)))
def test_whatever_stands_there_is_read(keywords: list[str], urls: list[str]) -> None:
    found = read_pointer("CN=x", {"keywords": [KEYWORD, *keywords], URL: urls})
    assert found is not None
    plan_publish([found], ORGANISATION, [CAS], TOLD, FOREST)
    list(differences([found], ORGANISATION, [CAS], TOLD))
