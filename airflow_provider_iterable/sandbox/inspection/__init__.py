"""What a user of the sandbox sees and changes behind Iterable's back, by URL or on a page; imitates nothing."""
