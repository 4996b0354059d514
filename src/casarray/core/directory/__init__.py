"""What exists: sites, arrays, servers, databases, as one value; the rules they keep; how one becomes another."""
