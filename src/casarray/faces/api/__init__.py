"""The REST API: the directory as resources, and the document that describes all of it."""
