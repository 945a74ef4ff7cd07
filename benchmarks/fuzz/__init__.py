"""Fuzz: damaged and hostile files for every reader of bytes from elsewhere, and what each reader makes of them."""
