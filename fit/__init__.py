"""Floor 1': what every training needs and no model knows, between the encoder and its two users."""
