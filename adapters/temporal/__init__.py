"""Parts of heads that say when something happens."""
