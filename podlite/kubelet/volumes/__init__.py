"""The volumes of pods: one module per kind, and what they share. Imported only for pods that have volumes."""
