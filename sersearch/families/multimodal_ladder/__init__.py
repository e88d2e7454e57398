"""Multimodal ladder networks on audio and faces, Goncalves & Busso, ICASSP 2023, and their baselines."""
