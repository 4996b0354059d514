"""NTLM version 2 ([MS-NLMP]), both sides, without I/O: for the lab and for tests, never for the gateway.

It proves to nobody which server answers and ties a connection to one domain controller's time; clients fall to it
silently where Kerberos does not work. So a test has to be able to speak it, and to say that it was spoken.
"""
