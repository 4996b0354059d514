"""What the schema of Active Directory must know, and the LDIF that teaches it.

Where Exchange 2010 is, or ever was, its own classes are there already and only ``casarraySettings`` is ours to add.
Elsewhere classes and attributes of the same names are made, so that tools that look for Exchange's objects find these.
Their numbers lie below the enterprise number that is set aside for documentation: see docs/operate/active-directory.md.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from casarray.core.directory.active_directory import SETTINGS, SETTINGS_CLASS

_OID = "1.3.6.1.4.1.32473.21"

# Object identifiers of the value kinds: (attributeSyntax, oMSyntax).
_TEXT = ("2.5.5.12", "64")
_INTEGER = ("2.5.5.9", "2")
_DN = ("2.5.5.1", "127")
_NEXT_LINK = "1.2.840.113556.1.2.50"  # as linkID: the schema master is to choose a number
_DN_CLASS = "KwwCh3McAIVK"  # oMObjectClass of a DN, in base64

#: Administrators of the domain and the system do everything, users who have logged on may read. Without this on its
#: class, an object is seen by administrators alone, and others are not even told that there is something.
_DESCRIPTOR = (
    "D:(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;DA)(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;SY)"
    "(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;EA)(A;;RPLCLORC;;;AU)"
)


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute the schema must know."""

    name: str
    number: int
    kind: tuple[str, str]
    meaning: str
    single: bool = True
    indexed: bool = False


@dataclass(frozen=True, slots=True)
class ObjectClass:
    """A class the schema must know."""

    name: str
    number: int
    meaning: str
    parent: str = "top"
    below: tuple[str, ...] = ()  # classes its objects may stand below
    may: tuple[str, ...] = ()  # attributes
    auxiliary: bool = False


ATTRIBUTES = (
    Attribute("msExchServerSite", 1, _DN, "Site that a server or array belongs to", indexed=True),
    Attribute("msExchCurrentServerRoles", 2, _INTEGER, "Roles of a server: 2 mailbox, 4 client access"),
    Attribute("msExchOwningServer", 3, _DN, "Server that a mailbox database is active on"),
    Attribute("msExchMasterServerOrAvailabilityGroup", 4, _DN, "Server or availability group a database belongs to"),
    Attribute("msExchMDBAvailabilityGroupLink", 5, _DN, "Availability group of a server"),
    Attribute("msExchHostServerLink", 6, _DN, "Server that holds a copy of a database"),
    Attribute("msExchActivationPreference", 7, _INTEGER, "Rank of a copy of a database; 1 is the preferred one"),
    Attribute("homeMDB", 8, _DN, "Mailbox database of a user", indexed=True),
    Attribute(SETTINGS, 9, _TEXT, "Settings of casarray: key=value", single=False),
)
CLASSES = (
    ObjectClass(
        "msExchContainer", 1, "Holds objects of an organisation", below=("container",), may=("legacyExchangeDN",)
    ),
    ObjectClass(
        "msExchExchangeServer",
        2,
        "Server of an organisation",
        below=("msExchContainer",),
        may=(
            "networkAddress",
            "serialNumber",
            "versionNumber",
            "legacyExchangeDN",
            "msExchServerSite",
            "msExchCurrentServerRoles",
            "msExchMDBAvailabilityGroupLink",
        ),
    ),
    ObjectClass(
        "msExchClientAccessArray", 3, "Client access array", parent="msExchExchangeServer", below=("msExchContainer",)
    ),
    ObjectClass("msExchMDBAvailabilityGroup", 4, "Database availability group", below=("msExchContainer",)),
    ObjectClass(
        "msExchPrivateMDB",
        5,
        "Mailbox database",
        below=("msExchContainer",),
        may=("legacyExchangeDN", "msExchOwningServer", "msExchMasterServerOrAvailabilityGroup"),
    ),
    ObjectClass(
        "msExchMDBCopy",
        6,
        "Copy of a mailbox database",
        below=("msExchPrivateMDB",),
        may=("msExchHostServerLink", "msExchActivationPreference"),
    ),
    ObjectClass(SETTINGS_CLASS, 7, "May have settings of casarray", may=(SETTINGS,), auxiliary=True),
)

#: All names that may have to be made; whatever else is used, every Active Directory knows.
VOCABULARY = frozenset(thing.name for thing in (*ATTRIBUTES, *CLASSES))


def schema_filter() -> str:
    """Finds what of `VOCABULARY` a schema knows."""
    return f"(|{''.join(f'(lDAPDisplayName={name})' for name in sorted(VOCABULARY))})"


def schema_ldif(forest_root: str, present: Collection[str] = ()) -> str:
    """The LDIF for `ldbmodify`, `ldapmodify` or `ldifde`, for the forest of that root domain (``DC=domain,DC=tld``).

    What is ``present`` in the schema is left out.
    """
    known = {name.casefold() for name in present}
    at = f"CN=Schema,CN=Configuration,{forest_root}"
    blocks = [_HEAD]
    attributes = [a for a in ATTRIBUTES if a.name.casefold() not in known]
    blocks += ["\n".join(_attribute(attribute, at)) for attribute in attributes]
    blocks += [_RELOAD] if attributes else []
    for cls in CLASSES:
        if cls.name.casefold() in known:
            continue
        blocks += ["\n".join(_class(cls, at)), _RELOAD]
        if cls.name == "msExchContainer":
            blocks += [_superior("ms-Exch-Container", "msExchContainer", at), _RELOAD]
        elif cls.name == "msExchExchangeServer":
            blocks += [_superior("ms-Exch-Container", "msExchExchangeServer", at), _RELOAD]
    if "homemdb" not in known:
        blocks += [f"dn: CN=User,{at}\nchangetype: modify\nadd: mayContain\nmayContain: homeMDB\n-", _RELOAD]
    return "\n\n".join(blocks) + "\n"


_HEAD = """\
# What casarray keeps in Active Directory, for its schema. Nothing can be deleted from a schema: try it in a lab first.
# Import it as a member of Schema Admins, at the domain controller that is the schema master."""
_RELOAD = "dn:\nchangetype: modify\nadd: schemaUpdateNow\nschemaUpdateNow: 1\n-"


def _common_name(name: str) -> str:
    """As the schema spells names of objects: ``msExchServerSite`` is ``ms-Exch-Server-Site``."""
    out = name[0]
    for before, letter, after in zip(name, name[1:], [*name[2:], ""], strict=False):
        starts = letter.isupper() and (before.islower() or (after.islower() and before.isupper()))
        out += f"-{letter}" if starts else letter
    return out


def _attribute(attribute: Attribute, at: str) -> Iterator[str]:
    syntax, om_syntax = attribute.kind
    yield f"dn: CN={_common_name(attribute.name)},{at}"
    yield "changetype: add"
    yield "objectClass: attributeSchema"
    yield f"attributeID: {_OID}.1.{attribute.number}"
    yield f"attributeSyntax: {syntax}"
    yield f"oMSyntax: {om_syntax}"
    if attribute.kind == _DN:
        # As a link: it follows when the object it names is renamed, and goes when that is deleted.
        yield f"oMObjectClass:: {_DN_CLASS}"
        yield f"linkID: {_NEXT_LINK}"
    yield f"isSingleValued: {'TRUE' if attribute.single else 'FALSE'}"
    yield f"lDAPDisplayName: {attribute.name}"
    yield f"adminDescription: {attribute.meaning}"
    yield f"searchFlags: {int(attribute.indexed)}"


def _class(cls: ObjectClass, at: str) -> Iterator[str]:
    yield f"dn: CN={_common_name(cls.name)},{at}"
    yield "changetype: add"
    yield "objectClass: classSchema"
    yield f"governsID: {_OID}.2.{cls.number}"
    yield f"lDAPDisplayName: {cls.name}"
    yield f"adminDescription: {cls.meaning}"
    yield f"subClassOf: {cls.parent}"
    yield f"objectClassCategory: {3 if cls.auxiliary else 1}"
    yield from (f"possSuperiors: {name}" for name in cls.below)
    yield from (f"mayContain: {name}" for name in cls.may)
    if not cls.auxiliary:
        yield "rDNAttID: cn"
        yield "defaultHidingValue: FALSE"
        yield f"defaultSecurityDescriptor: {_DESCRIPTOR}"
        yield f"defaultObjectCategory: CN={_common_name(cls.name)},{at}"


def _superior(common_name: str, above: str, at: str) -> str:
    return f"dn: CN={common_name},{at}\nchangetype: modify\nadd: possSuperiors\npossSuperiors: {above}\n-"
