"""Host: what this machine is, and how much of it this process may use."""
