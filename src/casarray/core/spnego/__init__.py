"""SPNEGO (RFC 4178, [MS-SPNG]): two sides agree on Kerberos or NTLM, and neither can be talked into the weaker one."""
