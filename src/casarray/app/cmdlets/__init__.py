"""The cmdlets of an Exchange administrator, over the same use cases as every other face."""

from casarray.app.cmdlets import arrays, copies, databases, groups, mailboxes, rpc_client_access, servers, sites
from casarray.app.directory import DirectoryService
from casarray.core.shell.cmdlet import Cmdlet


def exchange_cmdlets(service: DirectoryService) -> tuple[Cmdlet, ...]:
    """All of them, for one administrator at one store."""
    files = (arrays, servers, rpc_client_access, databases, copies, groups, mailboxes, sites)
    return tuple(cmdlet for file in files for cmdlet in file.cmdlets(service))
