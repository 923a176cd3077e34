"""What each command does: a function from settings to a result, which knows no terminal."""
