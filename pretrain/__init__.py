"""Floor 2 prime: makes the encoder; a sibling of adapters that never meets them."""
