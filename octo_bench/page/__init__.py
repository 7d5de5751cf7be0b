"""The report of a study: its page, and the files beside it."""
