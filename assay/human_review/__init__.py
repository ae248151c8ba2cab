"""What people decide by hand: corrections of labels and judgements of answers, as CSV files in git."""
