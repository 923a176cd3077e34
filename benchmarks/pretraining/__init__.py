"""What a pretrained encoder shows on the synthetic world: the scores of `nano`, and the two-stage experiment."""
