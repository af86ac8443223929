"""OpenCompass, run in an environment of its own: this side writes its config and reads its files."""
