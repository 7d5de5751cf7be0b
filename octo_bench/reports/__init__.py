"""Tables and figures from what a study has measured."""
