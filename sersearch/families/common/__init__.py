"""What families share: losses, and of the ladders hyperparameters, networks, mini-batches. No family of its own."""
