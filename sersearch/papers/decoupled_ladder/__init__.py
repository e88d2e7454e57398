"""Leem et al., "Separation of Emotional and Reconstruction Embeddings on Ladder Network", Interspeech 2021."""
