"""What an administrator types around the shared account: Setspn, and the script that rolls its password."""

from casarray.app.cmdlets import rolling, service_accounts, setspn
from casarray.app.kerberos.desk import Desk
from casarray.core.shell.cmdlet import Cmdlet


def kerberos_cmdlets(desk: Desk) -> tuple[Cmdlet, ...]:
    """All of them, at one desk."""
    files = (setspn, rolling, service_accounts)
    return tuple(cmdlet for file in files for cmdlet in file.cmdlets(desk))
