"""`onward bench` put to the test: the peers' table, hand-written loops, and pairs of benchmarks an hour apart."""
