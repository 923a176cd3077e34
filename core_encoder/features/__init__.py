"""From frames to stored features: what they are, how they are encoded, kept and found again."""
