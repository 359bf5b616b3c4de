"""Fuzzing of every parser of bytes that somebody else has made: `targets` says what holds, `run` looks for what breaks it."""
