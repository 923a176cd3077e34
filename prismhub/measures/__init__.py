"""What is measured of the roof: these scripts call prismhub as a user does, which those in `benchmarks` may not."""
