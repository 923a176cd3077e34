"""What is learned: masks, losses, optimizers, tokenizer."""
