"""Opens the realm that a configuration means."""

from casarray.app.kerberos.ports import Realm
from casarray.core.config import DirectorySettings, KerberosSettings
from casarray.core.errors import ConfigError


def open_realm(settings: KerberosSettings, directory: DirectorySettings) -> Realm:
    """Active Directory by LDAP, or an MIT realm by kadmin. `ConfigError` when nothing says where the account lives."""
    places = settings.realm or tuple(url for url in directory.store if url.startswith(("ldap://", "ldaps://")))
    if not places:
        raise ConfigError(
            "nothing says where the shared account lives: set realm under [kerberos] in the configuration to "
            '"ldap://dc1.domain.tld", or to "kadmin:REALM" for an MIT realm'
        )
    if places[0].startswith("kadmin:"):
        from casarray.adapters.kerberos.mit_realm import MitRealm  # noqa: PLC0415 - only what is needed

        return MitRealm(places[0].removeprefix("kadmin:"), settings)
    from casarray.adapters.kerberos.ad_realm import ActiveDirectoryRealm  # noqa: PLC0415 - it has libraries of its own

    return ActiveDirectoryRealm(places, settings, directory)
