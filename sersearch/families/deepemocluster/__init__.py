"""Speech emotion clusters learnt with and without labels, Lin et al., ICASSP 2021, and their baselines."""
