"""The server: one encoder in memory answers for every adapter, over HTTP."""
