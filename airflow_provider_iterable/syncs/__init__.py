"""Knows what each kind of sync means; one page each."""
