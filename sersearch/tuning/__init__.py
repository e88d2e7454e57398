"""Search spaces, Optuna and Ray Tune: the only imports of ray and optuna in sersearch."""
