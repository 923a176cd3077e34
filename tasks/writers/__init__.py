"""Answers as files of the formats that tasks are read from."""
