"""The administrator's shell: the part of PowerShell's language that Exchange administrators type, without I/O."""
