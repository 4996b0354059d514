"""Autodiscover (POX): what a mail client asks, what it is told, and why. [MS-OXDSCLI]."""
