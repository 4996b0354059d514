"""Follows the directory store that a configuration names."""

from collections.abc import Collection
from functools import partial

from casarray.adapters.clock import SystemClock
from casarray.adapters.stores.last_known import LastKnownFile
from casarray.adapters.stores.opening import open_named
from casarray.app.directory_feed import DirectoryFeed, Resolve
from casarray.core.config import DirectorySettings, Gateway
from casarray.core.directory.serving import Resolved


def no_addresses(names: Collection[str]) -> Resolved:  # noqa: ARG001 - nobody is asked
    """For whom the addresses behind names are of no interest."""
    return {}


def open_feed(
    gateway: Gateway, settings: DirectorySettings, resolve: Resolve = no_addresses, folder: str = ""
) -> DirectoryFeed:
    """Of Active Directory the last known state is kept in ``folder``; empty: where the gateway keeps its own."""
    keep = LastKnownFile(folder or gateway.state) if settings.store[0].startswith("ldap") else None
    return DirectoryFeed(partial(open_named, gateway, settings), settings, resolve, SystemClock(), keep)
