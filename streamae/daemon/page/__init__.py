"""The page's back end: what the web may see of a running daemon, as published copies."""
