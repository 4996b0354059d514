"""The command line `casarray`: a file per noun, each command a question to a gateway or to a file."""
