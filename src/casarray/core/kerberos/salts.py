"""Salts: what, besides the password, an AES key is made of (RFC 3961 5.2; RC4 has none).

A KDC tells the salt of the key it has now. Which one the next password will get is known by formula only: an account
that was renamed keeps the old salt until its password is set. Capital letters count, and so does every letter: a key
made with the wrong salt opens no ticket, although the password is right.
"""


def computer_salt(realm: str, name: str) -> str:
    """Of a computer account: ``LAB.EXAMPLEhostasa.lab.example`` for ``asa$``. [MS-KILE] 3.1.1.2."""
    return f"{realm.upper()}host{name.removesuffix('$').lower()}.{realm.lower()}"


def user_salt(realm: str, name: str) -> str:
    """Of a user account, by its sAMAccountName (or what stands before the @ of its userPrincipalName, if it has one).

    [MS-KILE] 3.1.1.2. The name as it is written, capital letters and all.
    """
    return f"{realm.upper()}{name}"


def principal_salt(realm: str, principal: str) -> str:
    """Of a principal of an MIT realm, ``http/mail.domain.tld``: realm and components without anything between."""
    return realm + principal.replace("/", "")
