"""casarray: one stable name in front of many servers, and every client stays on one of them."""
