"""Lin, Sridhar & Busso, "DeepEmoCluster", ICASSP 2021."""
