"""The encoders' architectures and the formats their weights come in."""
