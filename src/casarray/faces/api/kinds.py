"""Each kind of thing as the API has it: how one is made and changed, and what is worked out for whoever looks at it.

The edits are those of `core.directory.edits`, as for every face. Names of other things are written as these write them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from typing import Any

from casarray.core.directory import edits, legacy_dn, lookup, parts
from casarray.core.directory.model import (
    CLASSES,
    CLIENT_ACCESS,
    ROLES,
    Account,
    Array,
    Copy,
    Database,
    Directory,
    Kind,
    RpcClientAccess,
    Server,
    Site,
    Subnet,
)
from casarray.core.directory.rules import find

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SiteComputed:
    """What follows from a site's place in the directory."""

    array: str | None


@dataclass(frozen=True, slots=True)
class SubnetComputed:
    """What follows from a subnet."""

    name: str


@dataclass(frozen=True, slots=True)
class ServerComputed:
    """What follows from a server's place in the directory."""

    array: str | None  # that it is a member of
    legacy_exchange_dn: str


@dataclass(frozen=True, slots=True)
class ArrayComputed:
    """What follows from an array's place in the directory."""

    members: tuple[str, ...]
    legacy_exchange_dn: str


@dataclass(frozen=True, slots=True)
class DatabaseComputed:
    """What follows from a database's place in the directory."""

    told: str  # the FQDN that its clients are told now
    legacy_exchange_dn: str


@dataclass(frozen=True, slots=True)
class AccountComputed:
    """What follows from an account's place in the directory."""

    told: str | None  # the FQDN that its mailbox is reached by now


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of thing, its collection at ``/v1/{plural}``."""

    kind: Kind
    make: Callable[[Directory, Fields], Directory]
    optional: Mapping[str, object] = field(default_factory=dict)  # may be left out though the class has no default
    computed: type[Any] | None = None
    compute: Callable[[Directory, Any], object] | None = None

    @property
    def plural(self) -> str:
        """The word in the path."""
        return f"{self.kind}s"

    @property
    def cls(self) -> type[Any]:
        """The value class."""
        return CLASSES[self.kind]

    def change(self, directory: Directory, name: str, fields: Fields) -> Directory:
        """Give a thing other values."""
        thing = find(directory, self.kind, name)
        fields = _named_well(directory, fields)
        if isinstance(thing, Server):
            fields = _of_roles(thing, fields)
        return edits.change(directory, self.kind, thing.name, **fields)


def _named_well(directory: Directory, fields: Fields) -> Fields:
    """References to other things as those are written; `NotFound` names the nearest."""
    out = dict(fields)
    for name, kind in (("site", Kind.SITE), ("active_server", Kind.SERVER), ("database", Kind.DATABASE)):
        if out.get(name):
            out[name] = find(directory, kind, out[name]).name
    if "servers" in out:
        out["servers"] = tuple(find(directory, Kind.SERVER, server).name for server in out["servers"])
    if "copies" in out:
        out["copies"] = tuple(
            Copy(find(directory, Kind.SERVER, c.server).name, c.activation_preference) for c in out["copies"]
        )
    return out


def _of_roles(server: Server, fields: Fields) -> Fields:
    """What follows for RPC client access, as `parts` has it, when a server gets other roles."""
    out = dict(fields)
    if "roles" in fields:
        out["roles"] = roles = tuple(role for role in ROLES if role in fields["roles"])
        if CLIENT_ACCESS not in roles:
            out.setdefault("rpc_client_access", None)
        elif CLIENT_ACCESS not in server.roles:
            out.setdefault("rpc_client_access", RpcClientAccess())
    if access := out.get("rpc_client_access"):
        bare = replace(server, roles=out.get("roles", server.roles), rpc_client_access=None)
        parts.with_rpc_client_access(bare, **{f.name: getattr(access, f.name) for f in dataclass_fields(access)})
    return out


def _plain(directory: Directory, cls: type[Any], fields: Fields) -> Directory:
    return edits.new(directory, cls(**_named_well(directory, fields)))


def _make_array(directory: Directory, fields: Fields) -> Directory:
    return edits.new_array(directory, **{"name": fields["fqdn"].partition(".")[0]} | fields)


def _make_server(directory: Directory, fields: Fields) -> Directory:
    bare = edits.server(directory, **{k: v for k, v in fields.items() if k != "rpc_client_access"})
    return edits.new_server(directory, **_of_roles(bare, fields))


def _make_database(directory: Directory, fields: Fields) -> Directory:
    fields = _named_well(directory, fields)
    return edits.new_database(directory, server=fields.pop("active_server"), **fields)


def _of_site(directory: Directory, site: Site) -> SiteComputed:
    array = lookup.array_of_site(directory, site.name)
    return SiteComputed(array.name if array else None)


def _of_server(directory: Directory, server: Server) -> ServerComputed:
    array = lookup.array_of_site(directory, server.site) if server.is_member else None
    return ServerComputed(array.name if array else None, legacy_dn.of_server(directory, server))


def _of_array(directory: Directory, array: Array) -> ArrayComputed:
    members = tuple(server.name for server in lookup.members(directory, array))
    return ArrayComputed(members, legacy_dn.of_server(directory, array))


def _of_database(directory: Directory, database: Database) -> DatabaseComputed:
    return DatabaseComputed(lookup.told(directory, database), legacy_dn.of_database(directory, database))


def _of_account(directory: Directory, account: Account) -> AccountComputed:
    database = directory.get(Kind.DATABASE, account.database)
    return AccountComputed(lookup.told(directory, database) if database is not None else None)


RESOURCES: Mapping[Kind, Resource] = {
    resource.kind: resource
    for resource in (
        Resource(Kind.SITE, lambda d, f: _plain(d, Site, f), {}, SiteComputed, _of_site),
        Resource(
            Kind.SUBNET, lambda d, f: _plain(d, Subnet, f), {}, SubnetComputed, lambda _, t: SubnetComputed(t.name)
        ),
        Resource(Kind.SERVER, _make_server, {}, ServerComputed, _of_server),
        Resource(Kind.ARRAY, _make_array, {"name": ""}, ArrayComputed, _of_array),
        Resource(Kind.GROUP, lambda d, f: edits.new_group(d, **f)),
        Resource(
            Kind.DATABASE,
            _make_database,
            {"copies": (), "rpc_client_access_server": ""},
            DatabaseComputed,
            _of_database,
        ),
        Resource(Kind.ACCOUNT, lambda d, f: _plain(d, Account, f), {}, AccountComputed, _of_account),
    )
}
