"""Jobs of a running platform: what they are, where they are kept, who runs them."""
