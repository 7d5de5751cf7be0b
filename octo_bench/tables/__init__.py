"""What a study has measured, as rows: with intervals, beside a reference, in words."""
