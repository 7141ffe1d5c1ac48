"""Parts: one idea a file. Optimizers are chains of these."""
