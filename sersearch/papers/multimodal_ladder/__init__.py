"""Goncalves & Busso, "Learning Cross-Modal Audiovisual Representations With Ladder Networks", ICASSP 2023."""
