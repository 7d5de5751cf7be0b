"""Pre-training and fine-tuning: one loop, several recipes."""
