"""Onward beside its peers, and its campaigns: what takes too long for the tests."""
