"""Kerberos under the array's name: the shared account, its names and keys, and what can be wrong with them."""
