"""The networks: nothing but torch.nn, and nothing else of ours."""
