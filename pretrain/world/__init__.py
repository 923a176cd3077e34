"""The synthetic world: drawn videos with captions."""
