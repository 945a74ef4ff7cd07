"""`python -m benchmarks.companions`: the whole line with older and newer versions of the packages beneath Onward."""
