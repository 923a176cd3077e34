"""Videos and captions to learn from: tiers, indices, batches of one tier."""
