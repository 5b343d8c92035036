"""Labelled data, and the options to try on it."""
