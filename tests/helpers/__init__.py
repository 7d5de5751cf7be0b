"""What several tests need: synthetic policies, files, records and studies."""
