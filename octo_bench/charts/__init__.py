"""What a study has measured, as figures."""
