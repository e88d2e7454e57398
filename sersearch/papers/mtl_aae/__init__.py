"""Latif et al., "Multi-Task Semi-Supervised Adversarial Autoencoding for Speech Emotion Recognition", TAFFC 2020."""
