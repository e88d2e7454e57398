"""Multi-task semi-supervised adversarial autoencoder (MTL-AAE), Latif et al., TAFFC 2020, and its baselines."""
