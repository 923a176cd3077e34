"""Floor 2: heads on frozen features, their training loop, registry, saving and loading."""
