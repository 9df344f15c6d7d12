"""What every measurement shares, benchmarks and evaluations alike: a result as one JSON file, and where it was made."""
