"""Pre-training and fine-tuning."""
