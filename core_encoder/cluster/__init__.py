"""The same work on a Ray cluster: decoding and encoding as pools of processes that write one store."""
