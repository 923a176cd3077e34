"""Tuning the encoder with a head: by LoRA or whole, on frames that are decoded and augmented as training goes."""
