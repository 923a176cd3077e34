"""What joins videos and language models: bridges, known models, prompts, generation and scoring."""
