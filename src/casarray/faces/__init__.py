"""Where people and programs meet casarray."""
