"""What changed: the pull-request report, the README tables, the way of one row."""
