"""The kinds of adapters that come with the hub, one file a kind."""
