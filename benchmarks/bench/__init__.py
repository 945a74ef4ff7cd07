"""`onward bench` put to the test: the peers' table, loops written by hand, pairs of runs an hour apart."""
