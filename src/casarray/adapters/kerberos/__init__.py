"""Kerberos outside: realms, agents on the members, keytabs, tickets."""
