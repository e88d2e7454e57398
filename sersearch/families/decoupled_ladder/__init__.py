"""The decoupled ladder network (DLN), Leem, Fulford, Onnela, Gard & Busso, Interspeech 2021."""
