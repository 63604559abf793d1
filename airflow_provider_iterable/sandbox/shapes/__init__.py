"""What requests and answers look like; knows no project."""
