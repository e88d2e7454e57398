"""What the ladder families share: hyperparameters, losses, networks, mini-batches. No family of its own."""
