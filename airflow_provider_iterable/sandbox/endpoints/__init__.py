"""What Iterable answers: its endpoints, a file for each subject, and the table of all of them."""
