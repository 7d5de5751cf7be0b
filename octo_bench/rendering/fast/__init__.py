"""The fast look, drawn on the processor with the same bytes on each."""
