"""The face of the hub: public API and command line."""
