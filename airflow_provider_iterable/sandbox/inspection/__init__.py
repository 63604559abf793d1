"""What the sandbox offers besides Iterable's API: its content as JSON or on a page, and changes of its options."""
