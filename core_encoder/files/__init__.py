"""Files on disk and from the Hub: atomic writes, names that become paths, downloads."""
